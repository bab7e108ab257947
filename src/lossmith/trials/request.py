"""From what a user asks for to a trial: data by name or path, sensible lengths, the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import torch

from lossmith.data import Dataset, DataSpec, Examples, Splits, TaskName, load_dataset
from lossmith.tasks import Task, task_for
from lossmith.trials.models import can_be_stacked, canonical_model
from lossmith.trials.training import load_splits
from lossmith.trials.trial import Engine, ModelTrainer, OptimizerName, OptimizerSpec, Schedule, Select, Sources, Trial

SMALL: Final = 5000  # examples below which a data set counts as small
TINY: Final = 300
MIN_STEPS: Final = 300
STEP_TARGETS: Final = 2**16  # of a step, where an example has many: a mask has one for each pixel
FEWEST: Final = 4  # examples of a step all the same
FOLDS: Final = 5
EVALUATIONS: Final = 60


class RequestError(ValueError):
    """A request that cannot be met; the message is one sentence that names the option and the fix."""


@dataclass(frozen=True)
class Option:
    """What the command line says of a field, and what is checked of it; choices are those of its `Literal` type.

    Args:
        help: what the option does, in a few words.
        panel: the heading under which it stands.
        least: the smallest value allowed.
        parse: what turns the text of the option into a value; ``None``: the type does.
        names: names other than its own.
        positional: whether it is given without its name.
    """

    help: str
    panel: str
    least: float | None = None
    parse: Callable[[str], Any] | None = None
    names: tuple[str, ...] = ()
    positional: bool = False


def options_of(kind: type) -> dict[str, tuple[Option, type, tuple[str, ...]]]:
    """The fields of a dataclass that are options.

    Args:
        kind: a dataclass; the types of its options are ``Annotated[..., Option(...)]``.

    Returns:
        By name, what is said of each, its type without ``None``, and its choices.
    """
    found = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if get_origin(hint) is Annotated:
            inner, option = get_args(hint)
            plain = get_args(inner)[0] if get_origin(inner) in {Union, UnionType} else inner
            choices = get_args(plain) if get_origin(plain) is Literal else ()
            found[name] = option, str if choices or option.parse else plain, choices
    return found


def _parse_columns(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user may ask of a training; ``None`` leaves the choice to us.

    Without a choice of the user, a training takes 20 epochs, or 5 from 5,000 examples, but at least 300 steps; a batch
    has 16 examples below 300 examples, 64 below 5,000, else 128; fewer, but at least 4, where they would have more than
    65,536 targets, such as the pixels of masks.

    Raises:
        RequestError: if a value is not among the choices of an option, or too small.
    """

    data: Annotated[
        str,
        Option(
            "digits, wine, breast_cancer, iris, spirals, diabetes, a path, openml:NAME or hf:OWNER/NAME.",
            "Data",
            positional=True,
        ),
    ] = "digits"
    label: Annotated[str | None, Option("Label column of a table.", "Data")] = None
    drop: Annotated[
        tuple[str, ...] | None,
        Option("Columns of a table to leave out, comma-separated.", "Data", parse=_parse_columns),
    ] = None
    image_size: Annotated[
        int | None, Option("Bring images of files to squares of so many pixels a side.", "Data", least=1)
    ] = None
    task: Annotated[
        TaskName | None, Option("classification, regression or segmentation; default: inferred.", "Data")
    ] = None
    train_size: Annotated[int | None, Option("Number of training examples to use.", "Data", least=1)] = None
    label_noise: Annotated[float, Option("Fraction of wrong labels in training and validation.", "Data")] = 0.0
    imbalance: Annotated[
        float, Option("Size of the largest class over the smallest, in training and validation.", "Data")
    ] = 1.0
    outliers: Annotated[
        float, Option("Fraction of outliers among regression targets, in training and validation.", "Data")
    ] = 0.0
    seed: Annotated[int, Option("Seed of all random choices.", "Data", least=0)] = 0
    model: Annotated[
        str | None,
        Option(
            "linear, mlp, cnn, resnet18, text_bag, unet, or path/to/file.py:factory; default: mlp, text_bag for texts, "
            "unet for masks.",
            "Training",
        ),
    ] = None
    epochs: Annotated[int | None, Option("Passes over the training set.", "Training", least=1)] = None
    steps: Annotated[int | None, Option("Optimiser steps, instead of epochs.", "Training", least=1)] = None
    batch_size: Annotated[int | None, Option("Examples per step.", "Training", least=1)] = None
    optimizer: Annotated[OptimizerName, Option("adam, adamw, or sgd (Nesterov, momentum 0.9).", "Training")] = "adam"
    schedule: Annotated[Schedule, Option("Learning-rate schedule: cosine or none.", "Training")] = "cosine"
    select: Annotated[Select, Option("Weights to evaluate: last, or best-val.", "Training")] = "last"
    device: Annotated[Literal["auto", "cpu", "cuda"], Option("auto, cpu or cuda.", "Training")] = "auto"
    folds: int | None = 0

    def __post_init__(self) -> None:
        for name, (option, _, choices) in options_of(type(self)).items():
            value, flag = getattr(self, name), f"--{name.replace('_', '-')}"
            if value is not None and choices and value not in choices:
                raise RequestError(f"{flag} {value}: choose one of {', '.join(choices)}")
            if value is not None and option.least is not None and not value >= option.least:
                raise RequestError(f"{flag} {value}: must be at least {option.least:g}")


@dataclass(frozen=True)
class Draft:
    """A request made definite.

    Args:
        trial: the task's reference loss at a learning rate of 1, on fold 0, with the request's seed.
        splits: what it trains on.
        task: what scores it.
        device: ``"cpu"`` or ``"cuda"``.
        notes: what a user should know of how the data were read and what was chosen for them.
    """

    trial: Trial
    splits: Splits
    task: Task
    device: str
    notes: tuple[str, ...] = ()


def draft(request: Request, sources: Sources) -> Draft:
    """Load the data, find the model, settle what was left open.

    Args:
        request: what was asked for.
        sources: where data and models lie; filled in.

    Returns:
        The draft.

    Raises:
        ValueError: if data, model or an option does not do; the message is one sentence.
    """
    device = _device(request.device)
    dataset = load_dataset(
        request.data, request.label, request.task, drop=request.drop or (), image_size=request.image_size
    )
    sources.data[dataset.digest] = request.data
    folds = request.folds
    if folds is None:
        official_test = dataset.part is not None and bool((dataset.part == 2).any())
        folds = 0 if official_test or len(dataset) >= SMALL else FOLDS
    data = DataSpec(
        source=dataset.digest,
        label=dataset.target,
        train_size=request.train_size,
        label_noise=request.label_noise,
        imbalance=request.imbalance,
        task=dataset.task,
        outliers=request.outliers,
        split_seed=request.seed,
        folds=folds,
        drop=dataset.drop,
        image_size=dataset.image_size,
    )
    chosen, why = _model_for(dataset)
    model = canonical_model(request.model or chosen, sources)
    sgd = request.optimizer == "sgd"
    optimizer = OptimizerSpec(request.optimizer, 1.0, 0.9 if sgd else 0.0, sgd, 0.0, None, request.schedule)
    splits = load_splits(data, request.data, device)
    task, (batch_size, steps) = task_for(splits), _length(request, splits.train)
    engine: Engine = "stacked" if can_be_stacked(model, task.outputs) else "single"
    trainer = ModelTrainer(data, model, batch_size, EVALUATIONS, request.select, engine)
    notes = dataset.notes if request.model else (*dataset.notes, *why)
    return Draft(Trial(trainer, task.reference, optimizer, steps, request.seed), splits, task, device, notes)


def _model_for(dataset: Dataset) -> tuple[str, tuple[str, ...]]:
    """The model for data for which the user names none, and what to say of it."""
    if dataset.kind == "text":
        return "text_bag", ("the model is text_bag, for the inputs are texts (--model names another)",)
    if dataset.task == "segmentation":
        return "unet", ("the model is unet, for the targets are masks (--model names another)",)
    return "mlp", ()


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RequestError("--device cuda: torch finds no CUDA device here; use --device cpu")
    return wanted


def _length(request: Request, train: Examples) -> tuple[int, int]:
    """Batch size and number of steps."""
    examples = len(train)
    if request.epochs is not None and request.steps is not None:
        raise RequestError("--epochs and --steps exclude each other: give one of them")
    usual = 16 if examples < TINY else 64 if examples < SMALL else 128
    fitting = min(usual, max(FEWEST, STEP_TARGETS // train.targets[0].numel()))
    batch_size = min(request.batch_size or fitting, examples)
    per_epoch = examples // batch_size
    if request.epochs is not None:
        return batch_size, request.epochs * per_epoch
    epochs = 20 if examples < SMALL else 5
    return batch_size, request.steps or max(MIN_STEPS, epochs * per_epoch)
