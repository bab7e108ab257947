"""The certified bound holds, by mpmath and on functions whose error is known; what is not smooth is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from enclosures import enclosure
from numpy.polynomial import Chebyshev

from lossmith.kernels import fitting, row_terms
from lossmith.kernels.fitting import ROUNDING, TOLERANCE, Boxes, fit

Function = Callable[[Any], Any]
SMOOTH: dict[str, Function] = {
    "exp(2.4092 - p) - cos(cos(sin(p)))": lambda p: mpmath.exp(2.4092 - p) - mpmath.cos(mpmath.cos(mpmath.sin(p))),
    "square(p)": lambda p: p**2,
    "p/(1 - p)": lambda p: p / (1 - p),
    "sin(5*p)": lambda p: mpmath.sin(5 * p),
    "1/sqrt(1 - square(p))": lambda p: 1 / mpmath.sqrt(1 - p**2),
    "tanh(2*p)*log(1 + p)": lambda p: mpmath.tanh(2 * p) * mpmath.log(1 + p),
    "3*pow(p, 4)": lambda p: 3 * p**4,
    "sin(p) - p": lambda p: mpmath.sin(p) - p,
    "0.05*square(p) + 3*pow(p, 4) - 7*p": lambda p: mpmath.mpf(0.05) * p**2 + 3 * p**4 - 7 * p,
    "abs(p + 0.1)*p": lambda p: (p + mpmath.mpf(0.1)) * p,
}


@pytest.mark.parametrize("text", SMOOTH)
def test_the_slope_stays_within_the_relative_bound_in_float32(text: str) -> None:
    made = fit(enclosure(text))
    assert made is not None
    assert made.error <= TOLERANCE + ROUNDING
    p = 0.5 * 2.0 ** (-np.arange(24 * 16) / 16)
    with mpmath.workdps(60):
        at_zero, first = SMOOTH[text](mpmath.mpf(0)), mpmath.diff(SMOOTH[text], 0)
        slope = np.array([float(mpmath.diff(SMOOTH[text], x) - first) for x in map(mpmath.mpf, p)])
        value = np.array([float(SMOOTH[text](x) - at_zero - x * first) for x in map(mpmath.mpf, p)])
    for i in range(len(p) - 48):
        within = slice(i, i + 49)  # from p / 8 to p
        largest = np.abs(slope[within]).max()
        x = np.float32(p[i])
        # What the rounding of p itself does is not the polynomial's.
        rounded = 2 * float(x) * 6e-8 * np.abs(np.gradient(slope[within], p[within])).max()
        assert abs(float(x) * horner(made.slope, x) - slope[i]) <= made.error * largest + rounded
        assert abs(float(x) ** 2 * horner(made.value, x) - value[i]) <= p[i] * (made.error * largest + rounded)


@pytest.mark.parametrize(
    "text",
    [
        *("sqrt(p)", "p*log(p)", "abs(p - 0.2)", "sin(1000*p)", "1/p", "log(0.5 - p)", "max(p, 0.1)*p"),
        *("square(p) + 1e-9*abs(p - 0.3)", "abs(p - 0.2) - abs(p - 0.20001)", "sign(p - 0.25)"),
    ],
)
def test_what_is_not_smooth_is_refused(text: str) -> None:
    assert fit(enclosure(text)) is None


def test_what_float32_would_lose_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Powers of p that fit sin(20 p) cancel to three digits."""
    enclose = enclosure("sin(20*p)")
    assert fit(enclose) is None
    monkeypatch.setattr(fitting, "ROUNDING", 1.0)
    monkeypatch.setattr(fitting, "TOLERANCE", 1e-5)
    made = fit(enclose)
    assert made is not None
    p = np.linspace(0.25, 0.5, 2000).astype(np.float32)
    off = np.abs(p.astype(float) * horner(made.slope, p) - 20 * (np.cos(20 * p.astype(float)) - 1)).max() / 40
    assert ROUNDING < off <= made.error


def test_a_line_adds_nothing() -> None:
    made = fit(enclosure("3*p - 1"))
    assert made is not None
    assert not any((*made.slope, *made.value))


@pytest.mark.parametrize("boxes", [1, 3, 8])
@pytest.mark.parametrize("seed", range(20))
def test_the_enclosure_of_a_known_error_holds_it_and_little_more(boxes: int, seed: int) -> None:
    """D = a exp(b p), of which everything is known, and any P; boxes so wide that each part of the bound counts."""
    generator = np.random.default_rng(seed)
    a, b = generator.normal(), generator.normal(scale=2)
    curved = generator.normal(size=5) * (generator.random(5) < 0.5)
    for series in (Chebyshev(curved, domain=[0.0, 0.5]), Chebyshev([0.0, 0.0, 1.0], domain=[0.0, 0.5])):
        edges = np.linspace(0, 0.5, boxes + 1)
        middle = (edges[1:] + edges[:-1]) / 2
        ends = np.stack([a * b * np.exp(b * edges[:-1]), a * b * np.exp(b * edges[1:])])
        value = a * np.exp(b * middle)
        given = Boxes(middle, 0.25 / boxes, (value, value), (ends.min(0), ends.max(0)))
        bound = fitting._enclosed(given, series)
        p = np.linspace(edges[:-1], edges[1:], 500)
        true = np.abs(a * np.exp(b * p) - series(p)).max(0)
        assert (bound >= true).all()
        second = np.abs(series.deriv(2).coef).sum()
        half = 0.25 / boxes
        assert (
            bound
            <= true
            + half**2 * (2 * np.abs(a) * b**2 * np.exp(max(b, 0) / 2) + second)
            + half * 2 * np.abs(a * b * np.exp(b * middle) - series.deriv()(middle))
        ).all()


def test_the_enclosure_reaches_to_the_edges_of_a_box() -> None:
    """On one box of D = p^2 and P = 0, and of D = 0 and P = p^2, with nothing to spare."""
    quarter = np.array([0.25])
    zero = np.zeros(1)
    square = Chebyshev.fit([0, 0.25, 0.5], [0, 0.0625, 0.25], 2, domain=[0.0, 0.5])
    nothing = Chebyshev([0.0], domain=[0.0, 0.5])
    bound = fitting._enclosed(Boxes(quarter, 0.25, (quarter**2, quarter**2), (zero, 2 * quarter + 0.5)), nothing)
    assert bound == pytest.approx(0.0625 + 0.25 * 1.0)
    bound = fitting._enclosed(Boxes(quarter, 0.25, (zero, zero), (zero, zero)), square)
    assert bound == pytest.approx(0.25)  # 1/16 + 1/4 1/2 + 1/32 2, the largest p^2


def horner(coefficients: tuple[float, ...], p: Any) -> Any:
    value = np.zeros_like(p)
    for coefficient in reversed(coefficients):
        value = value * p + np.float32(coefficient)
    return np.asarray(value, dtype=np.float64)


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

    g4 = np.abs(w) @ (4.1 * np.abs(u) ** 4)  # likewise, and the fourth derivative of tanh is at most 4.1
    fourth = float(np.abs(v) @ (4.1 * g1**4 + 12 * g1**2 * g2 + 0.77 * (3 * g2**2 + 4 * g1 * g3) + g4))

    def enclose(order: int, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        middle = derivative_at((low + high) / 2, order)
        reach = (third if order == 2 else fourth) * (high - low) / 2
        return middle - reach, middle + reach

    made = fit(enclose)
    assert made is not None
    logits = torch.randn(20, 9, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(20, dtype=torch.int64)
    others = row_terms(logits, target, -100, made).others
    p = logits.double().softmax(1)
    inside = torch.ones_like(p).scatter(1, target[:, None], 0).scatter(1, p.argmax(1, keepdim=True), 0)
    zero = np.zeros(1)
    line = network(torch.zeros(1).double()) + p * float(derivative_at(zero, 1)[0])
    right = ((network(p) - line) * inside).sum(1)
    size = (((network(p) - line).abs()) * inside).sum(1)
    assert float(((others - right).abs() / size).max()) <= 2 * made.error
