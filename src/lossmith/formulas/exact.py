"""Functions of exact numbers, with more digits and a wider range than floats have."""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final

from lossmith.formulas.arithmetic import scalar

_CONTEXT: Final = decimal.Context(
    prec=60, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[decimal.InvalidOperation, decimal.Overflow]
)
LARGEST_EXPONENT: Final = 2_000
"""Above it `exponential` has no number: a fraction of that size is slow to compute with."""
_LARGEST_BITS: Final = 20_000  # of a whole power


def exact_value(op: str, operands: Sequence[Fraction]) -> Fraction | None:
    """Apply an operator to numbers, to some 60 digits.

    Args:
        op: the operator's name.
        operands: its operands.

    Returns:
        The result, never 0 by underflow; None where there is none or it is too large to compute with.
    """
    if op in _EXACT:
        return _EXACT[op](*operands)
    try:
        values = [float(operand) for operand in operands]
    except OverflowError:
        return None
    if any(operand and not value for operand, value in zip(operands, values, strict=True)):
        return None
    result = scalar(op, values)
    return Fraction(result) if math.isfinite(result) else None


def exponential(value: Fraction) -> Fraction | None:
    """The exponential function; None for an exponent above 2,000 in size."""
    return Fraction(_CONTEXT.exp(_decimal(value))) if abs(value) <= LARGEST_EXPONENT else None


def logarithm(value: Fraction) -> Fraction | None:
    """The logarithm of a positive number."""
    return Fraction(_CONTEXT.ln(_decimal(value))) if value > 0 else None


def power(base: Fraction, exponent: Fraction) -> Fraction | None:
    """A power; exact where the exponent is whole and the result not too long."""
    if exponent.denominator == 1 and (base or exponent > 0):
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        return base ** int(exponent) if bits * abs(exponent) <= _LARGEST_BITS else None
    if not base:
        return Fraction(0) if exponent > 0 else None
    log = logarithm(base)
    return None if log is None else exponential(log * exponent)


def _sigmoid(value: Fraction) -> Fraction | None:
    grown = exponential(-value)
    return None if grown is None else 1 / (1 + grown)


def _tanh(value: Fraction) -> Fraction | None:
    grown = exponential(2 * value)
    return None if grown is None else (grown - 1) / (grown + 1)


def _softplus(value: Fraction) -> Fraction | None:
    grown = exponential(value)
    return None if grown is None else logarithm(1 + grown)


def _decimal(value: Fraction) -> Decimal:
    return _CONTEXT.divide(Decimal(value.numerator), Decimal(value.denominator))


_EXACT: Final[dict[str, Callable[..., Fraction | None]]] = {
    "exp": exponential,
    "log": logarithm,
    "pow": power,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "softplus": _softplus,
}
