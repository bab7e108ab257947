"""What a report says and draws of each task besides scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lossmith.comparison.rows import Row
from lossmith.report.column import Column
from lossmith.report.numbers import percent, significant, three_decimals
from lossmith.report.run import Design
from lossmith.tasks.calibration import CALIBRATION_BINS

if TYPE_CHECKING:
    from lossmith.report.scene import Picture, Scene

_CALIBRATION: Final = "Calibration on test, raw → temperature scaled"
_WHOLE: Final = "Whole test part"


@dataclass(frozen=True)
class Offer:
    """What a task adds to a report.

    Args:
        columns: of the page's leaderboard.
        head: of its column in the terminal; an arrow stands for ``{arrow}``.
        cell: what that column says of a row, given an arrow.
        legend: what it means.
        method: headings and paragraphs for the section on the method.
        pictures: what draws the task's pictures.
    """

    columns: tuple[Column, ...] = ()
    head: str = ""
    cell: Callable[[Row, str], str] | None = None
    legend: str = ""
    method: tuple[tuple[str, str], ...] = ()
    pictures: tuple[Callable[[Scene], Picture | None], ...] = ()


def offer(design: Design) -> Offer:
    """What the task of a plan adds to its report; nothing if the task is not known here."""
    return _OFFERS.get(design.task.name, Offer())


def _reliability(scene: Scene) -> Picture | None:
    from lossmith.report.draw_reliability import reliability  # the terminal needs no matplotlib

    return reliability(scene)


def _masks(scene: Scene) -> Picture | None:
    from lossmith.report.draw_masks import masks

    return masks(scene)


def _of(name: str) -> Callable[[Row], float | None]:
    """One of the task's own columns, as the results have it."""
    return lambda row: row.columns.get(name)


def _percent(value: float | None) -> str:
    return percent(value, 1)


def _errors(row: Row, arrow: str) -> str:
    """Expected calibration error in percent, before and after temperature scaling."""
    return f"{_percent(row.columns.get('ece'))} {arrow} {_percent(row.columns.get('ece_scaled'))}"


def _nll(row: Row) -> str:
    return f"{three_decimals(row.columns.get('nll'))} → {three_decimals(row.columns.get('nll_scaled'))}"


def _whole(row: Row, _: str) -> str:
    """Mean IoU of the whole test part and pixel accuracy, in percent."""
    return f"{_percent(row.columns.get('data_set_iou'))} {_percent(row.columns.get('pixel_accuracy'))}"


_OFFERS: Final = {
    "classification": Offer(
        columns=(
            Column(
                _CALIBRATION,
                "cross-entropy, nats",
                "Mean cross-entropy of the test labels, before and after temperature scaling.",
                _nll,
                _of("nll_scaled"),
            ),
            Column(
                _CALIBRATION,
                "error, %",
                "Expected calibration error: the mean difference between confidence and accuracy.",
                lambda row: _errors(row, "→"),
                _of("ece_scaled"),
            ),
            Column.of(
                _CALIBRATION,
                "temperature",
                "What the logits are divided by: below 1, the model was underconfident; above 1, overconfident.",
                _of("temperature"),
                significant,
            ),
        ),
        head="ECE %\nraw {arrow} scaled",
        cell=_errors,
        legend="ECE: expected calibration error on test, before and after temperature scaling.",
        method=(
            (
                "Calibration",
                f"The calibration error is the expected one over {CALIBRATION_BINS} bins of equal width. Temperature "
                "scaling divides the logits by one number, fitted on validation.",
            ),
        ),
        pictures=(_reliability,),
    ),
    "segmentation": Offer(
        columns=(
            Column.of(
                _WHOLE,
                "mean IoU, %",
                "Intersection over union of the areas of all test images together, averaged over the classes.",
                _of("data_set_iou"),
                _percent,
            ),
            Column.of(
                _WHOLE,
                "pixel accuracy, %",
                "Share of the pixels that are right; large classes decide it.",
                _of("pixel_accuracy"),
                _percent,
            ),
            Column.of(_WHOLE, "cross-entropy, nats", "Mean cross-entropy of the pixels.", _of("nll"), three_decimals),
        ),
        head="all %\nIoU, right",
        cell=_whole,
        legend="All: mean IoU and pixel accuracy of the whole test part.",
        method=(
            (
                "Segmentation",
                "The score of an image is its mean IoU over the classes present in its truth; pixels marked as ignored "
                "count neither in a loss nor in a score. A class that is predicted but not present has no IoU of its "
                "own: its pixels are missing from the classes they belong to. The mean IoU of the whole test part adds "
                "up the areas of all images first, so that rare classes and large images weigh more.",
            ),
        ),
        pictures=(_masks,),
    ),
}
