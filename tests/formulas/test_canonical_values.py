"""The canonical form has the values of the formula: in 50 digits, and in floats where the formula has them there."""

from __future__ import annotations

import math
import random

import mpmath
import pytest
import torch
from exact_values import NoValueError, conditioned, exact, wild

from lossmith.formulas import Expression, FormulaError, canonical, evaluate, parse, substitute

FARTHEST = 1e25  # how ill-conditioned a value may be that is compared in 50 digits
NEARBY = [1 + step * 2.3e-16 for step in (-3, -2, -1, 1, 2, 3)]


def in_floats(tree: Expression, p: float, others: dict[str, float]) -> float:
    return evaluate(substitute(tree, **others), p=torch.tensor(p, dtype=torch.float64)).item()


def rounding(tree: Expression, p: float, others: dict[str, float]) -> float:
    """How far the formula as written is off in floats, at and beside a point, where it may be right by luck."""
    worst = 0.0
    for at in [p, *(p * near for near in NEARBY)]:
        try:
            worst = max(worst, float(abs(in_floats(tree, at, others) - exact(tree, p=at, **others))))
        except (NoValueError, ValueError, OverflowError):
            continue
    return worst


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
    constant = there - here if abs(there - here) > 1e-9 * max(abs(there), abs(here)) else mpmath.mpf(0)
    largest = max(abs(value) for _, _, value, _, _ in points)
    found = []
    for moves, p, value, other, slack in points:
        allowed = 1e-9 * (moves + first) + 1e-45 * (slack + own) + 1e-11 * largest
        if abs(other + constant - value) > allowed:
            found.append(f"{tree} is {mpmath.nstr(value, 9)} at {p}, {form} is {mpmath.nstr(other, 9)}")
            continue
        directly, ours = in_floats(tree, p, others), in_floats(form, p, others)
        if constant or not math.isfinite(directly) or abs(ours - value) <= 1e-9 * max(1, abs(value)):
            continue
        if not abs(ours - value) <= 100 * rounding(tree, p, others):
            found.append(f"{tree} is {mpmath.nstr(value, 9)} at {p}, in floats {directly}, {form} is {ours}")
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


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 8))
def test_the_canonical_forms_of_thousands_have_the_same_values(seed: int) -> None:
    check(seed, count=1_000)
