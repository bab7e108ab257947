"""The certified bound holds, by mpmath and dense sampling; what is not smooth is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

from lossmith.formulas import bounds, derivative, parse
from lossmith.kernels import Polynomial
from lossmith.kernels.fitting import ROUNDING, TOLERANCE, fit

SMOOTH: dict[str, Callable[[Any], Any]] = {
    "exp(2.4092 - p) - cos(cos(sin(p)))": lambda p: mpmath.exp(2.4092 - p) - mpmath.cos(mpmath.cos(mpmath.sin(p))),
    "square(p)": lambda p: p**2,
    "p/(1 - p)": lambda p: p / (1 - p),
    "sin(10*p)": lambda p: mpmath.sin(10 * p),
    "1/sqrt(1 - square(p))": lambda p: 1 / mpmath.sqrt(1 - p**2),
    "tanh(3*p - 1)*log(1 + p)": lambda p: mpmath.tanh(3 * p - 1) * mpmath.log(1 + p),
}


def fitted(text: str) -> Polynomial | None:
    slope = derivative(parse(text), "p")
    curvature = derivative(slope, "p")
    return fit(lambda p: bounds(slope, p=(p, p)), lambda low, high: bounds(curvature, p=(low, high)))


@pytest.mark.parametrize("text", SMOOTH)
def test_value_and_slope_stay_within_the_bound_in_float32(text: str) -> None:
    made = fitted(text)
    assert made is not None
    function, p = SMOOTH[text], np.linspace(0, 0.5, 501)
    with mpmath.workdps(30):
        at_zero = function(mpmath.mpf(0))
        slope = np.array([float(mpmath.diff(function, mpmath.mpf(x))) for x in p])
        value = np.array([float((function(mpmath.mpf(x)) - at_zero) / x) for x in p[1:]])
    u = (4 * p - 1).astype(np.float32)
    assert np.abs(horner(made.slope, u) - slope).max() <= made.error
    assert np.abs(horner(made.value, u[1:]) - value).max() <= made.error
    assert made.error <= (TOLERANCE + ROUNDING) * np.abs(slope).max()


@pytest.mark.parametrize("text", ["sqrt(p)", "p*log(p)", "abs(p - 0.2)", "sin(1000*p)", "1/p", "log(0.5 - p)"])
def test_what_is_not_smooth_is_refused(text: str) -> None:
    assert fitted(text) is None


def horner(coefficients: tuple[float, ...], u: np.ndarray) -> np.ndarray:
    value = np.zeros_like(u)
    for coefficient in reversed(coefficients):
        value = value * u + np.float32(coefficient)
    return value.astype(np.float64)
