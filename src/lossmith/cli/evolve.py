"""``lossmith evolve``."""

from __future__ import annotations

from rich.console import Console

from lossmith.cli.flattened import flattened
from lossmith.cli.running import Address, DryRun, Executor, RunFolder, TimeLimit, Workers, check_writable, say_notes
from lossmith.comparison.files import RUNS
from lossmith.endings import Stopped, saying
from lossmith.evolution.options import SearchOptions


@flattened
def evolve(
    options: SearchOptions,
    workers: Workers = None,
    executor: Executor = "local",
    address: Address = None,
    time_limit: TimeLimit = None,
    out: RunFolder = None,
    dry_run: DryRun = False,
) -> None:
    """Discover a loss for your data by genetic programming. Run it again to resume."""
    from lossmith.comparison.plan import write_plan
    from lossmith.evolution.forecast import seconds_after
    from lossmith.evolution.plan import make_search_plan
    from lossmith.evolution.session import carry_out_search
    from lossmith.report.evolution.announcement import search_announcement
    from lossmith.report.evolution.live import SearchDisplay
    from lossmith.report.evolution.page import write_search_report
    from lossmith.report.evolution.search_run import load_search
    from lossmith.report.evolution.terminal import SearchEnd
    from lossmith.report.folder import SEARCH
    from lossmith.trials.executors.machines import machines
    from lossmith.trials.trial import Sources

    sources, errors = Sources(), Console(stderr=True)
    check_writable(out, dry_run=dry_run)
    plan = make_search_plan(options, sources)
    folder = out or RUNS / plan.folder

    def shown() -> None:
        run = load_search(folder)
        write_search_report(run)
        Console().print(SearchEnd(run))

    with machines(executor, address, workers, plan.device) as here:
        after = seconds_after(plan, sources, folder, here.at_once)
        for line in search_announcement(plan, None if dry_run else folder, after):
            errors.print(line, markup=False, highlight=False, soft_wrap=True)
        say_notes(errors, here.notes)
        if dry_run:
            return
        write_plan(plan, folder)
        with SearchDisplay(errors) as display, saying(errors.print, lambda: display.kept):
            try:
                carry_out_search(
                    plan,
                    sources,
                    folder,
                    workers=here.workers,
                    time_limit=time_limit,
                    watcher=display,
                    make_executor=here.make_executor,
                )
            except (KeyboardInterrupt, Stopped, ValueError, RuntimeError):
                display.close()
                if (folder / SEARCH).is_file():
                    shown()
                raise
    shown()
