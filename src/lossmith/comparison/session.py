"""One sitting of a comparison: from a plan to the files of a finished run folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from lossmith.comparison.outputs import write_runs, write_summary
from lossmith.comparison.plan import Plan
from lossmith.comparison.protocol import Findings, run_protocol
from lossmith.comparison.rows import Summary
from lossmith.comparison.summary import summarise
from lossmith.trials.executors import MakeExecutor
from lossmith.trials.ledger import Ledger
from lossmith.trials.runner import Progress, Runner
from lossmith.trials.trial import Sources


class Planned(Protocol):
    """A plan that says where it trains."""

    @property
    def device(self) -> str:
        """``"cpu"`` or ``"cuda"``."""


@contextlib.contextmanager
def running(
    plan: Planned,
    sources: Sources,
    folder: Path,
    *,
    workers: int = 1,
    time_limit: float | None = None,
    progress: Progress | None = None,
    make_executor: MakeExecutor | None = None,
) -> Iterator[Runner]:
    """A runner whose ledger lies beside the run folder; arguments as `carry_out`."""
    with Ledger(folder.resolve().parent / "ledger.sqlite", plan.device) as ledger:
        runner = Runner(
            ledger,
            sources,
            workers=workers,
            device=plan.device,
            time_limit=time_limit,
            progress=progress,
            make_executor=make_executor,
        )
        try:
            yield runner
        finally:
            runner.close()


def carry_out(
    plan: Plan,
    sources: Sources,
    folder: Path,
    *,
    workers: int = 1,
    time_limit: float | None = None,
    progress: Progress | None = None,
    make_executor: MakeExecutor | None = None,
) -> Summary:
    """Carry out a plan, or what is left of it, and write its results.

    Trainings are kept in ``ledger.sqlite`` beside the run folder, so that runs of one parent folder share them.

    Args:
        plan: the plan.
        sources: where data and models lie.
        folder: the run folder.
        workers: number of workers.
        time_limit: seconds that a training may take before it counts as failed.
        progress: told how far it has come.
        make_executor: makes the executor that trains; ``None``: processes of this machine.

    Returns:
        The summary, as written to the folder.

    Raises:
        KeyboardInterrupt: on Ctrl-C; finished trainings are kept.
        LedgerError: if the ledger is no ledger, or of another version.
        TrainingFailedError: if trainings of the reference fail.
    """
    with running(
        plan,
        sources,
        folder,
        workers=workers,
        time_limit=time_limit,
        progress=progress,
        make_executor=make_executor,
    ) as runner:
        return conclude(plan, runner, folder)[1]


def conclude(plan: Plan, runner: Runner, folder: Path) -> tuple[Findings, Summary]:
    """`carry_out` with a runner at hand; returns the findings too."""
    findings = run_protocol(plan, runner, folder)
    summary = summarise(plan, findings)
    write_runs(plan, findings.runs, folder)
    write_summary(summary, folder)
    return findings, summary
