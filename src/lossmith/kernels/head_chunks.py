"""Rows of a classifier's last layer, some at a time: their cross-entropies, then their gradients."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

import torch
from torch import Tensor

from lossmith.kernels import rows
from lossmith.kernels.batch import Batch

_ELEMENTS: Final = 1 << 24  # logits that are in memory at a time: 64 MiB in float32
_FEWEST_ROWS: Final = 64  # matrix products of fewer are slow; where their logits do not fit, classes come in chunks too


class Gradients(NamedTuple):
    """Where gradients are added; None where one is not wanted."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None


class Chunk(Protocol):
    """Some rows.

    Attributes:
        c: their cross-entropies.
    """

    c: Tensor

    def accumulate(self, slope: Tensor, into: Gradients) -> None:
        """Add the gradients of ``sum_i slope_i c_i``; that of hidden has these rows alone, and is overwritten."""


def chunks(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, ignore_index: int
) -> Iterator[tuple[slice, Chunk]]:
    """Some rows at a time, in memory that the next ones reuse."""
    classes = weight.shape[0]
    size = max(_FEWEST_ROWS, _ELEMENTS // classes)
    width = min(classes, _classes_at_a_time())
    buffer = hidden.new_empty(min(size, len(hidden)) * (width + (width < classes)))
    kind = _AllClasses if width == classes else _SomeClasses
    for first in range(0, len(hidden), size):
        part = slice(first, first + size)
        yield part, kind(_Part(hidden[part], weight, bias, target[part], ignore_index, buffer))


def _classes_at_a_time() -> int:
    return max(2, _ELEMENTS // _FEWEST_ROWS)


class _Part(NamedTuple):
    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    target: Tensor
    ignore_index: int
    buffer: Tensor


class _AllClasses:
    """Rows whose logits are in memory until they are overwritten by their gradient."""

    def __init__(self, part: _Part) -> None:
        self._part = part
        logits = _product(part.hidden, part.weight, part.bias, part.buffer)
        self._batch = Batch(logits, part.target, part.ignore_index)
        self.c, _, _, self._top, self._state = rows.forward(self._batch)

    def accumulate(self, slope: Tensor, into: Gradients) -> None:
        hidden, weight, *_ = self._part
        none = torch.zeros_like(slope)
        made = self._batch.logits
        rows.backward(self._batch, self._top, self._state, (slope, none, none), made)
        _accumulate(made.to(hidden.dtype), hidden, weight, into)


class _SomeClasses:
    """Rows of so many classes that these come in chunks too; the logits are made a second time for the gradient.

    Of each row two numbers are carried from chunk to chunk: the largest logit, and the log of the sum of the
    exponentials of all others. With these, as in `rows.cpp`, nothing cancels where one class is almost certain.
    """

    def __init__(self, part: _Part) -> None:
        self._part = part
        hidden, weight, _, target, ignore_index, _ = part
        self._ignored = target == ignore_index
        self._target = target.masked_fill(self._ignored, 0)
        if bool(((self._target < 0) | (self._target >= weight.shape[0])).any()):
            raise IndexError("Target is out of bounds.")
        top = torch.full_like(target, -math.inf, dtype=torch.float64)
        others, at_target = top.clone(), top.clone()
        self._top = torch.zeros_like(target)
        for first, logits in self._parts():
            nothing = torch.full_like(target, -1)
            _, odds, _, index, _ = rows.forward(Batch(logits, nothing, -1))
            highest = logits.gather(1, index.unsqueeze(1)).squeeze(1).double()
            rest = (highest - odds).masked_fill(highest == -math.inf, -math.inf)
            is_new = highest > top
            others = torch.logaddexp(torch.logaddexp(others, rest), torch.where(is_new, top, highest))
            self._top = torch.where(is_new, index + first, self._top)
            top = torch.maximum(top, highest)
            at, inside = self._within(self._target, first, logits)
            at_target = torch.where(inside, logits.gather(1, at).squeeze(1).double(), at_target)
        c_top = torch.nn.functional.softplus(others - top)
        self._others, self._c_top = others.masked_fill(others == -math.inf, 0.0), c_top
        c = torch.where(self._target == self._top, c_top, top - at_target + c_top)
        self.c = c.masked_fill(self._ignored, 0.0).to(torch.promote_types(hidden.dtype, torch.float32))

    def accumulate(self, slope: Tensor, into: Gradients) -> None:
        hidden, weight, *_ = self._part
        slope = slope.double().masked_fill(self._ignored, 0.0).unsqueeze(1)
        p_top, rest = torch.exp(-self._c_top).unsqueeze(1), -torch.expm1(-self._c_top).unsqueeze(1)
        at_top = torch.where((self._target == self._top).unsqueeze(1), -rest * slope, p_top * slope)
        for first, logits in self._parts():
            dtype, last = logits.dtype, first + logits.shape[1]
            made = logits.sub_(self._others.unsqueeze(1)).exp_().mul_((rest * slope).to(dtype))
            for label, value in ((self._target, None), (self._top, at_top)):
                at, inside = self._within(label, first, logits)
                here = made.gather(1, at)
                wanted = here - slope.to(dtype) if value is None else value.to(dtype)
                made.scatter_(1, at, torch.where(inside.unsqueeze(1), wanted, here))
            part = Gradients(
                None if into.hidden is None else torch.zeros_like(into.hidden),
                *(None if of is None else of[first:last] for of in into[1:]),
            )
            _accumulate(made.to(hidden.dtype), hidden, weight[first:last], part)
            if into.hidden is not None and part.hidden is not None:
                into.hidden.add_(part.hidden)

    def _parts(self) -> Iterator[tuple[int, Tensor]]:
        hidden, weight, bias, _, _, buffer = self._part
        ends = [*range(0, weight.shape[0] - 1, _classes_at_a_time()), weight.shape[0]]  # none of a single class
        for first, last in itertools.pairwise(ends):
            of_bias = None if bias is None else bias[first:last]
            yield first, _product(hidden, weight[first:last], of_bias, buffer)

    def _within(self, label: Tensor, first: int, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Where the labels lie among a chunk of classes, shape (N, 1), and whether they do, shape (N,)."""
        at = label - first
        inside = (at >= 0) & (at < logits.shape[1])
        return at.where(inside, 0).unsqueeze(1), inside


def _product(hidden: Tensor, weight: Tensor, bias: Tensor | None, buffer: Tensor) -> Tensor:
    """Logits of at least float32, in the buffer."""
    shape = (len(hidden), len(weight))
    logits = torch.mm(hidden, weight.t(), out=buffer[: math.prod(shape)].view(shape))
    if bias is not None:
        logits += bias
    return logits.float() if logits.dtype in {torch.float16, torch.bfloat16} else logits


def _accumulate(of_logits: Tensor, hidden: Tensor, weight: Tensor, into: Gradients) -> None:
    if into.hidden is not None:
        torch.mm(of_logits, weight, out=into.hidden)
    if into.weight is not None:
        into.weight.addmm_(of_logits.t(), hidden)
    if into.bias is not None:
        into.bias.add_(of_logits.sum(0))
