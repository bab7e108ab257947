"""Interval bounds contain what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from formula_trees import FORMULAS, trees
from hypothesis import given, settings
from hypothesis import strategies as st

from lossmith.formulas import Expression, FormulaError, bounds, evaluate, parse

ends = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda pair: (min(pair), max(pair)))


def contained(tree: Expression, p: tuple[float, float], y: tuple[float, float]) -> None:
    """A hundred points of the box, its corners among them."""
    low, high = bounds(tree, p=p, y=y, n=3.0, t=0.25)
    at = torch.linspace(0, 1, 25, dtype=torch.float64)
    for share in (0.0, 0.3, 0.7, 1.0):
        points = (p[0] + (p[1] - p[0]) * at).clamp(*p)
        value = evaluate(tree, p=points, y=min(y[1], y[0] + (y[1] - y[0]) * share), n=3.0, t=0.25).numpy()
        known = ~np.isnan(value)
        assert (value[known] >= low).all(), (str(tree), low, value.min())
        assert (value[known] <= high).all(), (str(tree), high, value.max())


@settings(deadline=None, max_examples=500)
@given(trees(), ends, ends)
def test_bounds_contain_samples(tree: Expression, p: tuple[float, float], y: tuple[float, float]) -> None:
    contained(tree, p, y)


@pytest.mark.parametrize("text", ["sign(log(p/p))", "sign(exp(p/p))", "sign(0/0)", "min(1, 0/0)", "max(1, 0/0)"])
def test_no_operator_hides_that_there_is_no_value(text: str) -> None:
    assert evaluate(parse(text), p=torch.zeros(1, dtype=torch.float64)).isnan().all()
    contained(parse(text), (0.0, 0.0), (0.0, 0.0))


@pytest.mark.parametrize("text", FORMULAS)
@pytest.mark.parametrize("p", [(0.0, 0.5), (0.0, 1.0), (0.25, 0.25), (0.999, 1.0), (1e-9, 1e-6)])
def test_bounds_of_known_formulas(text: str, p: tuple[float, float]) -> None:
    contained(parse(text), p, (0.0, 1.0))


@pytest.mark.parametrize(
    "text, interval, expected",
    [
        ("p*p", (-1.0, 2.0), (0.0, 4.0)),
        ("1/p", (0.0, 2.0), (0.5, math.inf)),
        ("1/p", (-1.0, 2.0), (-math.inf, math.inf)),
        ("sin(p)", (1.0, 2.0), (math.sin(1.0), 1.0)),
        ("cos(p)", (3.0, 4.0), (-1.0, math.cos(4.0))),
        ("sin(p)", (-1.0, 0.5), (math.sin(-1), math.sin(0.5))),
        ("sin(p)", (0.0, 1e9), (-1.0, 1.0)),
        ("exp(p)", (0.0, 1000.0), (1.0, math.inf)),
        ("p**3", (-2.0, 1.0), (-8.0, 1.0)),
        ("p**-2", (-2.0, 1.0), (0.25, math.inf)),
        ("abs(p)", (-2.0, 1.0), (0.0, 2.0)),
        ("c", (0.25, 0.5), (math.log(2), math.log(4))),
        ("max(p, 0.5)", (0.0, 1.0), (0.5, 1.0)),
        ("tanh(p)", (-800.0, 800.0), (-1.0, 1.0)),
    ],
)
def test_bounds_are_tight_where_a_variable_occurs_once(
    text: str, interval: tuple[float, float], expected: tuple[float, float]
) -> None:
    low, high = bounds(parse(text), p=interval)
    assert (float(low), float(high)) == pytest.approx(expected, rel=1e-14, abs=1e-300)
    assert low <= expected[0]
    assert high >= expected[1]


def test_bounds_of_many_boxes_at_once() -> None:
    edges = np.linspace(0, 0.5, 1001)
    tree = parse("exp(2.4092 - p) - cos(cos(sin(p)))")
    low, high = bounds(tree, p=(edges[:-1], edges[1:]))
    middle = evaluate(tree, p=torch.from_numpy((edges[:-1] + edges[1:]) / 2)).numpy()
    assert low.shape == (1000,)
    assert ((low < middle) & (middle < high)).all()
    assert (high - low).max() < 0.01


def test_bounds_refuse() -> None:
    with pytest.raises(FormulaError, match="no interval is given"):
        bounds(parse("p*n"), p=0.5)
    with pytest.raises(FormulaError, match="above its upper end"):
        bounds(parse("p"), p=(0.5, 0.25))
    with pytest.raises(FormulaError, match="no terminal 'x'"):
        bounds(parse("p"), x=0.5)
