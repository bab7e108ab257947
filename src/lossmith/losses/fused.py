"""Where a loss meets the kernels: which calls they serve, and what they need to know of a class-wise loss."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Final, NamedTuple

import torch

from lossmith.kernels import Polynomial
from lossmith.kernels.compiling import constant_when_compiled

if TYPE_CHECKING:
    from lossmith.formulas import Expression
    from lossmith.kernels.fitting import Array, Enclosure

_SMALL: Final = 1e-250
"""In place of p = 0, where p*log(p) is no number and abs(p) has the slope 0."""


class NegativePart(NamedTuple):
    """The part of a class-wise loss that classes other than the target add, as the kernels take it.

    Attributes:
        polynomial: of its difference from ``at_zero + slope_at_zero p``, on probabilities up to 1/2.
        at_zero: its value at p = 0; where that is infinite, without the polynomial's multiple of -log p.
        slope_at_zero: its slope there; 0 where the polynomial takes care of it. Probabilities sum to 1, so that a slope
            common to all classes changes no gradient; left in the sum it would drown what does.
    """

    polynomial: Polynomial
    at_zero: float
    slope_at_zero: float


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
    from lossmith.formulas import derivative, parse, substitute

    negative = substitute(parse(expression), y=0.0, n=float(num_classes))
    polynomial = _fitted(negative)
    if polynomial is None:
        return None
    if polynomial.is_singular:  # e**-20 lies amid the p that occur
        small = _SMALL if polynomial.power else math.exp(-20)
        at_zero, slope_at_zero = _value(negative, small) - polynomial.at(small), 0.0
    else:
        at_zero, slope_at_zero = _value(negative, _SMALL), _value(derivative(negative, "p"), _SMALL)
    return NegativePart(polynomial.scaled(1 / factor), at_zero / factor, slope_at_zero / factor)


def _value(negative: Expression, p: float) -> float:
    from lossmith.formulas import evaluate

    return float(evaluate(negative, p=torch.tensor(p, dtype=torch.float64)))


@functools.lru_cache(maxsize=256)
def _fitted(negative: Expression) -> Polynomial | None:
    """Once, too, for all numbers of classes of a formula without n."""
    from lossmith.formulas import FormulaError

    try:
        from lossmith.kernels.fitting import fit
        from lossmith.kernels.singular import fit_singular
    except ImportError:
        return None
    enclose = _enclosure(negative)
    powers = [power for low in _fractions(negative) for power in (low, low + 1)]
    try:
        return fit(enclose) or fit_singular(enclose, powers)
    except FormulaError:  # a derivative has grown too large
        return None


def _enclosure(negative: Expression) -> Enclosure:
    """Bounds of the derivatives, none on a box with a jump of a lower one, of which a derivative says nothing."""
    import numpy as np

    from lossmith.formulas import bounds, derivative

    derivatives, signs = [negative], [_signs(negative)]

    def enclose(order: int, low: Array, high: Array) -> tuple[Array, Array]:
        while len(derivatives) <= order:
            derivatives.append(derivative(derivatives[-1], "p"))
            signs.append(signs[-1] | _signs(derivatives[-1]))
        p = np.maximum(low, _SMALL), np.maximum(high, _SMALL)
        least, most = bounds(derivatives[order], p=p)
        for sign in signs[order - 1]:
            below, above = bounds(sign, p=p)
            least, most = np.where(below < above, -np.inf, least), np.where(below < above, np.inf, most)
        return least, most

    return enclose


def _signs(expression: Expression) -> frozenset[Expression]:
    """Where a formula jumps: of all operators, only sign does."""
    return _nodes(expression, "sign")


def _fractions(negative: Expression) -> list[float]:
    """What is left of the exponents of a formula without their whole part, beside 0 and 1/2."""
    exponents = (node.args[1] for node in _nodes(negative, "pow"))
    return sorted({exponent.value % 1 for exponent in exponents if exponent.is_constant} - {0.0, 0.5})


def _nodes(expression: Expression, op: str) -> frozenset[Expression]:
    from lossmith.formulas.expression import fold

    found: set[Expression] = set()

    def note(node: Expression, _: list[None]) -> None:
        if node.op == op:
            found.add(node)

    fold(expression, note)
    return frozenset(found)
