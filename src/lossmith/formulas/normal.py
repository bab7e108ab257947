"""Normalisation of formulas to sums of products of powers."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Final

from lossmith.formulas.algebra import Algebra, Write
from lossmith.formulas.exact import as_float
from lossmith.formulas.expression import PROTECTION, Expression, apply, terminal
from lossmith.formulas.polynomials import (
    EULER,
    Form,
    Polynomial,
    Product,
    add,
    is_harmless,
    is_not_negative,
    is_steady,
    number,
    same,
    scaled,
    value_of,
)

_OPEN: Final = 1e4
_CLOSED: Final = 1e2
"""Largest sum of cancelling terms in an open and in a closed form: they cost four and two of 16 digits."""
_HIGHEST: Final = 4  # highest power of a sum that is expanded
_ONE: Final = Fraction(1)
_P, _C = terminal("p"), terminal("c")


class Normaliser(Algebra):
    """Converts the nodes of a formula to polynomials, from the leaves up.

    Args:
        write: writes a polynomial as an expression.
        text: gives the text of an expression; factors and terms are sorted by it.
    """

    def __init__(self, write: Write, text: Callable[[Expression], str]) -> None:
        super().__init__(write, text)
        self.exponents: dict[Expression, Product] = {EULER: ()}

    def node(self, node: Expression, operands: list[Form]) -> Form:
        """Convert a node, given the forms of its operands."""
        if node.is_constant:
            return same(number(Fraction(node.value)))
        if node.name:
            return same({((node, _ONE),): _ONE})
        rule: Callable[..., Form] = getattr(self, f"_{node.op}")
        return rule(*operands)

    def _add(self, a: Form, b: Form) -> Form:
        total = add(a.open, b.open)
        if is_steady(total) and all(base.name for product in total for base, _ in product):
            return same(total)
        return Form(total, add(a.closed, b.closed))

    def _sub(self, a: Form, b: Form) -> Form:
        return self._add(a, self._neg(b))

    def _neg(self, a: Form) -> Form:
        return Form(scaled(a.open, Fraction(-1)), scaled(a.closed, Fraction(-1)))

    def _mul(self, a: Form, b: Form) -> Form:
        factors = self.multiplied(self.as_factor(a.closed), self.as_factor(b.closed))
        return Form(self.opened_out(factors, _OPEN, a.open, b.open), self.opened_out(factors, 0, a.closed, b.closed))

    def _div(self, a: Form, b: Form) -> Form:
        if not b.open:
            return same(self.opaque("div", self.factored(a.closed), b.open))
        return self._mul(a, self._power(b, Fraction(-1)))

    def _pow(self, a: Form, b: Form) -> Form:
        exponent = value_of(b.open)
        if exponent is not None:
            return self._power(a, exponent)
        base = value_of(a.open)
        if base is not None and base > 0:
            return self._exp(self._mul(b, self._log(a)))
        if a.open == {((_P, _ONE),): _ONE}:
            return self._exp(self._mul(b, same({((_C, _ONE),): Fraction(-1)})))
        return same(self.opaque("pow", self.factored(a.closed), self.factored(b.closed)))

    def _power(self, a: Form, exponent: Fraction) -> Form:
        if exponent == 0:
            return same(number(_ONE))
        if exponent == 1:
            return a
        root = self.root(a.closed, exponent)
        if exponent.denominator == 1 and 2 <= exponent <= _HIGHEST:
            times = int(exponent)
            return Form(self.opened_out(root, _OPEN, *[a.open] * times), self.opened_out(root, 0, *[a.closed] * times))
        return same(root)

    def _sqrt(self, a: Form) -> Form:
        return self._power(a, Fraction(1, 2))

    def _square(self, a: Form) -> Form:
        return self._power(a, Fraction(2))

    def _aq(self, a: Form, b: Form) -> Form:
        return self._mul(a, self._power(self._add(same(number(_ONE)), self._square(b)), Fraction(-1, 2)))

    def _psqrt(self, a: Form) -> Form:
        return self._sqrt(self._protected(a))

    def _protected(self, a: Form) -> Form:
        return self._add(self._abs(a), same(number(Fraction(PROTECTION))))

    def _exp(self, a: Form) -> Form:
        """Split ``exp(a + b)`` into ``exp(a) exp(b)``, so that exponentials combine like powers; ``exp(-c)`` is p."""
        return self._each(self._exponential, a, most=_CLOSED)

    def _exponential(self, a: Polynomial) -> Polynomial:
        factors: list[tuple[Expression, Fraction]] = []
        for product, factor in a.items():
            if not product:
                factors.append((EULER, factor))
            elif product == ((_C, _ONE),):
                factors.append((_P, -factor))
            elif len(product) == 1 and product[0][0].op == "log" and product[0][1] == 1:
                factors.append((product[0][0].args[0], factor))
            else:
                base = apply("exp", self.expression({product: _ONE}))
                self.exponents[base] = product
                factors.append((base, factor))
        return self.term(tuple(factors), _ONE)

    def _log(self, a: Form) -> Form:
        closed = a.closed
        if len(closed) > 1 and closed.get(()) == 1:
            return same(self.opaque("log1p", self.factored(add(closed, number(-_ONE)))))
        closed = self.factored(closed)
        if len(closed) != 1:
            return same(self.function("log", closed))
        ((product, factor),) = closed.items()
        if factor <= 0 or not all(is_not_negative(base) for base, _ in product):
            return same(self.function("log", closed))
        result = self._log_of(factor)
        for base, power in product:
            if base == _P:
                result = add(result, {((_C, _ONE),): -power})
            elif base.op == "exp":
                result = add(result, {self.exponents[base]: power})
            else:
                result = add(result, {((apply("log", base), _ONE),): power})
        return same(result)

    def _log_of(self, value: Fraction) -> Polynomial:
        """The logarithm of a positive number."""
        if as_float(value) != value and abs(value - 1) < Fraction(1, 2):
            return self.opaque("log1p", number(value - 1))
        bases = self.bases(value)
        if bases is None:
            return self.function("log", number(value))
        result: Polynomial = {}
        for base, times in bases:
            result = add(result, scaled(self.function("log", number(Fraction(base.value))), Fraction(times)))
        return result

    def _expm1(self, a: Form) -> Form:
        grown = self._sub(self._exp(a), same(number(_ONE)))
        if len(grown.open) == 1 or value_of(a.open) is not None:
            return grown
        return Form(grown.open, self.opaque("expm1", self.factored(a.closed)))

    def _log1p(self, a: Form) -> Form:
        total = self._add(a, same(number(_ONE)))
        if len(total.open) == 1:
            return self._log(same(total.open))
        closed = self.opaque("log1p", self.factored(a.closed))
        return Form(self._log(total).open if () in a.open else closed, closed)

    def _plog(self, a: Form) -> Form:
        return self._log(self._protected(a))

    def _sin(self, a: Form) -> Form:
        return self._each(lambda a: self._odd("sin", a), a)

    def _tanh(self, a: Form) -> Form:
        return self._each(lambda a: self._odd("tanh", a), a)

    def _sign(self, a: Form) -> Form:
        return same(self._odd("sign", self.factored(a.closed)))

    def _cos(self, a: Form) -> Form:
        return self._each(lambda a: self.function("cos", self._positive(a)), a, most=_CLOSED)

    def _abs(self, a: Form) -> Form:
        return self._each(self._absolute, a)

    def _absolute(self, a: Polynomial) -> Polynomial:
        if len(a) == 1:
            ((product, factor),) = a.items()
            if all(is_not_negative(base) or power.numerator % 2 == 0 for base, power in product):
                return {product: abs(factor)}
        return self.function("abs", self._positive(a))

    def _sigmoid(self, a: Form) -> Form:
        argument = self._arguments(a, _CLOSED)
        closed = self.function("sigmoid", argument.closed)
        if not self.is_negative(argument.open):
            return Form(self.function("sigmoid", argument.open), closed)
        other = self.function("sigmoid", scaled(argument.open, -_ONE))
        return Form(add(number(_ONE), scaled(other, -_ONE)), closed)

    def _softplus(self, a: Form) -> Form:
        return self._each(lambda a: self.function("softplus", a), a, most=_CLOSED)

    def _min(self, a: Form, b: Form) -> Form:
        return self._each(lambda a, b: self._commutative("min", a, b), a, b)

    def _max(self, a: Form, b: Form) -> Form:
        return self._each(lambda a, b: self._commutative("max", a, b), a, b)

    def _commutative(self, op: str, a: Polynomial, b: Polynomial) -> Polynomial:
        if a == b:
            return a
        if self.text(self.expression(b)) < self.text(self.expression(a)):
            a, b = b, a
        return self.function(op, a, b)

    def _each(self, rule: Callable[..., Polynomial], *forms: Form, most: float = 0) -> Form:
        """Apply a function to the open forms and to the closed forms of its operands.

        Args:
            rule: the function.
            *forms: its operands.
            most: how much may cancel in the operands of the closed form. A value above 0 is safe only for a function
                that is nonzero where its operands are 0.
        """
        arguments = [self._arguments(form, most) for form in forms]
        open_ = rule(*(each.open for each in arguments))
        if all(each.open is each.closed for each in arguments):
            return same(open_)
        return Form(open_, rule(*(each.closed for each in arguments)))

    def _arguments(self, a: Form, most: float = 0) -> Form:
        if most and is_harmless(a.open, most):
            return same(a.open)
        closed = self.factored(a.closed, most)
        return Form(a.open, closed) if is_harmless(a.open, _OPEN) else same(closed)

    def _odd(self, op: str, a: Polynomial) -> Polynomial:
        if self.is_negative(a):
            return scaled(self.function(op, scaled(a, -_ONE)), -_ONE)
        return self.function(op, a)

    def _positive(self, a: Polynomial) -> Polynomial:
        return scaled(a, -_ONE) if self.is_negative(a) else a
