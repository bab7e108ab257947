"""The two passes of `rows.cpp` in plain torch, a few rows at a time so that intermediate values stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import torch
from torch import Tensor

_ELEMENTS: Final = 1 << 17


def forward_in_chunks(
    logits: Tensor, target: Tensor, ignore_index: int, value: Tensor, slope: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What `lossmith_forward` computes; see `rows.cpp` for the formulas and `RowTerms` for the results."""
    parts = [
        _forward(logits[part], target[part], target[part] == ignore_index, value, slope) for part in _chunks(logits)
    ]
    c, c_top, d_top, others, top, state = (torch.cat(of) for of in zip(*parts, strict=True))
    return c, c_top, d_top, others, top, state


def backward_in_chunks(
    logits: Tensor,
    target: Tensor,
    ignore_index: int,
    slope: Tensor,
    top: Tensor,
    state: Tensor,
    gradients: Sequence[Tensor],
    made: Tensor,
) -> None:
    """What `lossmith_backward` computes, written to `made`, which may be the logits themselves."""
    for part in _chunks(logits):
        ignored = target[part] == ignore_index
        of_part = [gradient[part] for gradient in gradients]
        _backward(logits[part], target[part], ignored, slope, top[part], state[part], of_part, made[part])


def _chunks(logits: Tensor) -> Iterator[slice]:
    rows = max(1, _ELEMENTS // logits.shape[1])
    for first in range(0, logits.shape[0], rows):
        yield slice(first, first + rows)


def _forward(z: Tensor, target: Tensor, ignored: Tensor, value: Tensor, slope: Tensor) -> tuple[Tensor, ...]:
    index = target.masked_fill(ignored, 0).unsqueeze(1)
    first, top = z.max(1, keepdim=True)
    e = z.scatter(1, top, -math.inf)
    second = e.amax(1, keepdim=True)
    second = second.masked_fill(second == -math.inf, 0.0)
    e = e.sub_(second).exp_()
    total = e.sum(1, keepdim=True).double()
    gap = first.double() - second
    c_top = torch.log1p(total * torch.exp(-gap)) + 0 * first  # nan where the largest logit is infinite
    d_top = c_top + gap - total.log()
    c_target = torch.where(index == top, c_top, first.double() - z.gather(1, index) + c_top)
    c = c_target.masked_fill(ignored.unsqueeze(1), 0.0)
    inverse = total.reciprocal().masked_fill(total == 0, 0.0)
    complement = torch.exp(-d_top)
    others, slope_sum = torch.zeros_like(c_top), torch.zeros_like(c_top)
    if value.numel():
        # An ignored row has no target, and its first class stays in the sum.
        e.scatter_(1, index, e.gather(1, index).where(ignored.unsqueeze(1), 0.0))
        p = e.mul_((inverse * complement).to(z.dtype))
        u = 4 * p - 1
        others = (_horner(value, u).mul_(p)).sum(1, keepdim=True)
        slope_sum = (_horner(slope, u).mul_(p)).sum(1, keepdim=True)
    state = torch.cat([second, inverse, torch.exp(-c_top), complement, slope_sum], 1).to(z.dtype)
    per_row = (of.squeeze(1).to(z.dtype) for of in (c, c_top, d_top, others))
    return (*per_row, top.squeeze(1), state)


def _backward(
    z: Tensor,
    target: Tensor,
    ignored: Tensor,
    slope: Tensor,
    top: Tensor,
    state: Tensor,
    gradients: list[Tensor],
    out: Tensor,
) -> None:
    second, inverse, p_top, q, slope_sum = state.unsqueeze(2).unbind(1)
    g_c, g_c_top, g_d_top, g_others = (of.unsqueeze(1) for of in gradients)
    ignored, index, top = ignored.unsqueeze(1), target.masked_fill(ignored, 0).unsqueeze(1), top.unsqueeze(1)
    g_c = g_c.masked_fill(ignored, 0.0)
    g_b = g_others * slope_sum
    constant = q * (g_c + g_c_top - g_b) - g_d_top * p_top
    r = torch.sub(z, second, out=out).scatter_(1, top, -math.inf).exp_().mul_(inverse)
    at_target = r.gather(1, index) * constant - g_c
    kept = r.gather(1, index)  # of an ignored row, whose first class is one like any other
    if slope.numel():
        factor = _horner(slope, 4 * q * r - 1).mul_(q * g_others).add_(constant)
        kept = kept * factor.gather(1, index)
        r.mul_(factor)
    else:
        kept = kept * constant
        r.mul_(constant)
    r.scatter_(1, index, torch.where(ignored, kept, at_target))
    at_top = p_top * (g_d_top - g_b) - q * g_c_top
    is_target = (index == top) & ~ignored
    r.scatter_(1, top, at_top + torch.where(is_target, -q * g_c, p_top * g_c))


def _horner(coefficients: Tensor, u: Tensor) -> Tensor:
    value = torch.full_like(u, float(coefficients[-1]))
    for coefficient in coefficients[:-1].flip(0):
        value.mul_(u).add_(coefficient)
    return value
