"""Sums of products of powers, with exact coefficients and exponents: the data of canonical forms."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final, NamedTuple, TypeAlias

from lossmith.formulas.arithmetic import ONE, ZERO
from lossmith.formulas.errors import FormulaError
from lossmith.formulas.exact import Rational, is_negative, log_size, negative, numeral, numerals, whole
from lossmith.formulas.expression import Expression, apply, constant
from lossmith.formulas.printer import to_text

Product: TypeAlias = tuple[tuple[Expression, Rational], ...]
"""Pairs of a base and its exponent; the empty product is 1."""
Terms: TypeAlias = dict[Product, Rational]
"""A sum: products with their nonzero coefficients."""

EULER: Final = apply("exp", ONE)
"""Euler's number, the base in which exponentials of numbers are stored."""
_LOG_2: Final = apply("log", constant(2.0))
_NOT_NEGATIVE: Final = frozenset({"p", "c", "d", "n", "t", "y"})
_LARGEST_LOG: Final = 600  # of a coefficient; powers of two beyond it become exponentials
_MAX_NODES: Final = 20_000


class Form(NamedTuple):
    """A part of a formula, expanded and in factors.

    Attributes:
        terms: the expanded sum; a product that would have too many terms stays as it is.
        factors: the same as a single product, or as the same sum.
    """

    terms: Terms
    factors: Terms


def same(a: Terms) -> Form:
    """A part that is no product of sums."""
    return Form(a, a)


def number(value: Rational) -> Terms:
    """A number as a sum."""
    return {(): whole(value)} if value else {}


def value_of(a: Terms) -> Rational | None:
    """The value of a sum without variables, otherwise None."""
    if not a:
        return 0
    return a.get(()) if len(a) == 1 else None


def add(a: Terms, b: Terms) -> Terms:
    """The sum of two sums."""
    total = dict(a)
    add_to(total, b)
    return total


def add_to(total: Terms, b: Terms) -> None:
    """Add a sum to another one, which is changed."""
    for product, factor in b.items():
        known = total.get(product)
        if known is None:
            total[product] = factor
        elif known == -factor:
            del total[product]
        else:
            total[product] = known + factor


def scaled(a: Terms, factor: Rational) -> Terms:
    """A sum times a number."""
    if factor == 1:
        return a
    return {product: whole(value * factor) for product, value in a.items()} if factor else {}


def is_not_negative(base: Expression) -> bool:
    """Whether a base is known to be nonnegative."""
    return base.name in _NOT_NEGATIVE or base.value > 0 or base.op in {"exp", "abs", "sigmoid", "softplus"}


class Writer:
    """Writes sums as expressions with exactly their values; equal sums give equal expressions.

    Attributes:
        exponents: for each exponential that is a base, the product in its exponent.
    """

    def __init__(self) -> None:
        self._texts: dict[Expression, str] = {}
        self._written: dict[tuple[tuple[Product, Rational], ...], Expression] = {}  # nested sums are written often
        self._made: dict[tuple[str, tuple[Expression, ...]], Expression] = {}
        self._product_texts: dict[Product, str] = {}
        self.exponents: dict[Expression, Product] = {EULER: ()}

    def text(self, expression: Expression) -> str:
        """The text of an expression, by which factors and terms are sorted."""
        return self._texts.get(expression) or to_text(expression, self._texts)

    def text_of_product(self, product: Product) -> str:
        """The text of a product."""
        if product not in self._product_texts:
            self._product_texts[product] = self.text(self.write({product: 1}))
        return self._product_texts[product]

    def apply(self, op: str, *args: Expression) -> Expression:
        """Apply an operator; equal results are one object, which makes them fast to compare."""
        key = op, args
        if key not in self._made:
            self._made[key] = apply(op, *args)
        return self._made[key]

    def write(self, a: Terms) -> Expression:
        """Write a sum, the digits of coefficients beyond a double last.

        Raises:
            FormulaError: if the expression would have more than 20,000 nodes, or a number cannot be written.
        """
        key = tuple(a.items())
        if key not in self._written:
            self._written[key] = self._write(a)
        return self._written[key]

    def _write(self, a: Terms) -> Expression:
        written = [self._factors(*term) for term in a.items()]
        written.sort(key=lambda term: [self.text(factor) for factor in term[0]])
        parts = [(factors, numerals(value)) for factors, value in written]
        total: Expression | None = None
        for factors, part in [
            *((factors, first) for factors, (first, *_) in parts),
            *((factors, each) for factors, (_, *beyond) in parts for each in beyond),
        ]:
            if total is None:
                total = self._times(part, factors)
            elif is_negative(part):
                total = self.apply("sub", total, self._times(negative(part), factors))
            else:
                total = self.apply("add", total, self._times(part, factors))
        if total is not None and total.size > _MAX_NODES:
            raise FormulaError(f"the canonical form of the formula would have more than {_MAX_NODES} nodes")
        return total or ZERO

    def _factors(self, product: Product, coefficient: Rational) -> tuple[list[Expression], Rational]:
        """The sorted factors of a term, its exponentials merged into one, and the coefficient that is left."""
        exponent = {self.exponents[base]: power for base, power in product if base.op == "exp"}
        if abs(log_size(coefficient)) > _LARGEST_LOG:
            twos = round(log_size(coefficient) / math.log(2))
            coefficient /= Fraction(2) ** twos
            exponent = add(exponent, {((_LOG_2, 1),): twos})
        factors = [
            base if power == 1 else self.apply("pow", base, numeral(power))
            for base, power in product
            if base.op != "exp"
        ]
        if exponent:
            factors.append(self.apply("exp", self.write(exponent)))
        return sorted(factors, key=self.text), coefficient

    def _times(self, value: Expression, factors: list[Expression]) -> Expression:
        """Multiply a number by factors."""
        if not factors:
            return value
        alone = value.is_constant and abs(value.value) == 1
        result = factors[0] if alone else self.apply("mul", value, factors[0])
        for factor in factors[1:]:
            result = self.apply("mul", result, factor)
        return self.apply("neg", result) if value.is_number(-1) else result
