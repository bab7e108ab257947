"""Regression: numbers per row, scored by the squared error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from lossmith.data import Examples, Splits
from lossmith.learned import LearnedLoss
from lossmith.losses.loss import Kind
from lossmith.tasks.task import Judged, Scores, Task, Words

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
        mean: mean of the training target.
        deviation: mean absolute deviation of the training target from its median, in its own unit; a standard deviation
            if not given.
    """

    unit: float
    mean: float = 0.0
    deviation: float | None = None

    name: ClassVar[str] = "regression"
    reference: ClassVar[str] = "mse"
    loss_kinds: ClassVar[tuple[Kind, ...]] = ("regression",)
    rival: ClassVar[str] = "huber:delta=?"
    words: ClassVar[Words] = Words(
        reference="squared error",
        rival="Huber loss",
        reference_short="MSE",
        rival_short="Huber",
        tuned_rival="the Huber loss with its delta tuned",
        tie_break="mean absolute error",
        pull="its slope relative to that of the squared error, against the error in standard deviations of the "
        "training target, for a target at its mean",
        pull_axis="error",
    )
    metric_names: ClassVar[tuple[str, ...]] = ("R2", "MAE skill")
    curve: ClassVar[tuple[str, ...]] = ("R2", "mae")
    tie_break: ClassVar[str] = "mae"
    sentences: ClassVar[Mapping[str, str]] = {
        "R2": "R2 {:.4f}",
        "mae": "mean absolute error {:.4g}",
        "rmse": "root mean squared error {:.4g}",
    }

    @classmethod
    @override
    def of(cls, splits: Splits) -> Regression:
        assert splits.target_std is not None
        assert splits.target_mean is not None
        targets = splits.train.targets.double()
        deviation = splits.target_std * float((targets - targets.median()).abs().mean())
        return cls(splits.target_std, splits.target_mean, float(f"{deviation:.6g}"))

    @property
    @override
    def outputs(self) -> int:
        return 1

    @property
    @override
    def guess(self) -> float:
        return 0.0

    @property
    @override
    def meaning(self) -> str:
        if self.metric == "R2":
            return (
                "1 minus the mean squared error over the variance of the training target: 0 for its mean, 1 for perfect"
            )
        return (
            f"1 - mean absolute error / {self._deviation:.4g}, where {self._deviation:.4g} is that of the training "
            "target's median: 0 for guessing, 100 % for perfect"
        )

    @property
    def _deviation(self) -> float:
        return self.unit if self.deviation is None else self.deviation

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

    @property
    @override
    def pull_axis(self) -> Scores:
        """Errors in standard deviations of the training targets, none of them 0."""
        return np.linspace(-4.0, 4.0, 48)

    @override
    def pull(self, loss: nn.Module) -> Scores:
        """The slope of a loss over that of the squared error, for targets at their training mean."""
        frozen = loss.freeze() if isinstance(loss, LearnedLoss) else loss
        errors = torch.from_numpy(self.pull_axis)[:, None].requires_grad_()
        value = frozen.cpu().double()(errors, torch.zeros_like(errors))
        (slope,) = torch.autograd.grad(value, errors)
        pull: Tensor = len(errors) * slope / (2 * errors.detach())
        return pull[:, 0].numpy()

    @override
    def predictions(self, outputs: Tensor) -> NDArray[Any]:
        """The prediction for each row, in the target's own unit."""
        return self.mean + self.unit * outputs.double().flatten(1).mean(1).cpu().numpy()

    @override
    def metrics(self, judged: Judged) -> dict[str, float]:
        return {name: float(self.unit_scores([[judged]], name)[0].mean()) for name in self.metric_names}

    @override
    def unit_scores(self, folds: Sequence[Sequence[Judged]], metric: str) -> list[Scores]:
        if metric == "R2":
            return super().unit_scores(folds, metric)
        return [np.stack([1 - seed.columns["absolute_error"] / self._deviation for seed in fold]) for fold in folds]

    @override
    def columns(self, judged: Judged) -> dict[str, float]:
        error = judged.columns["absolute_error"]
        return {"mae": float(error.mean()), "rmse": float(np.sqrt((error**2).mean()))}

    @property
    @override
    def summary(self) -> str:
        return "regression"

    @override
    def loss_text(self, text: str) -> str:
        """Names of losses that stand for others in classification: ``mae``, and ``adaptive`` with its arguments."""
        name, colon, arguments = text.partition(":")
        return {"mae": "absolute_error", "adaptive": "adaptive_regression"}.get(name, name) + colon + arguments


def _bounded(error: Tensor) -> Tensor:
    return error.where(error.isfinite(), _FARTHEST).clamp(-_FARTHEST, _FARTHEST)
