"""``lossmith study``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lossmith.cli.running import Address, Executor, RunFolder, Workers, say_notes
from lossmith.comparison.files import RUNS
from lossmith.endings import check_folder, saying


def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help="spirals, rooted-linear or dynamical-cnn.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of data sets that the study reads, see docs/studies.", exists=True),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few and short trainings, which prove nothing.")] = False,
    workers: Workers = None,
    executor: Executor = "local",
    address: Address = None,
    out: RunFolder = None,
) -> None:
    """Repeat the experiments of a paper with the controls it lacked. Run it again to resume."""
    from lossmith.progress import ConsoleProgress
    from lossmith.report.study import Said, write_study
    from lossmith.studies import find_study
    from lossmith.studies.bench import Bench
    from lossmith.trials.executors.machines import machines

    carry_out, errors = find_study(name), Console(stderr=True)
    folder = out or RUNS / f"study-{name}{'-quick' if quick else ''}"
    check_folder(folder)
    with machines(executor, address, workers) as here:
        say_notes(errors, here.notes)
        with ConsoleProgress(errors) as progress, saying(errors.print, lambda: progress.kept):
            bench = Bench(folder, here.workers, progress, data, quick=quick, make_executor=here.make_executor)
            findings = carry_out(bench)
    command = f"lossmith study {name}" + (f" --data {data.name}/" if data else "") + (" --quick" if quick else "")
    page = write_study(findings, Said(command, bench.seconds, quick), folder)
    lines = [f"{claim.text} {claim.verdict.capitalize()}. {claim.because}" for claim in findings.claims]
    if quick:
        lines.insert(0, "A trial run with few and short trainings: its verdicts prove nothing.")
    Console().print("\n\n".join([*lines, f"The page is {page}."]), markup=False, highlight=False)
