"""Symbolic derivatives, and values put in place of terminals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lossmith.formulas.arithmetic import ONE, ZERO, bound_size, folded
from lossmith.formulas.errors import FormulaError
from lossmith.formulas.expression import HIDDEN_TERMINALS, PROTECTION, TERMINALS, Expression, constant, fold, terminal

MAX_NODES: Final = 200_000
"""How large a derivative may grow."""

_P: Final = terminal("p")
_INNER: Final = {
    # the derivative of each terminal that moves with the variable
    "p": {"p": ONE, "c": folded("div", constant(-1.0), _P), "d": folded("div", ONE, folded("sub", ONE, _P))},
    "c": {"c": ONE, "p": folded("neg", _P), "d": folded("div", folded("neg", _P), folded("sub", ONE, _P))},
}


def derivative(expression: Expression, variable: str) -> Expression:
    """The total derivative of a formula in p or in c.

    p and c move together: ``dc/dp = -1/p`` and ``dp/dc = -p``. Where min, max or abs have a kink the derivative is
    the mean of its two sides, as torch takes it; that of sign is 0.

    Args:
        expression: the formula.
        variable: ``"p"`` or ``"c"``.

    Returns:
        The derivative, with constants folded.

    Raises:
        FormulaError: if the variable is another, or the derivative has more than 200,000 nodes.
    """
    if variable not in _INNER:
        raise FormulaError(f"a formula is differentiated in p or c, not in {variable!r}")
    inner = _INNER[variable]

    def rule(node: Expression, slopes: list[Expression]) -> Expression:
        if not node.args:
            return inner.get(node.name, ZERO)
        if all(slope.is_number(0) for slope in slopes):
            return ZERO
        return bound_size(_RULES[node.op](node, slopes), MAX_NODES)

    return fold(expression, rule)


def substitute(expression: Expression, **values: float | Expression) -> Expression:
    """Put numbers or expressions in place of terminals, and fold what becomes constant.

    Args:
        expression: the formula.
        **values: for terminals by name, for example ``y=0.0, n=10``.

    Returns:
        The formula without these terminals; without values it is the formula with its constants folded.

    Raises:
        FormulaError: if there is no such terminal or a number is not finite.
    """
    for name in values:
        if name not in TERMINALS and name not in HIDDEN_TERMINALS:
            raise FormulaError(f"a formula has no terminal {name!r}: there are {', '.join(TERMINALS)}")
    given = {name: v if isinstance(v, Expression) else constant(v) for name, v in values.items()}

    def put(node: Expression, args: list[Expression]) -> Expression:
        if not args:
            return given.get(node.name, node)
        return folded(node.op, *args)

    return fold(expression, put)


def _add(*terms: Expression) -> Expression:
    total = terms[0]
    for term in terms[1:]:
        total = folded("add", total, term)
    return total


def _sub(a: Expression, b: Expression) -> Expression:
    return folded("sub", a, b)


def _mul(*factors: Expression) -> Expression:
    product = factors[0]
    for factor in factors[1:]:
        product = folded("mul", product, factor)
    return product


def _div(a: Expression, b: Expression) -> Expression:
    return folded("div", a, b)


def _chain(outer: Callable[[Expression, Expression], Expression]) -> Callable[..., Expression]:
    """The rule of a function of one operand from its derivative, given the operand and the function's own node."""

    def rule(node: Expression, slopes: list[Expression]) -> Expression:
        return _mul(outer(node.args[0], node), slopes[0])

    return rule


def _product(node: Expression, slopes: list[Expression]) -> Expression:
    (a, b), (da, db) = node.args, slopes
    return _add(_mul(da, b), _mul(a, db))


def _quotient(node: Expression, slopes: list[Expression]) -> Expression:
    b, (da, db) = node.args[1], slopes
    return _div(_sub(da, _mul(node, db)), b)  # b*b might leave the range of floats


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
    """The slope of the larger operand, of the smaller one with the other sign; no slope is lost in another."""

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
