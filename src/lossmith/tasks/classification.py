"""Classification: one class per example, scored by whether the most probable class is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from lossmith.tasks.task import Diagram, Judged, Scores, Task

PROBABILITIES: Final[Scores] = torch.linspace(-6.0, 6.0, 49, dtype=torch.float64).sigmoid().numpy()
"""Where the strictness of a loss is looked at."""


@dataclass(frozen=True)
class Classification(Task):
    """Classification with a softmax over C classes.

    The columns of each example are ``label`` and ``predicted``, class indices; ``nll``, the cross-entropy of the label
    in nats, and ``confidence``, the largest probability; the last two also ``_scaled``, after temperature scaling.

    Args:
        classes: the C classes' names.
    """

    classes: tuple[str, ...]

    name: ClassVar[str] = "classification"
    reference: ClassVar[str] = "cross_entropy"
    loss_kinds: ClassVar[tuple[Kind, ...]] = ("classification", "learned")
    rival: ClassVar[str] = "label_smoothing:epsilon=?"
    curve: ClassVar[tuple[str, ...]] = ("accuracy", "nll")
    tie_break: ClassVar[str] = "nll_scaled"
    sentences: ClassVar[Mapping[str, str]] = {
        "accuracy": "accuracy {:.2%}",
        "nll": "cross-entropy {:.4f}",
        "ece": "calibration error {:.3f}",
        "temperature": "at temperature {:.2f}",
        "nll_scaled": "cross-entropy {:.4f}",
        "ece_scaled": "calibration error {:.3f}",
    }

    @classmethod
    @override
    def of(cls, splits: Splits) -> Classification:
        return cls(splits.class_names)

    @property
    @override
    def outputs(self) -> int:
        return len(self.classes)

    @property
    @override
    def guess(self) -> float:
        return 1 / len(self.classes)

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
        from scipy.special import log_softmax  # printing a finished run should not wait for SciPy

        bad = ~np.isfinite(logits).all(1)
        predicted = log_softmax(np.where(bad[:, None], 0.0, logits).astype(np.float64), axis=1).argmax(1)
        columns = {"label": label, "predicted": predicted, "logits": logits}
        return Judged(examples.index.cpu().numpy(), (predicted == label).astype(np.float64), columns)

    @override
    def conclude(self, valid: Judged, test: Judged | None) -> tuple[Judged, Judged | None, dict[str, float]]:
        """Replace the logits by what is told of them, before and after temperature scaling."""
        temperature = fit_temperature(valid.columns["logits"], valid.columns["label"])
        of_test = None if test is None else _with_probabilities(test, temperature)
        return _with_probabilities(valid, temperature), of_test, {"temperature": temperature}

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
        of_class = np.bincount(judged.columns["label"])
        right = np.bincount(judged.columns["label"], weights=judged.score)
        balanced = (right[of_class > 0] / of_class[of_class > 0]).mean()
        return {"accuracy": float(judged.score.mean()), "balanced accuracy": float(balanced)}

    @override
    def columns(self, judged: Judged) -> dict[str, float]:
        of, correct = judged.columns, judged.score == 1
        return {
            "nll": float(of["nll"].mean(dtype=float)),
            "nll_scaled": float(of["nll_scaled"].mean(dtype=float)),
            "ece": calibration_error(of["confidence"], correct),
            "ece_scaled": calibration_error(of["confidence_scaled"], correct),
        }

    @override
    def unit_scores(self, folds: Sequence[Sequence[Judged]], metric: str) -> list[Scores]:
        scores = super().unit_scores(folds, metric)
        if metric == "accuracy":
            return scores
        weights = balancing_weights(np.concatenate([fold[0].columns["label"] for fold in folds]))
        parts = np.split(weights, np.cumsum([fold.shape[1] for fold in scores])[:-1])
        return [fold * part for fold, part in zip(scores, parts, strict=True)]

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


def balancing_weights(labels: NDArray[np.int64]) -> Scores:
    """Weights that turn 0/1 outcomes into scores whose plain mean is the balanced accuracy: n / (C_present n_y).

    Args:
        labels: true classes of all test examples, shape (n,); those of all folds together.

    Returns:
        Shape (n,).

    Source: Brodersen et al. (2010), "The balanced accuracy and its posterior distribution".
    """
    _, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(labels.size / (counts.size * counts[index]), dtype=np.float64)


def _with_probabilities(judged: Judged, temperature: float) -> Judged:
    from scipy.special import log_softmax

    logits, labels = judged.columns["logits"], judged.columns["label"]
    bad = ~np.isfinite(logits).all(1)
    plain = log_softmax(np.where(bad[:, None], 0.0, logits).astype(np.float64), axis=1)
    columns = {name: values for name, values in judged.columns.items() if name != "logits"}
    for suffix, log_p in (("", plain), ("_scaled", log_softmax(plain / temperature, axis=1))):
        with np.errstate(over="ignore"):  # logits near float32's largest number: infinite in float32
            nll = np.where(bad, np.inf, -log_p[np.arange(len(labels)), labels]).astype(np.float32)
        columns["nll" + suffix] = nll
        columns["confidence" + suffix] = np.where(bad, 1.0, np.exp(log_p.max(1))).astype(np.float32)
    return Judged(judged.index, judged.score, columns)


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
