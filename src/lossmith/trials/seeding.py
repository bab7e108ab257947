"""Random numbers that follow from a seed, without touching the caller's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int, device: str = "cpu") -> Iterator[None]:
    """Seed torch's global generators for a while; afterwards they are as they were.

    `torch.manual_seed` would also seed the generators of all devices that are not used here.

    Args:
        seed: of the CPU's generator and that of the current device.
        device: ``"cpu"`` or ``"cuda"``.
    """
    cards = [] if device == "cpu" else [torch.cuda.current_device()]
    with torch.random.fork_rng(cards):
        torch.default_generator.manual_seed(seed)
        for card in cards:
            torch.cuda.default_generators[card].manual_seed(seed)
        yield
