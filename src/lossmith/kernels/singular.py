"""`lossmith.kernels.fitting` for functions that are singular at p = 0, as p log p and sqrt(p) are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

from lossmith.kernels.batch import NOWHERE, Polynomial
from lossmith.kernels.fitting import FLOAT32_UNIT, ROUNDING, Array, Bounds

HIGHEST_DEGREE: Final = 16
KINDS: Final = ((1.0, 1), (0.5, 0), (0.5, 1), (0.0, 1), (1.5, 0), (1.5, 1), (1.0, 2), (0.5, 2))
"""The powers of p, with the highest power of c = -log p, that are always tried; the cheap ones first."""
TOLERANCE: Final = 4e-6
"""Of the largest slope: what a certified polynomial may be off at most; it is mostly what the enclosures leave open."""
_FITTED: Final = 5e-8
"""Likewise, what it is off at the middles of the boxes."""
_NEAR: Final = 3.0
"""The c up to which boxes are narrow: there f moves by more than powers of c."""
_BOXES: Final = 1 << 15, 1 << 17  # up to it, and beyond
_POINTS: Final = 1500
_LEAST_SINGULAR_VALUE: Final = 1e-9
"""Relative, of the fit: p and c p are so much alike that below it coefficients are large and cancel."""
_SLIGHT: Final = 1e-3
"""Relative: what T must be at the end at the least, for a power below 1."""
_NOISE: Final = 1e-12  # relative: coefficients that are rounding


def fit_singular(
    slope: Callable[[Array], Bounds], curvature: Callable[[Array, Array], Bounds], powers: Iterable[float] = ()
) -> Polynomial | None:
    """Approximate a function on [e**-88, 1/2] by ``f(0) + p**power sum_m c**m V_m(p)``, and certify it.

    With c = -log p, ``T(c) = p**(1 - power) f'(p)`` is ``sum_m c**m S_m(p)``, ``S_m = power V_m + p V_m' - (m + 1)
    V_{m+1}``: the V are fitted to T by least squares. The error E is enclosed box by box, by the mean value theorem:
    ``E(mid) + [-w/2, w/2] E'(box)`` for 163,840 boxes in c of width w.

    Args:
        slope: enclosures of f' at points.
        curvature: enclosures of f'' on boxes, given by their lower and upper ends.
        powers: those of p to try beside 0, 1/2, 1 and 3/2.

    Returns:
        The polynomial, or None if none of degree 16 or less is certified to 4e-6 of the largest
        ``|T| / (1 + c)**k`` (`Polynomial.error` has the k), or float32 would add more than 3e-5.
    """
    boxes = _boxes(slope, curvature)
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


def _boxes(slope: Callable[[Array], Bounds], curvature: Callable[[Array, Array], Bounds]) -> _Boxes | None:
    near, far = _BOXES
    edges = np.concatenate([
        np.linspace(math.log(2), _NEAR, near, endpoint=False),
        np.linspace(_NEAR, NOWHERE, far + 1),
    ])
    ends, c = np.exp(-edges), (edges[:-1] + edges[1:]) / 2
    ends[0] = 0.5
    high, low = ends[:-1], ends[1:]
    at_middle, curved = slope(np.exp(-c)), curvature(low, high)
    if not all(np.isfinite(bound).all() for bound in (*at_middle, *curved)):
        return None
    reach = (high - low) * np.maximum(np.abs(curved[0]), np.abs(curved[1]))
    half = np.diff(edges) / 2 * (1 + 1e-9)  # the ends are rounded
    return _Boxes(c, half, at_middle, (at_middle[0] - reach, at_middle[1] + reach), curved)


def _fit(boxes: _Boxes, power: float, logs: int) -> Polynomial | None:
    middle = (boxes.slope[0] + boxes.slope[1]) / 2 * np.exp((power - 1) * boxes.c)
    size = (1 + boxes.c - boxes.half) ** (logs if power else logs - 1)
    scale = float((np.abs(middle) / size).max())
    if power < 1 and abs(middle[-1]) / size[-1] < _SLIGHT * scale:
        return None  # f is of a higher power of p, and what is off at a small p would be large against it
    for value in _candidates(boxes.c, middle, size, _FITTED * scale, power, logs):
        coefficients = _slope_of(value, power)
        operations = 2 * np.arange(value.shape[1]) + 2 + 3 * np.arange(logs + 1)[:, None]
        largest = 0.5 ** np.arange(value.shape[1])
        rounding = FLOAT32_UNIT * float((operations * largest * np.abs(coefficients)).sum())
        if rounding > ROUNDING * scale:
            continue
        error = float((_enclosed(boxes, coefficients, power) / size).max())
        if error > TOLERANCE * scale:
            return None
        flat, flat_slope = (tuple(of.ravel().tolist()) for of in (value, coefficients))
        return Polynomial(flat, flat_slope, error + rounding, power, logs)
    return None


def _candidates(c: Array, wanted: Array, size: Array, tolerance: float, power: float, logs: int) -> Iterator[Array]:
    """Coefficients of the V, shape (logs + 1, degree + 1), by degree, where they meet the tolerance.

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

    if solve(HIGHEST_DEGREE)[1] > tolerance:
        return
    for degree in range(HIGHEST_DEGREE + 1):
        value, off = solve(degree)
        if off <= tolerance:
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
    lowest, highest = ((1 - power) * a + b for a, b in zip(of_slope, of_curvature, strict=True))
    steepest = np.maximum(np.abs(-highest - first), np.abs(-lowest - first)) + half * second
    bound: Array = at + half * steepest
    return bound


def _times(low: Array, high: Array, bounds: Bounds) -> Bounds:
    """The product of a positive factor between two bounds with what lies between ``bounds``."""
    least, most = bounds
    return np.minimum(low * least, high * least), np.maximum(low * most, high * most)
