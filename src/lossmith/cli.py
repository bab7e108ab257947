"""The ``lossmith`` command: parse, call, print."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from lossmith.catalog import available, canonical
from lossmith.losses.text import split_losses

if TYPE_CHECKING:
    from lossmith.tasks import Task
    from lossmith.trials.result import LearnedPath, TrialResult
    from lossmith.trials.trial import Trial

app = typer.Typer(
    name="lossmith",
    help="Finds the loss function that trains your classifier best, and proves it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DataArgument = Annotated[
    str, typer.Argument(metavar="[DATA]", help="digits, wine, breast_cancer, iris, spirals, diabetes, or a path.")
]
ModelOption = Annotated[
    str, typer.Option(help="linear, mlp, cnn, resnet18, text_bag, unet, or path/to/file.py:factory.")
]
LabelOption = Annotated[str | None, typer.Option(help="Label column of a table.")]
TaskOption = Annotated[
    str | None, typer.Option(help="classification, regression or segmentation; default: what the labels are.")
]
OutliersOption = Annotated[
    float, typer.Option(help="Share of outliers among the targets of a regression, in training.")
]
EpochsOption = Annotated[int | None, typer.Option(min=1, help="Passes over the training part.")]
StepsOption = Annotated[int | None, typer.Option(min=1, help="Optimiser steps, in place of epochs.")]
BatchOption = Annotated[int | None, typer.Option("--batch-size", min=1, help="Examples per step.")]
OptimizerOption = Annotated[str, typer.Option(help="adam, adamw, or sgd (Nesterov, momentum 0.9).")]
ScheduleOption = Annotated[str, typer.Option(help="cosine or none.")]
TrainSizeOption = Annotated[int | None, typer.Option(min=1, help="How many training examples to use.")]
NoiseOption = Annotated[float, typer.Option(help="Share of wrong labels in training and validation.")]
ImbalanceOption = Annotated[float, typer.Option(help="Largest over smallest class in training and validation.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


@app.command()
def compare(
    data: DataArgument = "digits",
    model: ModelOption = "mlp",
    losses: Annotated[
        str | None, typer.Option("--losses", "--loss", help="Comma-separated; default: the whole catalog.")
    ] = None,
    budget: Annotated[int | None, typer.Option(min=1, help="Tuning trainings per loss and fold.")] = None,
    lrs: Annotated[str | None, typer.Option(help="Learning rates, comma-separated, or how many.")] = None,
    folds: Annotated[int | None, typer.Option(min=0, help="Outer folds; 0 is a hold-out.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Final seeds per fold.")] = None,
    seed: SeedOption = 0,
    epochs: EpochsOption = None,
    steps: StepsOption = None,
    batch_size: BatchOption = None,
    optimizer: OptimizerOption = "adam",
    schedule: ScheduleOption = "cosine",
    label: LabelOption = None,
    task: TaskOption = None,
    train_size: TrainSizeOption = None,
    label_noise: NoiseOption = 0.0,
    imbalance: ImbalanceOption = 1.0,
    outliers: OutliersOption = 0.0,
    select: Annotated[str, typer.Option(help="Weights that count: last, or best-val.")] = "last",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: the cores.")] = None,
    time_limit: Annotated[
        float | None, typer.Option(min=0, help="Seconds after which a training counts as failed.")
    ] = None,
    device: DeviceOption = "auto",
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/DATA-MODEL-PLAN.")] = None,
) -> None:
    """Compare losses fairly on your data and model; run again to go on where it stopped."""
    from lossmith.comparison.plan import Options, make_plan, write_plan
    from lossmith.comparison.session import carry_out
    from lossmith.progress import ConsoleProgress
    from lossmith.report.page import write_report
    from lossmith.report.run import load_run
    from lossmith.report.terminal import leaderboard
    from lossmith.trials.trial import Sources

    options = Options(
        data=data,
        model=model,
        losses=None if losses is None else tuple(split_losses(losses)),
        label=label,
        task=_task(task),
        budget=budget,
        lrs=_learning_rates(lrs),
        folds=folds,
        seeds=seeds,
        seed=seed,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        optimizer=_choice("--optimizer", optimizer, "adam", "adamw", "sgd"),
        schedule=_choice("--schedule", schedule, "cosine", "none"),
        train_size=train_size,
        label_noise=label_noise,
        imbalance=imbalance,
        outliers=outliers,
        select=_choice("--select", select, "last", "best-val"),
        device=_choice("--device", device, "auto", "cpu", "cuda"),
    )
    sources = Sources()
    plan = make_plan(options, sources)
    folder = out or Path("runs") / f"{plan.name}-{plan.model.split(':')[0]}-{plan.digest}"
    write_plan(plan, folder)
    errors = Console(stderr=True)
    errors.print(
        f"{len(plan.arms)} losses and controls on {plan.name} ({plan.task.summary}) with {plan.model}, {plan.steps} "
        f"steps a training, {plan.budget} tuning trainings each in {len(plan.folds)} fold(s); the plan is "
        f"{folder}/plan.toml",
        soft_wrap=True,
    )
    for note in plan.notes:
        errors.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    with ConsoleProgress(errors) as progress:
        try:
            carry_out(
                plan, sources, folder, workers=workers or os.cpu_count() or 1, time_limit=time_limit, progress=progress
            )
        except KeyboardInterrupt:
            errors.print(f"\nStopped. {progress.position} are done and kept; the same command goes on from here.")
            raise typer.Exit(130) from None
    run = load_run(folder)
    write_report(run)
    Console().print(leaderboard(run))


@app.command()
def train(
    data: DataArgument = "digits",
    model: ModelOption = "mlp",
    loss: Annotated[str | None, typer.Option(help="Text form of the loss, see `lossmith list`.")] = None,
    lr: Annotated[float, typer.Option(help="Learning rate at the first step.")] = 0.004,
    epochs: EpochsOption = None,
    steps: StepsOption = None,
    batch_size: BatchOption = None,
    optimizer: OptimizerOption = "adam",
    weight_decay: Annotated[float, typer.Option(help="Weight decay.")] = 0.0,
    schedule: ScheduleOption = "cosine",
    label: LabelOption = None,
    task: TaskOption = None,
    train_size: TrainSizeOption = None,
    label_noise: NoiseOption = 0.0,
    imbalance: ImbalanceOption = 1.0,
    outliers: OutliersOption = 0.0,
    select: Annotated[str, typer.Option(help="Weights that count: last, or best-val.")] = "last",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder for the weights; default: runs/train-...")] = None,
) -> None:
    """Train one model with one loss and save its weights."""
    from lossmith.progress import training_progress
    from lossmith.trials.request import Request, draft
    from lossmith.trials.runner import reason_of
    from lossmith.trials.saving import save_model
    from lossmith.trials.training import train_model
    from lossmith.trials.trial import Sources

    request = Request(
        data=data,
        model=model,
        label=label,
        task=_task(task),
        seed=seed,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        optimizer=_choice("--optimizer", optimizer, "adam", "adamw", "sgd"),
        schedule=_choice("--schedule", schedule, "cosine", "none"),
        train_size=train_size,
        label_noise=label_noise,
        imbalance=imbalance,
        outliers=outliers,
        select=_choice("--select", select, "last", "best-val"),
        device=_choice("--device", device, "auto", "cpu", "cuda"),
        folds=0,
    )
    sources = Sources()
    drafted = draft(request, sources)
    changed = replace(drafted.trial.optimizer, lr=lr, weight_decay=weight_decay)
    text = drafted.task.reference if loss is None else drafted.task.loss_text(loss)
    trial = replace(drafted.trial, loss=canonical(text), optimizer=changed, final=True, engine="single")
    folder = out or Path("runs") / f"train-{drafted.splits.name}-{trial.hash[:8]}"
    console = Console(stderr=True)
    try:
        with training_progress(console, trial.steps) as report:
            result, trained, learned = train_model(trial, sources, drafted.device, report)
    except KeyboardInterrupt:
        console.print("\nStopped; nothing was saved.")
        raise typer.Exit(130) from None
    except (Exception, SystemExit) as error:
        if os.environ.get("LOSSMITH_TRACEBACK"):
            raise
        raise RuntimeError(f"the training failed: {reason_of(error)}") from None
    reload = save_model(trained, trial, drafted.splits, drafted.task, sources, folder)
    if learned is not None:
        learned.save(folder / "loss.safetensors")
    Console().print("\n".join(_training_lines(trial, drafted.task, result)), highlight=False, soft_wrap=True)
    Console().print(f"\nsaved to {folder}; to reload it:\n\n{reload}", markup=False, highlight=False, soft_wrap=True)
    if learned is not None:
        said = f"\nthe learned loss, as a loss of its own: lossmith.create('@{folder}/loss.safetensors')"
        Console().print(said, markup=False, highlight=False, soft_wrap=True)


@app.command()
def describe(
    loss: Annotated[str, typer.Argument(metavar="LOSS", help="Text form of a loss, see `lossmith list`.")],
    classes: Annotated[int, typer.Option(help="Number of classes to describe it for.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all curves.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures to this file.")] = None,
) -> None:
    """Say what a loss is: strictness, convexity, best predictions, robustness, numbers, relatives."""
    from lossmith.catalog import create
    from lossmith.properties import certify, to_json
    from lossmith.report.describe_page import write_description
    from lossmith.report.describe_terminal import Description

    certificate = certify(create(loss), classes)
    if as_json:
        typer.echo(to_json(certificate))
    else:
        Console().print(Description(certificate))
    if html is not None:
        write_description(certificate, html)
        Console(stderr=True).print(f"\nwritten to {html}", markup=False, highlight=False, soft_wrap=True)


@app.command(name="list")
def list_losses() -> None:
    """List the losses with their text forms and defaults."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", overflow="fold", ratio=2)
    table.add_column(ratio=3)
    for kind in ("classification", "segmentation", "learned", "regression", "gan"):
        table.add_row(f"[dim]{kind}[/dim]", "")
        for info in available(kind):
            formula = f"\n[dim]{info.formula}[/dim]" if info.formula else ""
            table.add_row(info.text.replace("[", r"\["), info.summary.replace("``", "") + formula)
    Console().print(table)


@app.command()
def export(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Text form of a loss, or a run folder: its recommended.")],
    output: Annotated[Path, typer.Option(help="The file to write.")] = Path("my_loss.py"),
) -> None:
    """Write a loss as one readable torch file that does not import Lossmith."""
    from lossmith.export import export as write

    text = write(name, output)
    Console().print(f"{text} is class Loss in {output}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def show(run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]) -> None:
    """Show the results of a finished comparison."""
    from lossmith.report.run import load_run
    from lossmith.report.terminal import leaderboard

    Console().print(leaderboard(load_run(run)))


def main() -> NoReturn:
    """Run the command line; mistakes of the user end in one sentence and exit code 2."""
    try:
        app()
    except (ValueError, RuntimeError, OSError) as error:
        if os.environ.get("LOSSMITH_TRACEBACK"):
            raise
        Console(stderr=True).print(f"lossmith: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    sys.exit(0)


def _learning_rates(text: str | None) -> tuple[float, ...] | int | None:
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--lrs {text}: write learning rates such as 0.001,0.002,0.004 or a number of them") from None
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"--lrs {text}: learning rates are finite numbers")
    if len(values) == 1 and values[0] == int(values[0]):
        return int(values[0])
    return tuple(values)


def _task(task: str | None) -> Any:
    from lossmith.tasks import TASKS

    return None if task is None else _choice("--task", task, *TASKS)


def _choice(option: str, value: str, *choices: str) -> Any:
    if value not in choices:
        raise ValueError(f"{option} {value}: choose one of {', '.join(choices)}")
    return value


def _training_lines(trial: Trial, task: Task, result: TrialResult) -> list[str]:
    """What `lossmith train` says of a finished training."""
    test = result.test
    assert test is not None
    lines = [
        f"loss             {trial.loss}",
        f"validation       {task.told(result.scores | result.columns | result.fitted)}",
        f"test             {task.told(task.metrics(test) | task.columns(test) | result.fitted)}",
        f"first gradient   {result.gradient_ratio:.3g} times that of {task.reference}",
        f"steps, seconds   {trial.steps}, {result.seconds:.1f}",
    ]
    if result.learned is not None:
        lines += _learned_lines(result.learned)
    if result.extended_share:
        lines.append(f"continued        by its tangent for {100 * result.extended_share:.2g} % of the examples seen")
    if result.diverged:
        lines.append("it diverged: lower the learning rate (--lr)")
    return lines + [f"note             {note}" for note in result.notes]


def _learned_lines(path: LearnedPath) -> list[str]:
    """What became of a loss that learned."""
    offline = f" after {path.offline_steps} offline steps" if path.offline_steps else ""
    lines = [f"effective scale  {path.scale[0]:.3g} at first{offline}, {path.scale[-1]:.3g} at last"]
    if path.formula is not None and path.formula_error is not None:
        lines += [
            f"learned          {path.formula}",
            f"                 (its gradient to {100 * path.formula_error:.2g} %)",
        ]
    return lines
