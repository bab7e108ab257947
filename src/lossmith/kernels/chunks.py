"""The two passes of `rows.cpp` in plain torch, a few rows at a time so that intermediate values stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor

from lossmith.kernels.batch import NOWHERE, Batch, Polynomial

_ELEMENTS: Final = 1 << 17


def forward_in_chunks(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What `lossmith_forward` computes; see `rows.cpp` for the formulas and `RowTerms` for the results."""
    parts = [_forward(part) for _, part in _chunks(batch)]
    c, odds, others, top, state = (torch.cat(of) for of in zip(*parts, strict=True))
    return c, odds, others, top, state


def backward_in_chunks(batch: Batch, top: Tensor, state: Tensor, gradients: Sequence[Tensor], made: Tensor) -> None:
    """What `lossmith_backward` computes, written to `made`, which may be the logits themselves."""
    for rows, part in _chunks(batch):
        _backward(part, top[rows], state[rows], [gradient[rows] for gradient in gradients], made[rows])


def _chunks(batch: Batch) -> Iterator[tuple[slice, Batch]]:
    size = max(1, _ELEMENTS // batch.logits.shape[1])
    for first in range(0, batch.logits.shape[0], size):
        rows = slice(first, first + size)
        yield rows, batch._replace(logits=batch.logits[rows], target=batch.target[rows])


def _forward(batch: Batch) -> tuple[Tensor, ...]:
    z, polynomial = batch.logits, batch.polynomial
    ignored = (batch.target == batch.ignore_index).unsqueeze(1)
    index = batch.target.unsqueeze(1).masked_fill(ignored, 0)
    first, top = z.max(1, keepdim=True)
    e = z.scatter(1, top, -math.inf)
    second = e.amax(1, keepdim=True)
    second = second.masked_fill(second == -math.inf, 0.0)
    e = e.sub_(second).exp_()
    total = e.sum(1, keepdim=True).double()
    gap = first.double() - second
    c_top = torch.log1p(total * torch.exp(-gap)) + 0 * first  # nan where the largest logit is infinite
    odds = gap - total.log() + 0 * first
    c_target = torch.where(index == top, c_top, first.double() - z.gather(1, index) + c_top)
    c = c_target.masked_fill(ignored, 0.0)
    c_second = c_top + gap
    inverse = total.reciprocal().masked_fill(total == 0, 0.0)
    complement = torch.exp(-c_top - odds)
    others, slope_sum = torch.zeros_like(c_top), torch.zeros_like(c_top)
    if polynomial.slope:
        p = e.mul_((inverse * complement).to(z.dtype))
        c_each = second - z + c_second.to(z.dtype) if polynomial.is_singular else None
        weight = _weight(polynomial, p, c_each)
        for coefficients, sums in ((polynomial.value, others), (polynomial.slope, slope_sum)):
            finite = coefficients is polynomial.slope or polynomial.power > 0
            made = _series(polynomial, coefficients, p, c_each, finite=finite).mul_(weight).scatter_(1, top, 0.0)
            # An ignored row has no target, and its first class stays in the sum.
            made.scatter_(1, index, made.gather(1, index).where(ignored, 0.0))
            sums.copy_(made.sum(1, keepdim=True))
    state = torch.cat([second, inverse, torch.exp(-c_top), complement, slope_sum, c_second], 1).to(z.dtype)
    return c.squeeze(1).to(z.dtype), odds.squeeze(1), others.squeeze(1).to(z.dtype), top.squeeze(1), state


def _backward(batch: Batch, top: Tensor, state: Tensor, gradients: Sequence[Tensor], out: Tensor) -> None:
    z, polynomial = batch.logits, batch.polynomial
    second, inverse, p_top, q, slope_sum, c_second = state.unsqueeze(2).unbind(1)
    ignored, top = (batch.target == batch.ignore_index).unsqueeze(1), top.unsqueeze(1)
    index = batch.target.unsqueeze(1).masked_fill(ignored, 0)
    g_c, g_odds, g_others = (of.unsqueeze(1) for of in gradients)
    g_c = g_c.masked_fill(ignored, 0.0)
    g_b = g_others * slope_sum
    constant = q * (g_c - g_b) - g_odds
    r = torch.sub(z, second, out=out)
    c_each = c_second - r if polynomial.is_singular else None
    r.scatter_(1, top, -math.inf).exp_().mul_(inverse)
    at_target = r.gather(1, index) * constant - g_c
    if not polynomial.slope:
        r.mul_(constant)
    else:
        p = q * r
        slopes = _series(polynomial, polynomial.slope, p, c_each)
        if c_each is None:
            r.mul_(slopes.mul_(p).mul_(q * g_others).add_(constant))
        else:
            r.mul_(constant).add_(slopes.mul_(_weight(polynomial, p, c_each)).mul_(g_others))
    # An ignored row has no target, and its first class is one like any other.
    r.scatter_(1, index, torch.where(ignored, r.gather(1, index), at_target))
    at_top = g_odds - p_top * g_b
    is_target = (index == top) & ~ignored
    r.scatter_(1, top, at_top + torch.where(is_target, -q * g_c, p_top * g_c))


def _weight(polynomial: Polynomial, p: Tensor, c: Tensor | None) -> Tensor:
    """``p**power``."""
    if c is None or polynomial.power in {1.0, 2.0}:
        return p if polynomial.power == 1 else p * p
    return torch.exp(-polynomial.power * c) if polynomial.power else torch.ones_like(p)


def _series(
    polynomial: Polynomial, coefficients: Sequence[float], p: Tensor, c: Tensor | None, *, finite: bool = True
) -> Tensor:
    """``sum_m c**m P_m``, with ``finite`` c no larger than where float32 has p = 0: 0 times infinity would be NaN."""
    if c is None:
        return _horner(coefficients, p)
    size, c = polynomial.degree + 1, c.clamp(max=NOWHERE) if finite else c
    total = _horner(coefficients[-size:], p)
    for first in range(len(coefficients) - 2 * size, -1, -size):
        total.mul_(c).add_(_horner(coefficients[first : first + size], p))
    return total


def _horner(coefficients: Sequence[float], p: Tensor) -> Tensor:
    value = torch.full_like(p, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value.mul_(p).add_(coefficient)
    return value
