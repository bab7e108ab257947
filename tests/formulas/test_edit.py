"""Subtrees by position."""

from __future__ import annotations

import pytest
from formula_trees import FORMULAS, trees
from hypothesis import given, settings

from lossmith.formulas import Expression, apply, constant, parse, terminal
from lossmith.formulas.edit import replace_at, replace_leaves, subtrees

FORMULA = parse("exp(p)*y + c/exp(p)")


def test_subtrees_are_listed_as_they_are_read() -> None:
    names = [str(each) for each in subtrees(FORMULA)]
    assert names == ["exp(p)*y + c/exp(p)", "exp(p)*y", "exp(p)", "p", "y", "c/exp(p)", "c", "exp(p)", "p"]


def test_replacing_changes_one_occurrence() -> None:
    assert str(replace_at(FORMULA, 3, terminal("n"))) == "exp(n)*y + c/exp(p)"
    assert str(replace_at(FORMULA, 7, constant(2.0))) == "exp(p)*y + c/2"
    assert replace_at(FORMULA, 0, terminal("p")) == terminal("p")


def test_what_is_unchanged_is_shared() -> None:
    assert replace_at(FORMULA, 3, terminal("n")).args[1] is FORMULA.args[1]


@given(trees())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_position_can_be_replaced(tree: Expression) -> None:
    marker = parse("sin(12345.5)")
    below = subtrees(tree)
    assert len(below) == tree.size
    for position, old in enumerate(below):
        assert replace_at(tree, position, old) == tree
        changed = replace_at(tree, position, marker)
        assert subtrees(changed)[position] == marker
        assert changed.size == tree.size - old.size + marker.size


@pytest.mark.parametrize("position", [-1, 9])
def test_a_position_outside_is_refused(position: int) -> None:
    with pytest.raises(IndexError, match="9 nodes"):
        replace_at(FORMULA, position, terminal("p"))


@pytest.mark.parametrize("text", FORMULAS)
def test_leaves_come_from_left_to_right(text: str) -> None:
    formula = parse(text)
    seen: list[Expression] = []

    def keep(leaf: Expression) -> Expression:
        seen.append(leaf)
        return leaf

    assert replace_leaves(formula, keep) is formula
    assert seen == [each for each in subtrees(formula) if not each.args]


def test_depth_is_no_limit() -> None:
    tree = terminal("p")
    for _ in range(20_000):
        tree = apply("neg", tree)
    assert len(subtrees(tree)) == 20_001
    assert replace_at(tree, 20_000, terminal("y")).terminals == {"y"}
    assert replace_leaves(tree, lambda leaf: terminal("n")).terminals == {"n"}
