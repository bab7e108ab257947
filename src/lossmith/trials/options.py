"""What a user may ask of a training, without torch: the command line reads it before torch is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral, Number, Real
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from lossmith.data import Dataset, TaskName, load_dataset

OptimizerName = Literal["sgd", "adam", "adamw"]
AskedOptimizer = Literal["adam", "adamw", "sgd", "gd"]
Schedule = Literal["none", "cosine"]
Select = Literal["last", "best-val"]
ExecutorName = Literal["local", "ray", "dask"]


_KINDS: Final[dict[type, tuple[type, str]]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "a text"),
    bool: (bool, "true or false"),
}


class RequestError(ValueError):
    """A request that cannot be met; the message is one sentence that names the option and the fix."""


@dataclass(frozen=True)
class Option:
    """What the command line says of a field, and what is checked of it; choices are those of its `Literal` type.

    Args:
        help: what the option does, in a few words.
        panel: the heading under which it stands.
        least: the smallest value allowed.
        below: what a value must lie below.
        parse: what turns the text of the option into a value; ``None``: the type does.
        names: names other than its own.
        positional: whether it is given without its name.
    """

    help: str
    panel: str
    least: float | None = None
    below: float | None = None
    parse: Callable[[str], Any] | None = None
    names: tuple[str, ...] = ()
    positional: bool = False

    def check_type(self, flag: str, value: Any, kind: type) -> None:
        """Refuse a value of another type, which Python code may pass, in a sentence that begins with the option."""
        if self.parse is not None:
            return
        wanted, said = _KINDS[kind]
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
            shown = repr(value) if isinstance(value, str | Number) else f"of type {type(value).__name__}"
            raise RequestError(f"{flag} {shown}: give {said}")

    def check_range(self, flag: str, value: Any) -> None:
        """Refuse a value that is too small or too large, or no number, in a sentence that begins with the option."""
        least, below = self.least, self.below
        if (least is None or value >= least) and (below is None or value < below):
            return
        limits = [*([f"at least {least:g}"] if least is not None else []), *([f"below {below:g}"] if below else [])]
        raise RequestError(f"{flag} {value}: must be {' and '.join(limits)}")


def check_limits(*, minutes: Any = None, workers: Any = None, time_limit: Any = None) -> None:
    """Refuse limits of a run that are none, as the command line does itself; ``None`` is no limit.

    Args:
        minutes: of wall time, > 0.
        workers: trainings at once, a whole number >= 0.
        time_limit: seconds of a training, > 0.

    Raises:
        RequestError: if one is out of its range; one sentence.
    """
    for flag, value, kind in (
        ("--minutes", minutes, float),
        ("--workers", workers, int),
        ("--time-limit", time_limit, float),
    ):
        if value is None:
            continue
        option = Option("", "", least=0)
        option.check_type(flag, value, kind)
        option.check_range(flag, value)
        if kind is float and not value:
            raise RequestError(f"{flag} {value}: must be above 0")


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


def parse_names(text: str) -> tuple[str, ...]:
    """Names from a comma-separated text."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _parse_probes(text: str) -> tuple[str, ...]:
    """Text forms of probes from a comma-separated text."""
    from lossmith.losses.text import LossTextError, split_losses  # beside the losses, which need torch

    try:
        return tuple(split_losses(text))
    except LossTextError:
        raise RequestError(f"--probe {text}: give names with commas between them, such as sharpness,ntk") from None


ProbesOption = Annotated[
    tuple[str, ...] | None,
    Option(
        "What to measure while training, comma-separated: sharpness, ntk, margin, instability.",
        "Probes",
        parse=_parse_probes,
    ),
]
EveryOption = Annotated[
    int | None, Option("Steps between two measurements; default: a quarter of the training.", "Probes", least=1)
]


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
        Option("Columns of a table to leave out, comma-separated.", "Data", parse=parse_names),
    ] = None
    image_size: Annotated[
        int | None, Option("Bring images of files to squares of so many pixels a side.", "Data", least=1)
    ] = None
    task: Annotated[
        TaskName | None, Option("classification, regression or segmentation; default: inferred.", "Data")
    ] = None
    train_size: Annotated[int | None, Option("Number of training examples to use.", "Data", least=1)] = None
    valid_size: Annotated[
        int | None,
        Option("Number of validation examples to use; default: as many as cost little.", "Data", least=2),
    ] = None
    label_noise: Annotated[
        float, Option("Fraction of wrong labels in training and validation.", "Data", least=0, below=1)
    ] = 0.0
    imbalance: Annotated[
        float,
        Option(
            "Size of the largest class over the smallest, in training and validation.", "Data", least=1, below=math.inf
        ),
    ] = 1.0
    outliers: Annotated[
        float,
        Option("Fraction of outliers among regression targets, in training and validation.", "Data", least=0, below=1),
    ] = 0.0
    seed: Annotated[int, Option("Seed of all random choices.", "Data", least=0)] = 0
    model: Annotated[
        str | None,
        Option(
            "linear, mlp, cnn, myrtle, resnet18, text_bag, unet, or path/to/file.py:factory; default: mlp, text_bag "
            "for texts, unet for masks.",
            "Training",
        ),
    ] = None
    epochs: Annotated[int | None, Option("Passes over the training set.", "Training", least=1)] = None
    steps: Annotated[int | None, Option("Optimiser steps, instead of epochs.", "Training", least=1)] = None
    batch_size: Annotated[int | None, Option("Examples per step.", "Training", least=1)] = None
    optimizer: Annotated[
        AskedOptimizer,
        Option("adam, adamw, sgd (Nesterov, momentum 0.9), or gd (all training examples in each step).", "Training"),
    ] = "adam"
    momentum: Annotated[
        float | None,
        Option("Momentum of sgd (default: 0.9) or gd (heavy ball; default: 0).", "Training", least=0, below=1),
    ] = None
    schedule: Annotated[
        Schedule | None, Option("Learning-rate schedule: cosine or none; default: cosine, for gd none.", "Training")
    ] = None
    select: Annotated[Select, Option("Weights to evaluate: last, or best-val.", "Training")] = "last"
    device: Annotated[Literal["auto", "cpu", "cuda"], Option("auto, cpu or cuda.", "Training")] = "auto"
    folds: int | None = 0
    probe: tuple[str, ...] | None = None
    every: int | None = None

    def __post_init__(self) -> None:
        for name, (option, kind, choices) in options_of(type(self)).items():
            value, flag = getattr(self, name), f"--{name.replace('_', '-')}"
            if isinstance(value, str) and option.parse is not None:
                value = option.parse(value)
                object.__setattr__(self, name, value)
            if value is not None and choices and value not in choices:
                raise RequestError(f"{flag} {value}: choose one of {', '.join(choices)}")
            if value is not None:
                option.check_type(flag, value, kind)
                option.check_range(flag, value)
        if self.epochs is not None and self.steps is not None:
            raise RequestError("--epochs and --steps exclude each other: give one of them")
        if self.optimizer == "gd" and self.batch_size is not None:
            raise RequestError("--batch-size: gd takes all training examples in each step; leave it out, or choose sgd")
        if self.momentum is not None and self.update_rule != "sgd":
            raise RequestError(f"--momentum: {self.optimizer} has none to set; leave it out, or choose sgd or gd")
        if self.every is not None and self.probe is None:
            raise RequestError("--every: there is nothing to measure; name probes by --probe, or leave it out")

    @property
    def update_rule(self) -> OptimizerName:
        """The optimiser of `torch.optim` behind the one asked for."""
        return "sgd" if self.optimizer == "gd" else self.optimizer

    def check_data(self) -> None:
        """Refuse data that cannot be read, before torch is loaded, which takes seconds.

        Raises:
            DataError: if they cannot be read.
        """
        self.dataset()

    def dataset(self) -> Dataset:
        """The data set that was asked for.

        Raises:
            DataError: if it cannot be read.
        """
        return read_dataset(self.data, self.label, self.task, self.drop or (), self.image_size)


@dataclass(frozen=True, kw_only=True)
class Training(Request):
    """What a user may ask of one training besides what `Request` holds; ``None`` leaves the choice to us.

    Raises:
        RequestError: as `Request`.
    """

    loss: Annotated[str | None, Option("Text form of the loss, see `lossmith list`.", "Training")] = None
    lr: Annotated[float, Option("Learning rate at the first step.", "Training", least=1e-12, below=1e6)] = 0.004
    weight_decay: Annotated[float, Option("Weight decay.", "Training", least=0, below=1e6)] = 0.0
    probe: ProbesOption = None
    every: EveryOption = None


_Question = tuple[str, str | None, TaskName | None, tuple[str, ...], int | None]


def read_dataset(
    source: str, label: str | None, task: TaskName | None, drop: tuple[str, ...], image_size: int | None
) -> Dataset:
    """`load_dataset`, which reads the same thing once in a process, also where its label and task are then named."""
    asked: _Question = (source, label, task, drop, image_size)
    if asked not in KEPT:
        dataset = load_dataset(source, label, task, drop=drop, image_size=image_size)
        while len(KEPT) > MOST_KEPT - 2:
            del KEPT[next(iter(KEPT))]
        KEPT[asked] = dataset
        named = replace(dataset, label=dataset.target)
        KEPT[source, named.label, named.task, named.drop, named.image_size] = named
    return KEPT[asked]


KEPT: Final[dict[_Question, Dataset]] = {}
"""What was read, the oldest first."""

MOST_KEPT: Final = 4
