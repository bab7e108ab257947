"""``lossmith compare`` and ``lossmith selftest``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from lossmith.cli.flattened import flattened
from lossmith.cli.running import DryRun, RunFolder, TimeLimit, Workers, Yes, check_writable
from lossmith.comparison.files import RUNS
from lossmith.comparison.options import Options
from lossmith.endings import saying

if TYPE_CHECKING:
    from lossmith.comparison.estimate import Estimate
    from lossmith.comparison.plan import Plan
    from lossmith.trials.trial import Sources

_ASK_BEYOND: Final = 3600.0  # seconds


@flattened
def compare(
    options: Options,
    workers: Workers = None,
    time_limit: TimeLimit = None,
    out: RunFolder = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help="Leave out what does not fit into this time.", rich_help_panel="Running"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="As --minutes 2.", rich_help_panel="Running")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Compare losses fairly on your data and model. Run it again to resume."""
    from lossmith.comparison.fitting import fitted_plan
    from lossmith.comparison.plan import make_plan
    from lossmith.comparison.session import carry_out
    from lossmith.progress import ConsoleProgress
    from lossmith.report.run import load_run
    from lossmith.report.terminal import Leaderboard
    from lossmith.trials.trial import Sources

    sources, errors, workers = Sources(), Console(stderr=True), workers or os.cpu_count() or 1
    check_writable(out, dry_run=dry_run)
    limit = 2.0 if quick and minutes is None else minutes
    cuts: tuple[str, ...] = ()
    if limit is None:
        plan = make_plan(options, sources)
    else:
        runs = out.parent if out else RUNS
        plan, cuts = fitted_plan(options, sources, 60 * limit, workers, runs, keep=not dry_run)
    folder = out or RUNS / f"{plan.name}-{plan.trial.trainer.title.split(':')[0]}-{plan.digest}"
    file = folder / "summary.json"
    before = file.read_bytes() if file.is_file() else None
    expected = _begin(plan, sources, folder, workers, cuts, finished=before is not None, dry_run=dry_run, yes=yes)
    if dry_run:
        return
    with ConsoleProgress(errors, expected) as progress, saying(errors.print, lambda: progress.kept):
        carry_out(plan, sources, folder, workers=workers, time_limit=time_limit, progress=progress)
    run = load_run(folder)
    if file.read_bytes() != before or not run.report.is_file():
        from lossmith.report.page import write_report  # matplotlib is slow to import, and the drawings are slow

        write_report(run)
    Console().print(Leaderboard(run))


@flattened
def selftest(
    options: Options,
    copies: Annotated[int, typer.Option(min=2, help="Copies of the reference.", rich_help_panel="Comparison")] = 10,
    workers: Workers = None,
    time_limit: TimeLimit = None,
    out: RunFolder = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Measure how often `compare` raises a false alarm on your data and model, from copies of the reference loss."""
    from lossmith.comparison.plan import make_plan
    from lossmith.comparison.selftest import plan_copies, self_test
    from lossmith.comparison.session import running
    from lossmith.progress import ConsoleProgress
    from lossmith.report.selftest import SelfTestTable
    from lossmith.trials.options import RequestError
    from lossmith.trials.trial import Sources

    if options.losses is not None:
        raise RequestError("--losses: a self-test compares copies of the reference; leave it out")
    sources, errors, workers = Sources(), Console(stderr=True), workers or os.cpu_count() or 1
    check_writable(out, dry_run=dry_run)
    plan = plan_copies(make_plan(replace(options, losses=()), sources), copies)
    folder = out or RUNS / f"selftest-{plan.name}-{plan.trial.trainer.title.split(':')[0]}-{plan.digest}"
    expected = _begin(plan, sources, folder, workers, dry_run=dry_run, yes=yes)
    if dry_run:
        return
    with (
        ConsoleProgress(errors, expected) as progress,
        saying(errors.print, lambda: progress.kept),
        running(plan, sources, folder, workers=workers, time_limit=time_limit, progress=progress) as runner,
    ):
        found = self_test(plan, runner, folder)
    Console().print(SelfTestTable(plan, found))


def _begin(
    plan: Plan,
    sources: Sources,
    folder: Path,
    workers: int,
    cuts: Sequence[str] = (),
    *,
    finished: bool = False,
    dry_run: bool,
    yes: bool,
) -> Estimate | None:
    """Say what will be done and how long it takes, ask if that is long, and write the plan."""
    from lossmith.comparison.estimate import estimate_run
    from lossmith.comparison.plan import write_plan
    from lossmith.report.announcement import announcement

    errors = Console(stderr=True)
    for line in (*announcement(plan, None if dry_run else folder), *(f"note: {cut}" for cut in cuts)):
        errors.print(line, markup=False, highlight=False, soft_wrap=True)
    expected = None if finished and not dry_run else estimate_run(plan, sources, folder, workers)
    if expected is not None and expected.trainings:
        errors.print(str(expected), highlight=False, soft_wrap=True)
    interactive = errors.is_terminal and sys.stdin.isatty()
    if expected is not None and expected.seconds > _ASK_BEYOND and interactive and not (yes or dry_run):
        typer.confirm("Begin?", default=True, abort=True, err=True)
    if not dry_run:
        write_plan(plan, folder)
    return expected
