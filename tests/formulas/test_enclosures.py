"""Every operator's interval rule against mpmath: true enclosures, and no wider than they need be."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import mpmath
import numpy as np
import pytest
from exact_values import DIGITS, FAR, NoValueError, exact
from mpmath import mpf

from lossmith.formulas import Expression, apply, bounds, parse, terminal
from lossmith.formulas.expression import ARITY

UNARY = [op for op, operands in ARITY.items() if operands == 1]
BINARY = [op for op, operands in ARITY.items() if operands == 2]
TRANSCENDENTAL = ["exp", "log", "expm1", "log1p", "sin", "cos", "tanh", "sigmoid", "softplus", "plog"]
FINITE = float(np.finfo(np.float64).max)
TINY = 5e-324
Box = tuple[float, float]


def up(value: float, ulps: int = 1) -> float:
    for _ in range(ulps):
        value = math.nextafter(value, math.inf)
    return value


def somewhere(rng: random.Random) -> float:
    """A number of any size and sign, or a remarkable one."""
    if rng.random() < 0.25:
        return rng.choice([0.0, 1.0, -1.0, 2.0, -2.0, 0.5, TINY, -TINY, 745.2, -745.2, 709.7, 40.0, -40.0, FINITE])
    size = rng.choice([rng.uniform(-2, 2), rng.uniform(-2, 2), rng.uniform(-20, 8), rng.uniform(-320, 308)])
    return float(rng.choice([-1, 1]) * 10**size)


def boxes(rng: random.Random, count: int) -> list[Box]:
    """Points, intervals of a few units in the last place, and wide ones."""
    found = []
    for _ in range(count):
        low = somewhere(rng)
        high = rng.choice([low, up(low, 2), low + abs(low) * rng.random(), somewhere(rng), somewhere(rng)])
        found.append((min(low, high), max(low, high)))
    return [(low, high) for low, high in found if math.isfinite(low) and math.isfinite(high)]


def inside(rng: random.Random, box: Box) -> list[float]:
    """The ends, points between them, 0, and the quarter turns next to the low end."""
    low, high = box
    turns = [float(math.ceil(low / (math.pi / 2)) + k) * math.pi / 2 for k in range(3)] if abs(low) < 1e9 else []
    between = [low + (high - low) * rng.random()] if math.isfinite(high - low) else []
    return [at for at in {low, high, 0.0, *between, *turns} if low <= at <= high]


def value(tree: Expression, **at: float) -> Any:
    try:
        return exact(tree, **at)
    except NoValueError:
        return None


def found(tree: Expression, **intervals: list[Box]) -> list[tuple[float, float]]:
    arrays = {name: (np.array(each)[:, 0], np.array(each)[:, 1]) for name, each in intervals.items()}
    low, high = bounds(tree, **arrays)
    return list(zip(low.tolist(), high.tolist(), strict=True))


@pytest.mark.parametrize("op", UNARY)
def test_a_function_stays_within_its_bounds(op: str) -> None:
    rng, tree = random.Random(op), apply(op, terminal("p"))
    cases = boxes(rng, 250)
    for box, (low, high) in zip(cases, found(tree, p=cases), strict=True):
        for at in inside(rng, box):
            if (true := value(tree, p=at)) is not None:
                assert low <= true <= high, (op, box, at)


@pytest.mark.parametrize("op", BINARY)
def test_an_operator_stays_within_its_bounds(op: str) -> None:
    rng, tree = random.Random(op), apply(op, terminal("p"), terminal("n"))
    left, right = boxes(rng, 250), boxes(rng, 250)
    whole = [(float(k), float(k + rng.choice([0, 0, 2]))) for k in (rng.randint(-4, 4) for _ in right)]
    right = [rng.choice(pair) for pair in zip(right, whole, strict=False)]
    count = min(len(left), len(right))
    left, right = left[:count], right[:count]
    for a, b, (low, high) in zip(left, right, found(tree, p=left, n=right), strict=True):
        exponents = {*inside(rng, b), *(float(k) for k in range(-4, 7) if b[0] <= k <= b[1])}
        for p, n in itertools.product(inside(rng, a), exponents):
            if (true := value(tree, p=p, n=n)) is not None:
                assert low <= true <= high, (op, a, b, p, n)


@pytest.mark.parametrize("k", [-3.0, -2.0, -1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 7.0, 1e3, 1e300])
def test_a_fixed_power_stays_within_its_bounds(k: float) -> None:
    rng, tree = random.Random(k), terminal("p") ** k
    cases = boxes(rng, 200)
    for box, (low, high) in zip(cases, found(tree, p=cases), strict=True):
        for at in inside(rng, box):
            if (true := value(tree, p=at)) is not None:
                assert low <= true <= high, (k, box, at)


@pytest.mark.parametrize("op", ["sin", "cos"])
def test_the_peaks_of_waves_are_not_missed(op: str) -> None:
    """Intervals that end a hair's breadth beyond a peak, and ones that end as much before it."""
    rng, tree = random.Random(op), apply(op, terminal("p"))
    ends, peaks = [], []
    for _ in range(400):
        turn = int(10 ** rng.uniform(0, 6.5)) * rng.choice([-1, 1])
        with mpmath.workdps(DIGITS):
            peak = mpmath.pi * turn + (mpmath.pi / 2 if op == "sin" else 0)
            beyond = float(peak) + rng.choice([0.0, 1e-9, 1e-7, 1e-5, -1e-7, -1e-5]) * (1 + abs(float(peak)) * 1e-7)
            width = rng.choice([1e-6, 0.3, 2.0])
            ends.append((beyond - width, beyond))
            peaks.append((peak, 1 if turn % 2 == 0 else -1))
    for (low, high), (peak, sign), got in zip(ends, peaks, found(tree, p=ends), strict=True):
        if low <= peak <= high:
            assert got[0 if sign < 0 else 1] == sign
        values = [exact(tree, p=low), exact(tree, p=high)]
        assert got[0] <= min(values) <= max(values) <= got[1]
        if not low <= peak <= high and abs(high) < 1e7:
            nearest = max(values) if sign > 0 else min(values)
            assert abs(got[1 if sign > 0 else 0] - nearest) < 2e-15


@pytest.mark.parametrize("op", UNARY)
def test_bounds_at_a_point_are_a_few_units_apart(op: str) -> None:
    rng, tree = random.Random(op), apply(op, terminal("p"))
    points = [somewhere(rng) for _ in range(300)]
    points = [at for at in points if abs(at) < min(FAR.get(op, math.inf), 1e6 if op in {"sin", "cos"} else math.inf)]
    for at, (low, high) in zip(points, found(tree, p=[(at, at) for at in points]), strict=True):
        true = value(tree, p=at)
        if true is None:
            if op in {"log", "log1p"}:
                assert (low, high) == (-math.inf, math.inf)
        elif max(abs(true), abs(at)) >= FINITE:
            assert low <= true <= high
        else:
            size = max(1.0, abs(float(true))) if op == "plog" else abs(float(true))
            assert high - low <= 24 * (up(size) - size) + 1e-320, (op, at)


@pytest.mark.parametrize("op", BINARY)
def test_bounds_of_two_points_are_a_few_units_apart(op: str) -> None:
    rng, tree = random.Random(op), apply(op, terminal("p"), terminal("n"))
    for _ in range(150):
        p, n = rng.choice([-1, 1]) * 10 ** rng.uniform(-5, 5), rng.choice([-1, 1]) * 10 ** rng.uniform(-1, 1)
        n = float(rng.choice([n, round(n), 0.5]))
        true = value(tree, p=p, n=n)
        low, high = (float(end) for end in bounds(tree, p=p, n=n))
        if true is not None:
            assert low <= true <= high
            slack = 40 * (abs(p) + abs(n) if op in {"add", "sub"} else abs(float(true))) * 2**-53
            assert high - low <= slack + 1e-320, (p, n)


@pytest.mark.parametrize(
    "text, p, n, expected",
    [
        ("p/n", (1.0, 2.0), (0.0, 4.0), (0.25, math.inf)),
        ("p/n", (1.0, 2.0), (-4.0, 0.0), (-math.inf, -0.25)),
        ("p/n", (1.0, 2.0), (0.0, 0.0), (-math.inf, math.inf)),
        ("p/n", (1.0, 2.0), (-1.0, 4.0), (-math.inf, math.inf)),
        ("p/n", (-3.0, 2.0), (2.0, 4.0), (-1.5, 1.0)),
        ("p*n", (-3.0, 2.0), (-5.0, 4.0), (-12.0, 15.0)),
        ("p*n", (0.0, 2.0), (-math.inf, 4.0), (-math.inf, 8.0)),
        ("p*n", (0.0, 0.0), (-math.inf, math.inf), (0.0, 0.0)),
        ("p - n", (-3.0, 2.0), (-5.0, 4.0), (-7.0, 7.0)),
        ("p + n", (-3.0, 2.0), (-5.0, 4.0), (-8.0, 6.0)),
        ("min(p, n)", (-3.0, 2.0), (-2.0, 1.0), (-3.0, 1.0)),
        ("max(p, n)", (-3.0, 2.0), (-4.0, 1.0), (-3.0, 2.0)),
        ("aq(p, n)", (-3.0, 2.0), (0.0, 2.0), (-3.0, 2.0)),
        ("p**n", (2.0, 3.0), (1.0, 2.0), (2.0, 9.0)),
        ("p**n", (0.5, 3.0), (-1.0, 2.0), (0.25, 9.0)),
        ("p**n", (0.0, 3.0), (1.0, 2.0), (0.0, 9.0)),
        ("p**n", (0.0, 0.5), (1.0, 2.0), (0.0, 0.5)),
        ("p**n", (0.0, 0.5), (0.0, 2.0), (0.0, 1.0)),
        ("p**n", (0.0, 3.0), (0.0, 2.0), (0.0, 9.0)),
        ("p**n", (0.0, 0.5), (-2.0, -1.0), (2.0, math.inf)),
        ("p**n", (-3.0, -2.0), (1.0, 2.0), (-9.0, 9.0)),
        ("p**n", (-3.0, 0.5), (1.0, 2.0), (-9.0, 9.0)),
        ("p**3", (-2.0, -1.0), (0.0, 0.0), (-8.0, -1.0)),
        ("p**2", (-2.0, -1.0), (0.0, 0.0), (1.0, 4.0)),
        ("p**0", (-2.0, 1.0), (0.0, 0.0), (1.0, 1.0)),
        ("p**-1", (2.0, 4.0), (0.0, 0.0), (0.25, 0.5)),
        ("p**-2", (2.0, 4.0), (0.0, 0.0), (0.0625, 0.25)),
        ("p**0.5", (-2.0, 4.0), (0.0, 0.0), (0.0, 2.0)),
        ("p**0.5", (-2.0, -1.0), (0.0, 0.0), (-math.inf, math.inf)),
        ("sqrt(p)", (-2.0, 4.0), (0.0, 0.0), (0.0, 2.0)),
        ("sqrt(p)", (4.0, 9.0), (0.0, 0.0), (2.0, 3.0)),
        ("sqrt(p)", (-2.0, -1.0), (0.0, 0.0), (-math.inf, math.inf)),
        ("square(p)", (-2.0, 1.0), (0.0, 0.0), (0.0, 4.0)),
        ("square(p)", (-3.0, -2.0), (0.0, 0.0), (4.0, 9.0)),
        ("abs(p)", (-3.0, -2.0), (0.0, 0.0), (2.0, 3.0)),
        ("abs(p)", (-3.0, 0.0), (0.0, 0.0), (0.0, 3.0)),
        ("abs(p)", (0.0, 3.0), (0.0, 0.0), (0.0, 3.0)),
        ("sign(p)", (-3.0, 0.0), (0.0, 0.0), (-1.0, 0.0)),
        ("sign(p)", (2.0, 3.0), (0.0, 0.0), (1.0, 1.0)),
        ("log(p)", (0.0, 1.0), (0.0, 0.0), (-math.inf, 0.0)),
        ("log(p)", (-2.0, 1.0), (0.0, 0.0), (-math.inf, 0.0)),
        ("log(p)", (-2.0, 0.0), (0.0, 0.0), (-math.inf, math.inf)),
        ("log1p(p)", (-1.0, 0.0), (0.0, 0.0), (-math.inf, 0.0)),
        ("log1p(p)", (-2.0, -1.0), (0.0, 0.0), (-math.inf, math.inf)),
        ("expm1(p)", (-800.0, 0.0), (0.0, 0.0), (-1.0, 0.0)),
        ("sigmoid(p)", (-800.0, 800.0), (0.0, 0.0), (0.0, 1.0)),
        ("sigmoid(p)", (0.0, math.log(3)), (0.0, 0.0), (0.5, 0.75)),
        ("softplus(p)", (0.0, 800.0), (0.0, 0.0), (math.log(2), 800.0)),
        ("psqrt(p)", (-1.0, 2.0), (0.0, 0.0), (math.sqrt(1e-7), math.sqrt(2 + 1e-7))),
        ("plog(p)", (-1.0, 2.0), (0.0, 0.0), (math.log(1e-7), math.log(2 + 1e-7))),
        ("sin(p)", (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)),
        ("sin(p)", (2.0, 5.0), (0.0, 0.0), (-1.0, math.sin(2.0))),
        ("cos(p)", (1.0, 2.0), (0.0, 0.0), (math.cos(2.0), math.cos(1.0))),
        ("cos(p)", (1.0, 2e7), (0.0, 0.0), (-1.0, 1.0)),
        ("cos(p)", (-2e7, -2e7), (0.0, 0.0), (-1.0, 1.0)),
    ],
)
def test_bounds_of_known_ranges(text: str, p: Box, n: Box, expected: Box) -> None:
    """No wider than the range, but for rounding."""
    low, high = (float(end) for end in bounds(parse(text), p=p, n=n))
    assert low <= expected[0]
    assert high >= expected[1]
    assert (low, high) == pytest.approx(expected, rel=1e-14, abs=1e-300)


@pytest.mark.parametrize(
    "text, p, least, most",
    [
        ("exp(p)", (-800.0, -750.0), 0, 1e-300),
        ("sigmoid(p)", (-800.0, 900.0), 0, 1),
        ("tanh(p)", (30.0, 90.0), 0.9, 1),
        ("softplus(p)", (-900.0, -800.0), 0, 1e-300),
        ("sin(p)", (1.57, 1.58), 0.9, 1),
        ("sin(p)", (1.5707963, 1.5707963), 0.9, 1),
        ("cos(p)", (3.1415926, 3.1415926), -1, -0.9),
        ("square(p)", (0.0, 0.0), 0, 1e-300),
        ("expm1(p)", (-90.0, -80.0), -1, -0.9),
        ("sqrt(p)", (0.0, 0.0), 0, 1e-300),
        ("p**0.5", (0.0, 0.0), 0, 1e-300),
    ],
)
def test_bounds_keep_to_the_range_of_a_function(text: str, p: Box, least: float, most: float) -> None:
    low, high = bounds(parse(text), p=p)
    assert least <= low <= high <= most


@pytest.mark.parametrize(
    "text, rounded",
    [
        ("p + n", 0.1 + 0.7),
        ("p - n", 0.1 - 0.7),
        ("p*n", 0.1 * 0.7),
        ("square(p)", 0.1 * 0.1),
        ("p*p", 0.1 * 0.1),
        ("sqrt(n)", math.sqrt(0.7)),
    ],
)
def test_what_rounds_correctly_is_bounded_by_the_next_numbers(text: str, rounded: float) -> None:
    """Sums, products and roots lie within half a unit of what IEEE 754 has them rounded to."""
    low, high = bounds(parse(text), p=0.1, n=0.7)
    assert (low, high) == (math.nextafter(rounded, -math.inf), math.nextafter(rounded, math.inf))


@pytest.mark.parametrize("text", ["p**3", "p**0.3", *(f"{op}(p)" for op in TRANSCENDENTAL)])
def test_bounds_leave_room_for_what_numpy_may_err(text: str) -> None:
    """NumPy's vector code may be off by up to four units in the last place, on other processors than this one too."""
    low, high = bounds(parse(text), p=0.7)
    value = float(exact(parse(text), p=0.7))
    assert low <= value - 3 * math.ulp(value)
    assert high >= value + 3 * math.ulp(value)


def test_whole_numbers_are_bounds_as_well() -> None:
    """They do not overflow as the integers they are given as."""
    low, high = bounds(parse("p + n"), p=9 * 10**18, n=9 * 10**18)
    assert low <= 18 * 10**18 <= high
    assert (low, high) == pytest.approx((1.8e19, 1.8e19), rel=1e-15)


def test_bounds_of_narrow_bumps() -> None:
    """Of the bump that a grid of samples would miss, and of its slope on both sides."""
    tree = parse("exp(-1000000*square(p - 0.37))")
    low, high = bounds(tree, p=(0.0, 1.0))
    assert low <= 0 <= 1 <= high
    edges = np.linspace(0, 1, 2001)
    lows, highs = bounds(tree, p=(edges[:-1], edges[1:]))
    for at in [0.37, 0.3699, 0.3701, 0.36, 0.5, 0.3705]:
        k = min(int(at * 2000), 1999)
        true = exact(tree, p=at)
        assert min(lows[k - 1 : k + 2]) <= true <= max(highs[k - 1 : k + 2])


def test_c_follows_from_p_and_p_from_c() -> None:
    low, high = bounds(parse("c"), p=(0.25, 0.5))
    assert low <= mpmath.log(2) <= mpmath.log(4) <= high
    assert (low, high) == pytest.approx((math.log(2), math.log(4)), rel=1e-14)
    low, high = bounds(parse("p"), c=(math.log(2), math.log(4)))
    assert low <= mpmath.exp(-mpf(math.log(4))) <= mpmath.exp(-mpf(math.log(2))) <= high
    assert (low, high) == pytest.approx((0.25, 0.5), rel=1e-14)
    low, high = bounds(parse("p + c"), p=(1.0, 1.0), c=(3.0, 3.0))
    assert (low, high) == pytest.approx((4.0, 4.0))


def test_bounds_take_the_shape_of_their_intervals() -> None:
    low, high = bounds(parse("2"), p=(np.zeros(3), np.ones(3)))
    assert low.shape == high.shape == (3,)
    low, high = bounds(parse("p*n"), p=np.ones((2, 1)), n=np.ones(3))
    assert low.shape == high.shape == (2, 3)
    low[0, 0] = high[0, 0] = 7  # an array of its own
    assert low[0, 1] == pytest.approx(1)
