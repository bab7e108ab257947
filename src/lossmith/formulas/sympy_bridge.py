"""Conversion between formulas and sympy expressions."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

from lossmith.formulas.arithmetic import folded
from lossmith.formulas.calculus import substitute
from lossmith.formulas.errors import FormulaError
from lossmith.formulas.expression import PROTECTION, Expression, constant, fold, terminal

_LARGEST_EXACT: Final = 10**6
"""Numbers with a numerator and denominator up to this become fractions, all others floating-point numbers."""


def to_sympy(expression: Expression) -> Any:
    """Convert a formula to a sympy expression.

    Args:
        expression: the formula.

    Returns:
        A `sympy.Expr` in the symbols p and n (positive), t (nonnegative) and y (real); c becomes ``-log(p)``. Numbers
        with few digits become exact fractions.

    Raises:
        FormulaError: if sympy is not installed, or a subexpression without terminals has no finite value.
    """
    sympy = import_sympy()
    functions = _to_sympy_functions(sympy)
    symbols = sympy_symbols(sympy)

    def convert(node: Expression, operands: list[Any]) -> Any:
        if node.is_constant:
            return _number(sympy, node.value)
        if node.name:
            return symbols[node.name]
        if not node.terminals:
            # Constants are already folded; sympy would compute 9**9**9 to its last digit.
            raise FormulaError(f"the part {str(node)[:60]!r} of the formula has no finite value in floating point")
        return functions[node.op](*operands)

    return fold(substitute(expression), convert)


def from_sympy(value: Any) -> Expression:
    """Convert a sympy expression in the symbols of `to_sympy` to a formula; ``log(p)`` becomes ``-c``.

    Raises:
        FormulaError: if it contains something that a formula cannot express.
    """
    sympy = import_sympy()
    done: dict[Any, Expression] = {}
    stack = [value]
    while stack:
        node = stack[-1]
        waiting = [] if node.is_number else [arg for arg in node.args if arg not in done]
        if waiting:
            stack.extend(waiting)
        else:
            stack.pop()
            done[node] = _from_node(sympy, node, [done[arg] for arg in node.args] if not node.is_number else [])
    return done[value]


def import_sympy() -> Any:
    """Import sympy.

    Raises:
        FormulaError: if it is not installed.
    """
    try:
        import sympy  # type: ignore[import-untyped]
    except ImportError:
        raise FormulaError("this needs sympy: pip install sympy") from None
    return sympy


def sympy_symbols(sympy: Any) -> dict[str, Any]:
    """The sympy expression for each terminal."""
    p = sympy.Symbol("p", positive=True)
    return {
        "p": p,
        "y": sympy.Symbol("y", real=True),
        "n": sympy.Symbol("n", positive=True),
        "t": sympy.Symbol("t", nonnegative=True),
        "c": -sympy.log(p),
        "d": -sympy.log(1 - p),
    }


def _to_sympy_functions(sympy: Any) -> dict[str, Callable[..., Any]]:
    protection = _number(sympy, PROTECTION)
    return {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": lambda a, b: a / b,
        "pow": lambda a, b: a**b,
        "aq": lambda a, b: a / sympy.sqrt(1 + b**2),
        "min": sympy.Min,
        "max": sympy.Max,
        "neg": lambda a: -a,
        "exp": sympy.exp,
        "log": sympy.log,
        "sqrt": sympy.sqrt,
        "square": lambda a: a**2,
        "expm1": lambda a: sympy.exp(a) - 1,
        "log1p": lambda a: sympy.log(1 + a),
        "sin": sympy.sin,
        "cos": sympy.cos,
        "tanh": sympy.tanh,
        "abs": sympy.Abs,
        "sign": sympy.sign,
        "sigmoid": lambda a: 1 / (1 + sympy.exp(-a)),
        "softplus": lambda a: sympy.log(1 + sympy.exp(a)),
        "plog": lambda a: sympy.log(sympy.Abs(a) + protection),
        "psqrt": lambda a: sympy.sqrt(sympy.Abs(a) + protection),
    }


def _number(sympy: Any, value: float) -> Any:
    exact = Fraction(repr(value)).limit_denominator(_LARGEST_EXACT)
    if float(exact) == value and abs(exact.numerator) <= _LARGEST_EXACT:
        return sympy.Rational(exact.numerator, exact.denominator)
    return sympy.Float(value, 17)


_FUNCTIONS: Final = {
    "log": "log",
    "sin": "sin",
    "cos": "cos",
    "tanh": "tanh",
    "Abs": "abs",
    "sign": "sign",
    "exp": "exp",
}
_NARY: Final = {"Add": "add", "Mul": "mul", "Min": "min", "Max": "max"}


def _from_node(sympy: Any, node: Any, operands: list[Expression]) -> Expression:
    kind = type(node).__name__
    if node.is_number:
        if not node.is_real:
            raise FormulaError(f"a formula cannot contain the number {str(node)[:40]}")
        return constant(float(node))
    if kind == "Symbol" and node.name in sympy_symbols(sympy):
        return terminal(node.name)
    if kind == "log" and operands[0].name == "p":
        return folded("neg", terminal("c"))
    if kind == "Pow":
        return _from_power(*operands)
    if kind in _FUNCTIONS:
        return folded(_FUNCTIONS[kind], *operands)
    if kind in _NARY:
        result = operands[0]
        for operand in operands[1:]:
            result = folded(_NARY[kind], result, operand)
        return result
    raise FormulaError(f"a formula cannot contain sympy's {kind}")


def _from_power(base: Expression, exponent: Expression) -> Expression:
    if exponent.is_number(-1):
        return folded("div", constant(1.0), base)
    if exponent.is_number(2):
        return folded("square", base)
    if exponent.is_number(0.5):
        return folded("sqrt", base)
    if exponent.is_number(-0.5):
        return folded("div", constant(1.0), folded("sqrt", base))
    return folded("pow", base, exponent)
