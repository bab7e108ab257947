"""The only door to the kernels: which calls they serve, and what they need to know of a loss."""

from __future__ import annotations

import functools
import math
import operator
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.kernels import Polynomial, fuses, row_terms
from lossmith.kernels.linear import linear_sum
from lossmith.kernels.tracing import constant_when_compiled
from lossmith.losses.entries import Prepared, Probability

if TYPE_CHECKING:
    from lossmith.formulas import Expression
    from lossmith.kernels.fitting import Array, Enclosure
    from lossmith.losses.base import ClassificationLoss
    from lossmith.losses.shapes import ClasswiseLoss

__all__ = ["NegativePart", "fused_terms", "linear_sum", "negative_part"]

_SMALL: Final = 1e-250
"""In place of p = 0, where p*log(p) is no number and abs(p) has the slope 0."""


def fused_terms(loss: ClassificationLoss, prepared: Prepared, target: Tensor) -> Tensor | None:
    """The weighted losses of class indices by the kernels, as `ClassificationLoss.label_terms` gives them.

    They have first derivatives only; None where the kernels do not serve the call.
    """
    if not fuses(prepared.logits, with_others=True):
        return None
    from lossmith.losses.shapes import ClasswiseLoss, TargetLoss  # which imports this module

    if isinstance(loss, TargetLoss):
        if not fuses(prepared.logits, with_others=False):
            return None
        return loss.terms_of_rows(row_terms(prepared.logits, target, loss.ignore_index).c, target, prepared)
    if not isinstance(loss, ClasswiseLoss) or loss.label_smoothing or loss.expression is None:
        return None
    if type(loss).probability is not ClasswiseLoss.probability or loss.expression.depends_on("t") or _learns(loss):
        return None
    num_classes = operator.index(prepared.entries.num_classes)  # torch.compile may have a symbol for it
    factor = loss.class_factor(prepared.entries._replace(num_classes=num_classes))
    negative: NegativePart | None = negative_part(loss.expression, num_classes, factor)
    return None if negative is None else _classwise_terms(loss, prepared, target, negative)


def _learns(loss: ClasswiseLoss) -> bool:
    """Whether a tensor of the loss itself needs a gradient, which the polynomial, a constant, would not give it."""
    own = (value for value in vars(loss).values() if isinstance(value, Tensor))
    return any(tensor.requires_grad for tensor in (*loss.parameters(), *loss.buffers(), *own))


def _classwise_terms(loss: ClasswiseLoss, prepared: Prepared, target: Tensor, negative: NegativePart) -> Tensor:
    """All but the target and the most probable class go through the kernels' polynomial."""
    logits, entries = prepared.logits, prepared.entries
    rows = row_terms(logits, target, loss.ignore_index, negative.polynomial)
    is_top, valid = rows.top == target, target != loss.ignore_index
    # In float64, and of one number a row: what cancels between the forms, and with a common slope, cancels here.
    c_top, d_top = -F.logsigmoid(rows.odds), -F.logsigmoid(-rows.odds)
    c = torch.where(is_top, c_top, rows.c.double().masked_fill(is_top | ~valid, 1.0))
    d = torch.where(is_top, d_top, -torch.log1p(-torch.exp(-c).masked_fill(is_top, 0.0)))
    positive = loss.positive(_of_rows(c, d, logits), entries)
    # 0.5 is harmless in all three forms; what is computed there is overwritten by 0.
    top = _of_rows(c_top, d_top, logits).map(lambda form: form.masked_fill(is_top, 0.5))
    top_and_rest = loss.negative(top, entries).masked_fill(is_top, 0.0)
    rest = -torch.expm1(-c_top) - torch.exp(-c).masked_fill(is_top, 0.0)  # all probability but target's and top's
    at_zero = negative.at_zero * (entries.num_classes - 2 + is_top.double())
    terms = positive + top_and_rest + rows.others + at_zero + negative.slope_at_zero * rest
    mass = loss.target_weight(prepared.class_weight, target)
    return loss.weighted(terms.to(logits.dtype), mass, prepared).where(valid, 0.0)


def _of_rows(c: Tensor, d: Tensor, logits: Tensor) -> Probability:
    """One probability a row of the logits, shape (N,)."""
    return Probability(
        value=lambda: torch.exp(-c),
        c=lambda: c,
        d=lambda: d,
        classes=lambda: (logits != -math.inf).sum(1).to(logits.dtype),
    )


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
def negative_part(expression: Expression, num_classes: int, factor: float) -> NegativePart | None:
    """Fit the negative part of a class-wise loss, once for each expression and number of classes.

    The result is free of ``factor``, which the loss puts in front of its sum over the classes. It is None where no
    polynomial is certified on [0, 1/2] or NumPy is not installed.
    """
    return _negative_part(expression, num_classes, factor)


@functools.lru_cache(maxsize=256)
def _negative_part(expression: Expression, num_classes: int, factor: float) -> NegativePart | None:
    from lossmith.formulas import derivative, substitute

    negative = substitute(expression, y=0.0, n=float(num_classes))
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
