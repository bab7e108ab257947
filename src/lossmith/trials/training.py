"""Trials in, results out: the training loop, the same for one model and for a stack of them."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn

from lossmith.data import Examples, Splits, make_splits
from lossmith.data.spec import DataSpec
from lossmith.kernels.threads import one_thread
from lossmith.tasks import Classification, Task, task_for
from lossmith.trials.batches import trial_batches
from lossmith.trials.candidates import train_candidates
from lossmith.trials.function import train_function
from lossmith.trials.models import build_model
from lossmith.trials.options import read_dataset
from lossmith.trials.own_metric import own_metric
from lossmith.trials.result import Curve, TrialResult
from lossmith.trials.seeding import seeded
from lossmith.trials.stacks import Models
from lossmith.trials.state import TrainingState, make_stepper
from lossmith.trials.steppers import Stepper, TrainingLoss
from lossmith.trials.trial import FunctionTrainer, SearchTrainer, Sources, Trial

_OBSERVED_BATCHES = 3

Progress = Callable[[int, Curve], None]
"""Called at each point of the curve with the steps taken and the curve of the first trial so far."""


class Trained(NamedTuple):
    """A training whose model is kept.

    Attributes:
        result: its result.
        model: with its trained weights, on the CPU.
        loss: what the loss has become, on the CPU.
    """

    result: TrialResult
    model: nn.Module
    loss: nn.Module


def train(trial: Trial, sources: Sources, device: str = "cpu") -> TrialResult:
    """Train one trial: ``train_many([trial], ...)[0]``."""
    return train_many([trial], sources, device)[0]


def train_many(
    trials: Sequence[Trial],
    sources: Sources,
    device: str = "cpu",
    time_limit: float | None = None,
    replayed: Mapping[Trial, TrialResult] | None = None,
) -> list[TrialResult]:
    """Train trials, those that can share a stack together.

    On the CPU the results are the same bit for bit however the trials are grouped and ordered. One thread is used.

    Args:
        trials: what to train.
        sources: where data and models lie.
        device: ``"cpu"`` or ``"cuda"``.
        time_limit: seconds that a training may take, or each slice of a stack on average; ``None`` for no limit.
        replayed: results of the trials that these replay, as far as they are known; the others are trained.

    Returns:
        One result per trial, in order.

    Raises:
        ValueError: if data, model or loss cannot be had; the message is one sentence.
        TimeoutError: if a training takes too long.
    """
    results: dict[Trial, TrialResult] = {}
    for stack in stacks(trials):
        if isinstance(stack[0].trainer, FunctionTrainer):
            with guest(stack[0].seed, device):
                results[stack[0]] = train_function(stack[0], sources, device, time_limit)
            continue
        if isinstance(stack[0].trainer, SearchTrainer):
            splits = splits_of(stack[0], sources, device)
            with guest(stack[0].seed, device):
                found = train_candidates(stack, splits, task_for(splits), sources, device, time_limit)
            results |= zip(stack, found, strict=True)
            continue
        source = _source_result(stack[0], sources, device, replayed or {})
        with guest(stack[0].seed, device):
            trained = _train_stack(stack, sources, device, time_limit=time_limit, replayed=source)[0]
        results |= zip(stack, trained, strict=True)
    return [results[trial] for trial in trials]


def train_model(trial: Trial, sources: Sources, device: str = "cpu", progress: Progress | None = None) -> Trained:
    """Train one trial and keep the model.

    Args:
        trial: what to train.
        sources: where data and models lie.
        device: ``"cpu"`` or ``"cuda"``.
        progress: called at each point of the learning curve.

    Returns:
        The result, and what was trained.
    """
    source = _source_result(trial, sources, device, {})
    with guest(trial.seed, device):
        results, models, stepper = _train_stack([trial], sources, device, progress, replayed=source)
    return Trained(results[0], models.module(0).cpu(), stepper.loss(0).cpu())


def stacks(trials: Sequence[Trial], size: int | None = None) -> list[list[Trial]]:
    """Group trials by what is trained together: each single trial alone, alike stacked ones side by side.

    Args:
        trials: in any order; repeats count once.
        size: largest number of slices in a stack; ``None`` for no limit.

    Returns:
        The groups; in each, trials of one loss are neighbours.
    """
    single = [[trial] for trial in dict.fromkeys(trials) if not trial.is_stacked]
    stacked = sorted({trial for trial in trials if trial.is_stacked}, key=lambda t: (t.stack_key, t.loss, t.hash))
    stacks = []
    for _, group in itertools.groupby(stacked, lambda trial: trial.stack_key):
        alike = list(group)
        count = 1 if size is None else -(-len(alike) // size)
        share = -(-len(alike) // count)
        stacks += [alike[i : i + share] for i in range(0, len(alike), share)]
    return single + stacks


@functools.lru_cache(maxsize=3)  # each repeat has its own, and images take much memory
def load_splits(spec: DataSpec, source: str, device: str = "cpu") -> Splits:
    """The splits of a spec, its tensors on the device; kept for the next trials of this process."""
    splits = make_splits(read_dataset(source, spec.label, spec.task, spec.drop, spec.image_size), spec)

    def move(part: Examples) -> Examples:
        return replace(part, inputs=part.inputs.to(device), targets=part.targets.to(device))

    return replace(splits, train=move(splits.train), valid=move(splits.valid), test=move(splits.test))


def splits_of(trial: Trial, sources: Sources, device: str = "cpu") -> Splits:
    """The splits a trial trains on."""
    data = trial.ours.data
    return load_splits(data, sources.data.get(data.source, data.source), device)


def evaluation_steps(trial: Trial) -> list[int]:
    """The steps after which the learning curve is taken; the last one is the last step."""
    points = min(trial.ours.evaluations, trial.steps)
    return sorted({round(trial.steps * k / points) for k in range(1, points + 1)})


def gradient_ratio(trial: Trial, loss: TrainingLoss, sources: Sources, device: str = "cpu") -> float:
    """The norm of a loss's gradient over that of the reference loss, at initial weights on the first batch."""
    splits = splits_of(trial, sources, device)
    task = task_for(splits)
    rows = next(trial_batches(trial, len(splits.train), splits.clean)).to(device)
    model = build_model(trial.ours.model, splits, task.outputs, sources, trial.seed).to(device)
    parameters = [p for p in model.parameters() if p.requires_grad]
    with seeded(trial.seed, device):  # a user's model may have dropout
        inputs, targets = splits.train.batch(rows)
        outputs = model(inputs)
    values = task.reference_values(outputs[None], targets[None])[0], loss.to(device)(outputs, targets)
    gradients = [torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True) for value in values]
    norms = [torch.cat([g.flatten() for g in gradient if g is not None]).norm() for gradient in gradients]
    return float(norms[1] / norms[0])


def _source_result(
    trial: Trial, sources: Sources, device: str, known: Mapping[Trial, TrialResult]
) -> TrialResult | None:
    """The result that a trial replays, ``None`` if it replays nothing."""
    if trial.source is None:
        return None
    return known[trial.source] if trial.source in known else train(trial.source, sources, device)


@contextlib.contextmanager
def guest(seed: int, device: str) -> Iterator[None]:
    """One thread on the CPU, and random numbers that follow from the seed; afterwards both are the caller's again."""
    with one_thread() if device == "cpu" else contextlib.nullcontext(), seeded(seed, device):
        yield  # a user's model may have dropout


def _train_stack(
    trials: Sequence[Trial],
    sources: Sources,
    device: str,
    progress: Progress | None = None,
    time_limit: float | None = None,
    replayed: TrialResult | None = None,
) -> tuple[list[TrialResult], Models, Stepper]:
    began = time.perf_counter()
    first = trials[0]
    splits = splits_of(first, sources, device)
    task = scoring_task(first, splits, sources)
    stepper, models = make_stepper(trials, splits, task, sources, device, replayed)
    run = TrainingState(models, stepper, splits, task, trials)
    run.look(0)
    points = set(evaluation_steps(first))
    observed = {point - back for point in points for back in range(1, _OBSERVED_BATCHES + 1)}
    for step in range(first.steps):
        if time_limit is not None and time.perf_counter() - began > time_limit * len(trials):
            raise TimeoutError(f"it took longer than {time_limit:g} seconds")
        run.step(step, observe=step in observed)
        run.look(step + 1)
        if step + 1 in points:
            run.evaluate(step + 1)
            if progress is not None:
                progress(step + 1, run.curve(0))
    if first.ours.select == "best-val":
        models.restore()
    return run.results((time.perf_counter() - began) / len(trials)), models, stepper


def scoring_task(trial: Trial, splits: Splits, sources: Sources) -> Task:
    """The task of a trial, with the user's metric that the trial scores, if it does."""
    task, text = task_for(splits), trial.ours.metric
    if text is None or not isinstance(task, Classification):
        return task
    return replace(task, own=own_metric(text, sources))
