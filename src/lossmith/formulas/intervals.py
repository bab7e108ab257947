"""Bounds of a formula over boxes, by interval arithmetic with outward rounding."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lossmith.formulas.errors import FormulaError
from lossmith.formulas.expression import HIDDEN_TERMINALS, PROTECTION, TERMINALS, Expression, fold

Array = NDArray[np.float64]

_ULPS: Final = 4
"""By how many units in the last place a transcendental function of numpy may err, with something to spare."""
_LARGEST_PHASE: Final = 1e7
"""Beyond it sin and cos are bounded by 1 only. Below it a phase is off by less than 1e-8, and a wave that close to its
peak is less than one unit in the last place below it: it makes no difference which side the peak is taken to lie on."""


class Interval(NamedTuple):
    """Lower and upper bounds, elementwise."""

    low: Array
    high: Array


def bounds(expression: Expression, **intervals: float | Array | tuple[float | Array, float | Array]) -> Interval:
    """Bounds that contain every value of a formula over boxes of its terminals.

    Each terminal is taken to vary on its own, except that a formula that has both p and c needs only one of them. The
    bounds widen where a terminal occurs more than once; divide the box to narrow them.

    Args:
        expression: the formula.
        **intervals: for each terminal (p, c, y, n, t) a pair (low, high) of numbers or float64 arrays that broadcast,
            or one number or array for a value that does not vary. c is -log(p), and p is exp(-c), where left out.

    Returns:
        ``(low, high)``, float64 arrays of the broadcast shape, infinite where no bound was found. They hold for the
        exact real value wherever it is defined, and for its floating-point evaluation in float64 operation by
        operation.

    Raises:
        FormulaError: if a terminal has no interval, there is no such terminal, or a low end is above its high end.
    """
    with np.errstate(all="ignore"):
        given = {name: _interval(name, value) for name, value in intervals.items()}
        if expression.depends_on("c") and "c" not in given and "p" in given:
            given["c"] = _neg(_log(given["p"]))
        if expression.depends_on("p") and "p" not in given and "c" in given:
            given["p"] = _exp(_neg(given["c"]))
        missing = sorted(expression.terminals - given.keys())
        if missing:
            raise FormulaError(f"the formula has {missing[0]}, and no interval is given for it")

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
    if name not in TERMINALS and name not in HIDDEN_TERMINALS:
        raise FormulaError(f"a formula has no terminal {name!r}: there are {', '.join(TERMINALS)}")
    low, high = value if isinstance(value, tuple) else (value, value)
    interval = Interval(*np.broadcast_arrays(np.asarray(low, np.float64), np.asarray(high, np.float64)))
    if not bool((interval.low <= interval.high).all()):
        raise FormulaError(f"the interval of {name} has a low end above its high end, or one that is no number")
    return interval


def _point(value: float) -> Interval:
    return Interval(np.array(value), np.array(value))


def _outward(low: Array, high: Array, ulps: int = 1) -> Interval:
    """Widen by some units in the last place; what is not a number becomes no bound."""
    low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
    # An end that overflowed is infinite outwards already; inwards it must not stay: nothing lies at infinity.
    for _ in range(ulps):
        low, high = np.nextafter(low, -np.inf), np.nextafter(high, np.inf)
    return Interval(low, high)


def _within(interval: Interval, least: float, most: float) -> Interval:
    """Cut to the range of a function."""
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
    """The product of two ends; 0 times an end at infinity is 0, since nothing lies at infinity itself."""
    return np.where((x == 0) | (y == 0), 0.0, x * y)


def _reciprocal(a: Interval) -> Interval:
    inside = (a.low < 0) & (a.high > 0)
    low = np.where(inside | (a.high == 0), -np.inf, 1 / a.high)
    high = np.where(inside | (a.low == 0), np.inf, 1 / a.low)
    return _outward(low, high)


def _div(a: Interval, b: Interval) -> Interval:
    return _mul(a, _reciprocal(b))


def _increasing(function: Callable[[Array], Array], least: float, most: float) -> Callable[[Interval], Interval]:
    """The rule of a function that increases everywhere, with its range."""

    def rule(a: Interval) -> Interval:
        return _within(_outward(function(a.low), function(a.high), _ULPS), least, most)

    return rule


_exp: Final = _increasing(np.exp, 0.0, np.inf)


def _log(a: Interval) -> Interval:
    """The logarithm; where part of the interval is not positive, of the part that is."""
    return _outward(np.log(a.low), np.where(a.high > 0, np.log(a.high), np.inf), _ULPS)


def _log1p(a: Interval) -> Interval:
    return _outward(np.log1p(a.low), np.where(a.high > -1, np.log1p(a.high), np.inf), _ULPS)


def _from_zero(function: Callable[[Array], Array], a: Interval, ulps: int) -> Interval:
    """An increasing function from 0 on; where part of the interval is negative, of the part that is not."""
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
    """A function of period 2 pi with its maximum 1 at ``peak`` and its minimum -1 half a period on."""
    ends = function(a.low), function(a.high)
    curved = _outward(np.minimum(*ends), np.maximum(*ends), _ULPS)
    far = ~((np.abs(a.low) < _LARGEST_PHASE) & (np.abs(a.high) < _LARGEST_PHASE))
    low = np.where(far | _passes(a, peak + math.pi), -1.0, curved.low)
    high = np.where(far | _passes(a, peak), 1.0, curved.high)
    return _within(Interval(low, high), -1.0, 1.0)


def _passes(a: Interval, phase: float) -> NDArray[np.bool_]:
    """Whether the interval holds a point ``phase + 2 pi k``, up to the rounding of the phase."""
    first = np.ceil((a.low - phase) / (2 * math.pi))
    passes: NDArray[np.bool_] = first <= np.floor((a.high - phase) / (2 * math.pi))
    return passes


def _pow(a: Interval, b: Interval) -> Interval:
    if b.low.ndim == 0 and b.low == b.high:
        return _fixed_power(a, float(b.low))
    # a**b = exp(b log a) for positive a; a negative a has a power for whole b only, of that size and either sign.
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
