"""Losses for regression: functions of the error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, get_args

from torch import Tensor

from lossmith.formulas.expression import terminal
from lossmith.formulas.program import program_of
from lossmith.losses.arguments import check_choice
from lossmith.losses.base import Loss
from lossmith.losses.parts import stated
from lossmith.losses.reductions import Reduction


class RegressionLoss(Loss):
    """A function of the error e = prediction - target, which it says once, in `statement`.

    Args:
        values: what the names of the loss's own arguments stand for.
        reduction: ``"mean"`` over all entries, ``"sum"`` or ``"none"``.
    """

    kind = "regression"
    statement: ClassVar[str | None] = None

    def __init__(self, values: Mapping[str, float] | None = None, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_choice("reduction", reduction, get_args(Reduction))
        self.reduction = reduction
        if self.statement is not None:
            self.program = program_of(stated(self.statement, {"e": terminal("e"), **(values or {})}))

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Evaluate the loss.

        Args:
            prediction: of any shape.
            target: of the same shape.

        Returns:
            A scalar, or for ``reduction="none"`` a tensor of that shape.

        Raises:
            ValueError: if the shapes differ.
        """
        return self.reduced(self.per_sample(prediction, target))

    def per_sample(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss of each entry, before any reduction, in the shape of the predictions; see `forward`."""
        check_shapes(prediction, target)
        terms: Tensor = self.program.run({"e": prediction - target})
        return terms

    def reduced(self, terms: Tensor) -> Tensor:
        """The losses of the entries, or their mean or sum, as ``reduction`` says."""
        if self.reduction == "none":
            return terms
        return terms.mean() if self.reduction == "mean" else terms.sum()


def check_shapes(prediction: Tensor, target: Tensor) -> None:
    """Refuse predictions and targets of different shapes."""
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction and target must have one shape, not {tuple(prediction.shape)} and {tuple(target.shape)}"
        )


class SmoothMeanAbsoluteErrorLoss(RegressionLoss):
    """The smooth absolute error: quadratic near 0, |e| in the tails.

    Infinitely differentiable; convex for |e| < 2.3994 only, quasi-convex beyond (its slope peaks there at 1.1997).

    Args:
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Source: Noel, Banerjee, Oswal et al., "Alternate Loss Functions for Classification and Robust Regression Can Improve
    the Accuracy of Artificial Neural Networks", 2023, arXiv 2303.09935; the notebooks sum over outputs and average over
    samples, ``"mean"`` here averages over both.
    """

    name = "smae"
    statement = "e*tanh(e/2)"

    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__(reduction=reduction)
