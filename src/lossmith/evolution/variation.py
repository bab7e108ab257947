"""Variation of formulas: crossover, mutation, and access to their constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from lossmith.evolution.grammar import Grammar, drawn, random_leaf, random_tree, rounded, tidied
from lossmith.formulas import Expression, constant
from lossmith.formulas.edit import replace_at, replace_leaves, subtrees
from lossmith.formulas.expression import ARITY

if TYPE_CHECKING:
    from numpy.random import Generator

_ATTEMPTS: Final = 10
_NEW_DEPTH: Final = 3  # of the subtree that a mutation puts in
_STEP: Final = 0.3  # of a mutated constant, relative to it
_SMALLEST: Final = 0.1  # magnitude that the step of a small constant is taken from


def offspring(rng: Generator, grammar: Grammar, parents: Sequence[Expression]) -> tuple[Expression, str]:
    """Vary formulas.

    An operator is drawn by its rate: one-point crossover .35, uniform crossover .1, subtree mutation .2, point mutation
    .1, constant mutation .15, hoist mutation .1. The rates are ours; EvoMAL's are .7 for crossover, .25 for subtree
    mutation, and the rest for copies.

    Args:
        rng: the source of randomness.
        grammar: the limits of depth and size, and where new material comes from.
        parents: one or more formulas; a crossover takes the first and the last.

    Returns:
        The child, with constants folded, and the name of the operator. After ten draws without a child that differs
        from the first parent and is within the limits, the child is the first parent and the name ``"reproduction"``.
    """
    first, last = parents[0], parents[-1]
    rates = {name: rate for name, (rate, _) in _OPERATORS.items()}
    for _ in range(_ATTEMPTS):
        name = drawn(rng, rates)
        child = tidied(_OPERATORS[name][1](rng, grammar, first, last))
        if child != first and grammar.holds(child):
            return child, name
    return first, "reproduction"


def one_point_crossover(rng: Generator, first: Expression, last: Expression) -> Expression:
    """Replace a random subtree of the first formula, not all of it, by a random subtree of the last one."""
    donor = subtrees(last)[rng.integers(last.size)]
    return replace_at(first, int(rng.integers(1, first.size)) if first.size > 1 else 0, donor)


def uniform_crossover(rng: Generator, first: Expression, last: Expression) -> Expression:
    """Draw each node from either formula where their shapes agree, and whole subtrees where they differ."""
    source = first if rng.random() < 0.5 else last
    if len(first.args) != len(last.args) or not first.args:
        return source
    pairs = zip(first.args, last.args, strict=True)
    return Expression(source.op, tuple(uniform_crossover(rng, a, b) for a, b in pairs))


def subtree_mutation(rng: Generator, grammar: Grammar, parent: Expression) -> Expression:
    """Replace a random subtree by a random tree of depth 1 to 3."""
    new = random_tree(rng, grammar, int(rng.integers(1, _NEW_DEPTH + 1)), full=False)
    return replace_at(parent, int(rng.integers(parent.size)), new)


def point_mutation(rng: Generator, grammar: Grammar, parent: Expression) -> Expression:
    """Replace a random node by another with as many operands."""
    position = int(rng.integers(parent.size))
    node = subtrees(parent)[position]
    if not node.args:
        return replace_at(parent, position, random_leaf(rng, grammar))
    others = [op for op in grammar.functions if ARITY[op] == len(node.args) and op != node.op]
    if not others:
        return parent
    return replace_at(parent, position, Expression(others[rng.integers(len(others))], node.args))


def constant_mutation(rng: Generator, parent: Expression) -> Expression:
    """Add to a random constant a normal number; its standard deviation is .3 times the constant, but at least .03."""
    constants = [i for i, node in enumerate(subtrees(parent)) if node.is_constant]
    if not constants:
        return parent
    position = constants[rng.integers(len(constants))]
    value = subtrees(parent)[position].value
    value += _STEP * max(abs(value), _SMALLEST) * rng.standard_normal()
    return replace_at(parent, position, constant(rounded(value))) if math.isfinite(value) else parent


def hoist_mutation(rng: Generator, parent: Expression) -> Expression:
    """Replace a random subtree by a random smaller one from inside it."""
    trees = subtrees(parent)
    inner = [i for i, node in enumerate(trees) if node.args]
    if not inner:
        return parent
    position = inner[rng.integers(len(inner))]
    inside = subtrees(trees[position])
    return replace_at(parent, position, inside[rng.integers(1, len(inside))])


def constants_of(expression: Expression) -> tuple[float, ...]:
    """List the constants of a formula.

    Args:
        expression: the formula.

    Returns:
        The value of every constant from left to right; one that occurs twice is listed twice.
    """
    return tuple(node.value for node in subtrees(expression) if node.is_constant)


def with_constants(expression: Expression, values: Sequence[float]) -> Expression:
    """Give a formula other constants.

    Args:
        expression: the formula.
        values: finite numbers, one for each of its `constants_of`.

    Returns:
        The formula with these constants; nothing is folded.

    Raises:
        ValueError: if there are more or fewer values than constants.
        FormulaError: if a value is not finite.
    """
    count = len(constants_of(expression))
    if len(values) != count:
        raise ValueError(f"the formula has {count} constants, and {len(values)} values were given")
    left = iter(values)
    return replace_leaves(expression, lambda leaf: constant(next(left)) if leaf.is_constant else leaf)


_OPERATORS: Final[dict[str, tuple[float, Callable[[Generator, Grammar, Expression, Expression], Expression]]]] = {
    "one-point crossover": (0.35, lambda rng, _, first, last: one_point_crossover(rng, first, last)),
    "uniform crossover": (0.1, lambda rng, _, first, last: uniform_crossover(rng, first, last)),
    "subtree mutation": (0.2, lambda rng, grammar, first, _: subtree_mutation(rng, grammar, first)),
    "point mutation": (0.1, lambda rng, grammar, first, _: point_mutation(rng, grammar, first)),
    "constant mutation": (0.15, lambda rng, _, first, __: constant_mutation(rng, first)),
    "hoist mutation": (0.1, lambda rng, _, first, __: hoist_mutation(rng, first)),
}
