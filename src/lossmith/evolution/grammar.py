"""The space of formulas that is searched, and random formulas from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from lossmith.formulas import Expression, apply, constant, terminal
from lossmith.formulas.arithmetic import folded
from lossmith.formulas.expression import ARITY, TERMINALS, fold

if TYPE_CHECKING:
    from numpy.random import Generator

FUNCTIONS: Final = (
    *("add", "sub", "mul", "aq", "min", "max"),
    *("neg", "exp", "plog", "psqrt", "square", "sin", "cos", "tanh", "abs", "sigmoid", "softplus"),
)
"""The operators of random formulas.

+, -, ×, exp, sin and cos are those of NGL. The analytic quotient aq, min, max, square, abs, tanh and the protected log
and sqrt are EvoMAL's; GANetic protects its quotient and its root too. neg, sigmoid and softplus are ours. All are
defined for every number, so that a formula fails by overflow alone. Nothing is lost: ``a/p`` is ``a*exp(c)``, and
``log(p)`` is ``-c``. EvoMAL's sign is left out, because its slope is 0.
"""

_WEIGHTS: Final = {"p": 0.3, "y": 0.3, "c": 0.15, "n": 0.05, "t": 0.1, "constant": 0.2}
_COMMON: Final = (-1.0, 0.5, 1.0, 2.0)
_DEVIATION: Final = 2.0  # of the other constants
_LEAF_RATE: Final = 0.3  # of a node of a tree that need not be full
_ATTEMPTS: Final = 100  # to draw a tree within the limits


@dataclass(frozen=True)
class Grammar:
    """The formulas that a search considers.

    Attributes:
        terminals: the names of the terminals; with ``"t"`` a formula may change during training.
        max_depth: largest number of nodes on a path from the root to a leaf.
        max_size: largest number of nodes.
        functions: the names of the operators of random trees.
    """

    terminals: tuple[str, ...] = ("p", "y", "c", "n")
    max_depth: int = 8
    max_size: int = 32
    functions: tuple[str, ...] = FUNCTIONS

    def __post_init__(self) -> None:
        for kind, names, known in (
            ("terminal", self.terminals, TERMINALS),
            ("operator", self.functions, ARITY),
        ):
            for name in names:
                if name not in known:
                    raise ValueError(f"a formula has no {kind} {name!r}: choose from {', '.join(known)}")
        if not self.terminals or not self.functions or self.max_depth < 1 or self.max_size < 1:
            raise ValueError("a grammar needs terminals, functions, and limits of at least 1")

    @property
    def has_time(self) -> bool:
        """Whether formulas may depend on t."""
        return "t" in self.terminals

    def holds(self, expression: Expression) -> bool:
        """Whether a formula is within the limits."""
        return expression.depth <= self.max_depth and expression.size <= self.max_size


def random_leaf(rng: Generator, grammar: Grammar) -> Expression:
    """Draw a terminal or a constant.

    p and y have weight .3 each, c .15, t .1, n .05, and constants .2. Half of the constants are -1, 1/2, 1 or 2; the
    others are normal with standard deviation 2.

    Args:
        rng: the source of randomness.
        grammar: which terminals there are.

    Returns:
        The leaf.
    """
    name = drawn(rng, {name: _WEIGHTS[name] for name in ("constant", *grammar.terminals)})
    if name != "constant":
        return terminal(name)
    if rng.random() < 0.5:
        return constant(_COMMON[rng.integers(len(_COMMON))])
    return constant(rounded(_DEVIATION * rng.standard_normal()))


def random_tree(rng: Generator, grammar: Grammar, depth: int, full: bool) -> Expression:
    """Draw a formula.

    An operator with two operands is drawn twice as often as one with one.

    Args:
        rng: the source of randomness.
        grammar: its terminals and functions.
        depth: the largest number of nodes on a path from the root to a leaf, before constants are folded.
        full: whether every path has that many nodes; otherwise a node below the root is a leaf with probability .3.

    Returns:
        The formula, `tidied`.
    """

    def draw(levels: int) -> Expression:
        if levels <= 1 or (not full and levels < depth and rng.random() < _LEAF_RATE):
            return random_leaf(rng, grammar)
        op = drawn(rng, {name: float(ARITY[name]) for name in grammar.functions})
        return apply(op, *(draw(levels - 1) for _ in range(ARITY[op])))

    return tidied(draw(depth))


def ramped(rng: Generator, grammar: Grammar, count: int, *, shallowest: int = 2, deepest: int = 4) -> list[Expression]:
    """Draw formulas by ramped half-and-half: of each depth in turn, every second one full.

    Args:
        rng: the source of randomness.
        grammar: the space.
        count: how many formulas.
        shallowest: the smallest depth.
        deepest: the largest depth.

    Returns:
        The formulas, all within the limits of the grammar. Some may be equal.
    """
    depths = range(min(shallowest, grammar.max_depth), min(deepest, grammar.max_depth) + 1)
    return [_within(rng, grammar, depth=depths[i // 2 % len(depths)], full=i % 2 == 0) for i in range(count)]


def _within(rng: Generator, grammar: Grammar, depth: int, full: bool) -> Expression:
    for _ in range(_ATTEMPTS):
        tree = random_tree(rng, grammar, depth, full)
        if grammar.holds(tree):
            return tree
    return random_leaf(rng, grammar)


def tidied(expression: Expression) -> Expression:
    """Fold the constants of a formula, and round those that arise to four significant digits."""

    def put(node: Expression, args: list[Expression]) -> Expression:
        if not args:
            return node
        result = folded(node.op, *args)
        if result.is_constant:
            return constant(rounded(result.value))
        return node if result.args == node.args and result.op == node.op else result  # trees share what is unchanged

    return fold(expression, put)


def rounded(value: float) -> float:
    """A number rounded to four significant digits, itself if that overflows."""
    result = float(f"{value:.4g}")
    return result if math.isfinite(result) else value


def drawn(rng: Generator, weights: Mapping[str, float]) -> str:
    """Draw a name with a probability in proportion to its weight."""
    at = rng.random() * sum(weights.values())
    return next((name for name, below in zip(weights, accumulate(weights.values()), strict=True) if at < below), "")
