"""From what a user asks for to a trial: data by name or path, sensible lengths, the engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import torch

from lossmith.data import DataSpec, Examples, Splits, TaskName, load_dataset
from lossmith.tasks import Task, task_for
from lossmith.trials.models import can_be_stacked, canonical_model
from lossmith.trials.training import splits_of
from lossmith.trials.trial import Engine, OptimizerName, OptimizerSpec, Schedule, Select, Sources, Trial

SMALL: Final = 5000  # examples below which a data set counts as small
TINY: Final = 300
MIN_STEPS: Final = 300
STEP_TARGETS: Final = 2**16  # of a step, where an example has many: a mask has one for each pixel
FEWEST: Final = 4  # examples of a step all the same
FOLDS: Final = 5
EVALUATIONS: Final = 60


class RequestError(ValueError):
    """A request that cannot be met; the message is one sentence that names the option and the mend."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user may ask of a training; ``None`` leaves the choice to us.

    Args:
        data: bundled name or path.
        model: text form of the model.
        label: label column of a table.
        task: ``"classification"``, ``"regression"`` or ``"segmentation"``; ``None``: what the labels are.
        folds: outer folds; 0 for a hold-out; ``None``: 5 for fewer than 5,000 examples without an official test part.
        seed: of everything that is drawn.
        epochs: passes over the training part; ``None``: 20, or 5 from 5,000 examples, but at least 300 steps.
        steps: optimiser steps, in place of epochs.
        batch_size: examples per step; ``None``: 16 below 300 examples, 64 below 5,000, else 128; fewer, but at least 4,
            where they would have more than 65,536 targets, such as the pixels of masks.
        optimizer: ``"adam"``, ``"adamw"`` or ``"sgd"`` (Nesterov, momentum .9).
        schedule: ``"cosine"`` or ``"none"``.
        train_size: how many training examples to use.
        label_noise: share of wrong labels in training and validation.
        imbalance: ratio of the largest to the smallest class in training and validation.
        outliers: share of the targets of a regression that become outliers in training and validation.
        select: ``"last"`` or ``"best-val"``.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
    """

    data: str = "digits"
    model: str = "mlp"
    label: str | None = None
    task: TaskName | None = None
    folds: int | None = None
    seed: int = 0
    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    optimizer: OptimizerName = "adam"
    schedule: Schedule = "cosine"
    train_size: int | None = None
    label_noise: float = 0.0
    imbalance: float = 1.0
    outliers: float = 0.0
    select: Select = "last"
    device: str = "auto"


@dataclass(frozen=True)
class Draft:
    """A request made definite.

    Args:
        trial: the task's reference loss at a learning rate of 1, on fold 0, with the request's seed.
        splits: what it trains on.
        task: what scores it.
        device: ``"cpu"`` or ``"cuda"``.
    """

    trial: Trial
    splits: Splits
    task: Task
    device: str


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
    dataset = load_dataset(request.data, request.label, request.task)
    sources.data[dataset.digest] = request.data
    folds = request.folds
    if folds is None:
        official_test = dataset.part is not None and bool((dataset.part == 2).any())
        folds = 0 if official_test or len(dataset) >= SMALL else FOLDS
    data = DataSpec(
        source=dataset.digest,
        label=request.label,
        train_size=request.train_size,
        label_noise=request.label_noise,
        imbalance=request.imbalance,
        task=dataset.task,
        outliers=request.outliers,
        split_seed=request.seed,
        folds=folds,
    )
    model = canonical_model(request.model, sources)
    sgd = request.optimizer == "sgd"
    optimizer = OptimizerSpec(request.optimizer, 1.0, 0.9 if sgd else 0.0, sgd, 0.0, None, request.schedule)
    trial = Trial(data, model, "", optimizer, 1, 1, request.seed, EVALUATIONS, request.select)
    splits = splits_of(trial, sources, device)
    task, (batch_size, steps) = task_for(splits), _length(request, splits.train)
    engine: Engine = "stacked" if can_be_stacked(model, task.outputs) else "single"
    trial = replace(trial, loss=task.reference, batch_size=batch_size, steps=steps, engine=engine)
    return Draft(trial, splits, task, device)


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
