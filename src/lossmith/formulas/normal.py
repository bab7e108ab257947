"""Formulas as sums of products of powers, the form in which equal ones meet."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Final, TypeAlias

from lossmith.formulas.arithmetic import scalar
from lossmith.formulas.expression import PROTECTION, Expression, apply, terminal

Product: TypeAlias = tuple[tuple[Expression, Fraction], ...]
"""Bases with their exponents; empty for 1."""
Polynomial: TypeAlias = dict[Product, Fraction]
"""Products with the numbers before them; never a 0."""

_LARGEST: Final = 32  # terms that a product of sums may have, to be multiplied out
_HIGHEST: Final = 4  # power of a sum that is multiplied out
_LARGEST_POWER: Final = 64  # whole power of a number that is taken exactly
_NOT_NEGATIVE: Final = frozenset({"p", "c", "d", "n", "t", "y"})
_ONE: Final = Fraction(1)
_P, _C = terminal("p"), terminal("c")


class Normaliser:
    """Turns the nodes of a formula, from the leaves up, into polynomials.

    Args:
        write: turns a polynomial into an expression, equal ones into equal ones.
        text: the text of an expression, by which factors and terms are put in order.
    """

    def __init__(self, write: Callable[[Polynomial], Expression], text: Callable[[Expression], str]) -> None:
        self.write, self.text = write, text
        self.sums: dict[Expression, Polynomial] = {}
        self.exponents: dict[Expression, Product] = {}

    def node(self, node: Expression, operands: list[Polynomial]) -> Polynomial:
        """The polynomial of a node, given those of its operands."""
        if node.is_constant:
            return _number(Fraction(node.value))
        if node.name:
            return {((node, _ONE),): _ONE}
        rule: Callable[..., Polynomial] = getattr(self, f"_{node.op}")
        return rule(*operands)

    def _add(self, a: Polynomial, b: Polynomial) -> Polynomial:
        total = dict(a)
        for product, factor in b.items():
            total[product] = total.get(product, Fraction(0)) + factor
        return {product: factor for product, factor in total.items() if factor}

    def _sub(self, a: Polynomial, b: Polynomial) -> Polynomial:
        return self._add(a, self._neg(b))

    def _neg(self, a: Polynomial) -> Polynomial:
        return _scaled(a, Fraction(-1))

    def _mul(self, a: Polynomial, b: Polynomial) -> Polynomial:
        if len(a) * len(b) > _LARGEST and len(a) > 1 and len(b) > 1:
            a, b = self._as_factor(a), self._as_factor(b)
        result: Polynomial = {}
        for product_a, factor_a in a.items():
            for product_b, factor_b in b.items():
                result = self._add(result, self._term(self._merged(product_a, product_b), factor_a * factor_b))
        return result

    def _merged(self, a: Product, b: Product) -> Product:
        """The product of two products: exponents of one base added, powers of y dropped, in a fixed order."""
        powers: dict[Expression, Fraction] = {}
        for base, power in (*a, *b):
            powers[base] = powers.get(base, Fraction(0)) + power
        kept = [(base, _ONE if base.name == "y" and power > 0 else power) for base, power in powers.items() if power]
        return tuple(sorted(kept, key=lambda pair: self.text(pair[0])))

    def _term(self, product: Product, factor: Fraction) -> Polynomial:
        """One product as a polynomial; a sum that stands alone in it is a sum again."""
        if len(product) == 1 and product[0][1] == 1 and product[0][0] in self.sums:
            return _scaled(self.sums[product[0][0]], factor)
        return {product: factor}

    def _div(self, a: Polynomial, b: Polynomial) -> Polynomial:
        if not b:
            return self._opaque("div", a, b)
        return self._mul(a, self._power(b, Fraction(-1)))

    def _pow(self, a: Polynomial, b: Polynomial) -> Polynomial:
        exponent = _value(b)
        if exponent is not None:
            return self._power(a, exponent)
        base = _value(a)
        if base is not None and base > 0:
            return self._exp(_scaled(b, _log_of(base)))
        if a == {((_P, _ONE),): _ONE}:
            return self._exp(self._neg(self._mul(b, {((_C, _ONE),): _ONE})))
        return self._opaque("pow", a, b)

    def _power(self, a: Polynomial, exponent: Fraction) -> Polynomial:
        if exponent == 0:
            return _number(_ONE)
        if exponent == 1:
            return a
        value, whole = _value(a), exponent.denominator == 1
        if value is not None:
            if whole and abs(exponent) <= _LARGEST_POWER and (value or exponent > 0):
                return _number(value ** int(exponent))
            return self._function("pow", a, _number(exponent))
        if len(a) == 1:
            ((product, factor),) = a.items()
            positive = factor > 0 and all(_not_negative(base) for base, _ in product)
            if whole or positive:
                powers = tuple((base, power * exponent) for base, power in product)
                return self._mul({self._merged(powers, ()): _ONE}, self._power(_number(factor), exponent))
        elif whole and 2 <= exponent <= _HIGHEST and len(a) ** int(exponent) <= _LARGEST:
            result = a
            for _ in range(int(exponent) - 1):
                result = self._mul(result, a)
            return result
        ((product, factor),) = self._as_factor(a).items()
        if (factor > 0 or whole) and len(product) == 1 and product[0][1] == 1:
            return self._mul({((product[0][0], exponent),): _ONE}, self._power(_number(factor), exponent))
        return {((self._expression(a), exponent),): _ONE}

    def _as_factor(self, a: Polynomial) -> Polynomial:
        """A sum as one factor: a number times the sum with 1 before its first term."""
        if len(a) < 2:
            return a
        leading = self._leading(a)
        return {((self._expression(_scaled(a, 1 / leading)), _ONE),): leading}

    def _expression(self, a: Polynomial) -> Expression:
        written = self.write(a)
        if len(a) > 1:
            self.sums[written] = a
        return written

    def _leading(self, a: Polynomial) -> Fraction:
        """The number before the term that is written first, constants aside."""
        moving = {product: factor for product, factor in a.items() if product} or a
        first = min(moving, key=lambda product: self.text(self.write({product: _ONE})))
        return a[first]

    def _exp(self, a: Polynomial) -> Polynomial:
        """``exp(a + b) = exp(a) exp(b)``, so that exponentials combine as powers do; ``exp(-c) = p``."""
        factors: list[tuple[Expression, Fraction]] = []
        result = _number(_ONE)
        for product, factor in a.items():
            if not product:
                result = self._function("exp", _number(factor))
            elif product == ((_C, _ONE),):
                factors.append((_P, -factor))
            else:
                base = apply("exp", self._expression({product: _ONE}))
                self.exponents[base] = product
                factors.append((base, factor))
        return self._mul(result, {self._merged(tuple(factors), ()): _ONE})

    def _log(self, a: Polynomial) -> Polynomial:
        if len(a) != 1:
            return self._function("log", a)
        ((product, factor),) = a.items()
        if factor <= 0 or not product or not all(_not_negative(base) for base, _ in product):
            return self._function("log", a)
        result = _number(_log_of(factor))
        for base, power in product:
            if base == _P:
                result = self._add(result, {((_C, _ONE),): -power})
            elif base.op == "exp":
                result = self._add(result, {self.exponents[base]: power})
            else:
                result = self._add(result, {((apply("log", base), _ONE),): power})
        return result

    def _expm1(self, a: Polynomial) -> Polynomial:
        return self._sub(self._exp(a), _number(_ONE))

    def _log1p(self, a: Polynomial) -> Polynomial:
        return self._log(self._add(a, _number(_ONE)))

    def _sqrt(self, a: Polynomial) -> Polynomial:
        return self._power(a, Fraction(1, 2))

    def _square(self, a: Polynomial) -> Polynomial:
        return self._power(a, Fraction(2))

    def _aq(self, a: Polynomial, b: Polynomial) -> Polynomial:
        return self._mul(a, self._power(self._add(_number(_ONE), self._square(b)), Fraction(-1, 2)))

    def _plog(self, a: Polynomial) -> Polynomial:
        return self._log(self._add(self._abs(a), _number(Fraction(PROTECTION))))

    def _psqrt(self, a: Polynomial) -> Polynomial:
        return self._sqrt(self._add(self._abs(a), _number(Fraction(PROTECTION))))

    def _sin(self, a: Polynomial) -> Polynomial:
        return self._odd("sin", a)

    def _tanh(self, a: Polynomial) -> Polynomial:
        return self._odd("tanh", a)

    def _sign(self, a: Polynomial) -> Polynomial:
        return self._odd("sign", a)

    def _cos(self, a: Polynomial) -> Polynomial:
        return self._function("cos", self._neg(a) if self._is_negative(a) else a)

    def _abs(self, a: Polynomial) -> Polynomial:
        if len(a) == 1:
            ((product, factor),) = a.items()
            if all(_not_negative(base) or power.numerator % 2 == 0 for base, power in product):
                return {product: abs(factor)}
        return self._function("abs", self._neg(a) if self._is_negative(a) else a)

    def _sigmoid(self, a: Polynomial) -> Polynomial:
        if self._is_negative(a):
            return self._sub(_number(_ONE), self._function("sigmoid", self._neg(a)))
        return self._function("sigmoid", a)

    def _softplus(self, a: Polynomial) -> Polynomial:
        return self._function("softplus", a)

    def _min(self, a: Polynomial, b: Polynomial) -> Polynomial:
        return self._commutative("min", a, b)

    def _max(self, a: Polynomial, b: Polynomial) -> Polynomial:
        return self._commutative("max", a, b)

    def _commutative(self, op: str, a: Polynomial, b: Polynomial) -> Polynomial:
        if a == b:
            return a
        if self.text(self._expression(b)) < self.text(self._expression(a)):
            a, b = b, a
        return self._function(op, a, b)

    def _odd(self, op: str, a: Polynomial) -> Polynomial:
        return self._neg(self._function(op, self._neg(a))) if self._is_negative(a) else self._function(op, a)

    def _is_negative(self, a: Polynomial) -> bool:
        return bool(a) and self._leading(a) < 0

    def _function(self, op: str, *operands: Polynomial) -> Polynomial:
        """A function that nothing is known of, unless its operands are numbers."""
        values = [_value(operand) for operand in operands]
        if all(value is not None for value in values):
            result = scalar(op, [_float(value) for value in values if value is not None])
            if math.isfinite(result):
                return _number(Fraction(result))
        return self._opaque(op, *operands)

    def _opaque(self, op: str, *operands: Polynomial) -> Polynomial:
        return {((apply(op, *map(self._expression, operands)), _ONE),): _ONE}


def _number(value: Fraction) -> Polynomial:
    return {(): value} if value else {}


def _value(a: Polynomial) -> Fraction | None:
    """The number that a polynomial is, if it is one."""
    if not a:
        return Fraction(0)
    return a.get(()) if len(a) == 1 else None


def _log_of(value: Fraction) -> Fraction:
    """The logarithm of a positive number, also of one that no float holds."""
    return Fraction(math.log(value.numerator) - math.log(value.denominator))


def _float(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _scaled(a: Polynomial, factor: Fraction) -> Polynomial:
    return {product: value * factor for product, value in a.items()} if factor else {}


def _not_negative(base: Expression) -> bool:
    return base.name in _NOT_NEGATIVE or base.op in {"exp", "abs", "sigmoid", "softplus"}
