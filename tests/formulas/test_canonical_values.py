"""The canonical form has the values of the formula: in 50 digits, and in floats where the formula has them there."""

from __future__ import annotations

import random

import mpmath
import pytest
from exact_values import DIGITS, NoValueError, conditioned, wild

from lossmith.formulas import (
    Expression,
    FormulaError,
    canonical,
    digest,
    parse,
)

FARTHEST = 1e25  # how ill-conditioned a value may be that is compared in 50 digits
EXACT = 1e-45
"""What every step may be off by in `exact`, which computes with at least 60 digits: rewriting itself rounds nothing."""


@mpmath.workdps(DIGITS + 10)
def differences(tree: Expression, places: list[float], others: dict[str, float]) -> list[str]:
    """Where a formula and its canonical form differ by more than rounding; a constant is no difference."""
    form = canonical(tree)
    points = []
    for p in places:
        try:
            value, moves = conditioned(tree, p=p, **others)
        except NoValueError:
            continue
        if not moves <= FARTHEST * abs(value):
            continue
        try:
            points.append((moves, p, value, *conditioned(form, 1e3, p=p, **others)))
        except NoValueError:
            return [f"{tree} is {mpmath.nstr(value, 9)} at {p}, {form} has no value"]
    if len(points) < 2:
        return []
    first, _, there, here, own = min(points)
    constant = there - here if abs(there - here) > EXACT * (first + own) else mpmath.mpf(0)
    found = []
    for moves, p, value, other, slack in points:
        if abs(other + constant - value) > EXACT * (moves + first + slack + own):
            found.append(f"{tree} is {mpmath.nstr(value, 9)} at {p}, {form} is {mpmath.nstr(other, 9)}")
    return found


def check(seed: int, count: int) -> None:
    rng = random.Random(seed)
    found, compared = [], 0
    for i in range(count):
        tree, places = wild(rng)
        tree = parse("p") * tree if i % 2 else tree  # times p no constant is left out
        others = {"y": rng.choice([0.0, 1.0]), "n": rng.choice([2.0, 10.0]), "t": 0.3}
        try:
            found += differences(tree, [p for p in places if 0 < p < 1], others)
            compared += 1
        except FormulaError:
            continue
    assert not found, "\n".join([f"{len(found)} differences", *found[:20]])
    assert compared > 0.99 * count


def test_the_canonical_form_has_the_same_values() -> None:
    check(seed=1, count=300)


@pytest.mark.parametrize(
    "text, places",
    [
        ("y*c + 0.2*y*exp(-1000000*square(p - 0.37))", [0.37, 0.3704, 0.3691, 0.5]),
        ("p*exp(-1000*square(p - 1))", [0.99, 0.98, 0.9999, 0.5]),
        ("p*expm1(-1000*(1 - p))", [0.999, 0.9999, 0.99, 0.5]),
        ("p*exp(2000*(p - 0.5))", [0.5, 0.51, 0.49, 0.8]),
        ("y*c + y*exp(-750*square(p - 1))", [0.99, 0.9999, 0.96, 0.5]),
        ("log(exp(p + 800))", [0.25, 0.5, 0.75]),
        ("log1p(expm1(1000*(1 - p)))", [0.25, 0.5, 0.75]),
        ("1/square(p - 0.37)", [0.37 + 1e-7, 0.37 + 1e-9, 0.5]),
        ("log(1 - p + 1e-13)", [1 - 1e-9, 1 - 1e-14, 0.5]),
        ("log(1 - p + 1e-17)", [1 - 1e-9, 1 - 2**-53, 0.5]),
        ("log(sigmoid(-50*p))", [0.1, 0.9, 1 - 1e-9]),
        ("log(1 - 0.9999999999999*p)", [0.5, 1 - 1e-12, 1 - 2**-53]),
        ("expm1(-p)/p + log1p(-p)/p", [1e-300, 1e-20, 1e-9, 0.5]),
        ("p*(n*p)**200*exp(600*c)*exp(-500*c)", [0.01, 0.1, 0.5]),
        ("exp(800*(1 - p) - 5*c)", [1e-40, 1e-50, 0.5]),
        ("p*1e-200*1e-200 + p*p*1e-200*1e-200", [0.25, 0.5, 0.75]),
        ("p*(1e200*p)**2/1e200/1e200", [0.25, 0.5, 0.75]),
        ("sin(123456789.12345678*p)", [0.25, 0.5, 0.75]),
        ("exp(-1e12*(p - 0.123456789)**2)", [0.123456789, 0.123456789 + 1e-6, 0.5]),
        ("p*log1p(5e-207)/5e-207", [0.25, 0.5, 0.75]),
        ("p*sigmoid(-900)*exp(900*p)", [0.9, 0.95, 0.5]),
    ],
)
def test_rewriting_changes_no_value(text: str, places: list[float]) -> None:
    assert canonical(parse(text)).depends_on("p", "c")
    assert differences(parse(text), places, {"y": 1.0, "n": 10.0, "t": 0.3}) == []


ROUNDED = [
    "1.0000000000001",
    "1.0000000000000002",
    "(0.1 + 0.2 + 0.7)",
    "(3*0.1 + 0.7)",
    "(1 + 1e-20)",
    "(0.3/0.3 + 1e-30)",
]
FUNCTIONS = [
    "sin",
    "cos",
    "tanh",
    "exp",
    "expm1",
    "log",
    "log1p",
    "sqrt",
    "psqrt",
    "plog",
    "sigmoid",
    "softplus",
    "abs",
]


@pytest.mark.parametrize("near", ROUNDED)
@pytest.mark.parametrize("of", [*(f"{name}({{}}*p)" for name in FUNCTIONS), "pow(p, {})", "p**c*{}", "max({}*p, c)"])
def test_what_cancels_but_for_its_last_digits_keeps_its_value(of: str, near: str) -> None:
    """Nothing is 0 but what is 0 in exact arithmetic, however large the number before it."""
    plain = of.format("1")
    text = f"y*(1 - p) + 1e13*y*({of.format(near)} - {plain})*exp(-1e10*square(p - 0.37))"
    assert digest(parse(text)) != digest(parse("y*(1 - p)"))
    assert differences(parse(text), [0.37, 0.37 + 1e-6, 0.37 - 1e-5, 0.5], {"y": 1.0}) == []


@pytest.mark.parametrize(
    "text",
    [
        "1e17*(3*0.1 - 0.3)*p",
        "1e40*(exp(1) + 1e-20 - exp(1))*p",
        "1e70*(exp(1e-70) - 1)*p",
        "1e17*(exp(0.1 + 0.2) - exp(0.3))*p",
    ],
)
def test_numbers_are_the_doubles_they_are(text: str) -> None:
    assert canonical(parse(text)).depends_on("p")
    assert differences(parse(text), [0.25, 0.5, 0.75], {}) == []


@pytest.mark.parametrize(
    "text, form",
    [
        ("-y*log(p)", "c*y"),
        ("0.1*p + 0.05*p*2", "0.2*p"),
        ("3*y*expm1(c/3)", "3*p**(-1/3)*y"),
        ("y*(1 - p**0.7)/0.7", "-1/0.7*p**0.7*y"),
        ("3*(0.1*p)", "0.30000000000000004*p - 2.7755575615628914e-17*p"),
        ("exp(2.4092 - p)", "exp(2.4092 - p)"),
        ("cos(pi*p/2)", "cos(1.5707963267948966*p)"),
    ],
)
def test_numbers_are_written_short_where_that_is_exact(text: str, form: str) -> None:
    assert str(canonical(parse(text))) == form


@pytest.mark.parametrize(
    "a, b",
    [
        ("y*c + y*exp(-750*square(p - 1))", "y*c"),
        ("y*c + 0.2*y*exp(-1000000*square(p - 0.37))", "y*c"),
        ("exp(-1000*square(p - 1))", "exp(-1001*square(p - 1))"),
        ("1e-200*1e-200*p", "1e-200*1e-201*p"),
        ("1e200*1e200*p", "1e200*1e201*p"),
        ("log(1 - p + 1e-13)", "log(1 - p)"),
        ("log(1 - p + 1e-20)", "log(1 - p)"),
        ("log(1 - 0.9999999999999*p)", "log(1 - p)"),
        ("sigmoid(-800)*p", "sigmoid(-801)*p"),
    ],
)
def test_what_floats_cannot_tell_apart_digests_do(a: str, b: str) -> None:
    assert digest(parse(a)) != digest(parse(b))


@pytest.mark.parametrize(
    "a, b",
    [
        ("exp(-1000*square(p - 1))", "exp(-1000)*exp(2000*p)*exp(-1000*p*p)"),
        ("2**600*2**600*p", "exp(1200*log(2))*p"),
        ("(n*p)**200", "n**200*p**200"),
        ("exp(5*log(n) + p)", "n**5*exp(p)"),
        ("1e12*(p - 0.5)", "1e12*p"),
        ("tanh(1e9*(p - 0.25))", "tanh(1e9*p - 2.5e8)"),
        ("log(1 - p)", "log1p(-p)"),
        ("expm1(-p)/p", "(exp(-p) - 1)/p"),
        ("log(expm1(c))", "log(exp(c) - 1)"),
        ("aq(p, p - 0.5)", "p/sqrt(1.25 - p + p*p)"),
        ("1/(1 - p + y*(1 - p))", "1/((1 - p) + (1 - p)*y)"),
    ],
)
def test_equal_formulas_of_a_wide_range_meet(a: str, b: str) -> None:
    assert digest(parse(a)) == digest(parse(b))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 8))
def test_the_canonical_forms_of_thousands_have_the_same_values(seed: int) -> None:
    check(seed, count=1_000)
