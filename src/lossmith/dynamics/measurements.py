"""What is measured of a training at one moment, by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from lossmith.autodiff.objective import LossFunction
from lossmith.dynamics.lanczos import NotFiniteError, eigenvalues
from lossmith.dynamics.operators import Hessian, Operator, TangentKernel
from lossmith.dynamics.separability import margins
from lossmith.dynamics.sharpness import adam_preconditioned, threshold

_TOLERANCE: Final = 1e-3


@dataclass(frozen=True, eq=False)
class Moment:
    """A training at one moment.

    Args:
        model: the model, in the mode in which it is looked at.
        loss: the loss it is trained with.
        inputs: of some training examples, as the model takes them.
        target: theirs.
        optimizer: what trains the model; ``None``: not known.
    """

    model: nn.Module
    loss: LossFunction
    inputs: Any
    target: Tensor
    optimizer: torch.optim.Optimizer | None = None


@dataclass(frozen=True)
class Measurement:
    """A measurement.

    Attributes:
        columns: the names of the numbers that it takes.
        take: takes them.
        rows: the number of training examples that it takes them on, unless asked for another.
    """

    columns: tuple[str, ...]
    take: Callable[[Moment], tuple[float, ...]]
    rows: int


def _sharpness(moment: Moment) -> tuple[float, ...]:
    """The largest eigenvalue of the Hessian, for Adam preconditioned, and the threshold of the optimiser."""
    hessian, optimizer = Hessian(moment.model, moment.loss, (moment.inputs, moment.target)), moment.optimizer
    limit = math.nan if optimizer is None else threshold(optimizer)
    if not isinstance(optimizer, torch.optim.Adam):
        return _largest(hessian), limit
    if not optimizer.state:  # it has no second moments before its first step
        return math.nan, limit
    return _largest(adam_preconditioned(hessian, optimizer)), limit


def _ntk(moment: Moment) -> tuple[float, ...]:
    """The largest eigenvalue of the tangent kernel, the mean over the outputs."""
    with torch.no_grad():
        shape = tuple(moment.model(moment.inputs).shape)
    if len(shape) != 2:
        raise ValueError(f"the kernel needs outputs of shape (N, C), not {shape}: leave out the probe ntk")
    return (_largest(TangentKernel(moment.model, moment.inputs)),)


def _largest(operator: Operator) -> float:
    """The largest eigenvalue; NaN where the training has diverged, or the Lanczos algorithm has not converged."""
    try:
        found = eigenvalues(operator, tol=_TOLERANCE)
    except NotFiniteError:
        return math.nan
    return float(found.values[0]) if found.converged else math.nan


def _margin(moment: Moment) -> tuple[float, ...]:
    """The target's logit minus the largest of the others: the smallest and the median; the share above 0."""
    with torch.no_grad():
        outputs = moment.model(moment.inputs)
    found = margins(outputs, moment.target)
    if not bool(found.isfinite().all()):  # the training has diverged
        return math.nan, math.nan, math.nan
    return float(found.min()), float(found.median()), float((found > 0).double().mean())


MEASUREMENTS: Final = {
    "sharpness": Measurement(("sharpness", "threshold"), _sharpness, 1024),
    "ntk": Measurement(("largest eigenvalue",), _ntk, 64),
    "margin": Measurement(("smallest", "median", "accuracy"), _margin, 1024),
}
"""``sharpness``: the largest eigenvalue of the Hessian of the loss, for Adam of the preconditioned Hessian, and the
threshold above which the optimiser is unstable. ``ntk``: the largest eigenvalue of the neural tangent kernel, averaged
over the outputs. ``margin``: smallest and median margin in logits, and accuracy."""
