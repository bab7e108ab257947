"""Programs compute what formulas say, with few operations."""

from __future__ import annotations

import copy
import math
import pickle
import random

import pytest
import torch
from exact_values import wild

from lossmith.formulas import evaluate, parse, substitute, terminal
from lossmith.formulas.precision import in_three_forms
from lossmith.formulas.program import program_of
from lossmith.losses.entries import LOG_SLOPE_LIMITS
from lossmith.losses.parts import Part, tangent_of


def test_a_program_has_the_values_and_slopes_of_its_formula() -> None:
    rng = random.Random(7)
    compared = 0
    for _ in range(300):
        tree, places = wild(rng)
        part = in_three_forms(substitute(tree, y=1.0))
        p = torch.tensor([p for p in places if 1e-30 < p < 1], dtype=torch.float64)
        if not part.terminals & {"p", "c", "d"} or not len(p):
            continue
        results = []
        for compiled in (False, True):
            forms = {"p": p, "c": -p.log(), "d": -torch.log1p(-p)}
            forms = {name: value.clone().requires_grad_() for name, value in forms.items() if part.depends_on(name)}
            given = {**forms, "n": 10.0, "t": 0.3}
            value = program_of(part).run(given) if compiled else evaluate(part, **given)
            slopes = torch.autograd.grad(value.sum(), list(forms.values()), allow_unused=True)
            results.append([value.detach(), *(torch.zeros_like(p) if of is None else of for of in slopes)])
        for found, right in zip(results[1], results[0], strict=True):
            finite = right.isfinite()
            torch.testing.assert_close(found[finite], right[finite], rtol=1e-9, atol=1e-12)
        compared += 1
    assert compared > 100


@pytest.mark.parametrize(
    "text, operations",
    [("c", 0), ("expm1(c)", 1), ("3*expm1(c/3)", 1), ("c + 2*(-expm1(-c))", 2), ("0.1*c - 4*expm1(-c)", 2)],
)
def test_a_scaled_exponential_is_one_operation(text: str, operations: int) -> None:
    """Beside the negative of c, in what autograd keeps."""
    c = torch.rand(5, dtype=torch.float64).requires_grad_()
    node, count = program_of(substitute(parse(text))).run({"c": c}).grad_fn, 0
    seen = [node]
    while seen:
        node = seen.pop()
        if node is not None and "AccumulateGrad" not in str(node) and "NegBackward" not in str(node):
            count += 1
        seen += [of for of, _ in getattr(node, "next_functions", ())]
    assert count == operations


def test_programs_are_copied_and_pickled() -> None:
    program = program_of(parse("sin(c)*expm1(-c)"))
    c = torch.rand(3)
    for other in (copy.deepcopy(program), pickle.loads(pickle.dumps(program))):
        assert torch.equal(other.run({"c": c}), program.run({"c": c}))


@pytest.mark.parametrize("limit", LOG_SLOPE_LIMITS)
@pytest.mark.parametrize(
    "text", ["expm1(c)", "3*expm1(c/3)", "expm1(2*c)/2", "c*exp(c)", "exp(0.001*c) + c", "expm1(d)"]
)
def test_a_tangent_begins_where_the_slope_is_at_its_limit(text: str, limit: float) -> None:
    expression = parse(text, {"d": terminal("d")})
    tangent = tangent_of(expression, limit)
    assert tangent is not None
    x = torch.tensor(tangent.above, dtype=torch.float64, requires_grad=True)
    value = evaluate(expression, **{next(iter(expression.terminals)): x})
    (slope,) = torch.autograd.grad(value, x)
    assert math.log(slope) == pytest.approx(limit, rel=1e-12)


@pytest.mark.parametrize(
    "text", ["c", "1e6*c", "1 - exp(-c)", "sin(c)", "c*pow(1 - exp(-c), 2)", "sqrt(c)", "1e30*(1 - exp(-c))"]
)
def test_what_does_not_explode_has_no_tangent(text: str) -> None:
    assert tangent_of(parse(text), 20.0) is None


def test_the_continuation_is_the_tangent() -> None:
    part = Part(parse("c*exp(c)"), exploding=True)
    above = part.linear_above(20.0)
    assert above is not None
    c = torch.tensor([above - 1, above, above + 1, above + 100], dtype=torch.float64, requires_grad=True)
    value = part.run({"c": c}, 20.0)
    at = above * math.exp(above)
    assert value.tolist() == pytest.approx([
        (above - 1) * math.exp(above - 1),
        at,
        *(at + math.exp(20) * k for k in (1, 100)),
    ])
    (slope,) = torch.autograd.grad(value.sum(), c)
    assert slope[2:].tolist() == pytest.approx([math.exp(20)] * 2)
