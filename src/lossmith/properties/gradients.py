"""Two proved bounds on the norm of a class-wise loss's gradient; the smaller one counts.

With e = -dl/dp and D = p e = dl/dc, the gradient on logit k is ``p_k T - D_k``, where T is the sum of D over classes.

*By halves.* The gradient sums to zero over the classes, so that its norm is at most sqrt(2) times the sum S of its
entries of one sign. Where these are those of the classes K that hold w of the probability,
``S = (1 - w) sum_K D - w sum_{not K} D``. A sum of D over classes of joint probability x is at most x times the largest
e(p) with p <= x, and at most what `separable` says. What is left has two numbers, p_t and w. Tight where the gradient
lies on two classes.

*By slices.* For a given T the square of the norm is a sum over classes, ``sum_k (p_k T - D_k)^2``, which `separable`
bounds, with a second multiplier for the sum of D. Slices of T are halved where the bound is largest. Tight where D does
not vary, as in label smoothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np

from lossmith.formulas import Expression, apply, constant, derivative, terminal
from lossmith.formulas.arithmetic import folded
from lossmith.properties.enclosure import SHARED, Array, Cells, Function, supremum
from lossmith.properties.parts import P, Parts

_GRID: Final = np.concatenate([[-680.0, -60.0], np.linspace(-25, 12, 149), [20.0, 37.0]])
"""Logits log(p/(1-p)) on which multipliers are chosen; none of them makes a bound unsound."""
_CLOSE, _LOOSE = 1e-2, 1.15
_SLICES: Final = 4
_FINE: Final = 2e-7
_STEEP: Final = 1e12  # larger values are left out of the linear program
_TABLE: Final = np.concatenate([
    np.linspace(-680, -30, 651)[:-1],
    np.linspace(-30, 12, 5377),
    np.linspace(12, 37, 51)[1:],
])
_ROUNDS, _MOST_BOXES = 14, 40_000


def gradient_bound(parts: Parts, sampled: float, reach: float) -> float:
    """A bound on the gradient's norm for at least three classes and logits in reach; infinite if none was found.

    ``sampled`` is a norm that is attained: the bound is not made closer to it than to a share of .01.
    """
    cells = Cells.up_to(reach)
    ends = Cells(cells.low[[0, -1]], cells.high[[0, -1]])
    if not all(np.isfinite(Function(slope).on(ends)).all() for slope in parts.slopes):
        return math.inf
    found = _by_halves(parts, sampled, reach)
    if found > sampled * _LOOSE:
        found = min(found, _by_slices(parts, sampled, reach))
    return found


def separable(target: Expression, other: Expression, num_classes: int, reach: float, slack: float = 0.0) -> float:
    """A bound on ``target(p_t) + sum_j other(p_j)`` over the simplex: see `lossmith.properties.extremes`."""
    by_p = _multiplier(Function(target), Function(other), num_classes)
    shift, slack = folded("mul", constant(by_p), P), max(slack, _FINE * abs(by_p))
    first = supremum(Function(target - shift), reach, slack).proved
    second = supremum(Function(other - shift), reach, slack / num_classes).proved
    return up(by_p + first + (num_classes - 1) * second)


def _multiplier(target: Function, other: Function, num_classes: int) -> float:
    """The lambda of `separable`, best on a grid and then between its points; any lambda is sound."""
    from scipy.optimize import minimize_scalar

    rough = [function.at(_GRID) for function in (target, other)]
    start = _multipliers(rough, num_classes, [np.stack([1 / (1 + np.exp(-_GRID))] * 2)], [1.0])[0]
    fine = np.concatenate([[-680.0, -60.0], np.linspace(-25, 12, 3701), [20.0, 37.0]])
    p, values = 1 / (1 + np.exp(-fine)), [function.at(fine) for function in (target, other)]
    if not all(np.isfinite(value).any() for value in values) or float(np.nanmax(np.abs(values))) > _STEEP:
        return start

    def bound(by_p: float) -> float:
        first, second = (float(np.nanmax(value - by_p * p)) for value in values)
        return by_p + first + (num_classes - 1) * second

    width = abs(start) + float(np.nanmax(np.abs(rough)))
    within = (start - width, start + width)  # without values near p = 1 there may be no minimum
    found = minimize_scalar(bound, bounds=within, options={"xatol": 1e-12 * width})  # it is convex
    return float(found.x) if found.fun < bound(start) else start


def up(value: float) -> float:
    """A sum of a few roundings, raised above its error."""
    return value + 1e-14 * abs(value)


def _by_halves(parts: Parts, sampled: float, reach: float) -> float:
    sums = [_SumOfSlopes(parts, sign, reach) for sign in (1.0, -1.0)]
    target = Function(parts.slopes[0])
    edges = np.array([-reach - SHARED, *np.linspace(-12, 8, 41), reach])
    low_p, low_w = (each.ravel() for each in np.meshgrid(edges[:-1], edges[:-1], indexing="ij"))
    high_p, high_w = (each.ravel() for each in np.meshgrid(edges[1:], edges[1:], indexing="ij"))
    enough = sampled / math.sqrt(2) * (1 + _CLOSE / 2)
    largest = 0.0
    for _ in range(_ROUNDS):
        possible = low_p < high_w
        low_p, low_w, high_p, high_w = (each[possible] for each in (low_p, low_w, high_p, high_w))
        p, w = Cells(low_p, high_p).forms, Cells(low_w, high_w).forms
        own = target.on(Cells(low_p, high_p))
        in_k = np.maximum(w["p"][0] - p["p"][1], 0.0), np.maximum(w["p"][1] - p["p"][0], 0.0)
        rest = np.exp(-w["d"][1]) * (1 - 1e-14), np.exp(-w["d"][0]) * (1 + 1e-14)
        first = _scaled(rest, own[1] + sums[0](*in_k)) + _scaled(w["p"], sums[1](*rest))
        second = _scaled(rest, -own[0] + sums[1](*in_k)) + _scaled(w["p"], sums[0](*rest))
        bound = np.maximum(first, second) * (1 + 1e-14)
        if np.isnan(bound).any() or np.isinf(bound).any():
            return math.inf
        open_ = bound > enough
        largest = max(largest, float(bound[~open_].max(initial=0.0)))
        low_p, low_w, high_p, high_w, bound = (each[open_] for each in (low_p, low_w, high_p, high_w, bound))
        if not len(bound) or 4 * len(bound) > _MOST_BOXES:
            largest = max(largest, float(bound.max(initial=0.0)))
            break
        keep = bound > 0.9 * bound.max()  # the largest first
        waiting = [each[~keep] for each in (low_p, low_w, high_p, high_w)]
        low_p, high_p = _halved(low_p[keep], high_p[keep], inner=False)
        low_w, high_w = _halved(low_w[keep], high_w[keep], inner=True)
        low_p, low_w, high_p, high_w = (
            np.concatenate(both) for both in zip((low_p, low_w, high_p, high_w), waiting, strict=True)
        )
        left = float(bound.max())
    else:
        largest = max(largest, left)
    return math.sqrt(2) * largest * (1 + 1e-12)


def _halved(low: Array, high: Array, *, inner: bool) -> tuple[Array, Array]:
    """Both halves of ranges, so ordered that the halves of two ranges together make four boxes."""
    with np.errstate(invalid="ignore"):
        middle = (low + high) / 2
    middle = np.where(np.isfinite(low), middle, np.minimum(2 * high, -40.0))
    middle = np.where(np.isfinite(high), middle, np.maximum(2 * low, 40.0))
    order = (0, 1, 0, 1) if inner else (0, 0, 1, 1)
    return np.concatenate([(low, middle)[i] for i in order]), np.concatenate([(middle, high)[i] for i in order])


def _scaled(factor: tuple[Array, Array], bound: Array) -> Array:
    """The largest product of a factor >= 0 and a number that is at most the bound."""
    with np.errstate(invalid="ignore"):  # 0 times infinity, on the side that is not taken
        return np.where(bound > 0, factor[1] * bound, factor[0] * bound)


class _SumOfSlopes:
    """An upper bound on the sum of D, times a sign, over classes other than the target."""

    def __init__(self, parts: Parts, sign: float, reach: float) -> None:
        edges = _TABLE[np.abs(_TABLE) < reach]
        edges = np.concatenate([[-reach - SHARED], edges, [reach]])
        cells = Cells(edges[:-1], edges[1:])
        _, high = Function(constant(-sign) * derivative(parts.other, "p")).on(cells)
        self.p = cells.forms["p"][1]
        self.largest = np.maximum.accumulate(high)
        slope = folded("mul", constant(sign), parts.slopes[1])
        self.at_most = []
        for by_p in (0.0, *_chords(Function(slope), parts.num_classes)):
            most = supremum(Function(slope - folded("mul", constant(by_p), P)), reach, slack=1e-9).proved
            self.at_most.append((by_p, (parts.num_classes - 1) * max(most, 0.0)))

    def __call__(self, least: Array, most: Array) -> Array:
        """The bound where the classes hold a probability between two numbers."""
        place = np.minimum(np.searchsorted(self.p, most), len(self.p) - 1)
        found = _scaled((least, most), self.largest[place])
        for by_p, bound in self.at_most:
            found = np.minimum(found, _scaled((least, most), np.full_like(most, by_p)) + bound)
        return np.where(most > 0, found, 0.0)


def _chords(slope: Function, num_classes: int) -> list[float]:
    """Multipliers of p for some joint probabilities of all other classes."""
    value, p = slope.at(_GRID), 1 / (1 + np.exp(-_GRID))
    found = {
        round(_multipliers([value], num_classes, [p[None]], [x])[0], 12) for x in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    }
    return sorted(found)


def _by_slices(parts: Parts, sampled: float, reach: float) -> float:
    C, slack = parts.num_classes, 1e-3 * sampled
    most = separable(*parts.slopes, C, reach, slack)
    least = -separable(-parts.slopes[0], -parts.slopes[1], C, reach, slack)
    if not (math.isfinite(most) and math.isfinite(least)):
        return math.inf
    bound = _slice_bound(parts, reach, sampled)
    slices = [(bound(least, most), least, most)]
    for _ in range(_SLICES):
        largest, low, high = max(slices)
        middle = (low + high) / 2
        if not math.isfinite(largest) or largest <= (sampled * (1 + _CLOSE)) ** 2 or not low < middle < high:
            break
        slices.remove((largest, low, high))
        slices += [(min(largest, bound(*half)), *half) for half in ((low, middle), (middle, high))]
    return up(math.sqrt(max(0.0, max(slices)[0])))


def _slice_bound(parts: Parts, reach: float, sampled: float) -> Callable[[float, float], float]:
    """The function that bounds the square of the norm where T lies between two numbers."""
    C, T = parts.num_classes, terminal("t")
    squares = [apply("square", P * T - slope) for slope in parts.slopes]
    p = 1 / (1 + np.exp(-_GRID))
    features = [np.stack([p, p]), np.stack([Function(slope).at(_GRID) for slope in parts.slopes])]
    slack = _CLOSE / 4 * sampled**2

    def bound(low: float, high: float) -> float:
        values = [np.maximum(*(Function(square).at(_GRID, t=total) for total in (low, high))) for square in squares]
        by_p, by_slope = _multipliers(values, C, features, [1.0, (low + high) / 2])
        total = by_p + max(by_slope * low, by_slope * high)
        for count, square, slope in zip((1, C - 1), squares, parts.slopes, strict=True):
            shift = folded("mul", constant(by_p), P) + folded("mul", constant(by_slope), slope)
            total += count * supremum(Function(square - shift), reach, slack / count, t=(low, high)).proved
        return up(total)

    return bound


def _multipliers(values: list[Array], num_classes: int, features: list[Array], totals: list[float]) -> list[float]:
    """The multipliers that make a bound least on a grid, by linear programming; zeros where that fails.

    ``values`` are those of the target's function and of the others' (or of the others' alone) on the grid. For each
    multiplier, ``features`` holds what it multiplies, a row for each of the values, and ``totals`` the sum over the
    classes.
    """
    from scipy.optimize import linprog

    rows, right = [], []
    for place, value in enumerate(values):
        held = [-(np.arange(len(values)) == place).astype(float)[None].repeat(len(value), 0)]
        row = np.concatenate([-np.stack([feature[place] for feature in features], 1), *held], 1)
        good = (np.abs(row) < _STEEP).all(1) & (np.abs(value) < _STEEP)  # of NaN neither
        rows.append(row[good])
        right.append(-value[good])
    right_side = np.concatenate(right)
    if not len(right_side):
        return [0.0] * len(totals)
    scale = float(np.abs(right_side).max()) or 1.0
    counts = [1.0, num_classes - 1.0][-len(values) :]
    found = linprog([*totals, *counts], A_ub=np.concatenate(rows), b_ub=right_side / scale, bounds=(None, None))
    return [0.0] * len(totals) if found.x is None else [float(x) * scale for x in found.x[: len(totals)]]
