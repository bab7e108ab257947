"""The metrics of classification: what each is of one training, unit by unit, and what guessing scores in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossmith.tasks.influence import balanced_accuracy, jackknife, macro_f1

Columns = Mapping[str, NDArray[Any]]
Shares = tuple[float, ...]

IMBALANCED: Final = 2.0
"""The largest class has at least this many times the training examples of the smallest: classes are imbalanced."""
FEW_UNITS: Final = 20
"""Of a class with fewer test units, the intervals of a metric that weighs classes alike are too narrow."""
_MOST_NLL: Final = -math.log(np.finfo(np.float64).eps)
"""What the cross-entropy of one unit counts as at most; the bound that scikit-learn's ``log_loss`` has."""


class MetricError(ValueError):
    """A metric that cannot be had; the message is one sentence that names it and the fix."""


@dataclass(frozen=True)
class Metric:
    """A metric of classification; higher is better.

    Args:
        meaning: what it is, in a few words; gaps for ``{rarer}``, the positive class of two, and for ``{entropy}`` and
            ``{impurity}``, the NLL and the Brier score of guessing by the shares of the classes.
        guess: the best score that ignores the inputs, from the shares of the classes in training.
        units: one value per unit whose mean is the metric, from the columns of the judged units.
        pooled: whether it is taken over the test folds of a seed together, not averaged over them.
    """

    meaning: str
    guess: Callable[[Shares], float]
    units: Callable[[Columns, Shares], NDArray[np.float64]]
    pooled: bool = False


def metric_title(name: str) -> str:
    """What people call a metric: its name; of a user's one the name of the function."""
    return name.partition("#")[0].rpartition(":")[2] if "#" in name else name


def metric_said(name: str, reason: str, meaning: str) -> str:
    """A clause on what losses are judged by, and why."""
    return f"{metric_title(name)} ({meaning}), {reason}"


def rarer_of_two(shares: Shares) -> int:
    """The class whose average precision counts, of two: the rarer one; the second if they are equal."""
    return 0 if shares[0] < shares[1] else 1


def entropy(shares: Shares) -> float:
    """The mean NLL of predicting the shares of the classes for every unit, in nats."""
    return -sum(share * math.log(share) for share in shares if share)


def impurity(shares: Shares) -> float:
    """Likewise the mean Brier score."""
    return (1 - sum(share**2 for share in shares)) * brier_factor(len(shares))


def brier_factor(classes: int) -> float:
    """What the sum over classes of squared errors is multiplied by: 1/2 for two classes, as is usual."""
    return 0.5 if classes == 2 else 1.0


def _alike(shares: Shares) -> float:
    return 1 / len(shares)


def _column(name: str) -> Callable[[Columns, Shares], NDArray[np.float64]]:
    return lambda columns, _: columns[name].astype(np.float64)


METRICS: Final[dict[str, Metric]] = {
    "accuracy": Metric(
        "the share of the examples whose most probable class is right",
        max,
        lambda columns, _: (columns["label"] == columns["predicted"]).astype(np.float64),
    ),
    "balanced accuracy": Metric(
        "the mean over the classes of the share of their examples that are right",
        _alike,
        lambda columns, _: balanced_accuracy(columns["label"], columns["predicted"]),
        pooled=True,
    ),
    "macro F1": Metric(
        "the mean over the classes of F1, the harmonic mean of precision and recall",
        _alike,
        lambda columns, _: macro_f1(columns["label"], columns["predicted"]),
        pooled=True,
    ),
    "AUC": Metric(
        "the area under the ROC curve: how often an example of a class is given a higher probability of it than one of "
        "another class, averaged over the classes",
        lambda _: 0.5,
        _column("auc"),
    ),
    "average precision": Metric(
        "the area under the precision-recall curve of {rarer}",
        lambda shares: shares[rarer_of_two(shares)] if len(shares) == 2 else 1 / len(shares),
        _column("average_precision"),
    ),
    "NLL skill": Metric(
        "1 - NLL / {entropy:.4g}, where {entropy:.4g} nats is the NLL of guessing by the shares of the classes: 0 for "
        "guessing, 100 % for perfect; NLL is the cross-entropy of the test labels, lower is better",
        lambda _: 0.0,
        lambda columns, shares: 1 - columns["nll"].astype(np.float64).clip(max=_MOST_NLL) / entropy(shares),
    ),
    "Brier skill": Metric(
        "1 - Brier score / {impurity:.4g}, where {impurity:.4g} is the Brier score of guessing by the shares of the "
        "classes: 0 for guessing, 100 % for perfect; of the Brier score, the mean squared error of the probabilities, "
        "lower is better",
        lambda _: 0.0,
        lambda columns, shares: 1 - columns["brier"].astype(np.float64) / impurity(shares),
    ),
}


DECISIONS: Final = frozenset({"accuracy", "balanced accuracy", "macro F1"})
"""The metrics that look at the most probable class alone."""


OF_CLASSES: Final = frozenset({"balanced accuracy", "macro F1", "AUC", "average precision"})
"""The metrics to which a small class counts as much as a large one."""


@dataclass(frozen=True)
class OwnMetric:
    """A user's metric: a function of labels and probabilities that returns a number, or one for each example.

    Args:
        text: ``file.py:function#hash``.
        guess: what it gives for the shares of the classes as probabilities of every validation example.
        function: takes class indices (n,) and probabilities (n, C); higher is better. Returns finite numbers, of the
            shape () or (n,). ``None`` where results are read that hold its values already.
    """

    text: str
    guess: float = math.nan
    function: Callable[[NDArray[np.int64], NDArray[np.float64]], NDArray[np.float64]] | None = field(
        default=None, compare=False, repr=False
    )

    def units(
        self, label: NDArray[np.int64], probabilities: NDArray[np.float64], *, spread: bool
    ) -> NDArray[np.float64]:
        """One value per unit whose mean is the metric.

        Args:
            label: class indices, (n,).
            probabilities: (n, C).
            spread: whether the values are to show how the metric varies; else, of a function that gives one number,
                they are all the same and cost nothing.

        Returns:
            Shape (n,).
        """
        function = self.function
        assert function is not None, "a metric is evaluated where its file is"
        found = function(label, probabilities)
        if found.ndim:
            return found
        whole = float(found)
        if not spread or len(label) < 2:
            return np.full(len(label), whole)
        return jackknife(lambda rows: float(function(label[rows], probabilities[rows]).mean()), len(label), whole)
