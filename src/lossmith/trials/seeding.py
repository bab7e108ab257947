"""Random numbers that follow from a seed, without touching the caller's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int, device: str = "cpu") -> Iterator[None]:
    """Seed the global generators of torch, NumPy and Python for a while; afterwards they are as they were.

    `torch.manual_seed` would also seed the generators of all devices that are not used here.

    Args:
        seed: of the CPU's generator and that of the current device.
        device: ``"cpu"`` or ``"cuda"``.
    """
    cards = [] if device == "cpu" else [torch.cuda.current_device()]
    before = random.getstate(), np.random.get_state()  # noqa: NPY002 (a user's model may draw from it)
    with torch.random.fork_rng(cards):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.default_generator.manual_seed(seed)
        for card in cards:
            torch.cuda.default_generators[card].manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002
