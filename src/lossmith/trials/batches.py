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


def pad_rows(values: Tensor, multiple: int) -> Tensor:
    """Repeat the last row until the number of rows is a multiple of ``multiple``."""
    missing = -len(values) % multiple
    return torch.cat([values, values[-1:].expand(missing, *values.shape[1:])]) if missing else values
