"""What a regression loss is: a function of the error, against the absolute error."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from lossmith.losses import RegressionLoss
from lossmith.properties.strictness import crossings

_FARTHEST: Final = 40.0
_SHOWN: Final = 5.0
_NEAR: Final = 1e-9
_FAR: Final = torch.linspace(0, _FARTHEST, 4001, dtype=torch.float64)


@dataclass(frozen=True)
class ErrorCurve:
    """A regression loss of one output.

    Attributes:
        error: prediction less target, ascending.
        loss: its value.
        slope: its derivative.
    """

    error: tuple[float, ...]
    loss: tuple[float, ...]
    slope: tuple[float, ...]


@dataclass(frozen=True)
class RegressionCertificate:
    """What a regression loss is.

    Attributes:
        loss: its text form.
        summary: the first sentence of its documentation.
        curve: the loss for errors from -5 to 5.
        symmetric: whether errors of either sign cost the same.
        slopes_at_0: below and above error 0; both 0 unless the loss has a kink there.
        steepest: the largest slope in size.
        steepest_at: the error where it is reached; None if the loss gets ever steeper.
        convex: whether no error was found where it is not.
        convex_up_to: the size of error up to which it is convex; None if everywhere.
        curvature_at_0: its second derivative at error 0, 1 for half the squared error.
        largest_gap: the largest amount by which it lies below the absolute error.
        largest_gap_at: the error where it does.
        far_gap: what it lies below the absolute error at errors of 40.
        kind: ``"regression"``.
    """

    loss: str
    summary: str
    curve: ErrorCurve
    symmetric: bool
    slopes_at_0: tuple[float, float]
    steepest: float
    steepest_at: float | None
    convex: bool
    convex_up_to: float | None
    curvature_at_0: float
    largest_gap: float
    largest_gap_at: float
    far_gap: float
    kind: Literal["regression"] = "regression"


def certify_regression(loss: RegressionLoss) -> RegressionCertificate:
    """Describe a regression loss as a function of the error; slopes by autograd, places by bisection.

    Of a loss that is not symmetric, each statement is of the sign of the error for which it is largest.

    Raises:
        ValueError: for a loss that depends on more than the error, such as a learned one.
    """
    if type(loss).per_sample is not RegressionLoss.per_sample:
        raise ValueError(f"{loss.text} depends on target and prediction, not on their difference alone: no certificate")
    each = copy.deepcopy(loss).cpu()

    def value(error: Tensor) -> Tensor:
        return each.per_sample(error, torch.zeros_like(error))

    above, below = _Side(value), _Side(lambda error: value(-error))
    steeper, lower = max(above, below, key=lambda s: s.steepest), max(above, below, key=lambda s: s.largest_gap)
    turning = sorted([*above.turning, *below.turning])
    shown = torch.linspace(-_SHOWN, _SHOWN, 201, dtype=torch.float64)
    near = torch.tensor([-_NEAR, _NEAR], dtype=torch.float64)
    slopes = [value if abs(value) > 10 * _NEAR else 0.0 for value in _slope(value, near).tolist()]
    return RegressionCertificate(
        loss=loss.text,
        summary=(inspect.getdoc(type(loss)) or "").partition("\n")[0],
        curve=ErrorCurve(*(tuple(v.tolist()) for v in (shown, value(shown).detach(), _slope(value, shown)))),
        symmetric=torch.equal(value(_FAR), value(-_FAR)),
        slopes_at_0=(slopes[0], slopes[1]),
        steepest=steeper.steepest,
        steepest_at=steeper.steepest_at,
        convex=not turning,
        convex_up_to=turning[0] if turning else None,
        curvature_at_0=float(_curvature(value, torch.zeros(1, dtype=torch.float64))),
        largest_gap=lower.largest_gap,
        largest_gap_at=lower.largest_gap_at,
        far_gap=lower.far_gap,
    )


class _Side:
    """What a loss does for errors of one sign, as a function of their size."""

    def __init__(self, value: Callable[[Tensor], Tensor]) -> None:
        slope = _slope(value, _FAR)
        self.turning = crossings(lambda e: _curvature(value, e), _FAR)
        steepest = float(_FAR[int(slope.argmax())])
        self.steepest_at = min(self.turning, key=lambda e: abs(e - steepest), default=None)
        at = None if self.steepest_at is None else torch.tensor([self.steepest_at], dtype=torch.float64)
        self.steepest = float(slope.max() if at is None else _slope(value, at)[0])
        gap = _FAR - value(_FAR).detach()
        widest, turns = float(_FAR[int(gap.argmax())]), crossings(lambda e: 1 - _slope(value, e), _FAR[1:])
        self.largest_gap_at = min(turns, key=lambda e: abs(e - widest), default=widest)
        self.largest_gap = self.largest_gap_at - float(value(torch.tensor([self.largest_gap_at]).double())[0])
        self.far_gap = float(gap[-1])


def _slope(value: Callable[[Tensor], Tensor], error: Tensor) -> Tensor:
    error = error.detach().requires_grad_()
    return torch.autograd.grad(value(error).sum(), error)[0]


def _curvature(value: Callable[[Tensor], Tensor], error: Tensor) -> Tensor:
    error = error.detach().requires_grad_()
    (slope,) = torch.autograd.grad(value(error).sum(), error, create_graph=True)
    if not slope.requires_grad:  # a loss of straight lines
        return torch.zeros_like(error)
    return torch.autograd.grad(slope.sum(), error)[0]
