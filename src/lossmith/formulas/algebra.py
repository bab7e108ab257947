"""Sums and products of a formula's parts, multiplied out or in factors."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Final, Protocol

from lossmith.formulas.exact import exact_value
from lossmith.formulas.expression import Expression, apply
from lossmith.formulas.polynomials import (
    Polynomial,
    Product,
    add,
    is_harmless,
    is_not_negative,
    number,
    scaled,
    term_size,
    value_of,
)

_LARGEST: Final = 32  # terms that a product of sums may have, to be multiplied out
_FACTORED: Final = 10**30  # largest number that is taken out of a sum
_MAGNIFIES: Final = 1e6  # size of a term whose factors may hold what has cancelled
_FAR_APART: Final = Fraction(1, 10**9)  # constants of this ratio are not added where the sum may cancel
_ONE: Final = Fraction(1)


class Write(Protocol):
    """Turns a polynomial into an expression, equal ones into equal ones."""

    def __call__(self, polynomial: Polynomial, exactly: bool = False) -> Expression:
        """Write it; exactly, with all digits of its numbers."""


class Algebra:
    """What can be done with polynomials whose bases are expressions.

    Args:
        write: turns a polynomial into an expression.
        text: the text of an expression, by which factors and terms are put in order.
    """

    def __init__(self, write: Write, text: Callable[[Expression], str]) -> None:
        self.write, self.text = write, text
        self.sums: dict[Expression, Polynomial] = {}

    def opened(self, a: Polynomial) -> Polynomial:
        """Without sums that stand alone in a term."""
        result: Polynomial = {}
        for product, factor in a.items():
            inner = self.sum_alone(product)
            result = add(result, {product: factor} if inner is None else scaled(self.opened(inner), factor))
        return result

    def added(self, a: Polynomial, b: Polynomial) -> Polynomial:
        """A sum; as it stands where one constant would be lost in the other."""
        small, large = sorted((abs(a.get((), Fraction(0))), abs(b.get((), Fraction(0)))))
        if 0 < small < large * _FAR_APART and max(len(a), len(b)) > 1:
            parts = sorted((self.expression(a, exactly=True), self.expression(b, exactly=True)), key=self.text)
            return {((apply("add", *parts), _ONE),): _ONE}
        return add(a, b)

    def opened_out(self, factors: Polynomial, most: float, *sums: Polynomial) -> Polynomial:
        """A product of sums multiplied out, if that stays small and its terms do not cancel; else in its factors."""
        if math.prod(map(len, sums)) > _LARGEST and sorted(map(len, sums))[-2] > 1:
            return factors
        result = functools.reduce(self.multiplied, sums)
        magnifies = most and any(term_size(*term) > _MAGNIFIES for term in result.items())
        return result if is_harmless(result, most) and not magnifies else factors

    def multiplied(self, a: Polynomial, b: Polynomial) -> Polynomial:
        """The product, multiplied out."""
        result: Polynomial = {}
        for product_a, factor_a in a.items():
            for product_b, factor_b in b.items():
                result = add(result, self.term(self.merged(product_a, product_b), factor_a * factor_b))
        return result

    def merged(self, a: Product, b: Product) -> Product:
        """The product of two products: exponents of one base added, powers of y dropped, in a fixed order."""
        powers: dict[Expression, Fraction] = {}
        for base, power in (*a, *b):
            powers[base] = powers.get(base, Fraction(0)) + power
        kept = [(base, _ONE if base.name == "y" and power > 0 else power) for base, power in powers.items() if power]
        return tuple(sorted(kept, key=lambda pair: self.text(pair[0])))

    def term(self, product: Product, factor: Fraction) -> Polynomial:
        """One product as a polynomial; a sum that stands alone in it is a sum again."""
        inner = self.sum_alone(product)
        return {product: factor} if inner is None or abs(factor) != 1 else scaled(inner, factor)

    def sum_alone(self, product: Product) -> Polynomial | None:
        """The sum that a product is, if it is one and nothing else."""
        return self.sums.get(product[0][0]) if len(product) == 1 and product[0][1] == 1 else None

    def as_factor(self, a: Polynomial) -> Polynomial:
        """A sum as one factor: a number times the sum with 1 before its first term."""
        if len(a) < 2:
            return a
        leading = self.leading(a)
        if any(term_size(product, _ONE) == math.inf for product in a) or not 1 / _FACTORED < abs(leading) < _FACTORED:
            leading = _ONE if leading > 0 else -_ONE
        return {((self.expression(scaled(a, 1 / leading), exactly=True), _ONE),): leading}

    def factored(self, a: Polynomial, most: float = 0) -> Polynomial:
        """With the large terms of a sum as one factor, if more may cancel than this."""
        if is_harmless(a, most):
            return a
        large = {
            product: factor
            for product, factor in a.items()
            if term_size(product, factor) > most / 10 and self.sum_alone(product) is None
        }
        small = {product: factor for product, factor in a.items() if product not in large}
        return add(self.as_factor(large), small)

    def expression(self, a: Polynomial, exactly: bool = False) -> Expression:
        """A polynomial written, and remembered if it is a sum."""
        written = self.write(a, exactly)
        if len(a) > 1:
            self.sums[written] = a
        return written

    def leading(self, a: Polynomial) -> Fraction:
        """The number before the term that is written first, constants aside."""
        moving = {product: factor for product, factor in a.items() if product} or a
        first = min(moving, key=lambda product: self.text(self.write({product: _ONE})))
        return a[first]

    def is_negative(self, a: Polynomial) -> bool:
        """Whether the number before the term that is written first is negative."""
        return bool(a) and self.leading(a) < 0

    def root(self, a: Polynomial, exponent: Fraction) -> Polynomial:
        """A power of what is taken as one factor."""
        if value_of(a) is not None:
            return self.function("pow", a, number(exponent))
        ((product, factor),) = self.as_factor(a).items()
        alone = len(product) == 1 and product[0][1] == 1
        positive = factor > 0 and (alone or all(is_not_negative(base) for base, _ in product))
        if not positive and exponent.denominator != 1:
            product, factor = ((self.expression(a, exactly=True), _ONE),), _ONE
        powers = tuple((base, power * exponent) for base, power in product)
        outside = self.function("pow", number(factor), number(exponent))
        return self.multiplied({self.merged(powers, ()): _ONE}, outside)

    def function(self, op: str, *operands: Polynomial, exactly: bool = False) -> Polynomial:
        """A function, of numbers a number."""
        values = [value for operand in operands if (value := value_of(operand)) is not None]
        if len(values) == len(operands) and (result := exact_value(op, values)) is not None:
            return number(result)
        return self.opaque(op, *operands, exactly=exactly)

    def opaque(self, op: str, *operands: Polynomial, exactly: bool = False) -> Polynomial:
        """A function that nothing is known of."""
        written = (self.expression(operand, exactly) for operand in operands)
        return {((apply(op, *written), _ONE),): _ONE}
