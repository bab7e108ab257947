"""What a report says of segmentation besides the scores of images: the whole test part."""

from __future__ import annotations

from typing import Final

from lossmith.comparison.rows import Row
from lossmith.report.column import Column
from lossmith.report.numbers import MISSING, is_known, percent

METHOD: Final = (
    "Segmentation",
    "The score of an image is its mean IoU over the classes present in its truth; pixels marked as ignored count "
    "neither in a loss nor in a score. A class that is predicted but not present has no IoU of its own: its pixels are "
    "missing from the classes they belong to. The mean IoU of the whole test part adds up the areas of all images "
    "first, so that rare classes and large images weigh more.",
)


def columns() -> tuple[Column, ...]:
    """What is known of the whole test part, in columns of the page."""
    group = "Whole test part"
    return (
        Column(
            group,
            "mean IoU, %",
            "Intersection over union of the areas of all test images together, averaged over the classes.",
            lambda row: percent(row.columns.get("data_set_iou"), 1),
            lambda row: row.columns.get("data_set_iou"),
        ),
        Column(
            group,
            "pixel accuracy, %",
            "Share of the pixels that are right; large classes decide it.",
            lambda row: percent(row.columns.get("pixel_accuracy"), 1),
            lambda row: row.columns.get("pixel_accuracy"),
        ),
        Column(
            group,
            "cross-entropy, nats",
            "Mean cross-entropy of the pixels.",
            lambda row: _three(row.columns.get("nll")),
            lambda row: row.columns.get("nll"),
        ),
    )


def whole(row: Row, arrow: str) -> str:
    """Mean IoU of the whole test part and pixel accuracy, in percent."""
    return f"{percent(row.columns.get('data_set_iou'), 1)} {percent(row.columns.get('pixel_accuracy'), 1)}"


def _three(value: float | None) -> str:
    return MISSING if value is None or not is_known(value) else f"{value:.3f}"
