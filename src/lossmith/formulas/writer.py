"""Polynomials as expressions: terms in the order of their texts, no part beyond the range of floats."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final, NamedTuple

from lossmith.formulas.errors import FormulaError
from lossmith.formulas.exact import exponential, logarithm
from lossmith.formulas.expression import Expression, apply, constant, fold, terminal
from lossmith.formulas.polynomials import EULER, Polynomial, Product
from lossmith.formulas.printer import to_text

_DIGITS: Final = 12
_ALL_DIGITS: Final = 17
_MORE_DIGITS: Final = 3  # of a number that has become an exponent
_MAX_NODES: Final = 20_000
_C: Final = terminal("c")
_ONE: Final = Fraction(1)
_TAME_EXPONENT: Final = 300  # e to this, times any number up to e**100, is a float
_TAME_NUMBER: Final = 600  # logarithm of the largest number that stands before factors
_TAME_NUMBER_WITH_POWERS: Final = 20  # and before powers of p that may be large or small themselves
_TAME_POWER: Final = 4


class _Term(NamedTuple):
    factors: tuple[Expression, ...]
    value: float


class Writer:
    """Turns polynomials into expressions, equal ones into equal ones."""

    def __init__(self) -> None:
        self.texts: dict[Expression, str] = {}

    def __call__(self, polynomial: Polynomial, exactly: bool = False) -> Expression:
        """Write a polynomial.

        Args:
            polynomial: the polynomial.
            exactly: write numbers with all digits of a float instead of 12.

        Returns:
            The expression.

        Raises:
            FormulaError: if it would have more than 20,000 nodes.
        """
        digits = _ALL_DIGITS if exactly else _DIGITS
        terms: list[_Term] = []
        rest = dict(polynomial)
        for product in polynomial:
            if product in rest:
                terms.append(self._growth(product, rest, digits) or self._term(product, rest.pop(product), digits))
        return self._sum(terms)

    def text(self, expression: Expression) -> str:
        """`str`, remembered."""
        return to_text(expression, self.texts)

    def _sum(self, terms: list[_Term]) -> Expression:
        """The sum of numbers times factors; of nothing, 0."""
        terms = [term for term in terms if term.value]
        terms.sort(key=lambda term: [self.text(factor) for factor in term.factors])
        total: Expression | None = None
        for factors, value in terms:
            if total is None:
                total = _joined(factors, value)
            else:
                total = apply("sub" if value < 0 else "add", total, _joined(factors, abs(value)))
        if total is not None and total.size > _MAX_NODES:
            raise FormulaError(f"the canonical form of the formula would have more than {_MAX_NODES} nodes")
        return total or constant(0.0)

    def _growth(self, product: Product, rest: Polynomial, digits: int) -> _Term | None:
        """``a exp(b) - a`` as ``a expm1(b)``, which does not cancel; both are taken from the rest."""
        for grows in (_is_exponential, _is_odd_power, _is_either):
            grown = tuple(pair for pair in product if grows(*pair))
            fixed = tuple(pair for pair in product if not grows(*pair))
            if grown and rest.get(fixed) == -rest[product]:
                del rest[fixed]
                exponent = self._sum([_in_exponent(base, power, digits) for base, power in grown])
                factors, value = self._term(fixed, rest.pop(product), digits)
                return _Term(tuple(sorted((*factors, apply("expm1", exponent)), key=self.text)), value)
        return None

    def _term(self, product: Product, factor: Fraction, digits: int) -> _Term:
        """Factors in the order of their texts; all exponentials are one, with what might leave the range of floats."""
        exponents = [_in_exponent(*pair, digits) for pair in product if pair[0].op == "exp" and pair[0] != EULER]
        powers = [(base, power) for base, power in product if base.op != "exp"]
        fixed = dict(product).get(EULER, Fraction(0))
        if _is_wild(exponents, powers, rounded(fixed) + _log_size(factor)):
            exponents.append(_Term((), rounded(fixed + (logarithm(abs(factor)) or 0), digits + _MORE_DIGITS)))
            exponents += [_in_exponent(base, power, digits) for base, power in powers if _is_absorbed(base, power)]
            powers = [(base, power) for base, power in powers if not _is_absorbed(base, power)]
            factor = _ONE if factor > 0 else -_ONE
            if powers:
                return self._in_halves(exponents, powers, factor, digits)
        elif fixed:
            factor *= exponential(fixed) or 0
        factors = self._factors(powers, digits)
        if exponents:
            digits += _MORE_DIGITS
            factors.append(apply("exp", self._sum(exponents)))
        return _Term(tuple(sorted(factors, key=self.text)), rounded(factor, digits))

    def _in_halves(
        self, exponents: list[_Term], powers: list[tuple[Expression, Fraction]], factor: Fraction, digits: int
    ) -> _Term:
        """A half of the exponential before and a half after the other factors, so that no part is beyond the whole."""
        half = apply("exp", self._sum([_Term(factors, value / 2) for factors, value in exponents]))
        others = sorted(self._factors(powers, digits), key=self.text)
        return _Term((half, *others, half), rounded(factor))

    def _factors(self, powers: list[tuple[Expression, Fraction]], digits: int) -> list[Expression]:
        return [base if power == 1 else apply("pow", base, constant(rounded(power, digits))) for base, power in powers]


def rounded(number: Fraction, digits: int = _DIGITS) -> float:
    """A number to so many digits, of one above 1 to so many after the point.

    Raises:
        FormulaError: if it is too large or too small for a float.
    """
    try:
        value = float(number)
    except OverflowError:
        value = math.inf
    if math.isinf(value) or (number and not value):
        raise FormulaError("a number of the formula leaves the range of floats when constants are folded")
    before = max(0, math.ceil(math.log10(abs(value)))) if value else 0
    return float(f"{value:.{min(_ALL_DIGITS, digits + before)}g}")


def _is_wild(exponents: list[_Term], powers: list[tuple[Expression, Fraction]], size: float) -> bool:
    """Whether a product might leave the range of floats on the way to a value within it."""
    reach = sum(abs(value) if all(map(_is_bounded, factors)) else math.inf for factors, value in exponents)
    high = any(_is_absorbed(base, power) for base, power in powers if power < 0 or power > _TAME_POWER)
    if exponents:
        return high or reach > _TAME_EXPONENT or abs(size) > _TAME_EXPONENT
    if abs(size) > (_TAME_NUMBER_WITH_POWERS if high else _TAME_NUMBER):
        return True
    return high and sum(_is_absorbed(base, _TAME_POWER + _ONE) for base, _ in powers) > 1


def _is_absorbed(base: Expression, power: Fraction) -> bool:
    """Whether a power can be written as an exponential."""
    return base.name in {"p", "n"} or (base.name in {"c", "t"} and abs(power) > _TAME_POWER)


def _in_exponent(base: Expression, power: Fraction, digits: int) -> _Term:
    """A power as a term of an exponent."""
    if base == EULER:
        return _Term((), rounded(power, digits))
    if base.op == "exp":
        return _Term(tuple(_unwrapped(base.args[0])), rounded(power, digits))
    if base.name == "p":
        return _Term((_C,), rounded(-power, digits))
    return _Term((apply("log", base),), rounded(power, digits))


def _is_exponential(base: Expression, power: Fraction) -> bool:
    return base.op == "exp"


def _is_odd_power(base: Expression, power: Fraction) -> bool:
    """Of p, and not simply a product of some p."""
    return base.name == "p" and (power < 0 or power.denominator > 1)


def _is_either(base: Expression, power: Fraction) -> bool:
    return _is_exponential(base, power) or _is_odd_power(base, power)


def _is_bounded(expression: Expression) -> bool:
    """Whether an expression is known to be at most 1 in size, for p, y and t up to 1."""

    def known(node: Expression, operands: list[bool]) -> bool:
        if node.op in {"sin", "cos", "tanh", "sigmoid", "sign"}:
            return True
        if node.op == "pow":
            return operands[0] and node.args[1].is_constant and node.args[1].value > 0
        return node.name in {"p", "y", "t"} or (node.op == "mul" and all(operands))

    return fold(expression, known)


def _log_size(number: Fraction) -> float:
    """The logarithm of the size of a number, also of one that no float holds."""
    return math.log(abs(number.numerator)) - math.log(number.denominator)


def _unwrapped(product: Expression) -> list[Expression]:
    """The factors that `_joined` made a product of."""
    factors: list[Expression] = []
    while product.op == "mul":
        product, factor = product.args
        factors.append(factor)
    return [product, *reversed(factors)]


def _joined(factors: tuple[Expression, ...], value: float) -> Expression:
    """A number times factors."""
    if not factors:
        return constant(value)
    result = factors[0] if abs(value) == 1 else apply("mul", constant(value), factors[0])
    for factor in factors[1:]:
        result = apply("mul", result, factor)
    return apply("neg", result) if value == -1 else result
