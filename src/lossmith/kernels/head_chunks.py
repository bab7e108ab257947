"""Rows of a classifier's last layer, some at a time: their cross-entropies, then their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import torch
from torch import Tensor

from lossmith.kernels import rows
from lossmith.kernels.batch import Batch

_ELEMENTS: Final = 1 << 24  # logits that are in memory at a time: 64 MiB in float32
_FEWEST_ROWS: Final = 32  # matrix products of fewer are slow: with over half a million classes, memory grows


class Gradients(NamedTuple):
    """Where gradients are added; None where one is not wanted."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None


class Chunk:
    """Some rows, whose logits are in memory until their gradient overwrites them.

    Attributes:
        c: their cross-entropies.
    """

    def __init__(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, ignore_index: int, buffer: Tensor
    ) -> None:
        self._hidden, self._weight = hidden, weight
        logits = torch.mm(hidden, weight.t(), out=buffer[: len(hidden)])
        if bias is not None:
            logits += bias
        if logits.dtype in {torch.float16, torch.bfloat16}:
            logits = logits.float()
        self._batch = Batch(logits, target, ignore_index)
        self.c, _, _, self._top, self._state = rows.forward(self._batch)

    def accumulate(self, slope: Tensor, into: Gradients) -> None:
        """Add the gradients of ``sum_i slope_i c_i``; that of hidden has these rows alone, and is overwritten."""
        none, made = torch.zeros_like(slope), self._batch.logits
        rows.backward(self._batch, self._top, self._state, (slope, none, none), made)
        made = made.to(self._hidden.dtype)
        if into.hidden is not None:
            torch.mm(made, self._weight, out=into.hidden)
        if into.weight is not None:
            into.weight.addmm_(made.t(), self._hidden)
        if into.bias is not None:
            into.bias.add_(made.sum(0))


def chunks(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, ignore_index: int
) -> Iterator[tuple[slice, Chunk]]:
    """Some rows at a time, in memory that the next ones reuse."""
    classes = weight.shape[0]
    size = max(_FEWEST_ROWS, _ELEMENTS // classes)
    buffer = hidden.new_empty(min(size, len(hidden)), classes)
    for first in range(0, len(hidden), size):
        part = slice(first, first + size)
        yield part, Chunk(hidden[part], weight, bias, target[part], ignore_index, buffer)
