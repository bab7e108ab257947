"""Classification: one class per example, scored by whether the most probable class is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from lossmith.data import Examples, Splits
from lossmith.learned import LearnedLoss, strictness_curve
from lossmith.losses.loss import Kind
from lossmith.tasks.calibration import CALIBRATION_BINS, calibration_error, fit_temperature
from lossmith.tasks.influence import auc, average_precision
from lossmith.tasks.metrics import (
    DECISIONS,
    IMBALANCED,
    METRICS,
    OwnMetric,
    Shares,
    brier_factor,
    entropy,
    impurity,
    rarer_of_two,
)
from lossmith.tasks.task import Counted, Diagram, Judged, Scores, Task

PROBABILITIES: Final[Scores] = torch.linspace(-6.0, 6.0, 49, dtype=torch.float64).sigmoid().numpy()
"""Where the strictness of a loss is looked at."""
_NAMED: Final = 4  # classes that are told by number


@dataclass(frozen=True)
class Classification(Task):
    """Classification with a softmax over C classes.

    The columns of each example are ``label`` and ``predicted``, class indices; ``nll``, the cross-entropy of the label
    in nats, and ``confidence``, the largest probability; the last two also ``_scaled``, after temperature scaling;
    ``brier``, the squared error of the probabilities; ``auc`` and ``average_precision``, values that average to those
    of the part, see `lossmith.tasks.influence`; and ``own`` for a user's metric.

    Args:
        classes: the C classes' names.
        shares: the share of each class in training; equal if not given.
        own: a user's metric.
    """

    classes: tuple[str, ...]
    shares: Shares = ()
    own: OwnMetric | None = field(default=None, kw_only=True)

    name: ClassVar[str] = "classification"
    reference: ClassVar[str] = "cross_entropy"
    loss_kinds: ClassVar[tuple[Kind, ...]] = ("classification", "learned")
    rival: ClassVar[str] = "label_smoothing:epsilon=?"
    metric_names: ClassVar[tuple[str, ...]] = tuple(METRICS)
    curve: ClassVar[tuple[str, ...]] = ("accuracy", "nll")
    tie_break: ClassVar[str] = "nll_scaled"
    sentences: ClassVar[Mapping[str, str]] = {
        "accuracy": "accuracy {:.2%}",
        "balanced accuracy": "balanced accuracy {:.2%}",
        "AUC": "AUC {:.4f}",
        "nll": "cross-entropy {:.4f}",
        "ece": "calibration error {:.3f}",
        "temperature": "at temperature {:.2f}",
        "nll_scaled": "cross-entropy {:.4f}",
        "ece_scaled": "calibration error {:.3f}",
    }

    @classmethod
    @override
    def of(cls, splits: Splits) -> Classification:
        counts = splits.class_counts.double()
        return cls(splits.class_names, tuple(float(f"{share:.6g}") for share in (counts / counts.sum()).tolist()))

    @property
    @override
    def outputs(self) -> int:
        return len(self.classes)

    @property
    @override
    def guess(self) -> float:
        if self.own is not None and self.metric == self.own.text:
            return self.own.guess
        return METRICS[self.metric].guess(self._shares)

    @property
    @override
    def meaning(self) -> str:
        if self.metric not in METRICS:
            named = ", ".join(f"{i} is {name}" for i, name in enumerate(self.classes[:_NAMED]))
            return f"of your own; class {named}{', and so on' if len(self.classes) > _NAMED else ''}"
        two = len(self.classes) == 2
        rarer = f"the rarer class, {self.classes[rarer_of_two(self._shares)]}" if two else "each class, averaged"
        gaps = {"rarer": rarer, "entropy": entropy(self._shares), "impurity": impurity(self._shares)}
        return METRICS[self.metric].meaning.format(**gaps)

    @property
    @override
    def of_progress(self) -> Task:
        """The task in AUC if classes are imbalanced: what a model learned may not change the most probable class."""
        return replace(self, metric="AUC") if _imbalanced(self._shares) and self.metric in DECISIONS else self

    @override
    def is_imbalanced(self, splits: Counted) -> bool:
        """Whether the largest class has about `IMBALANCED` times the training examples of the smallest, or more."""
        return _imbalanced(splits.class_counts.tolist())

    @override
    def usual_metric(self, splits: Counted) -> tuple[str, str]:
        """Balanced accuracy if classes are imbalanced, by themselves or on purpose, else accuracy."""
        counts = splits.class_counts
        if not self.is_imbalanced(splits):
            return "accuracy", f"because no class has {IMBALANCED:g} times the training examples of another"
        largest, smallest = (self.classes[int(of)] for of in (counts.argmax(), counts.argmin()))
        return "balanced accuracy", (
            f"because the largest class ({largest}) has {float(counts.max() / counts.min()):.3g} times the training "
            f"examples of the smallest ({smallest})"
        )

    @override
    def facts(self, splits: Splits) -> dict[str, Any]:
        return {"class_counts": splits.class_counts.tolist()}

    @override
    def reference_values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        terms = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
        return terms.view(targets.shape).mean(1)

    @override
    def curve_point(self, outputs: Tensor, targets: Tensor) -> Tensor:
        accuracy = (outputs.argmax(-1) == targets).double().mean(1)
        return torch.stack([accuracy, self.reference_values(outputs, targets).double()])

    @override
    def judge(self, outputs: Tensor, examples: Examples) -> Judged:
        """Judge logits; an example with a logit that is not finite is of class 0, with infinite cross-entropy."""
        logits, label = outputs.float().cpu().numpy(), examples.targets.cpu().numpy()
        bad = ~np.isfinite(logits).all(1)
        predicted = np.where(bad[:, None], 0.0, logits).argmax(1)
        columns = {"label": label, "predicted": predicted, "logits": logits}
        return Judged(examples.index.cpu().numpy(), (predicted == label).astype(np.float64), columns)

    @override
    def conclude(self, valid: Judged, test: Judged | None) -> tuple[Judged, Judged | None, dict[str, float]]:
        """Replace the logits by what is told of them, before and after temperature scaling."""
        temperature = fit_temperature(valid.columns["logits"], valid.columns["label"])
        of_test = None if test is None else self._told(test, temperature, spread=True)
        return self._told(valid, temperature, spread=test is not None), of_test, {"temperature": temperature}

    @property
    def _shares(self) -> Shares:
        return self.shares or (1 / len(self.classes),) * len(self.classes)

    def _told(self, judged: Judged, temperature: float, *, spread: bool) -> Judged:
        """What is kept of the logits."""
        from scipy.special import log_softmax

        logits, label = judged.columns["logits"], judged.columns["label"]
        rows, bad = np.arange(len(label)), ~np.isfinite(logits).all(1)
        log_p = log_softmax(np.where(bad[:, None], 0.0, logits).astype(np.float64), axis=1)
        columns = {name: values for name, values in judged.columns.items() if name != "logits"}
        for suffix, scaled in (("", log_p), ("_scaled", log_softmax(log_p / temperature, axis=1))):
            with np.errstate(over="ignore"):  # logits near float32's largest number: infinite in float32
                columns["nll" + suffix] = np.where(bad, np.inf, -scaled[rows, label]).astype(np.float32)
            columns["confidence" + suffix] = np.where(bad, 1.0, np.exp(scaled.max(1))).astype(np.float32)
        log_p[bad] = np.where(np.arange(len(self.classes)) == 0, 0.0, -np.inf)  # sure that it is of class 0
        probabilities = np.exp(log_p)
        truth = label[:, None] == np.arange(len(self.classes))
        error = np.square(probabilities - truth).sum(1) * brier_factor(len(self.classes))
        # Of two classes the log-odds tell apart what two probabilities near 1 do not.
        ranked = log_p - log_p[:, ::-1] if len(self.classes) == 2 else log_p
        columns["brier"] = error.astype(np.float32)
        columns["auc"] = auc(label, ranked).astype(np.float32)
        columns["average_precision"] = average_precision(label, ranked, self._of_interest).astype(np.float32)
        if self.own is not None:
            columns["own"] = self.own.units(label, probabilities, spread=spread)
        return Judged(judged.index, judged.score, columns)

    @property
    def _of_interest(self) -> list[int]:
        """The classes whose average precision counts."""
        return [rarer_of_two(self._shares)] if len(self.classes) == 2 else list(range(len(self.classes)))

    @property
    @override
    def pull_axis(self) -> Scores:
        """Probabilities of the target."""
        return PROBABILITIES

    @override
    def pull(self, loss: nn.Module) -> Scores:
        """The strictness of a loss, the other classes sharing the rest evenly."""
        return strictness(loss, self.outputs)

    @override
    def predictions(self, outputs: Tensor) -> NDArray[Any]:
        """The name of each example's most probable class."""
        return np.asarray(self.classes).take(outputs.float().argmax(1).cpu().numpy())

    @override
    def metrics(self, judged: Judged) -> dict[str, float]:
        names = [*METRICS, *([] if self.own is None else [self.own.text])]
        return {name: float(self.unit_scores([[judged]], name)[0].mean()) for name in names}

    @override
    def columns(self, judged: Judged) -> dict[str, float]:
        of, correct = judged.columns, judged.score == 1
        return {
            "accuracy": float(judged.score.mean()),
            "balanced_accuracy": self._metric("balanced accuracy", judged),
            "auc": self._metric("AUC", judged),
            "nll": float(of["nll"].mean(dtype=float)),
            "nll_scaled": float(of["nll_scaled"].mean(dtype=float)),
            "brier": float(of["brier"].mean(dtype=float)),
            "ece": calibration_error(of["confidence"], correct),
            "ece_scaled": calibration_error(of["confidence_scaled"], correct),
        }

    def _metric(self, name: str, judged: Judged) -> float:
        return float(METRICS[name].units(judged.columns, self._shares).mean())

    @override
    def unit_scores(self, folds: Sequence[Sequence[Judged]], metric: str) -> list[Scores]:
        if metric not in METRICS:
            return [np.stack([seed.columns["own"].astype(np.float64) for seed in fold]) for fold in folds]
        of = METRICS[metric]
        if not of.pooled:
            return [np.stack([of.units(seed.columns, self._shares) for seed in fold]) for fold in folds]
        together = [_pooled(seeds) for seeds in zip(*folds, strict=True)]
        ends = np.cumsum([len(fold[0].index) for fold in folds])[:-1]
        values = np.stack([of.units(columns, self._shares) for columns in together])
        return np.split(values, ends, axis=1)

    @property
    @override
    def summary(self) -> str:
        return f"{len(self.classes)} classes"

    @override
    def diagrams(self, judged: Sequence[Judged]) -> tuple[Diagram, ...]:
        """Reliability diagrams: the share that is right against confidence."""
        return tuple(
            _reliability(judged, name, column)
            for name, column in (("as trained", "confidence"), ("temperature scaled", "confidence_scaled"))
        )


def strictness(loss: nn.Module, classes: int) -> Scores:
    """The strictness of a loss at `PROBABILITIES` of the target, the other classes sharing the rest evenly."""
    frozen = loss.freeze() if isinstance(loss, LearnedLoss) else loss
    return strictness_curve(frozen.cpu().double(), classes, torch.from_numpy(PROBABILITIES)).numpy()


def _imbalanced(sizes: Sequence[float]) -> bool:
    return min(sizes) > 0 and round(max(sizes) / min(sizes), 1) >= IMBALANCED


def _pooled(folds: Sequence[Judged]) -> dict[str, NDArray[Any]]:
    """The classes of all folds, one after another."""
    return {name: np.concatenate([fold.columns[name] for fold in folds]) for name in ("label", "predicted")}


def _reliability(judged: Sequence[Judged], name: str, column: str) -> Diagram:
    confidence = np.concatenate([each.columns[column] for each in judged])
    correct = np.concatenate([each.score for each in judged])
    which = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    bins = [which == i for i in range(CALIBRATION_BINS) if (which == i).any()]
    return Diagram(
        name,
        tuple(float(confidence[of].mean(dtype=float)) for of in bins),
        tuple(float(correct[of].mean()) for of in bins),
        tuple(int(of.sum()) for of in bins),
    )
