"""The metrics that stand beside the one that losses are judged by, in the page and in the terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lossmith.report.column import Column
from lossmith.report.numbers import percent, significant, three_decimals
from lossmith.report.run import Design

_GROUP: Final = "Also on test"


@dataclass(frozen=True)
class Beside:
    """One such metric, in its own unit and direction.

    Args:
        name: of the task's column that holds it.
        head: over its column in the terminal.
        title: over its column in the page.
        meaning: one sentence for the reader.
        shown: how a value is written.
        unless: the metric beside which it says nothing new.
        only: the metric beside which alone it stands; empty for any.
    """

    name: str
    head: str
    title: str
    meaning: str
    shown: Callable[[float | None], str]
    unless: str = ""
    only: str = ""

    @property
    def column(self) -> Column:
        """The column of the page."""
        return Column.of(_GROUP, self.title, self.meaning, lambda row: row.columns.get(self.name), self.shown)


def beside(design: Design) -> tuple[Beside, ...]:
    """The metrics beside that of a plan."""
    metric = design.task.metric
    known = _BESIDE.get(design.task.name, ())
    return tuple(each for each in known if each.unless != metric and each.only in {"", metric})


def _percent(value: float | None) -> str:
    return percent(value, 1)


def _four_digits(value: float | None) -> str:
    return significant(value, 4)


_BESIDE: Final = {
    "classification": (
        Beside("accuracy", "acc.\n%", "accuracy, %", "Share of the examples that are right.", _percent, "accuracy"),
        Beside(
            "balanced_accuracy",
            "bal.\nacc.",
            "balanced accuracy, %",
            "Mean over the classes of the share of their examples that are right, averaged over the final trainings.",
            _percent,
            "balanced accuracy",
        ),
        Beside(
            "auc",
            "AUC\n%",
            "AUC, %",
            "How often an example of a class is given a higher probability of it than one of another class, averaged "
            "over the classes; 50 for guessing.",
            _percent,
            "AUC",
        ),
        Beside(
            "nll",
            "NLL\nnats",
            "NLL, nats",
            "Mean cross-entropy of the test labels, of the models as trained; lower is better.",
            three_decimals,
        ),
        Beside(
            "brier",
            "Brier\nscore",
            "Brier score",
            "Mean squared error of the probabilities, of the models as trained; lower is better.",
            three_decimals,
            only="Brier skill",
        ),
    ),
    "regression": (
        Beside("mae", "MAE", "MAE", "Mean absolute error, in the target's unit; lower is better.", _four_digits),
    ),
}
