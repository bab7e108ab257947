"""Functions of one probability enclosed by interval arithmetic: their largest value, and proofs that they are >= 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lossmith.formulas import Expression, FormulaError, bounds, derivative, parse, terminal
from lossmith.formulas.arithmetic import folded
from lossmith.formulas.expression import fold
from lossmith.formulas.precision import in_three_forms

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

FLOAT32: Final = 1e39
"""More than two float32 numbers can differ by."""
REACHES: Final = (math.inf, FLOAT32, 680.0, 30.0, 12.0)
"""How far apart logits may be: a proof is sought for any, then for those; the first that succeeds counts."""
SHARED: Final = 12.0
"""By how much log(p/(1-p)) may lie below minus the gap of the logits: the logarithm of more than 100,000 classes."""
_FINEST: Final = 1 / 8
_CENTRE: Final = 40.0
_HALVINGS: Final = 44
_MOST_CELLS: Final = 10_000
_STALLED: Final = 4
FIRM: Final = 680.0
"""How far apart logits may be for poles to be sought: beyond, exp(c) overflows in doubles."""
_P, _C, _D = (
    parse("sigmoid(c)"),  # c stands for the logit log(p / (1 - p))
    parse("softplus(-c)"),
    parse("softplus(c)"),
)


class Cells(NamedTuple):
    """Intervals of the logit log(p/(1-p))."""

    low: Array
    high: Array

    @classmethod
    def up_to(cls, reach: float | tuple[float, float]) -> Self:
        """A cover of log(p/(1-p)) for logits at most ``reach`` apart, or between two numbers; infinities are ends."""
        low, high = reach if isinstance(reach, tuple) else (-reach - SHARED, reach)
        edges = np.arange(-_CENTRE, _CENTRE + _FINEST / 2, _FINEST)
        outer = np.concatenate([np.geomspace(_CENTRE, 680.0, 24)[1:], np.geomspace(680.0, FLOAT32, 30)[1:]])
        edges = np.concatenate([-outer[::-1], edges, outer])
        edges = np.concatenate([[low], edges[(edges > low) & (edges < high)], [high]])
        return cls(edges[:-1], edges[1:])

    @property
    def middle(self) -> Array:
        """A point in each: the end that is finite where one is not."""
        middle = (self.low + self.high) / 2
        return np.where(np.isfinite(middle), middle, np.where(np.isfinite(self.low), self.low, self.high))

    def take(self, which: Flags) -> Cells:
        """Some of the cells."""
        return Cells(self.low[which], self.high[which])

    def halves(self) -> Cells:
        """Each in two; those that cannot be divided are left out."""
        middle = (self.low + self.high) / 2
        good = np.isfinite(middle) & (middle > self.low) & (middle < self.high)
        low, middle, high = self.low[good], middle[good], self.high[good]
        return Cells(np.concatenate([low, middle]), np.concatenate([middle, high]))

    @property
    def forms(self) -> dict[str, tuple[Array, Array]]:
        """Intervals of p, c = -log(p) and d = -log(1 - p)."""
        p, c, d = (bounds(form, c=(self.low, self.high)) for form in (_P, _C, _D))
        return {"p": (p.low, p.high), "c": (np.maximum(c.low, 0.0), c.high), "d": (np.maximum(d.low, 0.0), d.high)}


class Function:
    """A function of one probability.

    Args:
        expression: in p, c and d; other terminals are parameters.
    """

    def __init__(self, expression: Expression) -> None:
        self.expression = expression
        rewritten = precise(expression)
        self._written = (expression,) if rewritten == expression else (expression, rewritten)
        self._slope = None
        if not has(expression, frozenset({"sign"})):  # it jumps, and its derivative does not show that
            with suppress(FormulaError, OverflowError):
                self._slope = precise(folded("mul", derivative(self._written[-1], "c"), terminal("p") - 1.0))

    def on(
        self, cells: Cells, **parameters: float | Array | tuple[float | Array, float | Array]
    ) -> tuple[Array, Array]:
        """Lower and upper bounds on each cell, for all values of the parameters.

        They are the best of those of the expression, of its precise form, and of the mean value theorem: the value at
        the middle, and the slope times the distance from there.
        """
        low, high = self._plain(cells, parameters)
        width = cells.high - cells.low
        if self._slope is None or not (np.isfinite(width) & (width > 0)).any():
            return low, high
        with np.errstate(all="ignore"):
            slope = bounds(self._slope, **cells.forms, **parameters)
            change = np.nextafter(np.maximum(np.abs(slope.low), np.abs(slope.high)) * width, np.inf)
            middle = self._plain(Cells(cells.middle, cells.middle), parameters)
            good = np.isfinite(change)
            low = np.where(good, np.maximum(low, np.nextafter(middle[0] - change, -np.inf)), low)
            high = np.where(good, np.minimum(high, np.nextafter(middle[1] + change, np.inf)), high)
        return low, high

    def at(self, logit: Array, **parameters: float) -> Array:
        """The value at points, from the middle of an enclosure; NaN where there is none."""
        low, high = self._plain(Cells(logit, logit), parameters)
        with np.errstate(invalid="ignore"):
            return np.where(high - low <= 1e-3 * (1 + np.abs(low)), (low + high) / 2, np.nan)

    def _plain(
        self, cells: Cells, parameters: Mapping[str, float | Array | tuple[float | Array, float | Array]]
    ) -> tuple[Array, Array]:
        found = [bounds(each, **cells.forms, **parameters) for each in self._written]
        return np.stack([each.low for each in found]).max(0), np.stack([each.high for each in found]).min(0)


def has(expression: Expression, ops: frozenset[str]) -> bool:
    """Whether one of these operators is in an expression."""
    return fold(expression, lambda node, below: node.op in ops or any(below))


def precise(expression: Expression) -> Expression:
    """A formula rewritten to p, c and d, each where it has its digits; as it is where that fails."""
    with suppress(FormulaError, OverflowError):
        return in_three_forms(expression)
    return expression


@dataclass(frozen=True)
class Supremum:
    """The least upper bound of a function of one probability, between two numbers.

    Attributes:
        attained: the function is at least this large somewhere; -inf if that was nowhere certain.
        proved: it is nowhere larger; inf if no bound was found.
        at: the logit log(p/(1-p)) where it is attained.
    """

    attained: float
    proved: float
    at: float


def supremum(
    function: Function, reach: float | tuple[float, float], slack: float = 0.0, **parameters: tuple[float, float]
) -> Supremum:
    """Bound a function over all p in reach and all values of its parameters, by branch and bound on cells.

    ``reach`` is how far apart logits may be, or the least and the largest log(p/(1-p)). The result is as close as an
    absolute error of ``slack`` or a relative one of 1e-7.
    """
    cells, attained, proved, at, reached = Cells.up_to(reach), -math.inf, -math.inf, 0.0, -math.inf
    largest = [math.inf]  # bound of the cells that are left, round by round
    for _ in range(_HALVINGS):
        _, high = function.on(cells, **parameters)
        points = Cells(cells.middle, cells.middle)
        low_here, high_here = function.on(points, **parameters)
        if low_here.max() > attained:
            attained, at = float(low_here.max()), float(points.low[low_here.argmax()])
        # With parameters the bound is reached for some of their values: there is no point in cutting cells below it.
        likely = high_here[np.isfinite(high_here)] if parameters else low_here
        reached = max(reached, float(likely.max(initial=-math.inf)))
        enough = reached + max(slack, 1e-7 * abs(reached)) if math.isfinite(reached) else -math.inf
        done = (high <= enough) | np.isinf(cells.low) | np.isinf(cells.high)
        proved = max(proved, float(high[done].max(initial=-math.inf)))
        cells, high = cells.take(~done), high[~done]
        largest.append(float(high.max(initial=-math.inf)))
        stalled = len(largest) > _STALLED and largest[-1 - _STALLED] == math.inf == largest[-1]
        narrower = cells.halves()
        if not len(high) or proved == math.inf or stalled or not len(high) <= len(narrower.low) / 2 <= _MOST_CELLS / 2:
            break
        cells = narrower
    return Supremum(attained, max(proved, largest[-1], attained), at)


def nowhere_negative(function: Function, reach: float) -> bool:
    """Whether enclosures prove that a function is >= 0 for all logits in reach, exactly and not nearly."""
    if function.expression.is_constant:
        return function.expression.value >= 0
    return _everywhere(function, reach, lambda low, high: (low >= 0, high < 0))


def finite_inside(function: Function, reach: float) -> bool:
    """Whether enclosures prove that a function has no pole for logits in reach, at most `FIRM`."""
    reach = min(reach, FIRM)
    return _everywhere(function, reach, lambda low, high: (np.isfinite(low) & np.isfinite(high), np.zeros(1, bool)))


def _everywhere(function: Function, reach: float, judge: Callable[[Array, Array], tuple[Flags, Flags]]) -> bool:
    """Whether ``judge`` finds a claim proved on every cell, given the bounds there, and refuted on none.

    Cells in doubt are halved until they are too many.
    """
    cells = Cells.up_to(reach)
    for _ in range(_HALVINGS):
        proved, refuted = judge(*function.on(cells))
        if proved.all() or refuted.any():
            return bool(proved.all())
        cells = cells.take(~proved).halves()
        if len(cells.low) < 2 * int((~proved).sum()) or len(cells.low) > _MOST_CELLS:
            return False
    return False
