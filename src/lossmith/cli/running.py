"""What the commands that train for long share: options, and the check of the run folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lossmith.comparison.files import RUNS
from lossmith.endings import check_folder
from lossmith.trials.options import ExecutorName

Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Trainings at once; default: one per core, or per GPU.", rich_help_panel="Running"),
]
Executor = Annotated[
    ExecutorName,
    typer.Option("--executor", help="Train here, or on a Ray or Dask cluster.", rich_help_panel="Running"),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Address of the cluster; default: RAY_ADDRESS or DASK_SCHEDULER_ADDRESS, else a new one here.",
        rich_help_panel="Running",
    ),
]
TimeLimit = Annotated[
    float | None, typer.Option(min=0, help="Seconds after which a run counts as failed.", rich_help_panel="Running")
]
RunFolder = Annotated[
    Path | None, typer.Option(help="Run folder; default: one for this plan under runs/.", rich_help_panel="Running")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be done and how long.", rich_help_panel="Running")
]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Begin without a question, however long.", rich_help_panel="Running")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")]


def check_writable(out: Path | None, *, dry_run: bool) -> None:
    """Refuse a run folder that cannot be written, or no ledger beside it, before anything is measured."""
    if not dry_run:
        for folder in (RUNS,) if out is None else (out.resolve().parent, out):
            check_folder(folder)


def say_notes(console: Console, notes: Iterable[str]) -> None:
    """Say what a user should know before the work begins, a line each."""
    for note in notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
