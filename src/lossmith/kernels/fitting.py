"""A polynomial in place of a formula, with a bound on the relative difference of their slopes that holds everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.polynomial import Chebyshev, polynomial
from numpy.polynomial import Polynomial as PowerSeries
from numpy.typing import NDArray

from lossmith.kernels.batch import Polynomial

Array = NDArray[np.float64]
Bounds = tuple[Array, Array]
Enclosure = Callable[[int, Array, Array], Bounds]
"""Maps an order k >= 1 and the ends of boxes to bounds of the k-th derivative of f on each box; p = 0 is its limit.

They are infinite where a lower derivative, or f itself, jumps.
"""

HIGHEST_DEGREE: Final = 24
TOLERANCE: Final = 1e-6
"""What the slope of a certified polynomial may be off at most, relative; float32 itself is off by 1e-7."""
ROUNDING: Final = 3e-5
"""Likewise, what evaluating it in float32 may add; more where f oscillates."""
FLOAT32_UNIT: Final = 2.0**-24
LEAST: Final = 1e-7
"""The smallest p at which what f has of lower powers of p, where rounding hides whether it has, is told apart."""
_HIGHEST_ORDER: Final = 6
_NOTHING: Final = 1e-200
_BOXES: Final = 1 << 14
_OCTAVE: Final = 16  # points on which relative errors are looked at, each time p doubles


def fit(enclose: Enclosure) -> Polynomial | None:
    """Approximate ``f(p) - f(0) - p f'(0)`` on [0, 1/2] by the lowest degree that is good enough, and certify it.

    Let s be the first order, from 1, at which ``f'(p) - f'(0)`` does not vanish at p = 0, ``D = f^(s+1)`` and P a
    polynomial that interpolates D. The error ``E = D - P`` is enclosed on each of 16,384 boxes of width w, by the mean
    value theorem: it lies in ``E(mid) + [-w/2, w/2] (D'(box) - P'(mid)) + [-w^2/8, w^2/8] P''(box)``. P is integrated s
    times, so that the slope is off by no more than ``p^s / s! max |E|``, which vanishes at p = 0 as the slope does.

    The result is None where no degree up to 24 is certified to 1e-6 of the largest slope between p / 8 and p for every
    p, or float32 would add more than 3e-5: then f is not smooth enough on [0, 1/2].
    """
    if not any(np.any(bound) for bound in enclose(2, np.zeros(1), np.full(1, 0.5))):
        return Polynomial((0.0,), (0.0,), 0.0)
    vanishing = _vanishing(enclose)
    if vanishing is None:
        return None
    s = len(vanishing) + 1
    boxes = _boxes(enclose, s + 1)
    if boxes is None:
        return None
    for series in _candidates(enclose, boxes, s):
        exact = _slope(series, s)
        error = _relative(exact, _enclosed(boxes, series), s, vanishing)
        if error is not None:
            slope = exact[1:]  # divided by p
            value = slope / np.arange(2, len(slope) + 2)
            return Polynomial(tuple(value.tolist()), tuple(slope.tolist()), error)
    return None


class Boxes(NamedTuple):
    """Boxes of one width: their middles, and enclosures of D there and of D' on all of each."""

    middle: Array
    half: float
    value: Bounds
    slopes: Bounds


def _vanishing(enclose: Enclosure) -> list[float] | None:
    """For f'', f''', ... as long as they are 0 at p = 0, what rounding leaves open of their power of p in f'."""
    found: list[float] = []
    zero = np.zeros(1)
    for order in range(1, _HIGHEST_ORDER + 1):
        low, high = (end.item() for end in enclose(order + 1, zero, zero))
        if not math.isfinite(low) or not math.isfinite(high):
            return None
        if max(low, -high) > _NOTHING:
            return found
        found.append(max(-low, high) / math.factorial(order))
    return None


def _boxes(enclose: Enclosure, order: int) -> Boxes | None:
    edges = np.linspace(0.0, 0.5, _BOXES + 1)
    low, high = edges[:-1], edges[1:]
    middle = (low + high) / 2
    value, slopes = enclose(order, middle, middle), enclose(order + 1, low, high)
    if not all(np.isfinite(bound).all() for bound in (*value, *slopes)):
        return None
    return Boxes(middle, float(edges[1]) / 2, value, slopes)


def _candidates(enclose: Enclosure, boxes: Boxes, s: int) -> Iterator[Chebyshev]:
    """P by degree, where it is close enough at the middles of the boxes."""
    exact = (boxes.value[0] + boxes.value[1]) / 2
    highest = HIGHEST_DEGREE + 1 - s
    p, size = _sizes(_slope(_interpolated(enclose, s, highest), s))
    tolerance = 0.2 * TOLERANCE * float((size / p**s).min()) * math.factorial(s)
    for degree in range(highest + 1):
        series = _interpolated(enclose, s, degree)
        if np.abs(series(boxes.middle) - exact).max() < tolerance:
            yield series


def _interpolated(enclose: Enclosure, s: int, degree: int) -> Chebyshev:
    """The polynomial in p that agrees with f^(s+1) at the Chebyshev points of [0, 1/2]."""

    def middle(p: Array) -> Array:
        low, high = enclose(s + 1, p, p)
        return (low + high) / 2

    return Chebyshev.interpolate(middle, degree, domain=[0.0, 0.5])


def _slope(series: Chebyshev, s: int) -> Array:
    """Coefficients in p of the polynomial whose s-th derivative is P, with all lower ones 0 at p = 0."""
    coefficients = series.convert(kind=PowerSeries).coef
    return np.asarray(polynomial.polyint(np.pad(coefficients, (0, len(series.coef) - len(coefficients))), s))


def _enclosed(boxes: Boxes, series: Chebyshev) -> Array:
    """An upper bound of ``|D - P|`` on every box."""
    middle, half, value, slopes = boxes
    here, slope_here = series(middle), series.deriv()(middle)
    at = np.maximum(np.abs(value[0] - here), np.abs(value[1] - here))
    steepest = np.maximum(np.abs(slopes[0] - slope_here), np.abs(slopes[1] - slope_here))
    curved = float(np.abs(series.deriv(2).coef).sum())  # Chebyshev polynomials are at most 1
    bound: Array = at + half * steepest + half**2 / 2 * curved
    return bound


def _relative(slope: Array, bound: Array, s: int, vanishing: list[float]) -> float | None:
    """What the slope is off at most, relative, for p from `LEAST` to 1/2; None if that is too much.

    ``slope`` holds the polynomial's coefficients, the constant being 0, and ``bound`` bounds the error of its s-th
    derivative, box by box; for ``vanishing`` see `_vanishing`.
    """
    p, size = _sizes(slope)
    box = np.minimum((p * 2 * len(bound)).astype(int), len(bound) - 1)
    mean = np.cumsum(bound)[box] / (2 * len(bound)) / p
    # The error of the slope is an integral of that bound over [0, p] with the weight (p - q)^(s-1) / (s-1)!.
    average = np.minimum(np.maximum.accumulate(bound)[box], s * mean)
    off = average * p**s / math.factorial(s) + polynomial.polyval(p, np.array([0.0, *vanishing]))
    operations = 2 * np.arange(len(slope)) + 2  # that a coefficient goes through in Horner's scheme
    rounding = FLOAT32_UNIT * polynomial.polyval(p, operations * np.abs(slope))
    size = size - off
    if (size <= 0).any() or (off > TOLERANCE * size).any() or (rounding > ROUNDING * size).any():
        return None
    return float(((off + rounding) / size).max())


def _sizes(slope: Array) -> tuple[Array, Array]:
    """Points p, and for all between each and the next one below the largest slope known between their eighth and them.

    Both are such that a bound of p's, which grows with p, over a size bounds that ratio between the points, too.
    """
    octaves = math.ceil(math.log2(0.5 / LEAST))
    p = 0.5 * 2.0 ** (-np.arange((octaves + 3) * _OCTAVE + 1) / _OCTAVE)
    at = np.abs(polynomial.polyval(p, slope))
    windows = np.lib.stride_tricks.sliding_window_view(at[1:], 3 * _OCTAVE).max(axis=1)
    return p[: len(windows)], windows
