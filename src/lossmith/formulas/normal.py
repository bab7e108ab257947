"""Normalisation of formulas to sums of products of powers."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Final

from lossmith.formulas.algebra import Algebra
from lossmith.formulas.exact import Rational
from lossmith.formulas.expression import PROTECTION, Expression, terminal
from lossmith.formulas.terms import EULER, Form, Terms, add, is_not_negative, number, same, scaled, value_of

_UNIT: Final = same(number(1))
_P, _C = terminal("p"), terminal("c")


class Normaliser(Algebra):
    """Converts the nodes of a formula to sums, from the leaves up."""

    def node(self, node: Expression, operands: list[Form]) -> Form:
        """Convert a node, given the forms of its operands."""
        if node.is_constant:
            return same(number(Fraction(node.value)))
        if node.name:
            return same({((node, 1),): 1})
        rule: Callable[..., Form] | None = getattr(self, f"_{node.op}", None)
        return same(self.function(node.op, *(each.terms for each in operands))) if rule is None else rule(*operands)

    def _add(self, a: Form, b: Form) -> Form:
        return same(add(a.terms, b.terms))

    def _sub(self, a: Form, b: Form) -> Form:
        return self._add(a, self._neg(b))

    def _neg(self, a: Form) -> Form:
        return Form(scaled(a.terms, -1), scaled(a.factors, -1))

    def _mul(self, a: Form, b: Form) -> Form:
        return self.product(a, b)

    def _div(self, a: Form, b: Form) -> Form:
        if not b.terms:
            return same(self.opaque("div", a.terms, b.terms))
        return self.product(a, self.power(b, -1))

    def _pow(self, a: Form, b: Form) -> Form:
        exponent, base = value_of(b.terms), value_of(a.terms)
        if exponent is not None:
            return self.power(a, exponent)
        if base is not None and base > 0:
            return self._exp(self._mul(b, self._log(a)))
        if a.terms == {((_P, 1),): 1}:
            return self._exp(self._mul(b, same({((_C, 1),): -1})))
        return same(self.opaque("pow", a.terms, b.terms))

    def _sqrt(self, a: Form) -> Form:
        return self.power(a, Fraction(1, 2))

    def _square(self, a: Form) -> Form:
        return self.power(a, 2)

    def _aq(self, a: Form, b: Form) -> Form:
        return self._div(a, self._sqrt(self._add(_UNIT, self._square(b))))

    def _exp(self, a: Form) -> Form:
        """Split ``exp(a + b)`` into ``exp(a) exp(b)``, so that exponentials combine like powers; ``exp(-c)`` is p."""
        factors: list[tuple[Expression, Rational]] = []
        for product, factor in a.terms.items():
            if not product:
                factors.append((EULER, factor))
            elif product == ((_C, 1),):
                factors.append((_P, -factor))
            elif len(product) == 1 and product[0][0].op == "log" and product[0][1] == 1:
                factors.append((product[0][0].args[0], factor))
            else:
                base = self.apply("exp", self.expression({product: 1}))
                self.exponents[base] = product
                factors.append((base, factor))
        return same(self.term(tuple(factors), 1))

    def _log(self, a: Form) -> Form:
        """Split the logarithm of a product of positive factors; ``log(p)`` is ``-c``."""
        if len(a.factors) != 1:
            return same(self.function("log", a.terms))
        ((product, factor),) = a.factors.items()
        bases = self.bases(factor)
        if bases is None or not all(is_not_negative(base) for base, _ in product):
            return same(self.function("log", a.terms))
        result: Terms = {}
        for base, times in bases:
            result = add(result, scaled(self.function("log", number(Fraction(base.value))), times))
        for base, power in product:
            if base == _P:
                result = add(result, {((_C, 1),): -power})
            elif base.op == "exp":
                result = add(result, {self.exponents[base]: power})
            else:
                result = add(result, {((self.apply("log", base), 1),): power})
        return same(result)

    def _expm1(self, a: Form) -> Form:
        return self._sub(self._exp(a), _UNIT)

    def _log1p(self, a: Form) -> Form:
        return self._log(self._add(a, _UNIT))

    def _sin(self, a: Form) -> Form:
        return self._odd("sin", a)

    def _tanh(self, a: Form) -> Form:
        return self._odd("tanh", a)

    def _sign(self, a: Form) -> Form:
        return self._odd("sign", a)

    def _odd(self, op: str, a: Form) -> Form:
        if self.is_negative(a.terms):
            return same(scaled(self.function(op, scaled(a.terms, -1)), -1))
        return same(self.function(op, a.terms))

    def _cos(self, a: Form) -> Form:
        return self._even("cos", a)

    def _abs(self, a: Form) -> Form:
        if len(a.factors) == 1:
            ((product, factor),) = a.factors.items()
            if all(is_not_negative(base) or power.numerator % 2 == 0 for base, power in product):
                return a if factor > 0 else self._neg(a)
        return self._even("abs", a)

    def _even(self, op: str, a: Form) -> Form:
        return same(self.function(op, scaled(a.terms, -1) if self.is_negative(a.terms) else a.terms))

    def _sigmoid(self, a: Form) -> Form:
        if not self.is_negative(a.terms):
            return same(self.function("sigmoid", a.terms))
        return self._sub(_UNIT, same(self.function("sigmoid", scaled(a.terms, -1))))

    def _plog(self, a: Form) -> Form:
        return self._log(self._protected(a))

    def _psqrt(self, a: Form) -> Form:
        return self._sqrt(self._protected(a))

    def _protected(self, a: Form) -> Form:
        return self._add(self._abs(a), same(number(Fraction(PROTECTION))))

    def _min(self, a: Form, b: Form) -> Form:
        return self._commutative("min", a, b)

    def _max(self, a: Form, b: Form) -> Form:
        return self._commutative("max", a, b)

    def _commutative(self, op: str, a: Form, b: Form) -> Form:
        if a.terms == b.terms:
            return a
        if self.text(self.expression(b.terms)) < self.text(self.expression(a.terms)):
            a, b = b, a
        return same(self.function(op, a.terms, b.terms))
