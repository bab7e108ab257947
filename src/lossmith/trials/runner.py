"""Run trials and keep what they find: resumable, interruptible, whatever the number of workers."""

from __future__ import annotations

import concurrent.futures
import functools
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import torch

from lossmith.trials.executors import Endable, MakeExecutor
from lossmith.trials.executors.cluster import ClusterExecutor, WorkerDiedError
from lossmith.trials.executors.local import LocalPool
from lossmith.trials.ledger import Ledger
from lossmith.trials.parcel import Packed, Parcel, node_folder, pack
from lossmith.trials.result import TrialResult
from lossmith.trials.training import stacks, train_many
from lossmith.trials.trial import Sources, Trial

STACK_SIZE: Final = 64  # slices trained at a time: beyond it a stack no longer gets cheaper per slice
_LONGEST_REASON: Final = 300
_WORKER_DIED: Final = "its worker process died, perhaps for lack of memory"

Unit = list[Trial]
"""Trials that are trained together."""


class Progress(Protocol):
    """Told how far a stage has come."""

    def start(self, label: str, total: int, done: int) -> None:
        """A stage of ``total`` trainings begins, ``done`` of which are kept from before."""

    def advance(self, trainings: int) -> None:
        """So many more trainings have finished."""


class TrainingFailedError(RuntimeError):
    """A training without which the work cannot go on has failed; the message says why."""


class Runner:
    """Runs trials that the ledger does not hold yet, and hands out what it holds.

    A trial that fails does not end the run. It is noted in `failures` and not kept in the ledger, so that a later run
    tries it again.

    Args:
        ledger: where results are kept.
        sources: where data and models lie.
        workers: number of workers; 0 trains in this process.
        device: ``"cpu"`` or ``"cuda"``.
        time_limit: seconds that a training may take; ``None`` for no limit.
        progress: told how far it has come; ``None`` tells nobody.
        make_executor: makes the executor for a number of workers, which are sent data and code by content; ``None``:
            processes of this machine, which read the same files.

    Attributes:
        failures: why a trial gave no result, by trial.
    """

    def __init__(
        self,
        ledger: Ledger,
        sources: Sources,
        *,
        workers: int = 1,
        device: str = "cpu",
        time_limit: float | None = None,
        progress: Progress | None = None,
        make_executor: MakeExecutor | None = None,
    ) -> None:
        self.ledger, self.sources, self.workers, self.device = ledger, sources, workers, device
        self.time_limit, self.progress = time_limit, progress
        self.failures: dict[Trial, str] = {}
        self._make_executor = make_executor or functools.partial(LocalPool, device=device)
        self._parcel = None if make_executor is None else pack(sources)
        self._sent: tuple[Parcel, Packed] | None = None  # what the executor was given, and what stands for it
        self._executor: concurrent.futures.Executor | None = None

    def run(self, trials: Sequence[Trial], label: str = "training") -> dict[Trial, TrialResult]:
        """Train what is missing and return the results, test scores sealed.

        Args:
            trials: what to have results of; repeats count once.
            label: what this stage is called in the progress display.

        Returns:
            The result of each trial that did not fail.

        Raises:
            KeyboardInterrupt: on Ctrl-C, after the workers have been stopped; finished trials are kept.
        """
        wanted = list(dict.fromkeys(trials))
        missing = [trial for trial in wanted if trial not in self.ledger and trial not in self.failures]
        replayed = list(dict.fromkeys(trial.source for trial in missing if trial.source is not None))
        first = [trial for trial in replayed if trial not in self.ledger and trial not in self.failures]
        then = [trial for trial in missing if trial not in first]
        if self.progress is not None:
            total = len({*wanted, *first})
            self.progress.start(label, total, total - len(first) - len(then))
        self._run_wave(first)
        self._run_wave(self._without_orphans(then))
        results = {trial: self.ledger.get(trial) for trial in wanted}
        return {trial: result for trial, result in results.items() if result is not None}

    def run_all(self, trials: Sequence[Trial], label: str = "training") -> dict[Trial, TrialResult]:
        """`run`, for trials none of which may fail.

        Raises:
            TrainingFailedError: if one fails.
        """
        results = self.run(trials, label)
        for trial in trials:
            if trial not in results:
                raise TrainingFailedError(f"a training with {trial.loss} failed: {self.failures[trial]}")
        return results

    def close(self) -> None:
        """Stop the workers."""
        if self._executor is not None:
            _end(self._executor)
            self._executor, self._sent = None, None

    def _run_wave(self, trials: Sequence[Trial]) -> None:
        """Run trials none of which replays another of them."""
        units = stacks(trials, STACK_SIZE)  # the cut decides what an interruption loses, not what is found
        # The longest stacks come first, so that no worker is left with one at the end.
        units.sort(key=lambda unit: -len(unit) * unit[0].steps if unit[0].is_stacked else 0)
        if self.workers == 0:
            for unit in units:
                self._keep(unit, attempt(unit, *self._given(unit)))
        else:
            self._run_on_workers(units)

    def _without_orphans(self, trials: Sequence[Trial]) -> list[Trial]:
        """Those trials that replay nothing, or a training that did not fail."""
        orphans = {trial: self.failures[trial.source] for trial in trials if trial.source in self.failures}
        for trial, reason in orphans.items():
            self._keep([trial], [f"the training that it replays failed: {reason}"])
        return [trial for trial in trials if trial not in orphans]

    def _given(self, unit: Unit) -> tuple[Sources, str, float | None, dict[Trial, TrialResult]]:
        """What `attempt` needs besides the unit."""
        found = {source: self.ledger.get(source) for trial in unit if (source := trial.source) is not None}
        replayed = {source: result for source, result in found.items() if result is not None}
        return self.sources, self.device, self.time_limit, replayed

    def _run_on_workers(self, units: list[Unit]) -> None:
        """Run units; where a worker dies, those that it may have worked on run again, each alone."""
        while units:
            lost, deadly = self._submit(units, self.workers)
            suspects, units = lost[: self.workers + 1], lost[self.workers + 1 :]  # executors begin in order
            for unit in suspects:
                self._run_alone(unit)
            for unit in deadly:
                if len(unit) == 1:
                    self._keep(unit, [_WORKER_DIED])
                else:
                    units += [[trial] for trial in unit]

    def _run_alone(self, unit: Unit) -> None:
        """Run a unit on a worker of its own; where that dies too, each of its trials."""
        if not any(self._submit([unit], 1)):
            return
        if len(unit) == 1:
            self._keep(unit, [_WORKER_DIED])
        else:
            for trial in unit:
                self._run_alone([trial])

    def _submit(self, units: list[Unit], workers: int) -> tuple[list[Unit], list[Unit]]:
        """Run units on an executor and keep what they find.

        Returns:
            The units that were lost with the executor, in order, and those that alone killed their workers.
        """
        if self._executor is None:
            self._executor = self._make_executor(workers)
        pending: dict[concurrent.futures.Future[list[TrialResult | str]], Unit] = {}
        lost: list[Unit] = []
        deadly: list[Unit] = []
        try:
            for unit in units:
                try:
                    future = self._submitted(unit)
                    pending[future] = unit
                except concurrent.futures.BrokenExecutor:
                    lost.append(unit)
            for future in concurrent.futures.as_completed(list(pending)):
                unit = pending.pop(future)
                try:
                    self._keep(unit, future.result())
                except WorkerDiedError:
                    deadly.append(unit)
                except concurrent.futures.BrokenExecutor:
                    lost.append(unit)
        except BaseException:
            self.close()
            for future, unit in pending.items():
                if future.done() and not future.cancelled() and future.exception() is None:
                    self._keep(unit, future.result())
            raise
        if lost or workers != self.workers:
            self.close()
        return [unit for unit in units if unit in lost], deadly

    def _submitted(self, unit: Unit) -> concurrent.futures.Future[list[TrialResult | str]]:
        """A unit under way."""
        assert self._executor is not None
        if self._parcel is None:
            return self._executor.submit(attempt, unit, *self._given(unit))
        return self._executor.submit(attempt_elsewhere, unit, self._packed(), *self._given(unit)[1:])

    def _packed(self) -> Packed:
        """What stands for all files of `sources` on the executor, which is sent them once."""
        self._parcel = pack(self.sources, self._parcel)  # a search comes to know more of them
        if self._sent is None or self._sent[0] is not self._parcel:
            parcel, executor = self._parcel, self._executor
            self._sent = parcel, executor.share(parcel) if isinstance(executor, ClusterExecutor) else parcel
        return self._sent[1]

    def _keep(self, unit: Unit, results: Sequence[TrialResult | str]) -> None:
        finished = []
        for trial, result in zip(unit, results, strict=True):
            if isinstance(result, str):
                self.failures[trial] = result
            else:
                finished.append((trial, result))
        self.ledger.put(finished)
        if self.progress is not None:
            self.progress.advance(len(unit))


def attempt(
    unit: Unit,
    sources: Sources,
    device: str,
    time_limit: float | None,
    replayed: Mapping[Trial, TrialResult] | None = None,
) -> list[TrialResult | str]:
    """Train a unit; where that fails each of its trials alone, so that only those fail that must.

    Args:
        unit: what is trained together.
        sources: where data and models lie.
        device: ``"cpu"`` or ``"cuda"``.
        time_limit: seconds that each trial may take.
        replayed: results of the trials that these replay.

    Returns:
        For each trial its result, or why it has none.
    """
    try:
        return list(train_many(unit, sources, device, time_limit, replayed))
    except (Exception, SystemExit) as error:  # a user's model may raise whatever it likes
        if len(unit) == 1:
            return [reason_of(error)]
    return [attempt([trial], sources, device, time_limit, replayed)[0] for trial in unit]


def attempt_elsewhere(
    unit: Unit, packed: Packed, device: str, time_limit: float | None, replayed: Mapping[Trial, TrialResult]
) -> list[TrialResult | str]:
    """`attempt` on a machine that has none of the files yet."""
    return attempt(unit, packed.unpack(node_folder()), device, time_limit, replayed)


def _end(executor: concurrent.futures.Executor) -> None:
    """Stop an executor without waiting for what it is doing, if it can be stopped so."""
    if isinstance(executor, Endable):
        executor.end()
    else:
        executor.shutdown(wait=False, cancel_futures=True)


def reason_of(error: Exception | SystemExit) -> str:
    """An error in one line: the sentence of those that are meant for users, else with its kind."""
    first_line = next(iter(str(error).splitlines()), "")[:_LONGEST_REASON]
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in first_line:
        return "it ran out of memory"
    if isinstance(error, ValueError | TimeoutError):
        return first_line
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
