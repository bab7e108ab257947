"""Algebra on polynomials whose variables are expressions: expanding, factoring, and taking powers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Final, TypeAlias

from lossmith.formulas.exact import LONGEST, as_float, exact_value, parts_of, power, primitive
from lossmith.formulas.expression import Expression, apply, constant
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

_LARGEST: Final = 32  # a product of sums is expanded only up to this many terms
_FACTORED: Final = 10**30  # largest number that is factored out of a sum
_SHORT: Final = 10**6  # largest denominator that factoring a number out of a sum may leave
_MAGNIFIES: Final = 1e6  # terms larger than this may hide a cancellation in their factors
_ONE: Final = Fraction(1)


Write: TypeAlias = Callable[[Polynomial], Expression]
"""Writes a polynomial as an expression with exactly its value; equal polynomials give equal expressions."""


class Algebra:
    """Operations on polynomials whose variables are expressions.

    Args:
        write: writes a polynomial as an expression.
        text: gives the text of an expression; factors and terms are sorted by it.
    """

    def __init__(self, write: Write, text: Callable[[Expression], str]) -> None:
        self.write, self.text = write, text
        self.sums: dict[Expression, Polynomial] = {}

    def opened(self, a: Polynomial) -> Polynomial:
        """Replace each term that is a remembered sum by the terms of that sum."""
        result: Polynomial = {}
        for product, factor in a.items():
            inner = self.sum_alone(product)
            result = add(result, {product: factor} if inner is None else scaled(self.opened(inner), factor))
        return result

    def opened_out(self, factors: Polynomial, most: float, *sums: Polynomial) -> Polynomial:
        """Expand a product of sums if the result stays small and its terms do not cancel; else keep its factors."""
        if math.prod(map(len, sums)) > _LARGEST and sorted(map(len, sums))[-2] > 1:
            return factors
        result = functools.reduce(self.multiplied, sums)
        magnifies = most and any(term_size(*term) > _MAGNIFIES for term in result.items())
        long = any(parts_of(factor) > LONGEST for factor in result.values())
        return result if is_harmless(result, most) and not magnifies and not long else factors

    def multiplied(self, a: Polynomial, b: Polynomial) -> Polynomial:
        """The expanded product."""
        result: Polynomial = {}
        for product_a, factor_a in a.items():
            for product_b, factor_b in b.items():
                result = add(result, self.term((*product_a, *product_b), factor_a * factor_b))
        return result

    def term(self, product: Product, factor: Fraction) -> Polynomial:
        """Normalise one product and return it as a polynomial.

        Exponents of equal bases are added, powers of y are dropped (y is 0 or 1), numbers are computed, and the factors
        are sorted. A product that consists of one remembered sum becomes that sum again.
        """
        powers: dict[Expression, Fraction] = {}
        for base, exponent in product:
            powers[base] = powers.get(base, Fraction(0)) + exponent
        for base in [base for base in powers if base.is_constant]:
            value = power(Fraction(base.value), powers[base])
            if value is not None:
                factor *= value
                del powers[base]
        kept = [(base, _ONE if base.name == "y" and k > 0 else k) for base, k in powers.items() if k]
        product = tuple(sorted(kept, key=lambda pair: self.text(pair[0])))
        inner = self.sum_alone(product)
        return {product: factor} if inner is None or abs(factor) != 1 else scaled(inner, factor)

    def sum_alone(self, product: Product) -> Polynomial | None:
        """The remembered sum that a product consists of, or None."""
        return self.sums.get(product[0][0]) if len(product) == 1 and product[0][1] == 1 else None

    def as_factor(self, a: Polynomial) -> Polynomial:
        """Write a sum as a single factor: a number times the sum whose first term has coefficient 1."""
        if len(a) < 2:
            return a
        leading = self.leading(a)
        if any(term_size(product, _ONE) == math.inf for product in a) or not 1 / _FACTORED < abs(leading) < _FACTORED:
            leading = _ONE if leading > 0 else -_ONE
        if not all(_is_short(factor / leading) for factor in a.values()):
            leading = Fraction(2) ** round(math.log2(abs(leading))) * (1 if leading > 0 else -1)
        return {((self.expression(scaled(a, 1 / leading)), _ONE),): leading}

    def factored(self, a: Polynomial, most: float = 0) -> Polynomial:
        """Collect the large terms of a sum into one factor if more than ``most`` may cancel among them."""
        if is_harmless(a, most):
            return a
        large = {
            product: factor
            for product, factor in a.items()
            if term_size(product, factor) > most / 10 and self.sum_alone(product) is None
        }
        small = {product: factor for product, factor in a.items() if product not in large}
        return add(self.as_factor(large), small)

    def expression(self, a: Polynomial) -> Expression:
        """Write a polynomial as an expression, and remember it if it is a sum."""
        written = self.write(a)
        if len(a) > 1:
            self.sums[written] = a
        return written

    def leading(self, a: Polynomial) -> Fraction:
        """The coefficient of the term that is written first, constant terms aside."""
        moving = {product: factor for product, factor in a.items() if product} or a
        first = min(moving, key=lambda product: self.text(self.write({product: _ONE})))
        return a[first]

    def is_negative(self, a: Polynomial) -> bool:
        """Whether the leading coefficient is negative."""
        return bool(a) and self.leading(a) < 0

    def root(self, a: Polynomial, exponent: Fraction) -> Polynomial:
        """Raise a polynomial, taken as a single factor, to a power."""
        if (value := value_of(a)) is not None:
            return self.power_of(value, exponent)
        ((product, factor),) = self.as_factor(a).items()
        alone = len(product) == 1 and product[0][1] == 1
        positive = factor > 0 and (alone or all(is_not_negative(base) for base, _ in product))
        if not positive and exponent.denominator != 1:
            product, factor = ((self.expression(a), _ONE),), _ONE
        powers = tuple((base, power * exponent) for base, power in product)
        return self.multiplied(self.term(powers, _ONE), self.power_of(factor, exponent))

    def power_of(self, value: Fraction, exponent: Fraction) -> Polynomial:
        """Raise a number to a power."""
        result = power(value, exponent)
        if result is not None:
            return number(result)
        bases = self.bases(value)
        if bases is None:
            return self.opaque("pow", number(value), number(exponent))
        return self.term(tuple((base, times * exponent) for base, times in bases), _ONE)

    def bases(self, value: Fraction) -> list[tuple[Expression, int]] | None:
        """Write a positive number as a product of powers of doubles, or return None if it has too many digits."""
        if value <= 0:
            return None
        found = []
        for part in (
            [value] if as_float(value) == value else [Fraction(value.numerator), Fraction(1, value.denominator)]
        ):
            base, times = primitive(part)
            if as_float(base) != base:
                return None
            found.append((constant(float(base)), times))
        return found

    def function(self, op: str, *operands: Polynomial) -> Polynomial:
        """Apply a function; the result is a number if all operands are numbers and it is known exactly."""
        values = [value for operand in operands if (value := value_of(operand)) is not None]
        if len(values) == len(operands) and (result := exact_value(op, values)) is not None:
            return number(result)
        return self.opaque(op, *operands)

    def opaque(self, op: str, *operands: Polynomial) -> Polynomial:
        """Apply a function about which nothing more is known."""
        return {((apply(op, *map(self.expression, operands)), _ONE),): _ONE}


def _is_short(value: Fraction) -> bool:
    """Whether a number is a double or has a small denominator."""
    return value.denominator < _SHORT or as_float(value) == value
