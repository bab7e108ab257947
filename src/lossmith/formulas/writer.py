"""Conversion of polynomials to expressions with sorted terms and intermediate values within the range of floats."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final, NamedTuple

from lossmith.formulas.arithmetic import ZERO, scalar
from lossmith.formulas.errors import FormulaError
from lossmith.formulas.exact import as_float, is_negative, log_size, negative, numeral, numerals, summed
from lossmith.formulas.expression import Expression, apply, constant, fold, terminal
from lossmith.formulas.polynomials import EULER, Polynomial, Product
from lossmith.formulas.printer import to_text

_MAX_NODES: Final = 20_000
_C: Final = terminal("c")
_LOG_2: Final = apply("log", constant(2.0))
_ONE: Final = Fraction(1)
_TAME_EXPONENT: Final = 300  # e to this power times any number up to e**100 is a float
_TAME_NUMBER: Final = 600  # logarithm of the largest coefficient of a product
_TAME_NUMBER_WITH_POWERS: Final = 20  # the same if the product has powers of p, which may be large or small
_TAME_POWER: Final = 4


class _Term(NamedTuple):
    factors: tuple[Expression, ...]
    value: Fraction


class Writer:
    """Writes polynomials as expressions; equal polynomials give equal expressions."""

    def __init__(self) -> None:
        self.texts: dict[Expression, str] = {}

    def __call__(self, polynomial: Polynomial) -> Expression:
        """Write a polynomial with every number exact.

        Raises:
            FormulaError: if the expression would have more than 20,000 nodes, or a number cannot be written.
        """
        terms: list[_Term] = []
        rest = dict(polynomial)
        for product in polynomial:
            if product in rest:
                terms.append(self._growth(product, rest) or self._term(product, rest.pop(product)))
        return self._sum(terms)

    def text(self, expression: Expression) -> str:
        """The text of an expression, cached."""
        return to_text(expression, self.texts)

    def _sum(self, terms: list[_Term]) -> Expression:
        """Write a sum of terms; digits of coefficients beyond a double come last."""
        terms = [term for term in terms if term.value]
        terms.sort(key=lambda term: [self.text(factor) for factor in term.factors])
        written = [(term.factors, _parts(*term)) for term in terms]
        parts = [(factors, first) for factors, (first, *_) in written]
        parts += [(factors, part) for factors, (_, *beyond) in written for part in beyond]
        total: Expression | None = None
        for factors, part in parts:
            if total is None:
                total = _joined(factors, summed(part))
            elif is_negative(part[0]):
                total = apply("sub", total, _joined(factors, summed(tuple(map(negative, part)))))
            else:
                total = apply("add", total, _joined(factors, summed(part)))
        if total is not None and total.size > _MAX_NODES:
            raise FormulaError(f"the canonical form of the formula would have more than {_MAX_NODES} nodes")
        return total or ZERO

    def _growth(self, product: Product, rest: Polynomial) -> _Term | None:
        """Write ``a exp(b) - a`` as ``a expm1(b)``, which does not cancel, and remove both terms from ``rest``."""
        for grows in (_is_moving_exponential, _is_exponential, _is_odd_power, _is_either):
            grown = tuple(pair for pair in product if grows(*pair))
            fixed = tuple(pair for pair in product if not grows(*pair))
            if grown and rest.get(fixed) == -rest[product]:
                del rest[fixed]
                exponent = self._sum([_in_exponent(base, power) for base, power in grown])
                factors, value = self._term(fixed, rest.pop(product))
                return _Term(tuple(sorted((*factors, apply("expm1", exponent)), key=self.text)), value)
        return None

    def _term(self, product: Product, factor: Fraction) -> _Term:
        """Sort the factors, and merge exponentials and factors that might overflow into one exponential."""
        if not product and as_float(factor) == factor:
            return _Term((), factor)
        exponents = [_in_exponent(*pair) for pair in product if pair[0].op == "exp"]
        powers = [(base, power) for base, power in product if base.op != "exp"]
        size = log_size(factor) + sum(as_float(power) * math.log(base.value) for base, power in powers if base.value)
        if _is_wild(exponents, powers, size):
            twos = round(log_size(factor) / math.log(2))
            factor /= Fraction(2) ** twos
            exponents.append(_Term((_LOG_2,), Fraction(twos)))
            exponents += [_in_exponent(base, power) for base, power in powers if _is_absorbed(base, power)]
            powers = [(base, power) for base, power in powers if not _is_absorbed(base, power)]
            if powers:
                return self._in_halves(exponents, powers, factor)
        factors = self._factors(powers)
        if exponents:
            factors.append(apply("exp", self._sum(exponents)))
        return _Term(tuple(sorted(factors, key=self.text)), factor)

    def _in_halves(self, exponents: list[_Term], powers: list[tuple[Expression, Fraction]], factor: Fraction) -> _Term:
        """Put half of the exponential before and half after the other factors, so that no partial product overflows."""
        half = apply("exp", self._sum([_Term(factors, value / 2) for factors, value in exponents]))
        others = sorted(self._factors(powers), key=self.text)
        return _Term((half, *others, half), factor)

    def _factors(self, powers: list[tuple[Expression, Fraction]]) -> list[Expression]:
        return [base if power == 1 else apply("pow", base, numeral(power)) for base, power in powers]


def _is_wild(exponents: list[_Term], powers: list[tuple[Expression, Fraction]], size: float) -> bool:
    """Whether computing a product might overflow or underflow although its value is within the range of floats."""
    reach = sum(abs(as_float(value)) if all(map(_is_bounded, factors)) else math.inf for factors, value in exponents)
    powers = [(base, power) for base, power in powers if not base.is_constant]
    high = any(_is_absorbed(base, power) for base, power in powers if power < 0 or power > _TAME_POWER)
    if exponents:
        return high or reach > _TAME_EXPONENT or abs(size) > _TAME_EXPONENT
    if abs(size) > (_TAME_NUMBER_WITH_POWERS if high else _TAME_NUMBER):
        return True
    return high and sum(_is_absorbed(base, _TAME_POWER + _ONE) for base, _ in powers) > 1


def _is_absorbed(base: Expression, power: Fraction) -> bool:
    """Whether a power is merged into the exponential."""
    return base.is_constant or base.name in {"p", "n"} or (base.name in {"c", "t"} and abs(power) > _TAME_POWER)


def _in_exponent(base: Expression, power: Fraction) -> _Term:
    """Write a power as a term of an exponent."""
    if base == EULER:
        return _Term((), power)
    if base.op == "exp":
        return _Term(tuple(_unwrapped(base.args[0])), power)
    if base.name == "p":
        return _Term((_C,), -power)
    return _Term((apply("log", base),), power)


def _is_moving_exponential(base: Expression, power: Fraction) -> bool:
    return base.op == "exp" and base != EULER


def _is_exponential(base: Expression, power: Fraction) -> bool:
    return base.op == "exp"


def _is_odd_power(base: Expression, power: Fraction) -> bool:
    """Whether this is a power of p with a negative or fractional exponent."""
    return base.name == "p" and (power < 0 or power.denominator > 1)


def _is_either(base: Expression, power: Fraction) -> bool:
    return _is_moving_exponential(base, power) or _is_odd_power(base, power)


def _is_bounded(expression: Expression) -> bool:
    """Whether an expression is known to lie in [-1, 1], for p, y and t in [0, 1]."""

    def known(node: Expression, operands: list[tuple[bool, float]]) -> tuple[bool, float]:
        """Whether a node is bounded, and its value if it is constant."""
        if not node.terminals:
            value = node.value if node.is_constant else scalar(node.op, [number for _, number in operands])
            return abs(value) <= 1, value
        if node.op == "pow":
            (bounded, _), (_, exponent) = operands
            return bounded and exponent > 0, math.nan
        if node.op == "mul":
            return all(bounded for bounded, _ in operands), math.nan
        return node.name in {"p", "y", "t"} or node.op in {"sin", "cos", "tanh", "sigmoid", "sign"}, math.nan

    return fold(expression, known)[0]


def _unwrapped(product: Expression) -> list[Expression]:
    """Split a product made by `_joined` into its factors."""
    factors: list[Expression] = []
    while product.op == "mul":
        product, factor = product.args
        factors.append(factor)
    return [product, *reversed(factors)]


def _parts(factors: tuple[Expression, ...], value: Fraction) -> list[tuple[Expression, ...]]:
    """The parts of a coefficient: separate if the factors are bounded, else as one sum, so that nothing cancels."""
    found = numerals(value)
    return [(each,) for each in found] if all(map(_is_bounded, factors)) else [found]


def _joined(factors: tuple[Expression, ...], value: Expression) -> Expression:
    """Multiply a number by factors."""
    if not factors:
        return value
    alone = value.is_constant and abs(value.value) == 1
    result = factors[0] if alone else apply("mul", value, factors[0])
    for factor in factors[1:]:
        result = apply("mul", result, factor)
    return apply("neg", result) if value.is_number(-1) else result
