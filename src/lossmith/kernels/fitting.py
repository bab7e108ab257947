"""A polynomial in place of a formula, with a bound on the difference that holds everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.polynomial import chebyshev, polynomial
from numpy.typing import NDArray

from lossmith.kernels.batch import Polynomial

Array = NDArray[np.float64]
Bounds = tuple[Array, Array]

HIGHEST_DEGREE: Final = 24
TOLERANCE: Final = 1e-6
"""Of the largest slope: what a certified polynomial may be off at most; float32 itself is off by 1e-7."""
ROUNDING: Final = 3e-5
"""Likewise, what evaluating it in float32 may add; more where f oscillates."""
_BOXES: Final = 1 << 14
FLOAT32_UNIT: Final = 2.0**-24


def fit(slope: Callable[[Array], Bounds], curvature: Callable[[Array, Array], Bounds]) -> Polynomial | None:
    """Approximate a function on [0, 1/2] by the lowest degree that float32 can tell no better, and certify it.

    The error E = f' - P is enclosed box by box, by the mean value theorem: ``E(mid) + [-w/2, w/2] E'(box)`` for
    16,384 boxes of width w.

    Args:
        slope: enclosures of f' at points.
        curvature: enclosures of f'' on boxes, given by their lower and upper ends.

    Returns:
        The polynomial, or None if none of degree 24 or less is certified to 1e-6 of the largest slope, or float32
        would add more than 3e-5: then f is not smooth enough on [0, 1/2].
    """
    edges = np.linspace(0.0, 0.5, _BOXES + 1)
    low, high = edges[:-1], edges[1:]
    middle = (low + high) / 2
    at_middle = slope(middle)
    curved = curvature(low, high)
    if not all(np.isfinite(bound).all() for bound in (*at_middle, *curved)):
        return None
    values = (at_middle[0] + at_middle[1]) / 2
    scale = max(float(np.max(np.abs(values))), float(np.finfo(np.float32).tiny))
    for degree in range(HIGHEST_DEGREE + 1):
        series = _interpolate(slope, degree)
        if np.abs(chebyshev.chebval(4 * middle - 1, series) - values).max() < 0.05 * TOLERANCE * scale:
            break
    error = _enclosed(series, middle, at_middle, curved)
    coefficients: Array = np.asarray(chebyshev.cheb2poly(series), dtype=np.float64)
    operations = 2 * np.arange(len(coefficients)) + 2  # that a coefficient goes through in Horner's scheme
    rounding = FLOAT32_UNIT * float((operations * np.abs(coefficients)).sum())
    if error > TOLERANCE * scale or rounding > ROUNDING * scale:
        return None
    integral = polynomial.polyint(coefficients, lbnd=-1) / 4
    value: Array = polynomial.polydiv(integral, np.array([0.25, 0.25]))[0]
    return Polynomial(tuple(value.tolist()), tuple(coefficients.tolist()), error + rounding)


def _enclosed(series: Array, middle: Array, at_middle: Bounds, curved: Bounds) -> float:
    """An upper bound of |f' - P| on [0, 1/2]."""
    half = 0.25 / len(middle)
    first = chebyshev.chebder(series)
    second = chebyshev.chebder(series, 2)
    slope_here = 4 * chebyshev.chebval(4 * middle - 1, first)
    drift = half * 16 * float(np.abs(second).sum())  # |T_k| <= 1
    here = chebyshev.chebval(4 * middle - 1, series)
    at = np.maximum(np.abs(at_middle[0] - here), np.abs(at_middle[1] - here))
    steepest = np.maximum(np.abs(curved[0] - slope_here), np.abs(curved[1] - slope_here)) + drift
    return float((at + half * steepest).max())


def _interpolate(slope: Callable[[Array], Bounds], degree: int) -> Array:
    """The Chebyshev series of f' in u, by its values at the Chebyshev points."""
    u = chebyshev.chebpts1(degree + 1)
    low, high = slope((u + 1) / 4)
    return np.asarray(chebyshev.chebfit(u, (low + high) / 2, degree), dtype=np.float64)
