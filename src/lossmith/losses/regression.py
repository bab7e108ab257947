"""Losses of the error between a prediction and a number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from lossmith.formulas.expression import terminal
from lossmith.formulas.program import program_of
from lossmith.losses.arguments import Range, check_choice, check_number
from lossmith.losses.loss import Kind, Loss
from lossmith.losses.parts import document, stated
from lossmith.losses.reductions import Fraction, Reduction


class RegressionLoss(Loss):
    """Base of the losses of an error ``e = prediction - target``.

    A subclass says in `statement` what the loss of e is, as an expression in e and the names of its own arguments; if
    no expression says it well, it overrides `of_error`.

    Args:
        values: for subclasses: what the names in the statement stand for.
        reduction: ``"mean"`` (over samples and outputs), ``"sum"`` or ``"none"``.

    Raises:
        ValueError: if an argument is out of range.
    """

    kind: Kind = "regression"
    statement: ClassVar[str | None] = None

    def __init__(self, values: Mapping[str, float] | None = None, /, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_choice("reduction", reduction, get_args(Reduction))
        self.reduction = reduction
        if self.statement is not None:
            self.program = program_of(stated(self.statement, {"e": terminal("e"), **(values or {})}))

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        document(cls, "The loss of an error e is ``{}``.")

    def of_error(self, error: Tensor) -> Tensor:
        """The loss of each error, elementwise."""
        terms: Tensor = self.program.run({"e": error})
        return terms

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
        return self.of_error(prediction - target)

    def fractions(self, prediction: Tensor, target: Tensor) -> tuple[Fraction, ...]:
        """The mean loss as a fraction; see `ClassificationLoss.fractions`."""
        values = self.per_sample(prediction, target)
        return (Fraction(values, torch.ones_like(values, dtype=torch.bool)),)

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


class MeanSquaredErrorLoss(RegressionLoss):
    """The squared error, the reference of regression; its optimum is the mean.

    Source: as `torch.nn.MSELoss`.
    """

    name = "mse"
    statement = "square(e)"


class AbsoluteErrorLoss(RegressionLoss):
    """The mean absolute error; its optimum is the median.

    Source: as `torch.nn.L1Loss`.
    """

    name = "absolute_error"
    statement = "abs(e)"


class HuberLoss(RegressionLoss):
    """``e^2 / 2`` for ``|e| <= delta``, beyond it ``delta (|e| - delta/2)``: robust to outliers.

    Args:
        delta: where the square ends, > 0, in units of the target.
        reduction: see `RegressionLoss`.

    Source: Huber, "Robust Estimation of a Location Parameter", 1964; as `torch.nn.HuberLoss`.
    """

    name = "huber"
    searched = (Range("delta", (0.1, 5.0), "log"),)

    def __init__(self, delta: float = 1.0, *, reduction: Reduction = "mean") -> None:
        check_number("delta", delta, low=1e-6, high=1e6)
        super().__init__(reduction=reduction)
        self.delta = float(delta)

    @override
    def of_error(self, error: Tensor) -> Tensor:
        return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=self.delta)


class LogCoshLoss(RegressionLoss):
    """``log cosh e``: half the squared error near 0, the absolute error less log 2 far away.

    Source: folklore; a smooth Huber loss.
    """

    name = "log_cosh"

    @override
    def of_error(self, error: Tensor) -> Tensor:
        near, size = error.clamp(-1.0, 1.0), error.abs()
        far = size + torch.log1p(torch.exp(-2.0 * size)) - math.log(2.0)
        return torch.where(size < 1.0, torch.log1p(2.0 * torch.sinh(near / 2.0).square()), far)


class QuantileLoss(RegressionLoss):
    """The pinball loss; its optimum is the quantile q.

    Args:
        q: the quantile, from 1e-6 to 1 - 1e-6; 1/2 is half the absolute error.
        reduction: see `RegressionLoss`.

    Source: Koenker and Bassett, "Regression Quantiles", 1978.
    """

    name = "quantile"
    statement = "max(-q*e, (1 - q)*e)"

    def __init__(self, q: float = 0.5, *, reduction: Reduction = "mean") -> None:
        check_number("q", q, low=1e-6, high=1 - 1e-6)
        super().__init__({"q": q}, reduction=reduction)
        self.q = float(q)


class SmoothAbsoluteErrorLoss(RegressionLoss):
    """The smooth absolute error: half the squared error near 0, the absolute error far away.

    Infinitely differentiable; convex for ``|e| < 2.3994`` only and quasi-convex beyond (its slope peaks there at
    1.1997).

    Source: Noel, Banerjee, Oswal et al., "Alternate Loss Functions for Classification and Robust Regression Can Improve
    the Accuracy of Artificial Neural Networks", 2023, arXiv 2303.09935; the authors' notebooks sum over outputs and
    average over samples, ``"mean"`` here averages over both.
    """

    name = "smooth_absolute_error"
    statement = "e*tanh(e/2)"
