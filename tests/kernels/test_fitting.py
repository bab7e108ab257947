"""The certified bound holds, by mpmath and on functions whose error is known; what is not smooth is refused."""

from __future__ import annotations

import math
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
    for low, high in ((-1.0, 0.5), (-0.5, 1.0)):  # of values and slopes known roughly, the larger end counts
        value = (np.full(1, low), np.full(1, high))
        assert fitting._enclosed(Boxes(quarter, 0.25, value, (zero, zero)), nothing) == pytest.approx(1.0)
        assert fitting._enclosed(Boxes(quarter, 0.25, (zero, zero), value), nothing) == pytest.approx(0.25)


BOXES = 1 << 14


@pytest.mark.parametrize("s", [1, 2, 3])
def test_a_constant_error_of_the_last_derivative_is_relative_to_the_power_it_becomes(s: int) -> None:
    """The slope p^s, whose s-th derivative is off by b everywhere: off by b p^s / s!."""
    slope, b = np.eye(s + 1)[s], 5e-7
    error = fitting._relative(slope, np.full(BOXES, b), s, [])
    assert error is not None
    assert b / math.factorial(s) <= error <= 1.2 * b / math.factorial(s) + 1e-6
    assert fitting._relative(slope, np.full(BOXES, 2 * math.factorial(s) * TOLERANCE), s, []) is None


def test_an_error_at_the_start_is_integrated_to_the_end() -> None:
    """Of p^2, the second derivative is off by b on [0, w]: beyond, the slope is off by b w (p - w / 2)."""
    bound = np.zeros(BOXES)
    bound[0] = 1e-6
    w = 0.5 / BOXES
    error = fitting._relative(np.array([0.0, 0.0, 1.0]), bound, 2, [])
    assert error is not None
    assert error >= max(1e-6 * w * (p - w / 2) / p**2 for p in np.geomspace(w, 0.5, 100))
    assert fitting._relative(np.array([0.0, 0.0, 1.0]), 10 * bound, 2, []) is None


def test_what_may_be_left_of_lower_powers_counts() -> None:
    """1e-15 p against p^3 is 0.1 at p = 1e-7."""
    slope, none = np.eye(4)[3], np.zeros(BOXES)
    assert fitting._relative(slope, none, 3, [0.0, 1e-15]) is not None
    assert fitting._relative(slope, none, 3, [1e-15, 0.0]) is None


def test_an_error_of_a_third_derivative_that_has_its_worst_at_the_end_is_refused() -> None:
    """Of p^3 - 1.9 p^4, b on [0, 0.1] is b (p^3 - (p - 0.1)^3) / 6 beyond: at p = 1/2 too much for b = 2e-6."""
    slope, b = np.array([0.0, 0.0, 0.0, 1.0, -1.9]), 2e-6
    largest = np.abs(np.polynomial.polynomial.polyval(np.linspace(1 / 16, 0.5, 1000), slope)).max()
    assert b * (0.5**3 - 0.4**3) / 6 > 1.3 * TOLERANCE * largest
    bound = np.where(np.arange(BOXES) < 0.2 * BOXES, b, 0.0)
    assert fitting._relative(slope, bound, 3, []) is None
    assert fitting._relative(slope, bound / 4, 3, []) is not None


def test_what_an_enclosure_leaves_open_of_lower_powers() -> None:
    """The second and third derivative lie within 1e-201 and 6e-201 of 0 there, and the fourth is 24."""
    ends = {2: (-1e-201, 5e-202), 3: (-1e-202, 6e-201), 4: (24.0, 24.0)}

    def enclose(order: int, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        least, most = ends[order]
        return np.full_like(low, least), np.full_like(high, most)

    assert fitting._vanishing(enclose) == pytest.approx([1e-201, 3e-201], rel=1e-12, abs=0)
    ends[2] = (1e-199, 2e-199)
    assert fitting._vanishing(enclose) == []
    ends[2] = (0.0, math.inf)
    assert fitting._vanishing(enclose) is None


@pytest.mark.parametrize("seed", range(5))
def test_the_bound_of_rounding_holds_what_float32_does(seed: int) -> None:
    generator = np.random.default_rng(seed)
    slope = np.array([0.0, 1.0, *(3.0 * generator.normal(size=9) * 2.0 ** np.arange(9))])
    error = fitting._relative(slope, np.zeros(BOXES), 1, [])
    assert error is not None
    p = 0.5 * 2.0 ** (-np.arange(3 * 160) / 160).astype(np.float32)
    exact = np.polynomial.polynomial.polyval(p.astype(float), slope)
    off = np.abs(p * horner(tuple(slope[1:]), p) - exact)
    largest = np.array([np.abs(exact[(p <= x) & (p >= x / 8)]).max() for x in p])
    assert (off <= error * largest).all()


def test_powers_that_cancel_are_refused() -> None:
    """The terms of p (1 - 4 p)^12 are 500,000 times its value at p = 1/2."""
    slope = np.array([0.0, *(math.comb(12, k) * (-4.0) ** k for k in range(13))])
    assert fitting._relative(slope, np.zeros(BOXES), 1, []) is None


def test_sizes_are_taken_between_an_eighth_and_one() -> None:
    """Of a slope that is 0 at p = 0.1 and large at p = 0.01."""
    for slope in (np.array([0.0, 0.1, -1.0]), np.array([0.0, 1.0, -20.0, 100.0])):
        p, size = fitting._sizes(slope)
        for i in range(len(p) - 1):
            for x in np.linspace(p[i + 1], p[i], 5):
                assert size[i] <= np.abs(np.polynomial.polynomial.polyval(np.linspace(x / 8, x, 4000), slope)).max() * (
                    1 + 1e-6
                )
        assert p[-1] <= fitting.LEAST


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
