"""From what a user asks for to a trial: data by name or path, sensible lengths, the engine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import torch

from lossmith.data import Dataset, DataSpec, Examples, Splits
from lossmith.tasks import Task, task_for
from lossmith.trials.dry_run import try_model
from lossmith.trials.evaluation import affordable_evaluation
from lossmith.trials.models import can_be_stacked, canonical_model
from lossmith.trials.options import Request, RequestError
from lossmith.trials.probes import canonical_probe, check_probes
from lossmith.trials.training import load_splits
from lossmith.trials.trial import Engine, ModelTrainer, OptimizerSpec, Sources, Trial

SMALL: Final = 5000  # examples below which a data set counts as small
TINY: Final = 300
MIN_STEPS: Final = 300
STEP_TARGETS: Final = 2**16  # of a step, where an example has many: a mask has one for each pixel
FEWEST: Final = 4  # examples of a step all the same
FOLDS: Final = 5


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
    device = choose_device(request.device)
    dataset = request.dataset()
    sources.data[dataset.digest] = request.data
    folds = request.folds
    if folds is None:
        official_test = dataset.part is not None and bool((dataset.part == 2).any())
        folds = 0 if official_test or len(dataset) >= SMALL else FOLDS
    data = DataSpec(
        source=dataset.digest,
        label=dataset.target,
        train_size=request.train_size,
        valid_size=request.valid_size,
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
    optimizer = _optimizer(request)
    splits = load_splits(data, request.data, device)
    task, (batch_size, steps) = task_for(splits), _length(request, splits.train)
    try_model(model, splits, task, sources, request.seed)
    engine: Engine = "stacked" if can_be_stacked(model, task.outputs) else "single"
    evaluation = affordable_evaluation(engine, steps, batch_size, splits.valid)
    notes = (*dataset.notes, *splits.notes, *(() if request.model else why))
    if request.valid_size is None and evaluation.valid < len(splits.valid):
        notes += (
            f"{evaluation.valid:,} of {len(splits.valid):,} validation examples are used, to keep evaluation "
            "cheap: --valid-size sets another number",
        )
        data = replace(data, valid_size=evaluation.valid)
        splits = load_splits(data, request.data, device)
    trainer = ModelTrainer(data, model, batch_size, evaluation.points, evaluation.rows, request.select, engine)
    probes = tuple(dict.fromkeys(canonical_probe(text, request.every) for text in request.probe or ()))
    check_probes(probes, task)
    trial = Trial(trainer, task.reference, optimizer, steps, request.seed, probes=probes)
    return Draft(trial, splits, task, device, notes)


def _model_for(dataset: Dataset) -> tuple[str, tuple[str, ...]]:
    """The model for data for which the user names none, and what to say of it."""
    if dataset.kind == "text":
        return "text_bag", ("the model is text_bag, for the inputs are texts (--model names another)",)
    if dataset.task == "segmentation":
        return "unet", ("the model is unet, for the targets are masks (--model names another)",)
    return "mlp", ()


def choose_device(wanted: str) -> str:
    """``"cpu"`` or ``"cuda"`` for the device that was asked for."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RequestError("--device cuda: torch finds no CUDA device here; use --device cpu")
    return wanted


def _optimizer(request: Request) -> OptimizerSpec:
    """The optimiser at a learning rate of 1."""
    usual = 0.9 if request.optimizer == "sgd" else 0.0
    momentum = usual if request.momentum is None else request.momentum
    schedule = request.schedule or ("none" if request.optimizer == "gd" else "cosine")
    nesterov = request.optimizer == "sgd" and momentum > 0
    return OptimizerSpec(request.update_rule, 1.0, momentum, nesterov, schedule=schedule)


def _length(request: Request, train: Examples) -> tuple[int, int]:
    """Batch size and number of steps."""
    examples = len(train)
    usual = 16 if examples < TINY else 64 if examples < SMALL else 128
    fitting = min(usual, max(FEWEST, STEP_TARGETS // train.targets[0].numel()))
    batch_size = examples if request.optimizer == "gd" else min(request.batch_size or fitting, examples)
    per_epoch = examples // batch_size
    if request.epochs is not None:
        return batch_size, request.epochs * per_epoch
    epochs = 20 if examples < SMALL else 5
    return batch_size, request.steps or max(MIN_STEPS, epochs * per_epoch)
