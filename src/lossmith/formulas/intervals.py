"""Bounds of a formula over boxes, by interval arithmetic with outward rounding."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossmith.formulas.errors import FormulaError
from lossmith.formulas.expression import PROTECTION, Expression, check_terminals, fold

Array = NDArray[np.float64]

_ULPS: Final = 4
"""Error bound of numpy's transcendental functions in units in the last place, with a margin."""
_LARGEST_PHASE: Final = 1e7
"""Above this argument, sin and cos are only bounded by -1 and 1. Below it the error of a phase is less than 1e-8, and
that close to a peak the function is within one unit in the last place of it, so misjudging the side does no harm."""


class Interval(NamedTuple):
    """Lower and upper bounds, elementwise."""

    low: Array
    high: Array


def bounds(expression: Expression, **intervals: float | Array | tuple[float | Array, float | Array]) -> Interval:
    """Bound a formula over boxes of its terminals.

    Terminals are treated as independent, except that c is computed from p, or p from c, if only one of them is given.
    The bounds are wider than necessary where a terminal occurs more than once; subdivide the box to tighten them.

    Args:
        expression: the formula.
        **intervals: for each terminal (p, c, y, n, t) a pair ``(low, high)`` of numbers or broadcastable float64
            arrays, or one number or array for a fixed value. If only one of p and c is given, the other follows.

    Returns:
        ``(low, high)``, float64 arrays of the broadcast shape, infinite where no bound was found. They contain the
        exact real value wherever it is defined, and the result of evaluating the formula step by step in float64.

    Raises:
        FormulaError: if a terminal has no interval, a terminal does not exist, or a lower end is above its upper end.
    """
    with np.errstate(all="ignore"):
        check_terminals(intervals)
        given = {name: _interval(name, value) for name, value in intervals.items()}
        if expression.depends_on("c") and "c" not in given and "p" in given:
            given["c"] = _neg(_log(given["p"]))
        if expression.depends_on("p") and "p" not in given and "c" in given:
            given["p"] = _exp(_neg(given["c"]))
        missing = sorted(expression.terminals - given.keys())
        if missing:
            raise FormulaError(f"the formula uses {missing[0]}, but no interval is given for it")

        def step(node: Expression, operands: list[Interval]) -> Interval:
            if node.is_constant:
                return _point(node.value)
            if node.name:
                return given[node.name]
            if node.op == "mul" and node.args[0] == node.args[1]:
                return _square(operands[0])
            return _RULES[node.op](*operands)

        low, high = fold(expression, step)
        shape = np.broadcast_shapes(*(part.shape for interval in given.values() for part in interval))
        return Interval(np.broadcast_to(low, shape).copy(), np.broadcast_to(high, shape).copy())


def _interval(name: str, value: float | Array | tuple[float | Array, float | Array]) -> Interval:
    low, high = value if isinstance(value, tuple) else (value, value)
    interval = Interval(*np.broadcast_arrays(np.asarray(low, np.float64), np.asarray(high, np.float64)))
    if not bool((interval.low <= interval.high).all()):
        raise FormulaError(f"the interval of {name} has a lower end above its upper end, or an end that is NaN")
    return interval


def _point(value: float) -> Interval:
    return Interval(np.array(value), np.array(value))


def _outward(low: Array, high: Array, ulps: int = 1) -> Interval:
    """Widen by some units in the last place; an end that is NaN becomes infinite."""
    low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
    # An end that overflowed outwards stays infinite; one that overflowed inwards becomes the largest finite number.
    for _ in range(ulps):
        low, high = np.nextafter(low, -np.inf), np.nextafter(high, np.inf)
    return Interval(low, high)


def _within(interval: Interval, least: float, most: float) -> Interval:
    """Clip to the range of a function."""
    return Interval(np.clip(interval.low, least, most), np.clip(interval.high, least, most))


def _add(a: Interval, b: Interval) -> Interval:
    return _outward(a.low + b.low, a.high + b.high)


def _sub(a: Interval, b: Interval) -> Interval:
    return _outward(a.low - b.high, a.high - b.low)


def _neg(a: Interval) -> Interval:
    return Interval(-a.high, -a.low)


def _mul(a: Interval, b: Interval) -> Interval:
    corners = np.stack(np.broadcast_arrays(*(_times(x, y) for x in a for y in b)))
    return _outward(corners.min(0), corners.max(0))


def _times(x: Array, y: Array) -> Array:
    """The product of two ends. Zero times an infinite end is 0, because intervals contain finite values only."""
    return np.where((x == 0) | (y == 0), 0.0, x * y)


def _reciprocal(a: Interval) -> Interval:
    inside = (a.low < 0) & (a.high > 0)
    low = np.where(inside | (a.high == 0), -np.inf, 1 / a.high)
    high = np.where(inside | (a.low == 0), np.inf, 1 / a.low)
    return _outward(low, high)


def _div(a: Interval, b: Interval) -> Interval:
    return _mul(a, _reciprocal(b))


def _increasing(function: Callable[[Array], Array], least: float, most: float) -> Callable[[Interval], Interval]:
    """The rule for an increasing function with the given range."""

    def rule(a: Interval) -> Interval:
        return _within(_outward(function(a.low), function(a.high), _ULPS), least, most)

    return rule


_exp: Final = _increasing(np.exp, 0.0, np.inf)


def _log(a: Interval) -> Interval:
    """The logarithm of the positive part of the interval."""
    return _outward(np.log(a.low), np.where(a.high > 0, np.log(a.high), np.inf), _ULPS)


def _log1p(a: Interval) -> Interval:
    return _outward(np.log1p(a.low), np.where(a.high > -1, np.log1p(a.high), np.inf), _ULPS)


def _from_zero(function: Callable[[Array], Array], a: Interval, ulps: int) -> Interval:
    """An increasing, nonnegative function on the nonnegative part of the interval."""
    ends = _outward(function(a.low), function(a.high), ulps)
    return Interval(np.where(a.high < 0, -np.inf, np.maximum(ends.low, 0)), ends.high)


def _sqrt(a: Interval) -> Interval:
    return _from_zero(np.sqrt, a, 1)


def _square(a: Interval) -> Interval:
    size = _abs(a)
    return _within(_outward(size.low * size.low, size.high * size.high), 0.0, np.inf)


def _abs(a: Interval) -> Interval:
    return Interval(np.maximum(np.maximum(a.low, -a.high), 0.0), np.maximum(-a.low, a.high))


def _cos(a: Interval) -> Interval:
    return _wave(a, np.cos, peak=0.0)


def _sin(a: Interval) -> Interval:
    return _wave(a, np.sin, peak=math.pi / 2)


def _wave(a: Interval, function: Callable[[Array], Array], peak: float) -> Interval:
    """A function of period 2 pi with maximum 1 at ``peak`` and minimum -1 half a period later."""
    ends = function(a.low), function(a.high)
    curved = _outward(np.minimum(*ends), np.maximum(*ends), _ULPS)
    far = ~((np.abs(a.low) < _LARGEST_PHASE) & (np.abs(a.high) < _LARGEST_PHASE))
    low = np.where(far | _passes(a, peak + math.pi), -1.0, curved.low)
    high = np.where(far | _passes(a, peak), 1.0, curved.high)
    return _within(Interval(low, high), -1.0, 1.0)


def _passes(a: Interval, phase: float) -> NDArray[np.bool_]:
    """Whether the interval contains a point ``phase + 2 pi k``, up to the rounding of the phase."""
    first = np.ceil((a.low - phase) / (2 * math.pi))
    passes: NDArray[np.bool_] = first <= np.floor((a.high - phase) / (2 * math.pi))
    return passes


def _pow(a: Interval, b: Interval) -> Interval:
    if b.low.ndim == 0 and b.low == b.high:
        return _fixed_power(a, float(b.low))
    # For positive a, a**b = exp(b log a). For negative a it exists only if b is an integer, and has either sign.
    size = _exp(_mul(b, _log(_abs(a))))
    return Interval(np.where(a.low < 0, -size.high, size.low), size.high)


def _fixed_power(a: Interval, k: float) -> Interval:
    if k == 0:
        return Interval(np.ones_like(a.low), np.ones_like(a.high))
    if k < 0:
        return _reciprocal(_fixed_power(a, -k))
    if k == int(k):
        if k % 2:
            return _outward(np.power(a.low, k), np.power(a.high, k), _ULPS)
        a = _abs(a)
    return _from_zero(lambda x: np.power(x, k), a, _ULPS)


def _aq(a: Interval, b: Interval) -> Interval:
    return _div(a, _sqrt(_add(_point(1.0), _square(b))))


def _sigmoid(a: Interval) -> Interval:
    def function(x: Array) -> Array:
        decay = np.exp(-np.abs(x))
        return np.where(x >= 0, 1 / (1 + decay), decay / (1 + decay))

    return _within(_outward(function(a.low), function(a.high), 2 * _ULPS), 0.0, 1.0)


def _softplus(a: Interval) -> Interval:
    def function(x: Array) -> Array:
        return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))

    return _within(_outward(function(a.low), function(a.high), 2 * _ULPS), 0.0, np.inf)


def _protected(a: Interval) -> Interval:
    return _add(_abs(a), _point(PROTECTION))


_RULES: Final[dict[str, Callable[..., Interval]]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "pow": _pow,
    "aq": _aq,
    "min": lambda a, b: Interval(np.minimum(a.low, b.low), np.minimum(a.high, b.high)),
    "max": lambda a, b: Interval(np.maximum(a.low, b.low), np.maximum(a.high, b.high)),
    "neg": _neg,
    "exp": _exp,
    "log": _log,
    "sqrt": _sqrt,
    "square": _square,
    "expm1": _increasing(np.expm1, -1.0, np.inf),
    "log1p": _log1p,
    "sin": _sin,
    "cos": _cos,
    "tanh": _increasing(np.tanh, -1.0, 1.0),
    "abs": _abs,
    "sign": lambda a: Interval(np.sign(a.low), np.sign(a.high)),
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "plog": lambda a: _log(_protected(a)),
    "psqrt": lambda a: _sqrt(_protected(a)),
}
