"""The certified bound holds, by mpmath and dense sampling; what is not smooth is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import torch

from lossmith.formulas import bounds, derivative, parse
from lossmith.kernels import Polynomial, row_terms
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


def test_a_frozen_network_takes_the_same_route() -> None:
    """f(p) = v tanh(W tanh(u p + a) + b), 40 and 40 wide; its third derivative is bounded by norms."""
    generator = np.random.default_rng(0)
    u, a, b = (generator.normal(size=40) for _ in range(3))
    w, v = generator.normal(size=(40, 40)) / 20, generator.normal(size=40) / 6

    def network(p: torch.Tensor) -> torch.Tensor:
        inner = torch.tanh(p[..., None] * torch.from_numpy(u) + torch.from_numpy(a))
        return torch.tanh(inner @ torch.from_numpy(w).T + torch.from_numpy(b)) @ torch.from_numpy(v)

    def derivative_at(p: np.ndarray, order: int) -> np.ndarray:
        at = torch.from_numpy(p.copy()).requires_grad_()
        value = network(at)
        for _ in range(order):
            (value,) = torch.autograd.grad(value.sum(), at, create_graph=True)
        return value.detach().numpy()

    # |tanh'| <= 1, |tanh''| <= .77, |tanh'''| <= 2; with g = W tanh(u p + a) + b,
    # f''' = v (tanh''' g'^3 + 3 tanh'' g' g'' + tanh' g''').
    g1, g2, g3 = (np.abs(w) @ (factor * np.abs(u) ** k) for factor, k in ((1, 1), (0.77, 2), (2, 3)))
    third = float(np.abs(v) @ (2 * g1**3 + 3 * 0.77 * g1 * g2 + g3))

    def curvature(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        middle, reach = derivative_at((low + high) / 2, 2), third * (high - low) / 2
        return middle - reach, middle + reach

    made = fit(lambda p: (derivative_at(p, 1), derivative_at(p, 1)), curvature)
    assert made is not None
    logits = torch.randn(20, 9, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(20, dtype=torch.int64)
    others = row_terms(logits, target, -100, made).others
    p = logits.double().softmax(1)
    inside = torch.ones_like(p).scatter(1, target[:, None], 0).scatter(1, p.argmax(1, keepdim=True), 0)
    right = ((network(p) - network(torch.zeros(()).double())) * inside).sum(1)
    assert float((others - right).abs().max()) <= made.error + 1e-6
