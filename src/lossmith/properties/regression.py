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
        steepest: the largest slope.
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
    """Describe a regression loss as a function of the error; symmetric ones are meant.

    Args:
        loss: a function of predictions and targets of one shape.

    Returns:
        The certificate; slopes and curvatures are by autograd, places by bisection.
    """
    each = copy.deepcopy(loss).cpu()

    def value(error: Tensor) -> Tensor:
        return each.per_sample(error, torch.zeros_like(error))

    far = torch.linspace(0, _FARTHEST, 4001, dtype=torch.float64)
    slope, curvature = _slope(value, far), _curvature(value, far)
    turning = crossings(lambda e: _curvature(value, e), far)
    gap = far - value(far).detach()
    steepest = int(slope.argmax())
    at = min(turning, key=lambda e: abs(e - float(far[steepest])), default=None)
    peak = slope.max() if at is None else _slope(value, torch.tensor([at], dtype=torch.float64))[0]
    gap_turns = crossings(lambda e: 1 - _slope(value, e), far[1:])
    gap_at = min(gap_turns, key=lambda e: abs(e - float(far[int(gap.argmax())])), default=float(far[int(gap.argmax())]))
    shown = torch.linspace(-_SHOWN, _SHOWN, 201, dtype=torch.float64)
    return RegressionCertificate(
        loss=loss.text,
        summary=(inspect.getdoc(type(loss)) or "").partition("\n")[0],
        curve=ErrorCurve(*(tuple(v.tolist()) for v in (shown, value(shown).detach(), _slope(value, shown)))),
        steepest=float(peak),
        steepest_at=at,
        convex=not turning,
        convex_up_to=turning[0] if turning else None,
        curvature_at_0=float(curvature[0]),
        largest_gap=float(gap_at - value(torch.tensor([gap_at], dtype=torch.float64))[0]),
        largest_gap_at=gap_at,
        far_gap=float(gap[-1]),
    )


def _slope(value: Callable[[Tensor], Tensor], error: Tensor) -> Tensor:
    error = error.detach().requires_grad_()
    return torch.autograd.grad(value(error).sum(), error)[0]


def _curvature(value: Callable[[Tensor], Tensor], error: Tensor) -> Tensor:
    error = error.detach().requires_grad_()
    (slope,) = torch.autograd.grad(value(error).sum(), error, create_graph=True)
    if not slope.requires_grad:  # a loss of straight lines
        return torch.zeros_like(error)
    return torch.autograd.grad(slope.sum(), error)[0]
