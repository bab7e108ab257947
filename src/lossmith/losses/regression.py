"""Losses of the error between a prediction and a number."""

from __future__ import annotations

import math
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from lossmith.losses.arguments import check_choice, check_number
from lossmith.losses.base import Loss
from lossmith.losses.reductions import Reduction


class RegressionLoss(Loss):
    """Base of the losses of an error ``e = prediction - target``; subclasses write `of_error`.

    Args:
        reduction: ``"mean"`` (over samples and outputs), ``"sum"`` or ``"none"``.

    Raises:
        ValueError: if an argument is out of range.
    """

    kind = "regression"

    def __init__(self, *, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_choice("reduction", reduction, get_args(Reduction))
        self.reduction = reduction

    def of_error(self, error: Tensor) -> Tensor:
        """The loss of each error, elementwise."""
        raise NotImplementedError

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
        if prediction.shape != target.shape:
            raise ValueError(
                f"prediction and target must have one shape, not {tuple(prediction.shape)} and {tuple(target.shape)}"
            )
        terms = self.of_error(prediction - target)
        if self.reduction == "none":
            return terms
        return terms.mean() if self.reduction == "mean" else terms.sum()


class MeanSquaredErrorLoss(RegressionLoss):
    """``e^2``: the reference of regression; its optimum is the mean.

    Source: as `torch.nn.MSELoss`.
    """

    name = "mse"

    @override
    def of_error(self, error: Tensor) -> Tensor:
        return error.square()


class AbsoluteErrorLoss(RegressionLoss):
    """``|e|``, the mean absolute error: its optimum is the median.

    Source: as `torch.nn.L1Loss`.
    """

    name = "absolute_error"

    @override
    def of_error(self, error: Tensor) -> Tensor:
        return error.abs()


class HuberLoss(RegressionLoss):
    """``e^2 / 2`` for ``|e| <= delta``, beyond it ``delta (|e| - delta/2)``: robust to outliers.

    Args:
        delta: where the square ends, > 0, in units of the target.
        reduction: see `RegressionLoss`.

    Source: Huber, "Robust Estimation of a Location Parameter", 1964; as `torch.nn.HuberLoss`.
    """

    name = "huber"

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
    """``max(-q e, (1 - q) e)``, the pinball loss: its optimum is the quantile q.

    Args:
        q: the quantile, from 1e-6 to 1 - 1e-6; 1/2 is half the absolute error.
        reduction: see `RegressionLoss`.

    Source: Koenker and Bassett, "Regression Quantiles", 1978.
    """

    name = "quantile"

    def __init__(self, q: float = 0.5, *, reduction: Reduction = "mean") -> None:
        check_number("q", q, low=1e-6, high=1 - 1e-6)
        super().__init__(reduction=reduction)
        self.q = float(q)

    @override
    def of_error(self, error: Tensor) -> Tensor:
        return torch.maximum(-self.q * error, (1.0 - self.q) * error)


class SmoothAbsoluteErrorLoss(RegressionLoss):
    """``e tanh(e/2)``: half the squared error near 0, the absolute error far away.

    Infinitely differentiable; convex for ``|e| < 2.3994`` only and quasi-convex beyond (its slope peaks there at
    1.1997).

    Source: Noel, Banerjee, Oswal et al., "Alternate Loss Functions for Classification and Robust Regression Can Improve
    the Accuracy of Artificial Neural Networks", 2023, arXiv 2303.09935; the authors' notebooks sum over outputs and
    average over samples, ``"mean"`` here averages over both.
    """

    name = "smooth_absolute_error"

    @override
    def of_error(self, error: Tensor) -> Tensor:
        return error * torch.tanh(error / 2)
