"""Values and slopes on NumPy arrays, against torch's autograd and 50-digit arithmetic."""

from __future__ import annotations

import warnings

import mpmath
import numpy as np
import pytest
import torch
from formula_trees import FORMULAS, trees
from hypothesis import given, settings

from lossmith.formulas import Expression, FormulaError, apply, constant, evaluate, parse, terminal
from lossmith.formulas.expression import ARITY
from lossmith.formulas.forward import values_and_slopes

U = np.linspace(-12.0, 8.0, 41)


def by_autograd(formula: Expression, u: float, y: float, n: float, t: float) -> tuple[float, float]:
    """The value and p dl/dp; c and p are functions of one variable, log p."""
    log_p = torch.tensor(-float(mpmath.log(1 + mpmath.exp(-u))), dtype=torch.float64, requires_grad=True)
    value = evaluate(formula, c=-log_p, p=log_p.exp(), y=y, n=n, t=t)
    if not value.requires_grad:
        return float(value), 0.0
    return float(value.detach()), float(torch.autograd.grad(value.sum(), log_p)[0])


@pytest.mark.parametrize("text", FORMULAS)
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_agrees_with_autograd(text: str, y: float) -> None:
    formula = parse(text)
    value, slope = values_and_slopes(formula, U, y, 7, 0.25)
    expected = np.array([by_autograd(formula, u, y, 7.0, 0.25) for u in U]).T
    finite = np.isfinite(expected).all(axis=0)
    assert finite.all()
    np.testing.assert_allclose(value, expected[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(slope, expected[1], rtol=1e-8, atol=1e-11)


@given(trees())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_agrees_with_autograd_on_any_formula(formula: Expression) -> None:
    for y in (0.0, 1.0):
        value, slope = (float(each) for each in values_and_slopes(formula, -0.3, y, 3, 0.5))
        expected, gradient = by_autograd(formula, -0.3, y, 3.0, 0.5)
        if np.isfinite([expected, gradient]).all() and abs(gradient) < 1e8:
            assert value == pytest.approx(expected, rel=1e-7, abs=1e-9)
            assert slope == pytest.approx(gradient, rel=1e-5, abs=1e-7)


FUNCTIONS = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "aq": lambda a, b: a / mpmath.sqrt(1 + b * b),
    "min": min,
    "max": max,
    "neg": lambda a: -a,
    "exp": mpmath.exp,
    "log": mpmath.log,
    "sqrt": mpmath.sqrt,
    "square": lambda a: a * a,
    "expm1": mpmath.expm1,
    "log1p": mpmath.log1p,
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "tanh": mpmath.tanh,
    "abs": abs,
    "sign": mpmath.sign,
    "sigmoid": lambda a: 1 / (1 + mpmath.exp(-a)),
    "softplus": lambda a: mpmath.log1p(mpmath.exp(a)),
    "plog": lambda a: mpmath.log(abs(a) + mpmath.mpf("1e-7")),
    "psqrt": lambda a: mpmath.sqrt(abs(a) + mpmath.mpf("1e-7")),
}


@pytest.mark.parametrize("op", ARITY)
def test_each_operator_agrees_with_fifty_digits(op: str) -> None:
    """Its operands are ``p + .1`` and ``c*p``; the slope is a derivative by log p, taken numerically."""
    operands = [parse("p + 0.1"), parse("c*p")][: ARITY[op]]
    formula = apply(op, *operands)
    with mpmath.workdps(50):

        def exact(log_p: mpmath.mpf) -> mpmath.mpf:
            p = mpmath.exp(log_p)
            return FUNCTIONS[op](*[p + mpmath.mpf(0.1), -log_p * p][: ARITY[op]])

        for u in (-5.0, -0.4, 0.3, 3.0):
            log_p = -mpmath.log1p(mpmath.exp(-mpmath.mpf(u)))
            value, slope = values_and_slopes(formula, u, 1, 2)
            assert float(value) == pytest.approx(float(exact(log_p)), rel=1e-12)
            assert float(slope) == pytest.approx(float(mpmath.diff(exact, log_p)), rel=1e-11, abs=1e-15)


@pytest.mark.parametrize("u", [-40.0, -700.0, 30.0, 300.0])
def test_terminals_are_exact_where_p_rounds_to_0_or_1(u: float) -> None:
    with mpmath.workdps(400):
        p = 1 / (1 + mpmath.exp(-mpmath.mpf(u)))
        d = -mpmath.log(1 - p)
        for name, value, slope in (("p", p, p), ("c", -mpmath.log(p), -1), ("d", d, p / (1 - p))):
            found = values_and_slopes(terminal(name), u, 1, 2)
            assert [float(each) for each in found] == pytest.approx([float(value), float(slope)], rel=1e-14)


def test_kinks_are_as_in_the_symbolic_derivative() -> None:
    """Half of both slopes at a tie, and 0 at the corner of abs."""
    p = 0.5  # u = 0
    for text, slope in (("max(p, 0.5)", p / 2), ("min(p, 2*p*p)", (p + 4 * p * p) / 2), ("abs(p - 0.5)", 0.0)):
        assert float(values_and_slopes(parse(text), 0.0, 1, 2)[1]) == slope


def test_a_vertical_function_of_what_does_not_move_adds_nothing() -> None:
    for text in ("sqrt(y*p)", "(y*p)**0.5", "y**p"):
        value, slope = values_and_slopes(parse(text), U, 0.0, 2)
        assert not value.any()
        assert not slope.any()


def test_results_have_the_broadcast_shape_and_the_memo_is_shared() -> None:
    u, y, n = U, np.array([0.0, 1.0])[:, None, None], np.array([2.0, 10.0, 100.0])[:, None]
    memo: dict = {}
    for text in ("3.0", "p", "y + n", "exp(p)*y", "exp(p)*y - n*c"):
        value, slope = values_and_slopes(parse(text), u, y, n, memo=memo)
        assert value.shape == slope.shape == (2, 3, 41)
        fresh = values_and_slopes(parse(text), u, y, n)
        np.testing.assert_array_equal([value, slope], fresh)
    assert memo[parse("exp(p)")][0].shape == (41,)
    assert memo[parse("exp(p)*y")][0].shape == (2, 1, 41)


def test_overflow_is_infinite_or_nan_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for text in (
            "exp(exp(exp(c)))",
            "log(-p)",
            "p/0",
            "0/0*p",
            "sqrt(p - 2)",
            "sigmoid(-exp(exp(c)))",
            "(-p)**0.5",
        ):
            values_and_slopes(parse(text), U, 1, 2)
    assert np.isinf(values_and_slopes(parse("exp(exp(exp(c)))"), -10.0, 1, 2)[0])
    assert np.isnan(values_and_slopes(parse("log(-p)"), -10.0, 1, 2)[0])


def test_depth_is_no_limit() -> None:
    tree = terminal("p")
    for _ in range(5000):
        tree = apply("add", tree, constant(1.0))
    assert float(values_and_slopes(tree, 0.0, 1, 2)[0]) == 5000.5


def test_other_terminals_are_refused() -> None:
    with pytest.raises(FormulaError, match="terminal e"):
        values_and_slopes(terminal("e"), 0.0, 1, 2)
