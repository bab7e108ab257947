"""What a report says of classifiers besides their scores: calibration."""

from __future__ import annotations

from typing import Final

from lossmith.comparison.rows import Row
from lossmith.report import numbers
from lossmith.report.column import Column
from lossmith.report.numbers import MISSING, is_known, percent
from lossmith.tasks.calibration import CALIBRATION_BINS

METHOD: Final = (
    "Calibration",
    f"The calibration error is the expected one over {CALIBRATION_BINS} bins of equal width. Temperature "
    "scaling divides the logits by one number, fitted on validation.",
)


def columns() -> tuple[Column, ...]:
    """The calibration of each loss, in columns of the page."""
    group = "Calibration on test, raw → temperature scaled"
    return (
        Column(
            group,
            "cross-entropy, nats",
            "Mean cross-entropy of the test labels, before and after temperature scaling.",
            lambda row: f"{_three(row, 'nll')} → {_three(row, 'nll_scaled')}",
            lambda row: row.columns.get("nll_scaled"),
        ),
        Column(
            group,
            "error, %",
            "Expected calibration error: the mean difference between confidence and accuracy.",
            lambda row: errors(row),
            lambda row: row.columns.get("ece_scaled"),
        ),
        Column(
            group,
            "temperature",
            "What the logits are divided by: below 1, the model was underconfident; above 1, overconfident.",
            lambda row: numbers.significant(row.columns.get("temperature")),
            lambda row: row.columns.get("temperature"),
        ),
    )


def errors(row: Row, arrow: str = "→") -> str:
    """Expected calibration error in percent, before and after temperature scaling."""
    return f"{percent(row.columns.get('ece'), 1)} {arrow} {percent(row.columns.get('ece_scaled'), 1)}"


def _three(row: Row, name: str) -> str:
    value = row.columns.get(name)
    return MISSING if value is None or not is_known(value) else f"{value:.3f}"
