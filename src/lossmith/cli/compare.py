"""``lossmith compare`` and ``lossmith selftest``."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from lossmith.cli.flattened import flattened
from lossmith.cli.running import (
    Address,
    DryRun,
    Executor,
    RunFolder,
    TimeLimit,
    Workers,
    Yes,
    check_writable,
    say_notes,
)
from lossmith.comparison.options import Options
from lossmith.endings import saying

if TYPE_CHECKING:
    from lossmith.comparison.estimate import Estimate
    from lossmith.comparison.prepared import Prepared

_ASK_BEYOND: Final = 3600.0  # seconds


@flattened
def compare(
    options: Options,
    workers: Workers = None,
    executor: Executor = "local",
    address: Address = None,
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
    from lossmith.comparison.prepared import prepare
    from lossmith.progress import ConsoleProgress
    from lossmith.report.run import load_run
    from lossmith.report.terminal import Leaderboard
    from lossmith.trials.executors.machines import machines

    errors = Console(stderr=True)
    check_writable(out, dry_run=dry_run)
    limit = 2.0 if quick and minutes is None else minutes
    with machines(executor, address, workers, options.device) as here:
        prepared = prepare(options, here, minutes=limit, out=out, keep=not dry_run)
        before = prepared.summary
        expected = _begin(prepared, finished=before is not None, dry_run=dry_run, yes=yes)
        if dry_run:
            return
        with ConsoleProgress(errors, expected) as progress, saying(errors.print, lambda: progress.kept):
            prepared.carry_out(time_limit=time_limit, progress=progress)
    run = load_run(prepared.folder)
    if prepared.summary != before or not run.report.is_file():
        from lossmith.report.page import write_report  # matplotlib is slow to import, and the drawings are slow

        write_report(run)
    Console().print(Leaderboard(run))


@flattened
def selftest(
    options: Options,
    copies: Annotated[int, typer.Option(min=2, help="Copies of the reference.", rich_help_panel="Comparison")] = 10,
    workers: Workers = None,
    executor: Executor = "local",
    address: Address = None,
    time_limit: TimeLimit = None,
    out: RunFolder = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Measure how often `compare` raises a false alarm on your data and model, from copies of the reference loss."""
    from lossmith.comparison.files import RUNS
    from lossmith.comparison.plan import make_plan, write_plan
    from lossmith.comparison.prepared import Prepared
    from lossmith.comparison.selftest import plan_copies, self_test
    from lossmith.comparison.session import running
    from lossmith.progress import ConsoleProgress
    from lossmith.report.selftest import SelfTestTable
    from lossmith.trials.executors.machines import machines
    from lossmith.trials.options import RequestError
    from lossmith.trials.trial import Sources

    if options.losses is not None:
        raise RequestError("--losses: a self-test compares copies of the reference; leave it out")
    sources, errors = Sources(), Console(stderr=True)
    check_writable(out, dry_run=dry_run)
    plan = plan_copies(make_plan(replace(options, losses=()), sources), copies)
    folder = out or RUNS / f"selftest-{plan.folder}"
    with machines(executor, address, workers, plan.device) as here:
        expected = _begin(Prepared(plan, sources, folder, here), dry_run=dry_run, yes=yes)
        if dry_run:
            return
        write_plan(plan, folder)
        with (
            ConsoleProgress(errors, expected) as progress,
            saying(errors.print, lambda: progress.kept),
            running(
                plan,
                sources,
                folder,
                workers=here.workers,
                time_limit=time_limit,
                progress=progress,
                make_executor=here.make_executor,
            ) as runner,
        ):
            found = self_test(plan, runner, folder)
    Console().print(SelfTestTable(plan, found))


def _begin(prepared: Prepared, *, finished: bool = False, dry_run: bool, yes: bool) -> Estimate | None:
    """Say what will be done and how long it takes, and ask if that is long."""
    from lossmith.report.announcement import announcement

    errors, folder = Console(stderr=True), None if dry_run else prepared.folder
    for line in announcement(prepared.plan, folder):
        errors.print(line, markup=False, highlight=False, soft_wrap=True)
    say_notes(errors, (*prepared.cuts, *prepared.machines.notes))
    expected = None if finished and not dry_run else prepared.estimate()
    if expected is not None and expected.trainings:
        errors.print(str(expected), highlight=False, soft_wrap=True)
    interactive = errors.is_terminal and sys.stdin.isatty()
    if expected is not None and expected.seconds > _ASK_BEYOND and interactive and not (yes or dry_run):
        typer.confirm("Begin?", default=True, abort=True, err=True)
    return expected
