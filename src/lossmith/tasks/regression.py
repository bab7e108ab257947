"""Regression: numbers per row, scored by the squared error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lossmith.data import Examples, Splits
from lossmith.losses.base import Kind
from lossmith.tasks.task import Judged, Scores, Task

_FARTHEST: Final = 10.0
"""The error, in standard deviations, that a prediction counts as which is not finite or lies farther off."""


@dataclass(frozen=True)
class Regression(Task):
    """Regression of one number per row.

    Targets come standardised by the training part, so that the score ``1 - e^2`` of a row averages to R2, with the
    training target's variance in place of the test part's. Guessing the training mean scores 0. The column of each row
    is ``absolute_error``, in the target's own unit.

    Args:
        unit: standard deviation of the training target.
    """

    unit: float

    name: ClassVar[str] = "regression"
    reference: ClassVar[str] = "mse"
    loss_kinds: ClassVar[tuple[Kind, ...]] = ("regression",)
    rival: ClassVar[str] = "huber:delta=?"
    words: ClassVar[Mapping[str, str]] = {
        "label smoothing with its epsilon tuned": "the Huber loss with its delta tuned",
        "the lower cross-entropy": "the lower mean absolute error",
        "cross-entropy": "squared error",
        "Cross-entropy": "Squared error",
        "label smoothing": "Huber loss",
        "Label smoothing": "Huber loss",
        "minus CE": "minus MSE",
        "minus LS": "minus Huber",
        "LS: ": "Huber: ",
    }
    curve: ClassVar[tuple[str, ...]] = ("R2", "mae")
    tie_break: ClassVar[str] = "mae"

    @classmethod
    @override
    def of(cls, splits: Splits) -> Regression:
        assert splits.target_std is not None
        return cls(splits.target_std)

    @property
    @override
    def outputs(self) -> int:
        return 1

    @property
    @override
    def guess(self) -> float:
        return 0.0

    @override
    def facts(self, splits: Splits) -> dict[str, Any]:
        return {}

    @override
    def reference_values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().flatten(1).mean(1)

    @override
    def curve_point(self, outputs: Tensor, targets: Tensor) -> Tensor:
        error = _bounded(outputs.double() - targets)
        return torch.stack([1 - error.square().flatten(1).mean(1), self.unit * error.abs().flatten(1).mean(1)])

    @override
    def judge(self, outputs: Tensor, examples: Examples) -> Judged:
        """Judge predictions; an error beyond ten standard deviations, or one that is not finite, counts as ten."""
        error = _bounded(outputs.double() - examples.targets).flatten(1).mean(1).cpu().numpy()
        columns = {"absolute_error": self.unit * np.abs(error)}
        return Judged(examples.index.cpu().numpy(), 1 - error**2, columns)

    @override
    def metrics(self, judged: Judged) -> dict[str, float]:
        return {"R2": float(judged.score.mean())}

    @override
    def columns(self, judged: Judged) -> dict[str, float]:
        error = judged.columns["absolute_error"]
        return {"mae": float(error.mean()), "rmse": float(np.sqrt((error**2).mean()))}

    @override
    def unit_scores(self, folds: Sequence[Sequence[Judged]], metric: str) -> list[Scores]:
        return [np.stack([seed.score for seed in fold]) for fold in folds]

    @property
    @override
    def summary(self) -> str:
        return "regression"

    @override
    def loss_text(self, text: str) -> str:
        """``mae`` is the absolute error; elsewhere it is a loss of classification."""
        return "absolute_error" if text == "mae" else text

    @override
    def told(self, numbers: Mapping[str, float]) -> str:
        words = {"R2": "R2 {:.4f}", "mae": "mean absolute error {:.4g}", "rmse": "root mean squared error {:.4g}"}
        return ", ".join(text.format(numbers[name]) for name, text in words.items() if name in numbers)


def _bounded(error: Tensor) -> Tensor:
    return error.where(error.isfinite(), _FARTHEST).clamp(-_FARTHEST, _FARTHEST)
