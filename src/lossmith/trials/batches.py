"""The order in which a training meets its examples."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


def batches(size: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Endless batches of row numbers: a fresh permutation per epoch, whose incomplete last batch is dropped.

    Args:
        size: number of training examples n.
        batch_size: examples per batch B; n if that is less.
        seed: of the permutations.

    Yields:
        Row numbers, int64 (B,).
    """
    generator = torch.Generator().manual_seed(seed)
    batch_size = min(batch_size, size)
    while True:
        order = torch.randperm(size, generator=generator)
        yield from order[: size - size % batch_size].split(batch_size)


def pad_indices(size: int, multiple: int) -> Tensor:
    """Positions 0, 1, ..., size - 1, the last one repeated until they are a multiple of ``multiple``, int64."""
    return torch.arange(size + -size % multiple).clamp(max=size - 1)
