"""`lossmith.kernels.fitting` for functions that are singular at p = 0, as p log p and sqrt(p) are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

from lossmith.kernels.batch import NOWHERE, Polynomial
from lossmith.kernels.fitting import FLOAT32_UNIT, ROUNDING, Array, Bounds, Enclosure

HIGHEST_DEGREE: Final = 16
KINDS: Final = ((1.0, 1), (0.5, 0), (0.5, 1), (0.0, 1), (1.5, 0), (1.5, 1), (2.0, 1), (1.0, 2), (0.5, 2))
"""The powers of p, with the highest power of c = -log p, that are always tried; the cheap ones first."""
TOLERANCE: Final = 4e-6
"""What the slope of a certified polynomial may be off at most, relative; mostly what the enclosures leave open."""
_FITTED: Final = 5e-8
"""Likewise, what it is off at the middles of the boxes."""
_NEAR: Final = 3.0
"""The c up to which boxes are narrow: there f moves by more than powers of c."""
_BOXES: Final = 1 << 15, 1 << 17  # up to it, and beyond
_POINTS: Final = 1500
_LEAST_SINGULAR_VALUE: Final = 1e-9
"""Relative, of the fit: p and c p are so much alike that below it coefficients are large and cancel."""
_CELL: Final = math.log(8) / 16
"""The c over which boxes are put together where slopes are compared with those between p / 8 and p."""
_NOISE: Final = 1e-12  # relative: coefficients that are rounding


def fit_singular(enclose: Enclosure, powers: Iterable[float] = ()) -> Polynomial | None:
    """Approximate a function on [e**-88, 1/2] by ``f(0) + p**power sum_m c**m V_m(p)``, and certify it.

    With c = -log p, ``T(c) = p**(1 - power) f'(p)`` is ``sum_m c**m S_m(p)``, ``S_m = power V_m + p V_m' - (m + 1)
    V_{m+1}``: the V are fitted to T by least squares. The error is enclosed on each of 163,840 boxes in c, as in
    `lossmith.kernels.fitting.fit`. The powers of p that are tried are 0, 1/2, 1, 3/2, 2 and those given.

    The result is None where no degree up to 16 is certified to 4e-6 of the largest T between p / 8 and p for every p,
    or float32 would add more than 3e-5.
    """
    boxes = _boxes(enclose)
    if boxes is None:
        return None
    for power, logs in (*KINDS, *((power, logs) for power in powers for logs in (0, 1))):
        found = _fit(boxes, power, logs)
        if found is not None:
            return found
    return None


class _Boxes(NamedTuple):
    """Boxes of widths ``2 half`` in c, and enclosures of f': at their middles, and of f' and f'' on all of each."""

    c: Array
    half: Array
    slope: Bounds
    slopes: Bounds
    curvatures: Bounds


def _boxes(enclose: Enclosure) -> _Boxes | None:
    near, far = _BOXES
    edges = np.concatenate([
        np.linspace(math.log(2), _NEAR, near, endpoint=False),
        np.linspace(_NEAR, NOWHERE, far + 1),
    ])
    ends, c = np.exp(-edges), (edges[:-1] + edges[1:]) / 2
    ends[0] = 0.5
    high, low = ends[:-1], ends[1:]
    middle = np.exp(-c)
    at_middle, curved = enclose(1, middle, middle), enclose(2, low, high)
    if not all(np.isfinite(bound).all() for bound in (*at_middle, *curved)):
        return None
    reach = (high - middle) * np.maximum(np.abs(curved[0]), np.abs(curved[1]))  # low is nearer
    half = np.diff(edges) / 2 * (1 + 1e-9)  # the ends are rounded
    return _Boxes(c, half, at_middle, (at_middle[0] - reach, at_middle[1] + reach), curved)


def _fit(boxes: _Boxes, power: float, logs: int) -> Polynomial | None:
    low, high = (bound * np.exp((power - 1) * boxes.c) for bound in boxes.slope)
    size = _sizes(boxes.c, np.where(low * high > 0, np.minimum(np.abs(low), np.abs(high)), 0.0))
    if not (size > 0).all():
        return None
    for value in _candidates(boxes.c, (low + high) / 2, size, power, logs):
        coefficients = _slope_of(value, power)
        rounding = float((_rounding(boxes, coefficients) / size).max())
        if rounding > ROUNDING:
            continue
        error = float((_enclosed(boxes, coefficients, power) / size).max())
        if error > TOLERANCE:
            return None
        flat, flat_slope = (tuple(of.ravel().tolist()) for of in (value, coefficients))
        return Polynomial(flat, flat_slope, error + rounding, power, logs)
    return None


def _sizes(c: Array, least: Array) -> Array:
    """For every box a lower bound of the largest T between p / 8 and p, for all p in it."""
    cells = ((c - c[0]) / _CELL).astype(int)
    largest = np.maximum.reduceat(least, np.searchsorted(cells, np.arange(cells[-1] + 1)))
    below = np.pad(largest[1:], (0, 15), mode="edge")  # a cell's own T may lie above p
    windows = np.lib.stride_tricks.sliding_window_view(below, 15).max(axis=1)
    sizes: Array = windows[np.minimum(cells, len(windows) - 1)]
    return sizes


def _rounding(boxes: _Boxes, coefficients: Array) -> Array:
    """What evaluating T in float32 may add, on every box."""
    last, p = boxes.c + boxes.half, np.exp(boxes.half - boxes.c)
    total = np.zeros_like(p)
    for (m, k), a in np.ndenumerate(coefficients):
        total += (2 * k + 2 + 3 * m) * abs(a) * p**k * last**m  # operations that a coefficient goes through
    rounding: Array = FLOAT32_UNIT * total
    return rounding


def _candidates(c: Array, wanted: Array, size: Array, power: float, logs: int) -> Iterator[Array]:
    """Coefficients of the V, shape (logs + 1, degree + 1), by degree, where they are close enough at some boxes.

    Few of the boxes are enough for the fit: some in equal steps of c, some in equal steps of p.
    """
    p = np.linspace(0.5, 1 / 64, _POINTS)
    near = np.searchsorted(c, -np.log(p))
    chosen = np.unique([*np.linspace(0, len(c) - 1, _POINTS).astype(int), *near])
    columns = np.stack([
        _column(c[chosen], m, k, power) / size[chosen] for k in range(HIGHEST_DEGREE + 1) for m in range(logs + 1)
    ])
    norms = np.linalg.norm(columns, axis=1, keepdims=True)
    norms[norms == 0] = 1  # the constant, where f(0) is not told apart from it
    columns /= norms
    target = wanted[chosen] / size[chosen]

    def solve(degree: int) -> tuple[Array, float]:
        used = columns[: (degree + 1) * (logs + 1)]
        solution = np.linalg.lstsq(used.T, target, rcond=_LEAST_SINGULAR_VALUE)[0]
        noise = np.abs(solution) < _NOISE * np.abs(solution).max()
        solution[noise] = 0  # times p**power it would be large against p
        value: Array = (solution / norms[: len(solution), 0]).reshape(degree + 1, logs + 1).T
        return value, float(np.abs(solution @ used - target).max())

    if solve(HIGHEST_DEGREE)[1] > _FITTED:
        return
    for degree in range(HIGHEST_DEGREE + 1):
        value, off = solve(degree)
        if off <= _FITTED:
            yield value


def _column(c: Array, m: int, k: int, power: float) -> Array:
    """What ``c**m p**k`` in the V adds to T."""
    added = (power + k) * c**m - (m * c ** (m - 1) if m else 0.0)
    column: Array = added * np.exp(-k * c)
    return column


def _slope_of(value: Array, power: float) -> Array:
    """Coefficients of the S, from those of the V."""
    slope = (power + np.arange(value.shape[1])) * value
    slope[:-1] -= np.arange(1, len(value))[:, None] * value[1:]
    return slope


def _enclosed(boxes: _Boxes, coefficients: Array, power: float) -> Array:
    """An upper bound of ``|T - sum_m c**m S_m|`` on every box."""
    c, half, slope, slopes, curvatures = boxes
    last, p = c + half, np.exp(half - c)
    here, first, second = (np.zeros_like(c) for _ in range(3))  # the sum, its slope in c, a bound of that one's slope
    for (m, k), a in np.ndenumerate(coefficients):
        power_here, power_last = a * np.exp(-k * c), np.abs(a) * p**k
        here += power_here * c**m
        first -= k * power_here * c**m
        second += k * k * power_last * last**m
        if m:
            first += m * power_here * c ** (m - 1)
            second += 2 * m * k * power_last * last ** (m - 1)
        if m > 1:
            second += m * (m - 1) * power_last * last ** (m - 2)
    low, high = _times(np.exp((power - 1) * c), np.exp((power - 1) * c), slope)
    at = np.maximum(np.abs(low - here), np.abs(high - here))
    # dT/dc = -(1 - power) p**(1 - power) f' - p**(2 - power) f''
    p_low = np.exp(-last)
    of_slope = _times(p_low ** (1 - power), p ** (1 - power), slopes)
    of_curvature = _times(p_low ** (2 - power), p ** (2 - power), curvatures)
    if power > 1:  # a factor below 0
        of_slope = of_slope[::-1]
    lowest, highest = ((1 - power) * a + b for a, b in zip(of_slope, of_curvature, strict=True))
    steepest = np.maximum(np.abs(-highest - first), np.abs(-lowest - first))
    bound: Array = at + half * steepest + half**2 / 2 * second
    return bound


def _times(low: Array, high: Array, bounds: Bounds) -> Bounds:
    """The product of a positive factor between two bounds with what lies between ``bounds``."""
    least, most = bounds
    return np.minimum(low * least, high * least), np.maximum(low * most, high * most)
