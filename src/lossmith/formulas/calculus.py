"""Symbolic derivatives and substitution."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

from lossmith.formulas.arithmetic import ONE, ZERO, folded
from lossmith.formulas.errors import FormulaError
from lossmith.formulas.expression import PROTECTION, Expression, check_terminals, constant, fold, terminal

MAX_NODES: Final = 200_000
"""Largest number of nodes in a derivative."""

_P: Final = terminal("p")
_INNER: Final = {
    # variable: the derivatives of the terminals that depend on it
    "p": {"p": ONE, "c": folded("div", constant(-1.0), _P), "d": folded("div", ONE, folded("sub", ONE, _P))},
    "c": {"c": ONE, "p": folded("neg", _P), "d": folded("div", folded("neg", _P), folded("sub", ONE, _P))},
}


def derivative(expression: Expression, variable: str) -> Expression:
    """Differentiate a formula with respect to p or c.

    The derivative is total: ``dc/dp = -1/p`` and ``dp/dc = -p``. At a kink of min, max or abs it is the mean of the
    one-sided derivatives, as in torch; the derivative of sign is 0.

    Args:
        expression: the formula.
        variable: ``"p"`` or ``"c"``.

    Returns:
        The derivative, with constants folded.

    Raises:
        FormulaError: if the variable is neither p nor c, or the derivative has more than 200,000 nodes.
    """
    if variable not in _INNER:
        raise FormulaError(f"a formula can be differentiated with respect to p or c, not {variable!r}")
    inner = _INNER[variable]

    def rule(node: Expression, slopes: list[Expression]) -> Expression:
        if not node.args:
            return inner.get(node.name, ZERO)
        if all(slope.is_number(0) for slope in slopes):
            return ZERO
        slope = _RULES[node.op](node, slopes)
        if slope.size > MAX_NODES:
            raise FormulaError(f"the result would have {slope.size:.3g} nodes, more than {MAX_NODES}")
        return slope

    return fold(expression, rule)


def substitute(expression: Expression, **values: float | Expression) -> Expression:
    """Replace terminals by numbers or expressions, and fold constants.

    Args:
        expression: the formula.
        **values: a number or expression for each terminal to replace, for example ``y=0.0, n=10``.

    Returns:
        The formula without these terminals. Without ``values``, constants are folded and nothing else changes.

    Raises:
        FormulaError: if a terminal does not exist or a number is not finite.
    """
    check_terminals(values)
    given = {name: v if isinstance(v, Expression) else constant(v) for name, v in values.items()}

    def put(node: Expression, args: list[Expression]) -> Expression:
        if not args:
            return given.get(node.name, node)
        return folded(node.op, *args)

    return fold(expression, put)


_sub: Final = functools.partial(folded, "sub")
_div: Final = functools.partial(folded, "div")


def _add(*terms: Expression) -> Expression:
    return functools.reduce(functools.partial(folded, "add"), terms)


def _mul(*factors: Expression) -> Expression:
    return functools.reduce(functools.partial(folded, "mul"), factors)


def _chain(outer: Callable[[Expression, Expression], Expression]) -> Callable[..., Expression]:
    """The chain rule for a function of one operand; ``outer`` maps the operand and the node to the function's slope."""

    def rule(node: Expression, slopes: list[Expression]) -> Expression:
        return _mul(outer(node.args[0], node), slopes[0])

    return rule


def _product(node: Expression, slopes: list[Expression]) -> Expression:
    (a, b), (da, db) = node.args, slopes
    return _add(_mul(da, b), _mul(a, db))


def _quotient(node: Expression, slopes: list[Expression]) -> Expression:
    b, (da, db) = node.args[1], slopes
    return _div(_sub(da, _mul(node, db)), b)  # b*b might overflow


def _power(node: Expression, slopes: list[Expression]) -> Expression:
    (a, b), (da, db) = node.args, slopes
    base = _mul(b, folded("pow", a, _sub(b, ONE)), da)
    if db.is_number(0):
        return base
    return _add(base, _mul(node, folded("log", a), db))


def _analytic_quotient(node: Expression, slopes: list[Expression]) -> Expression:
    (_, b), (da, db) = node.args, slopes
    return _sub(folded("aq", da, b), _div(_mul(node, b, db), _add(ONE, folded("square", b))))


def _extremum(sign: float) -> Callable[..., Expression]:
    """The slope of the larger operand (``sign`` 1) or the smaller one (``sign`` -1); the mean of both at a tie."""

    def rule(node: Expression, slopes: list[Expression]) -> Expression:
        (a, b), (da, db) = node.args, slopes
        share = _mul(constant(0.5), _add(ONE, _mul(constant(sign), folded("sign", _sub(a, b)))))
        return _add(_mul(share, da), _mul(_sub(ONE, share), db))

    return rule


def _protected(a: Expression) -> Expression:
    return _add(folded("abs", a), constant(PROTECTION))


_RULES: Final[dict[str, Callable[..., Expression]]] = {
    "add": lambda node, slopes: _add(*slopes),
    "sub": lambda node, slopes: _sub(*slopes),
    "mul": _product,
    "div": _quotient,
    "pow": _power,
    "aq": _analytic_quotient,
    "min": _extremum(-1.0),
    "max": _extremum(1.0),
    "neg": lambda node, slopes: folded("neg", slopes[0]),
    "exp": _chain(lambda a, node: node),
    "log": lambda node, slopes: _div(slopes[0], node.args[0]),
    "sqrt": _chain(lambda a, node: _div(constant(0.5), node)),
    "square": _chain(lambda a, node: _mul(constant(2.0), a)),
    "expm1": _chain(lambda a, node: folded("exp", a)),
    "log1p": lambda node, slopes: _div(slopes[0], _add(ONE, node.args[0])),
    "sin": _chain(lambda a, node: folded("cos", a)),
    "cos": _chain(lambda a, node: folded("neg", folded("sin", a))),
    "tanh": _chain(lambda a, node: _sub(ONE, folded("square", node))),
    "abs": _chain(lambda a, node: folded("sign", a)),
    "sign": lambda node, slopes: ZERO,
    "sigmoid": _chain(lambda a, node: _mul(node, folded("sigmoid", folded("neg", a)))),
    "softplus": _chain(lambda a, node: folded("sigmoid", a)),
    "plog": _chain(lambda a, node: _div(folded("sign", a), _protected(a))),
    "psqrt": _chain(lambda a, node: _div(_mul(constant(0.5), folded("sign", a)), node)),
}
