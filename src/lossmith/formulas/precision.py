"""Rewriting formulas in terms of c = -log(p) and d = -log(1 - p), which stay precise where p is rounded to 0 or 1."""

from __future__ import annotations

from typing import NamedTuple, TypeGuard

from lossmith.formulas.arithmetic import ONE, ZERO, folded
from lossmith.formulas.expression import Expression, constant, fold, terminal

_P, _C, _D = terminal("p"), terminal("c"), terminal("d")
_HALF, _TWO = constant(0.5), constant(2.0)


def in_c(expression: Expression) -> Expression:
    """Rewrite a formula of one class as a function of c alone.

    Powers of p become exponentials of c, ``1 - p**k`` becomes ``-expm1(-k c)``, and ``log(p)`` becomes ``-c``.

    Args:
        expression: a formula without y.

    Returns:
        A formula without p.
    """
    return fold(expression, _Rewriter(with_p=False)).expression


def in_three_forms(expression: Expression) -> Expression:
    """Rewrite a formula of one class in terms of p, c and d, using each where it is precise.

    ``log(p)`` becomes ``-c``, ``1 - p`` becomes ``exp(-d)``, and ``log(1 - p)`` becomes ``-d``.

    Args:
        expression: a formula without y.

    Returns:
        A formula that may contain the terminal d.
    """
    return fold(expression, _Rewriter(with_p=True)).expression


class _Known(NamedTuple):
    """A rewritten subexpression and its known form.

    Attributes:
        expression: the subexpression.
        power: k if it is p**k, otherwise None; k contains neither p nor c.
        multiple: k if it is k c, otherwise None.
        complement: k if it is (1 - p)**k, otherwise None.
    """

    expression: Expression
    power: Expression | None = None
    multiple: Expression | None = None
    complement: Expression | None = None

    @property
    def is_fixed(self) -> bool:
        return not self.expression.depends_on("p", "c", "d")


class _Rewriter:
    """Rewrites nodes from the leaves up.

    Args:
        with_p: keep p and its positive integer powers, and use d; otherwise use c alone.
    """

    def __init__(self, with_p: bool) -> None:
        self.with_p = with_p

    def __call__(self, node: Expression, operands: list[_Known]) -> _Known:
        """Rewrite one node, given its rewritten operands."""
        if node.name == "p":
            return self._power(ONE)
        if node.name == "c":
            return _Known(_C, multiple=ONE)
        if not node.args:
            return _Known(node, power=ZERO if node.is_number(1) else None)
        return getattr(self, f"_{node.op}", self._plain)(node.op, *operands)

    def _plain(self, op: str, *operands: _Known) -> _Known:
        return _Known(folded(op, *(operand.expression for operand in operands)))

    def _power(self, power: Expression) -> _Known:
        """Write ``p**k``."""
        if power.is_number(0):
            return _Known(ONE, power=ZERO)
        if self.with_p and power.is_number(1):
            return _Known(_P, power=power)
        if self.with_p and power.is_number(2):
            return _Known(folded("square", _P), power=power)
        if self.with_p and power.is_constant and power.value > 0 and power.value == int(power.value):
            return _Known(folded("pow", _P, power), power=power)
        return _Known(folded("exp", self._multiple(folded("neg", power)).expression), power=power)

    def _multiple(self, multiple: Expression) -> _Known:
        """Write ``k c``."""
        return _Known(folded("mul", multiple, _C), multiple=multiple)

    def _complement(self, power: Expression) -> _Known:
        """Write ``(1 - p)**k``."""
        if self.with_p:
            return _Known(folded("exp", folded("neg", folded("mul", power, _D))), complement=power)
        base = folded("neg", folded("expm1", folded("neg", _C)))
        return _Known(folded("pow", base, power) if not power.is_number(2) else folded("square", base))

    def _sub(self, op: str, a: _Known, b: _Known) -> _Known:
        if a.expression.is_number(1) and _is_proper(b.power):
            return self._one_minus(b.power)
        if b.expression.is_number(1) and _is_proper(a.power):
            return self._plain("neg", self._one_minus(a.power))
        if a.multiple and b.multiple:
            return self._multiple(folded("sub", a.multiple, b.multiple))
        return self._plain(op, a, b)

    def _one_minus(self, power: Expression) -> _Known:
        """Write ``1 - p**k``."""
        if power.is_number(1):
            return self._complement(ONE)
        if self.with_p and power.is_number(2):
            return _Known(folded("mul", self._complement(ONE).expression, folded("add", ONE, _P)))
        return _Known(folded("neg", folded("expm1", self._multiple(folded("neg", power)).expression)))

    def _add(self, op: str, a: _Known, b: _Known) -> _Known:
        for one, other in ((a, b), (b, a)):
            if one.expression.is_number(-1) and _is_proper(other.power):
                return self._plain("neg", self._one_minus(other.power))
        if a.multiple and b.multiple:
            return self._multiple(folded("add", a.multiple, b.multiple))
        return self._plain(op, a, b)

    def _neg(self, op: str, a: _Known) -> _Known:
        return self._multiple(folded("neg", a.multiple)) if a.multiple else self._plain(op, a)

    def _mul(self, op: str, a: _Known, b: _Known) -> _Known:
        if _is_proper(a.power) and _is_proper(b.power):
            return self._power(folded("add", a.power, b.power))
        if a.complement and b.complement:
            return self._complement(folded("add", a.complement, b.complement))
        for one, other in ((a, b), (b, a)):
            if one.multiple and other.is_fixed:
                return self._multiple(folded("mul", other.expression, one.multiple))
        return self._plain(op, a, b)

    def _div(self, op: str, a: _Known, b: _Known) -> _Known:
        if a.power and _is_proper(b.power):
            return self._power(folded("sub", a.power, b.power))
        if a.multiple and b.is_fixed:
            return self._multiple(folded("div", a.multiple, b.expression))
        return self._plain(op, a, b)

    def _pow(self, op: str, a: _Known, b: _Known) -> _Known:
        return self._to_the(b.expression, a) if b.is_fixed else self._plain(op, a, b)

    def _square(self, _: str, a: _Known) -> _Known:
        return self._to_the(_TWO, a)

    def _sqrt(self, _: str, a: _Known) -> _Known:
        return self._to_the(_HALF, a)

    def _to_the(self, exponent: Expression, a: _Known) -> _Known:
        if _is_proper(a.power):
            return self._power(folded("mul", exponent, a.power))
        if a.complement:
            return self._complement(folded("mul", exponent, a.complement))
        if exponent is _TWO:
            return self._plain("square", a)
        return self._plain("sqrt", a) if exponent is _HALF else self._plain("pow", a, _Known(exponent))

    def _exp(self, op: str, a: _Known) -> _Known:
        return self._power(folded("neg", a.multiple)) if a.multiple else self._plain(op, a)

    def _log(self, op: str, a: _Known) -> _Known:
        if _is_proper(a.power):
            return self._multiple(folded("neg", a.power))
        if a.complement:
            return _Known(folded("neg", folded("mul", a.complement, _D)))
        return self._plain(op, a)

    def _log1p(self, op: str, a: _Known) -> _Known:
        if self.with_p and a.expression == folded("neg", _P):
            return _Known(folded("neg", _D))
        return self._plain(op, a)


def _is_proper(power: Expression | None) -> TypeGuard[Expression]:
    """Whether the exponent of a known power of p is nonzero."""
    return power is not None and not power.is_number(0)
