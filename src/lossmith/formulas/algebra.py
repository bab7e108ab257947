"""Algebra on sums whose variables are expressions: expanding, factoring, and taking powers."""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import Final

from lossmith.formulas.exact import LONGEST, Rational, as_float, exact_value, parts_of, power, primitive, whole
from lossmith.formulas.expression import Expression, constant
from lossmith.formulas.terms import (
    Form,
    Product,
    Terms,
    Writer,
    add_to,
    is_not_negative,
    number,
    same,
    scaled,
    value_of,
)

_LARGEST: Final = 32  # a product of sums is expanded only up to this many terms
_HIGHEST: Final = 4  # highest power of a sum that is expanded
_FACTORED: Final = 10**30  # largest number that is factored out of a sum
_SHORT: Final = 10**6  # largest denominator that factoring a number out of a sum may leave


class Algebra(Writer):
    """Operations on sums; each sum that becomes a factor is remembered, so that it can become a sum again."""

    def __init__(self) -> None:
        super().__init__()
        self._sums: dict[Expression, Terms] = {}

    def product(self, *sums: Form) -> Form:
        """Multiply, and expand the result if it stays small."""
        factors = functools.reduce(self._multiplied, [self._as_factor(each.factors) for each in sums])
        lengths = [len(each.terms) for each in sums]
        if math.prod(lengths) > _LARGEST and sorted(lengths)[-2] > 1:
            return same(factors)
        terms = functools.reduce(self._multiplied, [each.terms for each in sums])
        return Form(factors if any(parts_of(each) > LONGEST for each in terms.values()) else terms, factors)

    def power(self, a: Form, exponent: Rational) -> Form:
        """Raise to a power."""
        if exponent == 0:
            return same(number(1))
        if exponent == 1:
            return a
        if exponent.denominator == 1 and 2 <= exponent <= _HIGHEST:
            return self.product(*[a] * int(exponent))
        if (value := value_of(a.factors)) is not None:
            return same(self.power_of(value, exponent))
        ((product, factor),) = self._as_factor(a.factors).items()
        alone = len(product) == 1 and product[0][1] == 1
        positive = factor > 0 and (alone or all(is_not_negative(base) for base, _ in product))
        if not positive and exponent.denominator != 1:
            product, factor = ((self.expression(a.factors), 1),), 1
        powers = tuple((base, power * exponent) for base, power in product)
        return same(self._multiplied(self.term(powers, 1), self.power_of(factor, exponent)))

    def power_of(self, value: Rational, exponent: Rational) -> Terms:
        """Raise a number to a power."""
        result = power(value, exponent)
        if result is not None:
            return number(result)
        bases = self.bases(value)
        if bases is None:
            return self.opaque("pow", number(value), number(exponent))
        return self.term(tuple((base, times * exponent) for base, times in bases), 1)

    def bases(self, value: Rational) -> list[tuple[Expression, int]] | None:
        """Write a positive number as a product of powers of doubles, or return None if it has too many digits."""
        if value <= 0:
            return None
        found = []
        parts: list[Rational] = [value]
        if as_float(value) != value:
            parts = [value.numerator, Fraction(1, value.denominator)]
        for part in parts:
            base, times = primitive(part)
            if as_float(base) != base:
                return None
            found.append((constant(float(base)), times))
        return found

    def term(self, product: Product, factor: Rational) -> Terms:
        """Normalise one product.

        Exponents of equal bases are added, powers of y are dropped (y is 0 or 1), numbers are computed, and the factors
        are sorted. A product that consists of one remembered sum becomes that sum again.
        """
        powers: dict[Expression, Rational] = {}
        for base, exponent in product:
            powers[base] = powers[base] + exponent if base in powers else exponent
        for base in [base for base in powers if base.is_constant]:
            value = power(Fraction(base.value), powers[base])
            if value is not None:
                factor *= value
                del powers[base]
        if not factor:  # exp(log(0)) times anything
            return {}
        kept = [(base, 1 if base.name == "y" and k > 0 else whole(k)) for base, k in powers.items() if k]
        if len(kept) == 1 and kept[0][1] == 1 and kept[0][0] in self._sums:
            return scaled(self._sums[kept[0][0]], factor)
        return {tuple(sorted(kept, key=lambda pair: self.text(pair[0]))): factor}

    def expression(self, a: Terms) -> Expression:
        """Write a sum as an expression, and remember it."""
        written = self.write(a)
        if len(a) > 1:
            self._sums[written] = a
        return written

    def is_negative(self, a: Terms) -> bool:
        """Whether the leading coefficient is negative."""
        return bool(a) and self._leading(a) < 0

    def function(self, op: str, *operands: Terms) -> Terms:
        """Apply a function; the result is a number if all operands are numbers and it is known exactly."""
        values = [value for operand in operands if (value := value_of(operand)) is not None]
        if len(values) == len(operands) and (result := exact_value(op, values)) is not None:
            return number(result)
        return self.opaque(op, *operands)

    def opaque(self, op: str, *operands: Terms) -> Terms:
        """Apply a function about which nothing more is known."""
        return {((self.apply(op, *map(self.expression, operands)), 1),): 1}

    def _multiplied(self, a: Terms, b: Terms) -> Terms:
        result: Terms = {}
        for product_a, factor_a in a.items():
            for product_b, factor_b in b.items():
                add_to(result, self.term((*product_a, *product_b), factor_a * factor_b))
        return result

    def _as_factor(self, a: Terms) -> Terms:
        """Write a sum as a single factor: a number times the sum whose first term has coefficient 1."""
        if len(a) < 2:
            return a
        leading = Fraction(self._leading(a))
        if not 1 / _FACTORED < abs(leading) < _FACTORED:
            leading = Fraction(1 if leading > 0 else -1)
        if not all(_is_short(factor / leading) for factor in a.values()):
            leading = Fraction(2) ** round(math.log2(abs(leading))) * (1 if leading > 0 else -1)
        return {((self.expression(scaled(a, 1 / leading)), 1),): whole(leading)}

    def _leading(self, a: Terms) -> Rational:
        """The coefficient of the term that is written first, constant terms aside."""
        moving = {product: factor for product, factor in a.items() if product} or a
        return a[min(moving, key=self.text_of_product)]


def _is_short(value: Rational) -> bool:
    """Whether a number is a double or has a small denominator."""
    return value.denominator < _SHORT or as_float(value) == value
