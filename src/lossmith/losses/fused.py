"""Where a loss meets the kernels: which calls they serve, and what they need to know of a class-wise loss."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import torch

from lossmith.kernels import Polynomial
from lossmith.kernels.compiling import constant_when_compiled

if TYPE_CHECKING:
    from lossmith.formulas import Expression


class NegativePart(NamedTuple):
    """The part of a class-wise loss that classes other than the target add, as the kernels take it.

    Attributes:
        polynomial: of its difference from `at_zero`, on probabilities up to 1/2.
        at_zero: its value at p = 0; where that is infinite, without the polynomial's multiple of -log p.
    """

    polynomial: Polynomial
    at_zero: float


@constant_when_compiled
def negative_part(expression: str, num_classes: int, factor: float) -> NegativePart | None:
    """Fit the negative part of a class-wise loss, once for each expression and number of classes.

    Args:
        expression: the loss as an expression; see `lossmith.losses.Loss.formula`.
        num_classes: the number of classes C.
        factor: what the loss puts in front of its sum over the classes; the result is free of it.

    Returns:
        The part, or None where no polynomial is certified on [0, 1/2] or NumPy is not installed.
    """
    return _negative_part(expression, num_classes, factor)


@functools.lru_cache(maxsize=256)
def _negative_part(expression: str, num_classes: int, factor: float) -> NegativePart | None:
    from lossmith.formulas import parse, substitute

    negative = substitute(parse(expression), y=0.0, n=float(num_classes))
    polynomial = _fitted(negative)
    if polynomial is None:
        return None
    if polynomial.is_singular:  # at p = 0 itself p*log(p) is no number; e**-20 lies amid the p that occur
        small = 1e-100 if polynomial.power else math.exp(-20)
        at_zero = _value(negative, small) - polynomial.at(small)
    else:
        at_zero = _value(negative, 0.0)
    return NegativePart(polynomial.scaled(1 / factor), at_zero / factor)


def _value(negative: Expression, p: float) -> float:
    from lossmith.formulas import evaluate

    return float(evaluate(negative, p=torch.tensor(p, dtype=torch.float64)))


def _fitted(negative: Expression) -> Polynomial | None:
    try:
        from lossmith.formulas import bounds, derivative
        from lossmith.kernels.fitting import fit
        from lossmith.kernels.singular import fit_singular
    except ImportError:
        return None
    slope = derivative(negative, "p")
    curvature = derivative(slope, "p")
    at, on = (lambda p: bounds(slope, p=(p, p))), (lambda low, high: bounds(curvature, p=(low, high)))
    return fit(at, on) or fit_singular(at, on, [power for low in _fractions(negative) for power in (low, low + 1)])


def _fractions(negative: Expression) -> list[float]:
    """What is left of the exponents of a formula without their whole part, beside 0 and 1/2."""
    from lossmith.formulas.expression import fold

    found: set[float] = set()

    def note(node: Expression, _: list[None]) -> None:
        if node.op == "pow" and node.args[1].is_constant:
            found.add(node.args[1].value % 1)

    fold(negative, note)
    return sorted(found - {0.0, 0.5})
