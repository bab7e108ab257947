"""``lossmith train`` and ``lossmith predict``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lossmith.cli.flattened import flattened
from lossmith.cli.running import Force, say_notes
from lossmith.comparison.files import RUNS
from lossmith.endings import check_file, check_folder, saying
from lossmith.trials.options import Training


@flattened
def train(
    request: Training,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the weights; default: runs/train-...", rich_help_panel="Running"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace another model in the folder.", rich_help_panel="Running")
    ] = False,
) -> None:
    """Train one model with one loss and save its weights."""
    from lossmith.learned import LearnedLoss
    from lossmith.progress import training_progress
    from lossmith.report.training import training_lines
    from lossmith.trials.request import draft
    from lossmith.trials.runner import reason_of
    from lossmith.trials.saving import check_unused, reload_snippet, save_model, save_series
    from lossmith.trials.texts import with_loss
    from lossmith.trials.training import train_model
    from lossmith.trials.trial import Sources

    sources = Sources()
    drafted = draft(request, sources)
    changed = replace(drafted.trial.optimizer, lr=request.lr, weight_decay=request.weight_decay)
    text = drafted.task.reference if request.loss is None else drafted.task.loss_text(request.loss)
    trainer = replace(drafted.trial.ours, engine="single")
    trial = with_loss(replace(drafted.trial, trainer=trainer, optimizer=changed, final=True), text)
    folder = out or RUNS / f"train-{drafted.splits.name}-{trial.hash[:8]}"
    check_folder(folder)
    if not force:
        check_unused(folder, trial)
    console = Console(stderr=True)
    say_notes(console, drafted.notes)
    with saying(console.print, lambda: "Nothing was saved."):
        try:
            with training_progress(console, trial.steps) as report:
                result, trained, learned = train_model(trial, sources, drafted.device, report)
        except (Exception, SystemExit) as error:
            if os.environ.get("LOSSMITH_TRACEBACK"):
                raise
            raise RuntimeError(f"the training failed: {reason_of(error)}") from None
    save_model(trained, trial, drafted.splits, drafted.task, folder)
    if trial.probes:
        save_series(result, folder)
    reload = reload_snippet(trial, drafted.splits, sources, folder)
    use = f"saved to {folder}; `lossmith predict {folder} DATA` uses it, and so does Python:"
    said = [*training_lines(trial, drafted.task, result), "", use, "", reload]
    if trial.probes:
        said += ["", f"`lossmith dynamics {folder}` shows what the probes measured"]
    if isinstance(learned, LearnedLoss):
        learned.save(folder / "loss.safetensors")
        said += ["", f"the learned loss as a loss of its own: lossmith.create('@{folder}/loss.safetensors')"]
    Console().print("\n".join(said), markup=False, highlight=False, soft_wrap=True)


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that `lossmith train` made.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Examples: .csv, .parquet, .npz, or images.")],
    output: Annotated[Path | None, typer.Option(help="The file to write; default: standard output.")] = None,
    probabilities: Annotated[bool, typer.Option(help="Give the probability of each class too.")] = False,
    model: Annotated[
        str | None, typer.Option(help="path/to/file.py:factory, for a model that was trained from a file of your own.")
    ] = None,
    force: Force = False,
) -> None:
    """Predict for new examples with a model that `lossmith train` saved, as CSV."""
    from lossmith.data.files import check_exists

    for path in (run, data):
        check_exists(path)  # before torch is loaded, which takes seconds
    if output is not None:
        check_file(output, "--output", force=force)
    from lossmith.trials.predictions import predict_file
    from lossmith.trials.saving import load

    made = predict_file(load(run, model), data, output, probabilities=probabilities)
    errors = Console(stderr=True)
    say_notes(errors, made.notes)
    if output is None:
        typer.echo(made.content, nl=False)
    else:
        errors.print(f"{made.count:,} predictions written to {output}", markup=False, highlight=False, soft_wrap=True)
