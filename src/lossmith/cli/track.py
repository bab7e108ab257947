"""``lossmith track``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from lossmith.endings import check_folder


def track(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run folder of a finished comparison.")],
    to: Annotated[Literal["tensorboard", "mlflow"], typer.Option(help="Where the results go.")],
    at: Annotated[
        str | None,
        typer.Option(
            help="TensorBoard: a folder; default: RUN/tensorboard. MLflow: a tracking URI; default: as MLflow is set."
        ),
    ] = None,
) -> None:
    """Send a comparison to TensorBoard or MLflow: learning curves, settings, scores, verdicts, report."""
    from lossmith.report.folder import COMPARISON, find_run

    find_run(run, COMPARISON)  # a wrong folder is refused before torch is loaded
    from lossmith.integrations.tracked import load_tracked

    tracked = load_tracked(run)
    if to == "tensorboard":
        from lossmith.integrations.tensorboard import write_events

        folder = Path(at) / run.resolve().name if at else run / "tensorboard"
        check_folder(folder, "--at")
        write_events(tracked, folder)
        said = f"look at it with `tensorboard --logdir {folder}`"
    else:
        from lossmith.integrations.mlflow import log_runs

        said = f"it is the run {log_runs(tracked, at)} of the experiment {tracked.run.design.name}"
    Console().print(said, markup=False, highlight=False, soft_wrap=True)
