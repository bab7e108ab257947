"""Where trials run: worker processes of this machine, or anything with the interface of `concurrent.futures`."""

from __future__ import annotations

import concurrent.futures
import ctypes
import multiprocessing
import multiprocessing.context
import os
import signal
import sys
import threading
import types
from collections.abc import Callable
from typing import Final

import torch

_HEAP: Final = {-1: 2**30, -3: 2**25}
"""glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, in bytes; the second is the largest that it takes."""

MakeExecutor = Callable[[int], concurrent.futures.Executor]
"""Makes an executor with a number of workers. What is submitted to it can be pickled."""


class _WithoutMain(multiprocessing.context.SpawnProcess):
    """A fresh process that does not run the main script of this one: workers need nothing of it.

    A script then needs no ``if __name__ == "__main__":``.
    """

    @staticmethod
    def _Popen(process_obj: multiprocessing.context.SpawnProcess) -> object:  # type: ignore[override]  # noqa: N802 (its name there)
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")  # without a file, there is nothing to run again
        try:
            return multiprocessing.context.SpawnProcess._Popen(process_obj)
        finally:
            sys.modules["__main__"] = main


class _SpawnContext(multiprocessing.context.SpawnContext):
    Process = _WithoutMain


class LocalPool(concurrent.futures.ProcessPoolExecutor):
    """Fresh processes with one thread each, which ignore Ctrl-C and die when this process does.

    Args:
        workers: number of processes.
    """

    def __init__(self, workers: int) -> None:
        super().__init__(workers, mp_context=_SpawnContext(), initializer=_start_worker)

    def end(self) -> None:
        """Stop the processes of this pool, and no others, whatever they are doing."""
        processes = list((self._processes or {}).values())  # shutdown forgets them
        self.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


def end(executor: concurrent.futures.Executor) -> None:
    """Stop an executor without waiting for what it is doing, if it can be stopped so."""
    if isinstance(executor, LocalPool):
        executor.end()
    else:
        executor.shutdown(wait=False, cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _keep_freed_memory()
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _keep_freed_memory() -> None:
    """Let glibc reuse the buffers of a step in the next; fresh ones from the system take a quarter of a step's time."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # musl has none
        for parameter, size in _HEAP.items():
            libc.mallopt(parameter, size)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
