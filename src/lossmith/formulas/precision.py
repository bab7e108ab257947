"""Rewriting formulas in terms of c = -log(p) and d = -log(1 - p), which stay precise where p is rounded to 0 or 1."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeGuard

from lossmith.formulas.arithmetic import ONE, ZERO, folded
from lossmith.formulas.calculus import substitute
from lossmith.formulas.expression import Expression, constant, fold, terminal

_P, _C, _D = terminal("p"), terminal("c"), terminal("d")
_HALF, _TWO = constant(0.5), constant(2.0)


def in_c(expression: Expression) -> Expression:
    """Rewrite a formula of one class, without y, as a function of c alone.

    Powers of p become exponentials of c, ``1 - p**k`` becomes ``-expm1(-k c)``, and ``log(p)`` becomes ``-c``.
    """
    return fold(expression, _Rewriter(with_p=False)).expression


def in_d(expression: Expression) -> Expression:
    """Rewrite a formula of one class as a function of d alone, as `in_c` does with p and 1 - p exchanged."""
    c_of_the_rest = folded("neg", folded("log", folded("sub", ONE, _P)))
    mirrored = substitute(expression, p=folded("sub", ONE, _P), c=c_of_the_rest)
    return substitute(in_c(mirrored), c=_D)


def in_two_forms(expression: Expression) -> Expression:
    """Rewrite a formula of one class to p and c: ``log(p)`` becomes ``-c``, ``1 - p`` stays.

    It loses digits of ``1 - p`` near p = 1 and needs no sum over the other classes.
    """
    return fold(expression, _Rewriter(with_p=True, with_d=False)).expression


def in_three_forms(expression: Expression) -> Expression:
    """Rewrite a formula of one class in terms of p, c and d, using each where it is precise.

    ``log(p)`` becomes ``-c``, ``1 - p`` becomes ``exp(-d)``, and ``log(1 - p)`` becomes ``-d``.
    """
    return fold(expression, _Rewriter(with_p=True)).expression


class _Known(NamedTuple):
    """A rewritten subexpression and its known form.

    Attributes:
        expression: the subexpression.
        power: k if it is p**k, otherwise None; k contains neither p nor c.
        multiple: k if it is k c, otherwise None.
        complement: k if it is (1 - p)**k, otherwise None.
        rest: 1 less the subexpression, without cancellation, if known.
        quarter: 1 less the subexpression over pi/2, without cancellation, if known; to the rounding of pi.
        square: the radicand of a root, if its `rest` is known.
        one_plus: what is added to 1 if it is 1 + p or 1 + (1 - p), otherwise None.
    """

    expression: Expression
    power: Expression | None = None
    multiple: Expression | None = None
    complement: Expression | None = None
    rest: Expression | None = None
    quarter: Expression | None = None
    square: _Known | None = None
    one_plus: Literal["p", "1 - p"] | None = None

    @property
    def is_fixed(self) -> bool:
        return not self.expression.depends_on("p", "c", "d")


class _Rewriter:
    """Rewrites nodes from the leaves up.

    Args:
        with_p: keep p and its positive integer powers; otherwise use c alone.
        with_d: beside p, use d for 1 - p.
    """

    def __init__(self, *, with_p: bool, with_d: bool = True) -> None:
        self.with_p, self.with_d = with_p, with_d

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
        return _Known(self._power_itself(power), power=power, rest=self._one_less_power(power))

    def _power_itself(self, power: Expression) -> Expression:
        if self.with_p and power.is_number(1):
            return _P
        if self.with_p and power.is_number(2):
            return folded("square", _P)
        if self.with_p and power.is_constant and power.value > 0 and power.value == int(power.value):
            return folded("pow", _P, power)
        return folded("exp", self._multiple(folded("neg", power)).expression)

    def _one_less_power(self, power: Expression) -> Expression | None:
        if self.with_p and (power.is_number(1) or power.is_number(2)):
            if not self.with_d:
                return None
            q = folded("exp", folded("neg", _D))
            return q if power.is_number(1) else folded("mul", q, folded("add", ONE, _P))
        return folded("neg", folded("expm1", self._multiple(folded("neg", power)).expression))

    def _multiple(self, multiple: Expression) -> _Known:
        """Write ``k c``."""
        return _Known(folded("mul", multiple, _C), multiple=multiple)

    def _complement(self, power: Expression) -> _Known:
        """Write ``(1 - p)**k``."""
        base = self._one_less_power(ONE)
        assert base is not None
        if self.with_p:
            result = folded("exp", folded("neg", folded("mul", power, _D)))
        elif power.is_number(0.5):
            result = folded("sqrt", base)
        else:
            result = folded("square", base) if power.is_number(2) else folded("pow", base, power)
        rest: Expression | None = None
        if power.is_number(1):
            rest = self._power_itself(ONE)
        elif power.is_number(2):  # 1 - (1 - p)**2 = p (2 - p)
            rest = folded("mul", self._power_itself(ONE), folded("add", ONE, base))
        return _Known(result, complement=power, rest=rest)

    def _one_less(self, a: _Known) -> _Known | None:
        """1 less a part, where that is known."""
        if a.rest is None:
            return None
        if a.power is not None and a.power.is_number(1):
            return self._complement(ONE)
        if a.complement is not None and a.complement.is_number(1):
            return self._power(ONE)
        return _Known(a.rest, rest=a.expression)

    def _sub(self, op: str, a: _Known, b: _Known) -> _Known:
        if a.expression.is_number(1) and (found := self._one_less(b)):
            return found
        if b.expression.is_number(1) and (found := self._one_less(a)):
            return self._plain("neg", found)
        if a.multiple and b.multiple:
            return self._multiple(folded("sub", a.multiple, b.multiple))
        if a.expression.is_number(2) and b.rest is not None and (_is_one(b.power) or _is_one(b.complement)):
            return _Known(folded("add", ONE, b.rest), one_plus="1 - p" if b.power else "p")
        return self._plain(op, a, b)

    def _add(self, op: str, a: _Known, b: _Known) -> _Known:
        for one, other in ((a, b), (b, a)):
            if one.expression.is_number(-1) and (found := self._one_less(other)):
                return self._plain("neg", found)
            if one.expression.is_number(1) and _is_one(other.power):
                return self._plain(op, a, b)._replace(one_plus="p")
            if one.expression.is_number(1) and _is_one(other.complement):
                return self._plain(op, a, b)._replace(one_plus="1 - p")
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
            if one.expression.is_number(math.pi / 2) and other.rest is not None and not self.with_p:
                return self._plain(op, a, b)._replace(quarter=other.rest)
            if other.one_plus == "1 - p" and _is_one(one.power):  # p (2 - p) = 1 - (1 - p)**2
                return self._plain(op, a, b)._replace(rest=self._complement(_TWO).expression)
            if other.one_plus == "p" and _is_one(one.complement):  # (1 - p)(1 + p) = 1 - p**2
                return self._one_less(self._power(_TWO)) or self._plain(op, a, b)
        return self._plain(op, a, b)

    def _div(self, op: str, a: _Known, b: _Known) -> _Known:
        if not self.with_p and _is_one(a.complement) and _is_one(b.power):  # (1 - p)/p = 1/p - 1
            return _Known(folded("expm1", _C))
        if a.power and _is_proper(b.power):
            return self._power(folded("sub", a.power, b.power))
        if a.multiple and b.is_fixed:
            return self._multiple(folded("div", a.multiple, b.expression))
        if a.expression.is_number(1) and b.square and b.square.rest:  # 1/s - 1 = (1 - s**2)/(s + s**2)
            rest = folded("div", b.square.rest, folded("add", b.expression, b.square.expression))
            return self._plain(op, a, b)._replace(rest=folded("neg", rest))
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
        if exponent is not _HALF:
            return self._plain("pow", a, _Known(exponent))
        root = self._plain("sqrt", a)
        if a.rest is None:
            return root
        return root._replace(rest=folded("div", a.rest, folded("add", ONE, root.expression)), square=a)

    def _cos(self, op: str, a: _Known) -> _Known:
        if a.quarter is None:
            return self._plain(op, a)
        return self._plain("sin", _Known(folded("mul", constant(math.pi / 2), a.quarter)))

    def _exp(self, op: str, a: _Known) -> _Known:
        return self._power(folded("neg", a.multiple)) if a.multiple else self._plain(op, a)

    def _log(self, op: str, a: _Known) -> _Known:
        if _is_proper(a.power):
            return self._multiple(folded("neg", a.power))
        if a.complement and self.with_p:
            return _Known(folded("neg", folded("mul", a.complement, _D)))
        return self._plain(op, a)

    def _log1p(self, op: str, a: _Known) -> _Known:
        if self.with_p and self.with_d and a.expression == folded("neg", _P):
            return _Known(folded("neg", _D))
        return self._plain(op, a)


def _is_proper(power: Expression | None) -> TypeGuard[Expression]:
    """Whether the exponent of a known power of p is nonzero."""
    return power is not None and not power.is_number(0)


def _is_one(power: Expression | None) -> bool:
    return power is not None and power.is_number(1)
