"""The contract of the classification losses a second time: slow, obvious, and sharing no code with the library.

Loops over samples and classes on Python floats, from the numbers of `loss_formulas`. Logits are nested lists, one row
of C numbers per sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from loss_formulas import INF, STEP, Formula, Loss, softmax
from mpmath import mp, mpf


class Table(NamedTuple):
    """The formula's numbers at some logits, row by row, with their derivatives along each logit.

    A target loss has `first[n][k] = phi(c_k)`; a class-wise one `first[n][j] = l1(p_j)`, `second[n][j] = l0(p_j)`.
    """

    first: list[list[float]]
    second: list[list[float]] | None
    first_slopes: list[list[list[float]]]
    second_slopes: list[list[list[float]]] | None
    finite: list[list[bool]]
    smoothing: float | None


class Result(NamedTuple):
    """A value (a number, or one per sample), and the gradient of its sum along each logit."""

    value: float | list[float]
    gradient: list[list[float]]


def gamma(
    step: int,
    num_classes: int,
    amplitude: float = 20,
    period: int = 250,
    order: Sequence[int] | None = None,
    static_after: int | None = None,
    period_mode: str = "exact",
) -> list[float]:
    """The class weights of a dynamical loss, counted out step by step as the authors' notebook does."""
    if static_after is not None and step >= static_after:
        return [1.0] * num_classes
    t, focus = 0, 0
    last = period if period_mode == "released" else period - 1
    for _ in range(step):
        t += 1
        if t > last:
            t, focus = 0, (focus + 1) % num_classes
    up = 1 + 2 * (amplitude - 1) * t / period
    down = 2 * amplitude - 1 - 2 * (amplitude - 1) * t / period
    raw = [1.0] * num_classes
    raw[focus if order is None else order[focus]] = up if t < period / 2 else down
    return [num_classes * value / sum(raw) for value in raw]


# --- the numbers at given logits -------------------------------------------------------------------------------------


def tabulate(loss: Loss, logits: Sequence[Sequence[float]], *, slopes: bool = True) -> Table:
    """Evaluate a formula for every sample and class; slopes by central differences."""
    first, second, first_slopes, second_slopes = [], [], [], []
    for row in logits:
        z = [mpf(value) for value in row]
        ones, twos = _entries(loss, z)
        first.append([float(value) for value in ones])
        second.append([float(value) for value in twos])
        if slopes:
            pairs = [_slope(loss, z, i) for i in range(len(z))]
            first_slopes.append([[one[k] for one, _ in pairs] for k in range(len(z))])
            second_slopes.append([[two[k] for _, two in pairs] for k in range(len(twos))])
    finite = [[value != -math.inf for value in row] for row in logits]
    if loss.target is not None:
        return Table(first, None, first_slopes, None, finite, loss.smoothing)
    return Table(first, second, first_slopes, second_slopes, finite, loss.smoothing)


def _entries(loss: Loss, z: list[Any]) -> tuple[list[Any], list[Any]]:
    if loss.shift is not None:
        z = [value + shift for value, shift in zip(z, loss.shift, strict=True)]
    p = (loss.probabilities or softmax)(z)
    if loss.target is not None:
        return [_at(lambda value, k=k: loss.target(value, k), p[k][0]) for k in range(len(z))], []
    ones = [_at(lambda value, rest=rest: loss.positive(value, rest), value) for value, rest in p]
    return ones, [_at(lambda other, value=value: loss.negative(value, other), rest) for value, rest in p]


def _at(phi: Formula, p: Any) -> Any:
    """phi(p), +inf where it divides by zero."""
    try:
        return phi(p)
    except ZeroDivisionError:
        return INF


def _slope(loss: Loss, z: list[Any], i: int) -> tuple[list[float], list[float]]:
    above, below = (_entries(loss, [*z[:i], z[i] + step, *z[i + 1 :]]) for step in (STEP, -STEP))
    return tuple(
        [
            float((a - b) / (2 * STEP)) if mp.isfinite(a) and mp.isfinite(b) else math.nan
            for a, b in zip(x, y, strict=True)
        ]
        for x, y in zip(above, below, strict=True)
    )


# --- the contract ----------------------------------------------------------------------------------------------------


def evaluate(
    table: Table,
    target: Sequence[int] | Sequence[Sequence[float]],
    *,
    weight: Sequence[float] | None = None,
    sample_weight: Sequence[float] | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    class_scale: Sequence[float] | None = None,
) -> Result:
    """Weigh, smooth, ignore and reduce; one target, index or row of probabilities, per row of the table."""
    C = len(table.first[0]) if table.first else 0
    smoothing = label_smoothing if table.smoothing is None else table.smoothing
    terms, gradient, denominator = [], [], 0.0
    for n, label in enumerate(target):
        s = 1.0 if sample_weight is None else sample_weight[n]
        hard = isinstance(label, int)
        if hard and label == ignore_index:
            terms.append(0.0)
            gradient.append([0.0] * C)
            continue
        denominator += s * weight[label] if hard and weight is not None else s
        q = [float(k == label) for k in range(C)] if hard else list(label)
        if smoothing:
            spread = sum(table.finite[n])
            q = [(1 - smoothing) * q[k] + smoothing * table.finite[n][k] / spread for k in range(C)]
        w = [
            (1.0 if weight is None else weight[k]) * (1.0 if class_scale is None else class_scale[k]) for k in range(C)
        ]
        factors = _factors(table, q, w, s)
        terms.append(sum(f * value for f, value, _ in _of(table, factors, n) if f != 0))
        gradient.append(
            [sum(f * slopes[i] for f, _, slopes in _of(table, factors, n) if f != 0) for i in range(C)]
            if table.first_slopes
            else [math.nan] * C
        )
    if reduction == "none":
        return Result(terms, gradient)
    if reduction == "mean":
        if denominator == 0:
            return Result(0.0, [[0.0] * C for _ in gradient])
        return Result(sum(terms) / denominator, [[value / denominator for value in row] for row in gradient])
    return Result(sum(terms), gradient)


def _factors(table: Table, q: list[float], w: list[float], s: float) -> list[float]:
    """What multiplies each number of the table in one sample's loss."""
    if table.second is None:
        return [s * w_k * q_k for w_k, q_k in zip(w, q, strict=True)]
    mass = s * sum(w_k * q_k for w_k, q_k in zip(w, q, strict=True))
    return [mass * q_j for q_j in q] + [mass * (1 - q_j) for q_j in q]


def _of(table: Table, factors: list[float], n: int) -> list[tuple[float, float, list[float]]]:
    values, slopes = table.first[n], table.first_slopes[n] if table.first_slopes else None
    if table.second is not None:
        values = values + table.second[n]
        slopes = slopes + table.second_slopes[n] if slopes is not None else None
    return list(zip(factors, values, slopes or [[]] * len(values), strict=True))
