"""What derivatives, substitution, the precise forms and the torch source make of a formula has its values too."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import mpmath
import pytest
import torch
import torch.nn.functional as F
from exact_values import FUNCTIONS, NoValueError, conditioned, exact, wild

from lossmith.formulas import Expression, apply, constant, derivative, evaluate, parse, substitute, terminal
from lossmith.formulas.precision import in_c, in_d, in_three_forms, in_two_forms
from lossmith.formulas.torch_source import ANALYTIC_QUOTIENT, torch_source

OTHERS = {"n": 10.0, "t": 0.3}


def cases(seed: int, count: int) -> list[tuple[Expression, list[float]]]:
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        tree, places = wild(rng)
        found.append((tree, [p for p in places if 1e-50 < p < 1]))
    return found


def agree(tree: Expression, other: Expression, places: list[float], **others: float) -> None:
    """In 50 digits, up to the rounding of the numbers that are folded."""
    for p in places:
        try:
            value, moves = conditioned(tree, p=p, **others)
        except NoValueError:
            continue
        if moves <= 1e25 * abs(value):
            try:
                found, slack = conditioned(other, 1e3, p=p, **others)
            except NoValueError:
                raise AssertionError(f"{tree} at {p} is {mpmath.nstr(value)}, {other} has no value") from None
            assert abs(found - value) <= 1e-13 * moves + 1e-45 * slack, f"{tree} became {other} at {p}"


@pytest.mark.parametrize("y", [0.0, 1.0])
def test_substitution_folds_nothing_away(y: float) -> None:
    for tree, places in cases(1, 200):
        agree(tree, substitute(tree, y=y, n=10.0), places, y=y, **OTHERS)


def test_precise_forms_have_the_same_values() -> None:
    for tree, places in cases(2, 200):
        part = substitute(tree, y=1.0)
        for rewritten in (in_c, in_d, in_two_forms, in_three_forms):
            agree(part, rewritten(part), places, **OTHERS)


CANCELLING: dict[str, Callable[[Any], Any]] = {
    "1/sqrt(p*(2 - p)) - 1": lambda p: 1 / mpmath.sqrt(p * (2 - p)) - 1,
    "1 - sqrt(p*(2 - p))": lambda p: 1 - mpmath.sqrt(p * (2 - p)),
    "cos(pi/2*p)": lambda p: mpmath.cos(mpmath.pi / 2 * p),
    "(1 - p)/p": lambda p: (1 - p) / p,
    "1 - square(p)": lambda p: 1 - p * p,
    "sqrt(1 - p)": lambda p: mpmath.sqrt(1 - p),
    "p**0.3 - 1": lambda p: p ** mpmath.mpf(0.3) - 1,
}
"""Formulas that are 0 at p = 1."""


@pytest.mark.parametrize("x", [1e-12, 1e-6, 1e-3, 0.1, 1.0, 5.0, 30.0])
@pytest.mark.parametrize("text", CANCELLING)
def test_no_digits_are_lost_where_a_difference_cancels(text: str, x: float) -> None:
    """In float64 against 60 digits, in c, and with p and 1 - p exchanged in d."""
    with mpmath.workdps(60):
        right = CANCELLING[text](mpmath.exp(-mpmath.mpf(x)))
    found = evaluate(in_c(substitute(parse(text))), c=x)
    assert float(found) == pytest.approx(float(right), rel=1e-13, abs=0)
    if "**" not in text:  # of which d has no exact form
        mirrored = substitute(parse(text), p=constant(1.0) - terminal("p"))
        assert float(evaluate(in_d(mirrored), d=x)) == pytest.approx(float(right), rel=1e-13, abs=0)


def test_derivatives_are_slopes() -> None:
    """Against central differences in 50 digits, where the formula is smooth at their width."""
    compared = 0
    for tree, places in cases(3, 150):
        slope = derivative(tree, "p")
        for p in places[:4]:
            with mpmath.workdps(100):
                width = mpmath.mpf(10) ** -25 * p
                try:
                    values = [exact(tree, p=p + k * width, y=1.0, **OTHERS) for k in (-2, -1, 0, 1, 2)]
                    found, moves = conditioned(slope, 1e3, p=p, y=1.0, **OTHERS)
                except NoValueError:
                    continue
                narrow, wide = (values[3] - values[1]) / (2 * width), (values[4] - values[0]) / (4 * width)
                if abs(narrow - wide) > 1e-10 * abs(narrow) or not abs(values[2]) < abs(narrow) * p * 1e15:
                    continue
                compared += 1
                assert abs(found - narrow) <= 1e-9 * abs(narrow) + 1e-14 * moves, f"{tree} at {p}: {slope}"
    assert compared > 150


@pytest.mark.parametrize(
    "text, folded",
    [
        ("exp(-800)*p", "exp(-800)*p"),
        ("1e-200*1e-200*p", "1e-200*1e-200*p"),
        ("1e-300/1e300*p", "1e-300/1e+300*p"),
        ("1e-200**2*p", "1e-200**2*p"),
        ("square(1e-200)*p", "square(1e-200)*p"),
        ("sigmoid(-800)*p", "sigmoid(-800)*p"),
        ("softplus(-800)*p", "softplus(-800)*p"),
        ("exp(-700)*p", f"{math.exp(-700)!r}*p"),
        ("exp(800)*p", "exp(800)*p"),
        ("0*1e-300*p", "0"),
        ("square(0)*p", "0"),
        ("0/2*p", "0"),
        ("0**2*p", "0"),
        ("aq(0, 3)*p", "0"),
        ("expm1(0)*p", "0"),
        ("(0.1 - 0.1)*p", "0"),
    ],
)
def test_constants_that_no_float_holds_stay_as_they_are(text: str, folded: str) -> None:
    assert str(substitute(parse(text))) == folded


def test_the_slope_of_a_quotient_of_large_numbers() -> None:
    """Its divisor's square would overflow."""
    slope = derivative(parse("exp(450*p)/exp(400*p)"), "p")
    p = torch.tensor(0.99, dtype=torch.float64)
    assert evaluate(slope, p=p).item() == pytest.approx(50 * math.exp(50 * 0.99), rel=1e-10)


def test_the_slope_of_a_minimum_beside_a_steep_operand() -> None:
    p = torch.tensor([0.013, 0.5], dtype=torch.float64)
    assert evaluate(derivative(parse("min(p, exp(1/p))"), "p"), p=p).tolist() == [1, 1]
    assert evaluate(derivative(parse("max(p, -exp(1/p))"), "p"), p=p).tolist() == [1, 1]


def test_torch_source_has_the_values_of_the_formula() -> None:
    names: dict[str, Any] = {"torch": torch, "F": F, "Tensor": torch.Tensor}
    exec(ANALYTIC_QUOTIENT, names)
    for tree, places in cases(4, 200):
        part = substitute(tree, y=1.0, n=10.0, t=0.3)
        if not places or not part.depends_on("p", "c"):
            continue
        p = torch.tensor(places, dtype=torch.float64)
        try:
            found = eval(torch_source(part), names | {"p": p, "c": -p.log()})
        except (ZeroDivisionError, OverflowError, ValueError):
            continue
        torch.testing.assert_close(found, evaluate(part, p=p), rtol=1e-12, atol=0.0, equal_nan=True)


def test_torch_source_writes_a_constant_that_underflows_as_floats_have_it() -> None:
    assert torch_source(parse("p + exp(-800)")) == "p + 0.0"
    assert torch_source(apply("add", parse("p"), apply("neg", constant(2.0)))) == "p + -2.0"


def test_every_operator_has_its_textbook_definition() -> None:
    """`evaluate` in floats against mpmath, so that the two references of these tests are one."""
    rng = random.Random(5)
    for op, (_, slopes) in FUNCTIONS.items():
        operands = slopes.__code__.co_argcount - 1
        for _ in range(30):
            at = [rng.uniform(0.05, 0.95), rng.uniform(-2, 3)][:operands]
            tree = apply(op, *map(constant, at))
            assert evaluate(tree).item() == pytest.approx(float(exact(tree, p=0.5)), rel=1e-14), op
