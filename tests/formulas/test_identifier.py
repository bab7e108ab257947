"""Canonical forms of many formulas at once: the same as one by one."""

from __future__ import annotations

import random

import pytest
from formula_trees import FORMULAS, trees
from hypothesis import given, settings
from hypothesis import strategies as st

from lossmith.formulas import Expression, FormulaError, canonical, digest, parse
from lossmith.formulas.edit import replace_at, subtrees
from lossmith.formulas.identity import Identifier


def form_of(formula: Expression, identifier: Identifier | None) -> str:
    try:
        return str(identifier.canonical(formula) if identifier else canonical(formula))
    except FormulaError as error:
        return f"refused: {error}"


def mixtures(count: int) -> list[Expression]:
    """Formulas that share parts."""
    rng = random.Random(0)
    pool = [parse(text) for text in FORMULAS]
    for _ in range(count):
        tree, donor = rng.choice(pool), rng.choice(pool)
        part = rng.choice(subtrees(donor))
        mixed = replace_at(tree, rng.randrange(tree.size), part)
        if mixed.size < 40:
            pool.append(mixed)
    return pool


@pytest.mark.parametrize("zero", ["exp(log1p(-1))", "exp(log(y - y))"])
def test_a_number_that_is_zero_takes_its_product_with_it(zero: str) -> None:
    assert digest(parse(f"-y*log(p) + p*{zero}")) == digest(parse("y*c"))
    assert digest(parse(f"{zero}**max(1.5, y)*p + y*c"))


def test_shared_parts_change_nothing_in_any_order() -> None:
    pool = mixtures(250)
    alone = {formula: form_of(formula, None) for formula in pool}
    for seed in range(2):
        identifier = Identifier()
        for formula in random.Random(seed).sample(pool, len(pool)):
            assert form_of(formula, identifier) == alone[formula]


@given(st.lists(trees(), min_size=2, max_size=6))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_one_formula_does_not_change_another(formulas: list[Expression]) -> None:
    identifier = Identifier()
    for formula in formulas:
        assert form_of(formula, identifier) == form_of(formula, None)


def test_digests_agree() -> None:
    identifier = Identifier()
    for text in FORMULAS:
        assert identifier.digest(parse(text)) == digest(parse(text))
        assert identifier.hash_of(identifier.canonical(parse(text))) == digest(parse(text))
