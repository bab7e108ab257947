"""Operators on Python numbers, and on expressions with constant folding."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Final

from lossmith.formulas.expression import PROTECTION, Expression, apply, constant, fold

ZERO: Final = constant(0.0)
ONE: Final = constant(1.0)


def scalar(op: str, operands: Sequence[float]) -> float:
    """Apply an operator to numbers: NaN where it is undefined, infinite on overflow and at a pole with a sign."""
    # Python's min, max and copysign drop NaN, and nan**0 is 1. torch.compile cannot trace math.isnan.
    if op != "pow" and any(operand != operand for operand in operands):
        return math.nan
    try:
        result = _SCALAR[op](*operands)
    except OverflowError:
        return math.inf if op in _GROWS else math.nan
    except (ValueError, ZeroDivisionError):
        return math.nan
    return float(result) if isinstance(result, (int, float)) else math.nan


def number(expression: Expression) -> float:
    """The value of a formula without terminals, in floating point."""
    return fold(expression, lambda node, operands: node.value if node.is_constant else scalar(node.op, operands))


def folded(op: str, *args: Expression) -> Expression:
    """Apply an operator to expressions, folding constants and neutral elements.

    ``0*a`` and ``0/a`` become 0, ``a**0`` and ``a/a`` become 1, even where ``a`` is 0 or infinite: the library's
    convention is ``0 * inf = 0``. An operation on constants stays as it is if its result is not finite or underflows.
    """
    node = apply(op, *args)
    if all(arg.is_constant for arg in args):
        value = scalar(op, [arg.value for arg in args])
        underflows = abs(value) < sys.float_info.min and op in _SHRINKS and all(arg.value for arg in args)
        return constant(value) if math.isfinite(value) and not underflows else node
    rule = _NEUTRAL.get(op)
    return node if rule is None else rule(*args) or node


def _add(a: Expression, b: Expression) -> Expression | None:
    if a.is_number(0):
        return b
    if b.is_number(0):
        return a
    return folded("sub", a, b.args[0]) if b.op == "neg" else None


def _sub(a: Expression, b: Expression) -> Expression | None:
    if b.is_number(0):
        return a
    if a.is_number(0):
        return folded("neg", b)
    return folded("add", a, b.args[0]) if b.op == "neg" else None


def _mul(a: Expression, b: Expression) -> Expression | None:
    if a.is_number(0) or b.is_number(0):
        return ZERO
    for one, other in ((a, b), (b, a)):
        if one.is_number(1):
            return other
        if one.is_number(-1):
            return folded("neg", other)
    return None


def _div(a: Expression, b: Expression) -> Expression | None:
    if a.is_number(0) and not b.is_number(0):
        return ZERO
    if b.is_number(1):
        return a
    if a == b:
        return ONE
    if b.is_number(-1) or (a.op == "neg" and a.args[0] == b):
        return folded("neg", folded("div", a.args[0], b) if a.op == "neg" else a)
    return None


def _pow(a: Expression, b: Expression) -> Expression | None:
    if b.is_number(0) or a.is_number(1):
        return ONE
    return a if b.is_number(1) else None


def _neg(a: Expression) -> Expression | None:
    return a.args[0] if a.op == "neg" else None


def _aq(a: Expression, b: Expression) -> Expression | None:
    if a.is_number(0):
        return ZERO
    return a if b.is_number(0) else None


_NEUTRAL: Final[dict[str, Callable[..., Expression | None]]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "pow": _pow,
    "neg": _neg,
    "aq": _aq,
}


def _sign(a: float) -> float:
    return math.copysign(1.0, a) if a else 0.0 * a


def _sigmoid(a: float) -> float:
    return 1 / (1 + math.exp(-a)) if a >= 0 else math.exp(a) / (1 + math.exp(a))


def _power(a: float, b: float) -> float:
    if a == 0 and b < 0:
        return math.inf
    return math.pow(a, b)


def _quotient(a: float, b: float) -> float:
    if b == 0:
        return math.copysign(math.inf, a) if a else math.nan
    return a / b


_SCALAR: Final[dict[str, Callable[..., float]]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": _quotient,
    "pow": _power,
    "aq": lambda a, b: a / math.hypot(1.0, b),
    "min": min,
    "max": max,
    "neg": lambda a: -a,
    "exp": math.exp,
    "log": lambda a: math.log(a) if a else -math.inf,
    "sqrt": math.sqrt,
    "square": lambda a: a * a,
    "expm1": math.expm1,
    "log1p": lambda a: math.log1p(a) if a != -1 else -math.inf,
    "sin": math.sin,
    "cos": math.cos,
    "tanh": math.tanh,
    "abs": abs,
    "sign": _sign,
    "sigmoid": _sigmoid,
    "softplus": lambda a: max(a, 0.0) + math.log1p(math.exp(-abs(a))),
    "plog": lambda a: math.log(abs(a) + PROTECTION),
    "psqrt": lambda a: math.sqrt(abs(a) + PROTECTION),
}
_GROWS: Final = frozenset({"exp", "expm1"})
_SHRINKS: Final = frozenset({"mul", "div", "pow", "aq", "square", "exp", "sigmoid", "softplus"})
"""Operators whose exact result is nonzero when all operands are nonzero: a float result of 0 is an underflow."""
