"""Sums of products of powers with exact numbers before them."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final, NamedTuple, TypeAlias

from lossmith.formulas.arithmetic import ONE
from lossmith.formulas.expression import Expression, apply

Product: TypeAlias = tuple[tuple[Expression, Fraction], ...]
"""Bases with their exponents; empty for 1."""
Polynomial: TypeAlias = dict[Product, Fraction]
"""Products with the numbers before them; never a 0."""

EULER: Final = apply("exp", ONE)
"""The base of exponentials of numbers that are too large or too small to compute with."""
_NOT_NEGATIVE: Final = frozenset({"p", "c", "d", "n", "t", "y"})
_OUTWEIGHED: Final = Fraction(9, 10)


class Form(NamedTuple):
    """A part of a formula, written twice.

    Attributes:
        open: multiplied out, as long as the terms stay small; precise up to the size of its terms.
        closed: in factors where terms may cancel, so that nothing does that does not in the formula as written; for
            functions that are steep near 0.
    """

    open: Polynomial
    closed: Polynomial


def same(a: Polynomial) -> Form:
    """A part that is written one way."""
    return Form(a, a)


def number(value: Fraction) -> Polynomial:
    """A number as a polynomial."""
    return {(): value} if value else {}


def value_of(a: Polynomial) -> Fraction | None:
    """The number that a polynomial is, if it is one."""
    if not a:
        return Fraction(0)
    return a.get(()) if len(a) == 1 else None


def add(a: Polynomial, b: Polynomial) -> Polynomial:
    """The sum."""
    total = dict(a)
    for product, factor in b.items():
        total[product] = total.get(product, Fraction(0)) + factor
    return {product: factor for product, factor in total.items() if factor}


def scaled(a: Polynomial, factor: Fraction) -> Polynomial:
    """A number times a polynomial."""
    return {product: value * factor for product, value in a.items()} if factor else {}


def is_not_negative(base: Expression) -> bool:
    """Whether a base is known to have no negative values."""
    return base.name in _NOT_NEGATIVE or base.op in {"exp", "abs", "sigmoid", "softplus"}


def is_steady(a: Polynomial) -> bool:
    """Whether the terms of a polynomial cannot cancel: one term, all of one sign, or a constant that outweighs them."""
    if len(a) < 2:
        return True
    sign = 1 if next(iter(a.values())) > 0 else -1
    constant, against = abs(a.get((), Fraction(0))), Fraction(0)
    if a.get((), sign) * sign < 0:
        sign = -sign
    for product, factor in a.items():
        if factor * sign < 0 and all(base.name in {"p", "y", "t"} and power > 0 for base, power in product):
            against += abs(factor)
        elif factor * sign < 0 or not all(is_not_negative(base) or power.numerator % 2 == 0 for base, power in product):
            return False
    return against <= constant * _OUTWEIGHED


def is_harmless(a: Polynomial, most: float) -> bool:
    """Whether terms that cancel cost few digits: the sum of their sizes is at most so many."""
    return is_steady(a) or sum(term_size(*term) for term in a.items()) <= most


def term_size(product: Product, factor: Fraction) -> float:
    """How large a term may become where terms cancel, for terminals and functions about 1 in size."""
    exponent, falls, functions = 0.0, False, False
    for base, power in product:
        functions = functions or not base.name
        if base.op == "exp":
            exponent += abs(power)
        elif power < 0 and base.name not in {"p", "n"}:
            return math.inf
        falls = falls or (power < 0 and base.name == "p")
    # Powers of p differ where they are large, functions of p may all be the same there.
    if (falls and functions) or exponent > 20 or abs(factor) > 1e6:
        return math.inf
    return abs(float(factor)) * math.exp(exponent)
