"""Run trials on worker processes and keep what they find: resumable, interruptible, independent of their number."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import torch

from lossmith.trials.ledger import Ledger
from lossmith.trials.result import TrialResult
from lossmith.trials.training import banks, train_many
from lossmith.trials.trial import Sources, Trial

STACK_SIZE: Final = 64  # slices trained at a time: beyond it a stack no longer gets cheaper per slice

MakeExecutor = Callable[[int], concurrent.futures.Executor]


class Progress(Protocol):
    """Told how far a stage has come."""

    def start(self, label: str, total: int, done: int) -> None:
        """A stage of ``total`` trainings begins, ``done`` of which are kept from before."""

    def advance(self, trainings: int) -> None:
        """So many more trainings have finished."""


class WorkerLostError(RuntimeError):
    """A worker process died; the message says what to do."""


class Runner:
    """Runs trials that the ledger does not hold yet, and hands out what it holds.

    Args:
        ledger: where results are kept.
        sources: where data and models lie.
        workers: number of worker processes with one thread each; 0 trains in this process.
        device: ``"cpu"`` or ``"cuda"``.
        progress: told how far it has come; ``None`` tells nobody.
        make_executor: makes the executor for a number of workers; by default processes started afresh, which die
            with this one. Anything with the interface of `concurrent.futures.Executor` will do.
    """

    def __init__(
        self,
        ledger: Ledger,
        sources: Sources,
        *,
        workers: int = 1,
        device: str = "cpu",
        progress: Progress | None = None,
        make_executor: MakeExecutor | None = None,
    ) -> None:
        self.ledger, self.sources, self.workers, self.device = ledger, sources, workers, device
        self.progress = progress
        self._make_executor = make_executor or process_pool
        self._executor: concurrent.futures.Executor | None = None

    def run(self, trials: Sequence[Trial], label: str = "training") -> dict[Trial, TrialResult]:
        """Train what is missing and return the results of all, test outcomes sealed.

        Args:
            trials: what to have results of; repeats count once.
            label: what this stage is called in the progress display.

        Returns:
            The result of each trial.

        Raises:
            KeyboardInterrupt: on Ctrl-C, after the workers have been stopped; finished trials are kept.
            WorkerLostError: if a worker died, for example for lack of memory; finished trials are kept.
            ValueError: if data, model or loss of a trial cannot be had.
        """
        wanted = list(dict.fromkeys(trials))
        missing = [trial for trial in wanted if trial not in self.ledger]
        if self.progress is not None:
            self.progress.start(label, len(wanted), len(wanted) - len(missing))
        units = banks(missing, STACK_SIZE)  # the cut decides what an interruption loses, not what is found
        if self.workers == 0:
            for unit in units:
                self._keep(unit, train_many(unit, self.sources, self.device))
        elif units:
            self._run_on_workers(units)
        results = {trial: self.ledger.get(trial) for trial in wanted}
        return {trial: result for trial, result in results.items() if result is not None}

    def close(self) -> None:
        """Stop the workers."""
        if self._executor is not None:
            workers = getattr(self._executor, "_processes", None) or {}  # of a process pool; shutdown forgets them
            processes = list(workers.values())
            self._executor.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
            self._executor = None

    def _run_on_workers(self, units: list[list[Trial]]) -> None:
        if self._executor is None:
            self._executor = self._make_executor(self.workers)
        pending: dict[concurrent.futures.Future[list[TrialResult]], list[Trial]] = {}
        try:
            for unit in units:
                pending[self._executor.submit(train_many, unit, self.sources, self.device)] = unit
            for future in concurrent.futures.as_completed(list(pending)):
                results = future.result()
                self._keep(pending.pop(future), results)
        except BaseException as error:
            self.close()
            for future, unit in pending.items():
                if future.done() and not future.cancelled() and future.exception() is None:
                    self._keep(unit, future.result())
            if isinstance(error, concurrent.futures.BrokenExecutor):
                raise WorkerLostError(
                    "a worker process died, perhaps for lack of memory: run the same command again to go on, with "
                    "fewer --workers if it happens again"
                ) from None
            raise

    def _keep(self, unit: list[Trial], results: list[TrialResult]) -> None:
        self.ledger.put(zip(unit, results, strict=True))
        if self.progress is not None:
            self.progress.advance(len(unit))


def process_pool(workers: int) -> concurrent.futures.Executor:
    """A pool of fresh processes with one thread each, which ignore Ctrl-C and die when this process does."""
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
