"""Trials in, results out: the training loop, the same for one model and for a stack of them."""

from __future__ import annotations

import functools
import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lossmith.catalog import create
from lossmith.losses import ClassificationLoss, DynamicalLoss
from lossmith.trials.banks import Bank, SingleBank, StackedBank
from lossmith.trials.data import Dataset, Examples, Task, build_task, load_dataset
from lossmith.trials.data.spec import DataSpec
from lossmith.trials.metrics import Outcomes, fit_temperature, outcomes
from lossmith.trials.models import build_model
from lossmith.trials.result import Curve, TrialResult
from lossmith.trials.trial import Sources, Trial

_CURVE_ROWS = 1024
_OBSERVED_BATCHES = 3

Progress = Callable[[int, Curve], None]
"""Called at each point of the curve with the steps taken and the curve of the first trial so far."""


def train(trial: Trial, sources: Sources, device: str = "cpu") -> TrialResult:
    """Train one trial: ``train_many([trial], ...)[0]``."""
    return train_many([trial], sources, device)[0]


def train_many(trials: Sequence[Trial], sources: Sources, device: str = "cpu") -> list[TrialResult]:
    """Train trials, those that can share a stack together.

    On the CPU the results are the same bit for bit however the trials are grouped and ordered. One thread is used.

    Args:
        trials: what to train.
        sources: where data and models lie.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        One result per trial, in order.

    Raises:
        ValueError: if data, model or loss cannot be had; the message is one sentence.
    """
    results: dict[Trial, TrialResult] = {}
    for bank in banks(trials):
        results |= zip(bank, _train_bank(bank, sources, device)[0], strict=True)
    return [results[trial] for trial in trials]


def train_model(
    trial: Trial, sources: Sources, device: str = "cpu", progress: Progress | None = None
) -> tuple[TrialResult, nn.Module]:
    """Train one trial and keep the model.

    Args:
        trial: what to train.
        sources: where data and models lie.
        device: ``"cpu"`` or ``"cuda"``.
        progress: called at each point of the learning curve.

    Returns:
        The result, and the model with its trained weights on the CPU.
    """
    results, bank = _train_bank([trial], sources, device, progress)
    return results[0], bank.module(0).cpu()


def banks(trials: Sequence[Trial], size: int | None = None) -> list[list[Trial]]:
    """Group trials by what is trained together: each single trial alone, alike stacked ones side by side.

    Args:
        trials: in any order; repeats count once.
        size: largest number of slices in a stack; ``None`` for no limit.

    Returns:
        The groups; in each, trials of one loss are neighbours.
    """
    single = [[trial] for trial in dict.fromkeys(trials) if trial.engine == "single"]
    stacked = sorted(
        {trial for trial in trials if trial.engine == "stacked"}, key=lambda t: (t.stack_key, t.loss, t.hash)
    )
    stacks = []
    for _, group in itertools.groupby(stacked, lambda trial: trial.stack_key):
        alike = list(group)
        count = 1 if size is None else -(-len(alike) // size)
        share = -(-len(alike) // count)
        stacks += [alike[i : i + share] for i in range(0, len(alike), share)]
    return single + stacks


@functools.lru_cache(maxsize=4)
def _dataset(source: str, label: str | None) -> Dataset:
    return load_dataset(source, label)


@functools.lru_cache(maxsize=8)
def load_task(spec: DataSpec, source: str, device: str = "cpu") -> Task:
    """The task of a spec, its tensors on the device; kept for the next trials of this process."""
    task = build_task(_dataset(source, spec.label), spec)

    def move(part: Examples) -> Examples:
        return replace(part, inputs=part.inputs.to(device), labels=part.labels.to(device))

    return replace(task, train=move(task.train), valid=move(task.valid), test=move(task.test))


def task_of(trial: Trial, sources: Sources, device: str = "cpu") -> Task:
    """The task a trial trains on."""
    return load_task(trial.data, sources.data.get(trial.data.source, trial.data.source), device)


def gradient_ratio(
    trial: Trial, loss: ClassificationLoss | DynamicalLoss, sources: Sources, device: str = "cpu"
) -> float:
    """The norm of a loss's gradient over that of cross-entropy, at a trial's initial weights on its first batch."""
    task = task_of(trial, sources, device)
    rows = next(batches(len(task.train), trial.batch_size, trial.seed)).to(device)
    model = build_model(trial.model, task, sources, trial.seed).to(device)
    parameters = [p for p in model.parameters() if p.requires_grad]
    logits, labels = model(task.train.inputs[rows]), task.train.labels[rows]
    values = F.cross_entropy(logits, labels), loss.to(device)(logits, labels)
    gradients = [torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True) for value in values]
    norms = [torch.cat([g.flatten() for g in gradient if g is not None]).norm() for gradient in gradients]
    return float(norms[1] / norms[0])


def batches(size: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Endless batches of row numbers: a fresh permutation per epoch, what is left over at its end dropped.

    Args:
        size: number of training examples n.
        batch_size: examples per batch; n if that is less.
        seed: of the permutations.

    Yields:
        Row numbers, int64 (B,).
    """
    generator = torch.Generator().manual_seed(seed)
    batch_size = min(batch_size, size)
    while True:
        order = torch.randperm(size, generator=generator)
        yield from order[: size - size % batch_size].split(batch_size)


class _Group(NamedTuple):
    """Neighbouring slices that share a loss."""

    slices: slice
    loss: ClassificationLoss | DynamicalLoss
    notes: tuple[str, ...]

    @property
    def base(self) -> ClassificationLoss:
        return self.loss.base if isinstance(self.loss, DynamicalLoss) else self.loss

    def sum_of_means(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The sum over slices of each slice's mean loss, for logits (G, B, C) and labels (G, B)."""
        terms = self.loss(logits.flatten(0, 1), labels.flatten()).view(labels.shape)
        weight = self.base.weight
        mass = labels.shape[1] if weight is None else weight[labels].sum(1, keepdim=True)
        total: Tensor = (terms / mass).sum()
        return total


def _train_bank(
    trials: Sequence[Trial], sources: Sources, device: str, progress: Progress | None = None
) -> tuple[list[TrialResult], Bank]:
    began = time.perf_counter()
    if device == "cpu":
        torch.set_num_threads(1)
    first = trials[0]
    task = task_of(first, sources, device)
    bank = _make_bank(trials, task, sources, device)
    groups = _loss_groups(trials, task, device)
    run = _Run(bank, groups, task, first, len(trials))
    orders = {seed: batches(len(task.train), first.batch_size, seed) for seed in {t.seed for t in trials}}
    points = set(first.evaluation_steps())
    observed = {point - back for point in points for back in range(1, _OBSERVED_BATCHES + 1)}
    for step in range(first.steps):
        rows = {seed: next(order) for seed, order in orders.items()}
        run.step(step, torch.stack([rows[trial.seed] for trial in trials]).to(device), observe=step in observed)
        if step + 1 in points:
            run.evaluate(step + 1)
            if progress is not None:
                progress(step + 1, run.curve(0))
    if first.select == "best-val":
        bank.restore()
    return run.results((time.perf_counter() - began) / len(trials)), bank


class _Run:
    """The state of one bank's training besides its weights."""

    def __init__(self, bank: Bank, groups: list[_Group], task: Task, trial: Trial, size: int) -> None:
        self.bank, self.groups, self.task, self.trial, self.size = bank, groups, task, trial, size
        device = task.train.labels.device
        self.extended = torch.zeros(size, device=device)
        self.gradient_ratio = torch.full((size,), torch.nan, device=device)
        self.best = torch.full((size,), -torch.inf, dtype=torch.float64, device=device)
        self.observed: list[Tensor] = []
        self.diverged = torch.zeros(size, dtype=torch.bool, device=device)
        self.points: list[tuple[int, Tensor]] = []

    def step(self, step: int, rows: Tensor, *, observe: bool) -> None:
        """One optimiser step of every model on its own batch, given as row numbers (M, B)."""
        labels = self.task.train.labels[rows]
        logits = self.bank.logits(self.task.train.inputs[rows])
        self.bank.zero_gradients()
        if step == 0:
            _cross_entropy(logits, labels).sum().backward(retain_graph=True)
            reference = self.bank.gradient_norms()
            self.bank.zero_gradients()
        total = torch.stack([g.sum_of_means(logits[g.slices], labels[g.slices]) for g in self.groups]).sum()
        total.backward()
        if step == 0:
            self.gradient_ratio = self.bank.gradient_norms() / reference
        if observe:
            self.observed.append(_curve_point(logits.detach(), labels))
        self._count_extensions(logits.detach(), labels)
        self.bank.update(step, self.trial.steps)
        for group in self.groups:
            group.loss.step()

    def evaluate(self, step: int) -> None:
        """Take one point of the learning curves."""
        inputs, labels = self.task.valid.inputs[:_CURVE_ROWS], self.task.valid.labels[:_CURVE_ROWS]
        logits = self.bank.predict(inputs)
        self.diverged |= ~logits.isfinite().flatten(1).all(1)
        valid = _curve_point(logits, labels.expand(self.size, -1))
        train = torch.stack(self.observed).mean(0)
        self.observed.clear()
        self.points.append((step, torch.cat([train, valid]).cpu()))
        if self.trial.select == "best-val":
            better = valid[1] > self.best
            self.best = torch.where(better, valid[1], self.best)
            self.bank.keep(better)

    def curve(self, i: int) -> Curve:
        """The learning curve of model i so far."""
        steps = tuple(step for step, _ in self.points)
        columns = torch.stack([values[:, i] for _, values in self.points]).T.tolist()
        return Curve(steps, *(tuple(column) for column in columns))

    def results(self, seconds: float) -> list[TrialResult]:
        """The results, from the weights as they are now."""
        valid = self.bank.predict(self.task.valid.inputs).float().cpu().numpy()
        test = self.bank.predict(self.task.test.inputs).float().cpu().numpy() if self.trial.final else None
        notes = {i: group.notes for group in self.groups for i in range(*group.slices.indices(self.size))}
        seen = self.trial.steps * min(self.trial.batch_size, len(self.task.train))
        results = []
        for i in range(self.size):
            temperature = fit_temperature(valid[i], self.task.valid.labels.cpu().numpy())
            judged = _judge(valid[i], self.task.valid, temperature)
            results.append(
                TrialResult(
                    curve=self.curve(i),
                    valid_accuracy=float(judged.correct.mean()),
                    valid_balanced_accuracy=judged.balanced_accuracy,
                    valid_nll=float(judged.nll.mean(dtype=float)),
                    valid_nll_scaled=float(judged.nll_scaled.mean(dtype=float)),
                    temperature=temperature,
                    gradient_ratio=float(self.gradient_ratio[i]),
                    extended_share=float(self.extended[i]) / seen,
                    diverged=bool(self.diverged[i]),
                    notes=notes[i],
                    seconds=seconds,
                    valid=judged if self.trial.final else None,
                    test=None if test is None else _judge(test[i], self.task.test, temperature),
                )
            )
        return results

    def _count_extensions(self, logits: Tensor, labels: Tensor) -> None:
        for group in self.groups:
            if group.base.can_extend:
                part, of = logits[group.slices], labels[group.slices]
                extended = group.loss.extended(part.flatten(0, 1), of.flatten()).view(of.shape)
                self.extended[group.slices] += extended.sum(1)


def _judge(logits: NDArray[np.float32], part: Examples, temperature: float) -> Outcomes:
    return outcomes(logits, part.labels.cpu().numpy(), part.index.numpy(), temperature)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of each slice, (M,), for logits (M, B, C)."""
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape).mean(1)


def _curve_point(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy and accuracy of each slice, (2, M)."""
    accuracy = (logits.argmax(-1) == labels).double().mean(1)
    return torch.stack([_cross_entropy(logits, labels).double(), accuracy])


def _make_bank(trials: Sequence[Trial], task: Task, sources: Sources, device: str) -> Bank:
    models = {seed: build_model(trials[0].model, task, sources, seed).to(device) for seed in {t.seed for t in trials}}
    if trials[0].engine == "single":
        return SingleBank(models[trials[0].seed], trials[0].optimizer)
    return StackedBank([models[trial.seed] for trial in trials], [trial.optimizer for trial in trials])


def _loss_groups(trials: Sequence[Trial], task: Task, device: str) -> list[_Group]:
    groups, start = [], 0
    for text, members in itertools.groupby(trial.loss for trial in trials):
        size = len(list(members))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loss = training_loss(text, task, trials[0].steps).to(device)
        notes = tuple(str(warning.message) for warning in caught)
        group = _Group(slice(start, start + size), loss, notes)
        group.base.reduction = "none"
        groups.append(group)
        start += size
    return groups


def training_loss(text: str, task: Task, steps: int) -> ClassificationLoss | DynamicalLoss:
    """The loss of a trial, told the class counts of its training labels and the length of its run.

    Args:
        text: the loss's text form.
        task: what it will be trained on.
        steps: number of optimiser steps.

    Returns:
        The loss.

    Raises:
        ValueError: if the text names no classification loss that a trial can train.
    """
    loss = create(text)
    if not isinstance(loss, (ClassificationLoss, DynamicalLoss)):
        raise ValueError(f"{text} is a loss for {loss.kind}, not for classification: see `lossmith list`")
    base = loss.base if isinstance(loss, DynamicalLoss) else loss
    if base.reduction != "mean" or base.task != "multiclass":
        raise ValueError(f"{text}: trials train with task=multiclass and reduction=mean; leave both out")
    for part in loss.modules():
        if isinstance(part, ClassificationLoss):
            part.implementation = "reference"  # so that a training in a stack is bitwise the same training alone
    loss.bind(total_steps=steps, class_counts=task.class_counts.tolist())
    return loss
