"""Worker processes of this machine."""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import multiprocessing
import multiprocessing.context
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.sharedctypes import Synchronized
from typing import Final

import torch

_HEAP: Final = {-1: 2**30, -3: 2**25}
"""glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD, in bytes; the second is the largest that it takes."""
_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"


class _WithoutMain(multiprocessing.context.SpawnProcess):
    """A fresh process that does not run the main script of this one: workers need nothing of it.

    A script then needs no ``if __name__ == "__main__":``.
    """

    @staticmethod
    def _Popen(process_obj: multiprocessing.context.SpawnProcess) -> object:  # type: ignore[override]  # noqa: N802 (its name there)
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")  # without a file, there is nothing to run again
        try:
            with _interrupts_blocked():
                return multiprocessing.context.SpawnProcess._Popen(process_obj)
        finally:
            sys.modules["__main__"] = main


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Let processes that start now inherit that Ctrl-C waits, for importing torch takes them seconds.

    This process gets a Ctrl-C of the meantime afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    resource_tracker.ensure_running()  # which would end the block where it has to start the tracker
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _SpawnContext(multiprocessing.context.SpawnContext):
    Process = _WithoutMain


class LocalPool(concurrent.futures.ProcessPoolExecutor):
    """Fresh processes with one thread each, which ignore Ctrl-C and die when this process does.

    Args:
        workers: number of processes.
        device: ``"cpu"``, or ``"cuda"``: each process sees one of the GPUs, and they take turns.
    """

    def __init__(self, workers: int, device: str = "cpu") -> None:
        context = _SpawnContext()
        gpus = visible_gpus() if device == "cuda" else ()
        super().__init__(workers, context, _start_worker, (gpus, context.Value("i", 0)))

    def end(self) -> None:
        """Stop the processes of this pool, and no others, whatever they are doing."""
        processes = list((self._processes or {}).values())  # shutdown forgets them
        self.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process sees, as ``CUDA_VISIBLE_DEVICES`` names them."""
    named = os.environ.get(_VISIBLE)
    names = [str(i) for i in range(torch.cuda.device_count())] if named is None else named.split(",")
    return tuple(names[: torch.cuda.device_count()])


def one_gpu(gpus: Sequence[str], turn: int) -> dict[str, str]:
    """The environment in which a process sees one GPU alone, as its device ``"cuda"``.

    Args:
        gpus: from `visible_gpus`; none leaves everything as it is.
        turn: number of the process, from 0.
    """
    return {_VISIBLE: gpus[turn % len(gpus)]} if gpus else {}


def set_up_process() -> None:
    """Make a process compute as all workers do: on one thread, and fast."""
    torch.set_num_threads(1)
    _keep_freed_memory()


def _start_worker(gpus: Sequence[str], started: Synchronized[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):  # it was blocked when this process started
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with started.get_lock():
        turn = started.value
        started.value += 1
    os.environ.update(one_gpu(gpus, turn))  # CUDA has not started yet
    set_up_process()
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
