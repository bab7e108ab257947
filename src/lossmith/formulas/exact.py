"""Exact arithmetic on the numbers of a formula: rational results are computed, all others stay symbolic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Final, TypeAlias

from lossmith.formulas.errors import FormulaError
from lossmith.formulas.expression import Expression, apply, constant
from lossmith.formulas.printer import number_text

_LARGEST_BITS: Final = 20_000  # size of an integer power
_LARGEST_ROOT: Final = 64  # degree
Rational: TypeAlias = Fraction | int
"""An exact number. Whole ones are ints where that is known, which compute and hash many times faster."""

LONGEST: Final = 4
"""A result is computed only if it can be written with this many doubles; longer ones stay symbolic."""
_MOST_PARTS: Final = 40  # most doubles in a sum that represents one number
_SHIFTS: Final = sorted(range(-64, 65), key=abs)  # powers of two tried to find a short quotient


def exact_value(op: str, operands: Sequence[Rational]) -> Rational | None:
    """The result of an operator on rational numbers if it is known to be rational and short, otherwise None."""
    return _EXACT[op](*operands) if op in _EXACT else None


def power(base: Rational, exponent: Rational) -> Rational | None:
    """A power if it is rational and short, otherwise None."""
    if not base:
        return None if exponent < 0 else int(not exponent)
    if base == 1:
        return base
    if exponent.denominator > 1:
        base_root = _root(base, exponent.denominator)
        if base_root is None:
            return None
        base = base_root
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    times = exponent.numerator
    if (bits - 1) * abs(times) > _LARGEST_BITS:
        return None
    result = Fraction(base) ** times
    return result if parts_of(result) <= LONGEST else None


def primitive(value: Rational) -> tuple[Rational, int]:
    """Write a positive number as ``base**k`` with the largest possible k; k is negative for 1/n. Returns (base, k)."""
    if value < 1:
        if value.numerator > 1:
            return value, 1
        base, k = primitive(Fraction(1) / value)
        return base, -k
    for k in range(min(_LARGEST_ROOT, value.numerator.bit_length()), 1, -1):
        if (base_root := _root(value, k)) is not None:
            return base_root, k
    return value, 1


@lru_cache(maxsize=4096)
def numerals(value: Rational) -> tuple[Expression, ...]:
    """Write a nonzero value exactly as a sum of constants and quotients of constants, the largest first.

    A double is one constant. Any other binary fraction is a sum of doubles: the nearest double, then the remainder.
    Every other value is a quotient of two such sums, the shortest one that scaling by a power of two gives, as 1/3 or
    1/0.7.

    Raises:
        FormulaError: if the value is outside the range of floats or needs too many digits.
    """
    divisor = value.denominator >> _twos(value.denominator)
    if divisor == 1 and (parts := _doubles(value)):
        return tuple(map(constant, parts))
    found: list[tuple[int, float, tuple[float, ...], tuple[float, ...]]] = []
    centre = math.floor(math.log2(divisor))
    for shift in (*_SHIFTS, centre, -centre) if divisor > 1 else (1000, 600, 300):
        below = Fraction(2) ** shift * divisor
        over, under = _doubles(value * below), _doubles(below)
        if over and under:
            found.append((sum(len(number_text(part)) for part in over + under), abs(over[0]), over, under))
    if not found:
        raise FormulaError("a number of the formula leaves the range of floats or takes too many digits when folded")
    _, _, over, under = min(found)
    divided_by = summed(tuple(map(constant, under)))
    return tuple(apply("div", constant(part), divided_by) for part in over)


def numeral(value: Rational) -> Expression:
    """An expression with exactly this value."""
    return summed(numerals(value)) if value else constant(0.0)


def negative(part: Expression) -> Expression:
    """Negate one of the `numerals`."""
    if part.is_constant:
        return constant(-part.value)
    return apply("div", negative(part.args[0]), part.args[1])


def is_negative(part: Expression) -> bool:
    """Whether one of the `numerals` is negative."""
    return (part if part.is_constant else part.args[0]).value < 0


def summed(parts: tuple[Expression, ...]) -> Expression:
    """The sum of the `numerals` as one expression."""
    result = parts[0]
    for part in parts[1:]:
        below = is_negative(part)
        result = apply("sub" if below else "add", result, negative(part) if below else part)
    return result


def whole(value: Rational) -> Rational:
    """The number as an int if it is whole."""
    return value.numerator if value.denominator == 1 else value


def parts_of(value: Rational) -> int:
    """Roughly how many doubles a number needs."""
    odd = value.denominator >> _twos(value.denominator)
    return -(-max(value.numerator.bit_length() - _twos(value.numerator), odd.bit_length()) // 53)


def log_size(value: Rational) -> float:
    """The logarithm of the absolute value of a number, which may be outside the range of floats."""
    return math.log(abs(value.numerator)) - math.log(value.denominator)


def as_float(value: Rational) -> float:
    """The nearest float, infinite on overflow."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _doubles(value: Rational) -> tuple[float, ...]:
    """Doubles that add up to a number exactly, the nearest one first; empty if too many are needed."""
    parts: list[float] = []
    while value and len(parts) < _MOST_PARTS:
        part = as_float(value)
        if not part or math.isinf(part):
            return ()
        parts.append(part)
        value -= Fraction(part)
    return () if value else tuple(parts)


def _twos(value: int) -> int:
    """The exponent of 2 in an integer."""
    return (value & -value).bit_length() - 1 if value else 0


def _root(value: Rational, degree: int) -> Rational | None:
    """The root of a positive number if it is rational, otherwise None."""
    if value <= 0 or degree > _LARGEST_ROOT:
        return None
    above, below = _whole_root(value.numerator, degree), _whole_root(value.denominator, degree)
    return None if above is None or below is None else Fraction(above, below)


def _whole_root(value: int, degree: int) -> int | None:
    root = 1 << -(-value.bit_length() // degree)
    while True:  # Newton's method, from above
        lower = ((degree - 1) * root + value // root ** (degree - 1)) // degree
        if lower >= root:
            return root if root**degree == value else None
        root = lower


def _at(argument: int, value: Rational) -> Callable[[Rational], Rational | None]:
    return lambda given: value if given == argument else None


_EXACT: Final[dict[str, Callable[..., Rational | None]]] = {
    "pow": power,
    "min": min,
    "max": max,
    "abs": abs,
    "sign": lambda a: (a > 0) - (a < 0),
    "exp": _at(0, 1),
    "log": _at(1, 0),
    "sin": _at(0, 0),
    "cos": _at(0, 1),
    "tanh": _at(0, 0),
    "sigmoid": _at(0, Fraction(1, 2)),
}
