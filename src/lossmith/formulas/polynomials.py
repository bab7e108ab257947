"""Polynomials: sums of products of powers with exact coefficients."""

from __future__ import annotations

import functools
import math
from fractions import Fraction
from typing import Final, NamedTuple, TypeAlias

from lossmith.formulas.arithmetic import ONE
from lossmith.formulas.arithmetic import number as float_of
from lossmith.formulas.exact import as_float, log_size
from lossmith.formulas.expression import Expression, apply, fold

Product: TypeAlias = tuple[tuple[Expression, Fraction], ...]
"""Pairs of a base and its exponent; the empty product is 1."""
Polynomial: TypeAlias = dict[Product, Fraction]
"""Products with their nonzero coefficients."""

EULER: Final = apply("exp", ONE)
"""Euler's number, the base in which exponentials of numbers are stored."""
_NOT_NEGATIVE: Final = frozenset({"p", "c", "d", "n", "t", "y"})
_LARGEST_POWER: Final = 6
_LARGEST_EXPONENT: Final = 20
_VAST: Final = 1e9
_LOG_VAST: Final = math.log(_VAST)
_SMALLEST: Final = 1e-300
_FAR: Final = 700.0
_OUTWEIGHED: Final = 0.9


class Form(NamedTuple):
    """A part of a formula in two equal forms.

    Attributes:
        open: expanded as long as the terms stay small; its precision is relative to the size of its terms.
        closed: kept in factors where terms may cancel, so that it cancels no more than the formula as written.
            Functions that are steep near 0 need this form.
    """

    open: Polynomial
    closed: Polynomial


def same(a: Polynomial) -> Form:
    """A part whose two forms are the same."""
    return Form(a, a)


def number(value: Fraction) -> Polynomial:
    """The constant polynomial."""
    return {(): value} if value else {}


def value_of(a: Polynomial) -> Fraction | None:
    """The value of a constant polynomial, or None if it is not constant."""
    if not a:
        return Fraction(0)
    return a.get(()) if len(a) == 1 else None


def add(a: Polynomial, b: Polynomial) -> Polynomial:
    """The sum of two polynomials."""
    total = dict(a)
    for product, factor in b.items():
        total[product] = total.get(product, Fraction(0)) + factor
    return {product: factor for product, factor in total.items() if factor}


def scaled(a: Polynomial, factor: Fraction) -> Polynomial:
    """The polynomial multiplied by a number."""
    return {product: value * factor for product, value in a.items()} if factor else {}


def is_not_negative(base: Expression) -> bool:
    """Whether a base is known to be nonnegative."""
    return base.name in _NOT_NEGATIVE or base.value > 0 or base.op in {"exp", "abs", "sigmoid", "softplus"}


def is_steady(a: Polynomial) -> bool:
    """Whether terms cannot cancel: there is one term, all have one sign, or a constant outweighs the others."""
    if len(a) < 2:
        return True
    sign = 1 if next(iter(a.values())) > 0 else -1
    constant, against = abs(a.get((), Fraction(0))), 0.0
    if a.get((), sign) * sign < 0:
        sign = -sign
    for product, factor in a.items():
        size, product = _without_numbers(product)
        if factor * sign < 0 and all(base.name in {"p", "y", "t"} and power > 0 for base, power in product):
            against += abs(as_float(factor)) * size
        elif factor * sign < 0 or not all(is_not_negative(base) or power.numerator % 2 == 0 for base, power in product):
            return False
    return against <= as_float(constant) * _OUTWEIGHED


def is_harmless(a: Polynomial, most: float) -> bool:
    """Whether cancellation costs few digits, because the sizes of the terms sum to at most ``most``."""
    return is_steady(a) or sum(term_size(*term) for term in a.items()) <= most


def term_size(product: Product, factor: Fraction) -> float:
    """An estimate of the largest size of a term, for p, y, t, c and n up to 1."""
    size, product = _without_numbers(product)
    log, falls, functions = math.log(size) + log_size(factor), False, False
    for base, power in product:
        if base.op == "exp":
            log += as_float(abs(power)) * _reach(base.args[0])
        elif abs(power) > _LARGEST_POWER or (power < 0 and base.name not in {"p", "n"}):
            return math.inf
        else:
            log += math.log(max(_SMALLEST, _reach(base))) * max(0.0, float(power))
        functions = functions or not base.name
        falls = falls or (power < 0 and base.name == "p")
    # Where negative powers of p are large they differ from each other, but functions of p may be equal and cancel.
    return math.inf if (falls and functions) or log >= _LOG_VAST else math.exp(log)


def _without_numbers(product: Product) -> tuple[float, Product]:
    """Split a product into the size of its numbers and its other factors."""
    size = sum(as_float(power) * _log_size(base) for base, power in product if not base.terminals)
    return math.exp(max(-_FAR, min(size, _FAR))), tuple(pair for pair in product if pair[0].terminals)


@functools.lru_cache(maxsize=4096)
def _log_size(base: Expression) -> float:
    """The logarithm of the absolute value of a constant expression, limited to a large number."""
    size = abs(float_of(base))
    return math.log(size) if 0 < size < math.inf else _FAR


@functools.lru_cache(maxsize=4096)
def _reach(expression: Expression) -> float:
    """An estimate of the largest size of an expression, for p, y, t, c and n up to 1."""

    def reach(node: Expression, sizes: list[float]) -> float:
        if not node.terminals:
            size = abs(float_of(node))
            return min(_VAST, size) if size < math.inf else _VAST
        match node.op:
            case "mul":
                return min(_VAST, sizes[0] * sizes[1])
            case "pow":
                return float(min(_VAST, max(1.0, sizes[0]) ** min(_LARGEST_POWER, max(0.0, _fixed(node.args[1])))))
            case "exp" | "expm1":
                return _grown(sizes[0])
            case "add" | "sub" | "neg" | "abs" | "min" | "max" | "softplus":
                return min(_VAST, 1 + sum(sizes))
            case _:
                return 1.0

    return fold(expression, reach)


def _fixed(exponent: Expression) -> float:
    return 0.0 if exponent.terminals else float_of(exponent)


def _grown(exponent: float) -> float:
    return math.exp(exponent) if exponent < _LARGEST_EXPONENT else _VAST
