"""Rows divided over threads, and work that one thread does best."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import torch

_ROWS_PER_THREAD: Final = 16


def in_parallel(run: Callable[[int, int], int], rows: int) -> list[int]:
    """Split the rows evenly over torch's number of threads; the kernels release the interpreter."""
    threads = max(1, min(torch.get_num_threads(), rows // _ROWS_PER_THREAD))
    ends = [rows * i // threads for i in range(threads + 1)]
    if threads == 1:
        return [run(0, rows)]
    return list(_pool(threads, os.getpid()).map(run, ends[:-1], ends[1:]))


@functools.cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    del process  # a forked child has none of its parent's threads, and needs a pool of its own
    return ThreadPoolExecutor(threads, thread_name_prefix="lossmith")


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch for a while, then as many as before.

    Small tensors are fastest so, and sums do not depend on how many processors there are.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
