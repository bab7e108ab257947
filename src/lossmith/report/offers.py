"""What a report says and draws of each task besides scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossmith.comparison.rows import Row
from lossmith.report import classification, segmentation
from lossmith.report.column import Column
from lossmith.report.run import Design

if TYPE_CHECKING:
    from lossmith.report.scene import Picture, Scene


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


_OFFERS = {
    "classification": Offer(
        columns=classification.columns(),
        head="ECE %\nraw {arrow} scaled",
        cell=classification.errors,
        legend="ECE: expected calibration error on test, before and after temperature scaling.",
        method=(classification.METHOD,),
        pictures=(_reliability,),
    ),
    "segmentation": Offer(
        columns=segmentation.columns(),
        head="all %\nIoU, right",
        cell=segmentation.whole,
        legend="All: mean IoU and pixel accuracy of the whole test part.",
        method=(segmentation.METHOD,),
        pictures=(_masks,),
    ),
}
