"""A comparison ready to be carried out, for the command line and for Python alike: its plan and its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lossmith.comparison.estimate import Estimate, estimate_run
from lossmith.comparison.files import RUNS
from lossmith.comparison.fitting import fitted_plan
from lossmith.comparison.options import Options
from lossmith.comparison.plan import Plan, make_plan, write_plan
from lossmith.comparison.rows import Summary
from lossmith.comparison.session import carry_out
from lossmith.trials.executors.machines import Machines
from lossmith.trials.runner import Progress
from lossmith.trials.trial import Sources


@dataclass(frozen=True)
class Prepared:
    """A comparison ready to be carried out.

    Args:
        plan: what will be done.
        sources: where data and models lie.
        folder: the run folder, which need not exist.
        machines: where it trains.
        cuts: what was left out to save time, in sentences.
    """

    plan: Plan
    sources: Sources
    folder: Path
    machines: Machines
    cuts: tuple[str, ...] = ()

    @property
    def summary(self) -> bytes | None:
        """``summary.json`` as it lies in the folder; ``None`` before the comparison has been finished."""
        file = self.folder / "summary.json"
        return file.read_bytes() if file.is_file() else None

    def estimate(self) -> Estimate:
        """How long what is left of it will take, measured."""
        return estimate_run(self.plan, self.sources, self.folder, self.machines.at_once)

    def carry_out(self, *, time_limit: float | None = None, progress: Progress | None = None) -> Summary:
        """Write the plan, carry out what is left of it, and write its results; see `session.carry_out`."""
        write_plan(self.plan, self.folder)
        return carry_out(
            self.plan,
            self.sources,
            self.folder,
            workers=self.machines.workers,
            time_limit=time_limit,
            progress=progress,
            make_executor=self.machines.make_executor,
        )


def prepare(
    options: Options,
    machines: Machines,
    *,
    minutes: float | None = None,
    out: Path | None = None,
    keep: bool = True,
) -> Prepared:
    """Plan a comparison and name its folder.

    Args:
        options: what was asked for.
        machines: where it is to train.
        minutes: the wall time that it may take; ``None``: as long as it takes.
        out: the run folder; ``None``: ``runs/DATA-MODEL-PLAN``.
        keep: whether what was left out to save time is written down, so that the same request finds it again.

    Returns:
        The comparison, of which nothing but that has been written.

    Raises:
        ValueError: as `make_plan`.
    """
    sources, cuts = Sources(), tuple[str, ...]()
    if minutes is None:
        plan = make_plan(options, sources)
    else:
        runs = out.parent if out else RUNS
        plan, cuts = fitted_plan(options, sources, 60 * minutes, machines.at_once, runs, keep=keep)
    return Prepared(plan, sources, out or RUNS / plan.folder, machines, cuts)
