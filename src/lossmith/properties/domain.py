"""Where a formula has no value (a root, a logarithm or a fractional power of what is negative), and where no pole."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from lossmith.formulas import Expression
from lossmith.formulas.arithmetic import folded
from lossmith.formulas.expression import constant, fold, terminal
from lossmith.properties.enclosure import FIRM, Function, finite_inside, nowhere_negative, precise, supremum
from lossmith.properties.parts import Parts

_NEVER_NEGATIVE: Final = frozenset({"exp", "sqrt", "square", "abs", "sigmoid", "softplus", "psqrt"})
_KEEP_SIGN: Final = frozenset({"expm1", "log1p", "tanh", "sign"})
_ZERO_WITH_ALL: Final = frozenset({"neg", "mul", "div", "sqrt", "square", "abs", "expm1", "tanh", "sign"})  # operands
_PLAINLY: Final = (-4.6, 4.6)  # logits log(p/(1-p)) that are looked at first
_HELD: Final = "what is proved holds where it has one."


@lru_cache(maxsize=16)
def without_value(parts: Parts) -> str | None:
    """In a sentence, where the loss has no value; None if enclosures prove that it has one everywhere.

    Poles are not looked for: they show in the bounds.
    """
    undecided = False
    for part, whose in zip(parts.both, ("the target", "another class"), strict=True):
        for operand in _not_to_be_negative(part):
            if _sign(precise(operand)) == 1:
                continue
            for span in (_PLAINLY, math.inf):
                found = supremum(Function(folded("neg", operand)), span)
                if found.attained > 0:
                    p = 1 / (1 + math.exp(min(-found.at, 700.0)))
                    return f"It has no value where {whose} has p = {p:.4g}, and perhaps elsewhere: {_HELD}"
            undecided = True
    return f"It may have no value for some predictions: {_HELD}" if undecided else None


def without_poles(expression: Expression, reach: float) -> bool:
    """Whether it is proved that an expression has no pole for logits in reach, other than at p = 0 and p = 1."""
    if all(_is_never_zero(each) for each in _not_to_be_zero(precise(expression))):
        return True
    return reach <= FIRM and finite_inside(Function(expression), reach)


def _not_to_be_zero(expression: Expression) -> set[Expression]:
    """What an expression divides by, or takes the logarithm or a power of that may be infinite at 0."""
    return _operands(expression, {"div", "log"}, lambda exponent: exponent.is_constant and exponent.value >= 0)


def _not_to_be_negative(expression: Expression) -> set[Expression]:
    """What must be >= 0 for an expression to have a value."""
    return _operands(expression, {"log", "sqrt"}, lambda exponent: exponent.is_constant and exponent.value.is_integer())


def _operands(expression: Expression, ops: set[str], is_harmless: Callable[[Expression], bool]) -> set[Expression]:
    """The last operands of some operators, 1 + a of log1p(a), and bases of powers whose exponent is not harmless."""
    found: set[Expression] = set()

    def step(node: Expression, args: list[Expression]) -> Expression:
        if node.op in ops:
            found.add(node.args[-1])
        if node.op == "log1p":
            found.add(folded("sub", constant(1.0), folded("neg", node.args[0])))
        if node.op == "pow" and not is_harmless(node.args[1]):
            found.add(node.args[0])
        return node

    fold(expression, step)
    return found


def _is_never_zero(expression: Expression) -> bool:
    """Whether its parts show that an expression is 0 nowhere between p = 0 and p = 1; it may be, where they do not."""

    def step(node: Expression, args: list[bool]) -> bool:
        if not node.args:
            return bool(node.name) or node.value != 0
        if node.op in _ZERO_WITH_ALL:
            return all(args)
        if node.op == "pow":
            return args[0]
        if node.op in {"add", "sub"} and any(args):
            signs = [_sign(each) for each in node.args]
            if signs[0] * signs[1] == (1 if node.op == "add" else -1) or node == constant(1.0) - terminal("p"):
                return True
        if node.op in {"exp", "sigmoid", "softplus", "psqrt"}:
            return True
        return any(supremum(Function(each), math.inf).proved < 0 for each in (node, folded("neg", node)))

    return fold(expression, step)


def _sign(expression: Expression) -> int:
    """1 if it is nowhere negative, -1 if it is nowhere positive, 0 if that was not proved.

    The signs of the parts tell where they can: enclosures, which round, do not where an expression goes to 0.
    """

    def step(node: Expression, signs: list[int]) -> int:
        if not node.args:
            return 1 if node.name or node.value >= 0 else -1
        found = 0
        if node.op in _NEVER_NEGATIVE or (node.op == "pow" and signs[0] == 1):
            found = 1
        elif node.op == "neg":
            found = -signs[0]
        elif node.op in _KEEP_SIGN:
            found = signs[0]
        elif node.op in {"mul", "div"}:
            found = signs[0] * signs[1]
        elif node.op in {"add", "sub"} and signs[0] == (signs[1] if node.op == "add" else -signs[1]):
            found = signs[0]
        return found or next((sign for sign in (1, -1) if nowhere_negative(Function(sign * node), math.inf)), 0)

    return fold(expression, step)
