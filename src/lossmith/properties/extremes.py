"""Least upper bounds over the whole simplex of a loss and of its gradient's norm, proved by interval arithmetic.

For functions f of the target's probability and g of each other's, and any number lambda,

    f(p_t) + sum_j g(p_j) <= lambda + max_p (f(p) - lambda p) + (C - 1) max_p (g(p) - lambda p),

since the probabilities sum to 1: what is left is to bound two functions of one number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from lossmith.formulas import apply
from lossmith.formulas.arithmetic import folded
from lossmith.properties.enclosure import REACHES, Cells, Function, supremum
from lossmith.properties.gradients import gradient_bound, separable, up
from lossmith.properties.parts import P, Parts

GROWN: Final = 1e6
"""Of what exceeds this at an end and has no bound there, no bound for logits less far apart is sought. A bound so many
times above what is reached, though, says less than one for logits less far apart."""
_CLOSE: Final = 1e-3
_LARGEST: Final = float(np.finfo(np.float64).max)
_NEAR_ENDS: Final = np.array([15.0, 30.0, 680.0, 1e38, 1e300, 1e300])  # logits; the last one and beyond


@dataclass(frozen=True)
class Extreme:
    """The least upper bound of something over the simplex, between two numbers.

    Attributes:
        attained: it is at least this large somewhere.
        attained_how: ``"proved"`` by an enclosure, or ``"sampled"``.
        proved: it is nowhere larger; None if that was not proved.
        apart: how far apart the logits may be for that; inf for any logits.
    """

    attained: float
    attained_how: str
    proved: float | None
    apart: float


def largest_value(parts: Parts, sampled: Callable[[], float]) -> Extreme:
    """The largest value of the loss; ``sampled`` gives the largest one that sampling finds, where it is needed."""
    even = Function(parts.even_loss)
    if parts.only_target or parts.num_classes == 2:
        return _of_one(even, 1.0, sampled)
    grows = max(*_at_ends(even), *_at_ends(Function(parts.corner_loss)))
    return _between(lambda reach: separable(*parts.both, parts.num_classes, reach), grows, sampled)


def largest_gradient(parts: Parts, sampled: Callable[[], float]) -> Extreme:
    """The largest norm of the gradient on the logits."""
    # Minus the slope in the target's logit; for a function of the target's probability the others' is as large in all.
    along = Function(apply("abs", folded("mul", parts.even_strictness, 1.0 - P)))
    if parts.only_target or parts.num_classes == 2:
        return _of_one(along, math.sqrt(2), sampled)

    def bound(reach: float) -> float:
        found = gradient_bound(parts, attained, reach)
        return found if math.isfinite(found) else _triangle(parts, reach, _CLOSE * attained)

    attained = sampled()
    grows = max(*_at_ends(along), *_at_ends(Function(apply("abs", parts.corner_slope))))
    return _between(bound, grows, sampled)


def _between(bound: Callable[[float], float], grows: float, sampled: Callable[[], float]) -> Extreme:
    """The extreme from a function that bounds it for a reach, and what it certainly exceeds at an end."""
    found = None
    for reach in REACHES:
        proved = bound(reach)
        if math.isfinite(proved):
            attained = sampled()
            found = found or Extreme(min(attained, proved), "sampled", proved, reach)
            if proved <= GROWN * max(1.0, abs(attained)):
                return Extreme(min(attained, proved), "sampled", proved, reach)
        elif grows > GROWN:
            return Extreme(grows, "proved", None, math.inf)
    return found or Extreme(sampled(), "sampled", None, math.inf)


def _of_one(function: Function, factor: float, sampled: Callable[[], float]) -> Extreme:
    """The extreme of a function of the target's probability, times a factor."""
    grows = min(factor * max(_at_ends(function)), _LARGEST)
    for reach in REACHES:
        found = supremum(function, reach)
        if math.isfinite(found.proved):
            return Extreme(-up(-factor * found.attained), "proved", up(factor * found.proved), reach)
        if grows > GROWN:
            return Extreme(grows, "proved", None, math.inf)
    return Extreme(sampled(), "sampled", None, math.inf)


def _at_ends(function: Function) -> tuple[float, float]:
    """What a function certainly exceeds near p = 0, and near p = 1: at some point or beyond all of them."""
    low, _ = function.on(Cells(_NEAR_ENDS, np.append(_NEAR_ENDS[:-1], math.inf)))
    below, _ = function.on(Cells(np.append(-_NEAR_ENDS[:-1], -math.inf), -_NEAR_ENDS))
    return float(below.max()), float(low.max())


def _triangle(parts: Parts, reach: float, slack: float) -> float:
    """``|g| <= sum_j |D_j| |onehot_j - p| <= sqrt(2) sum_j |D_j| (1 - p_j)``: coarse, but for D infinite at p = 1."""
    target, other = (apply("abs", folded("mul", slope, 1.0 - P)) for slope in parts.slopes)
    return up(math.sqrt(2) * separable(target, other, parts.num_classes, reach, slack))
