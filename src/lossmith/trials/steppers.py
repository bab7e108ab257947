"""What one training step does: the plain one, for a model alone or for a stack of them."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from lossmith.catalog import create
from lossmith.data import Splits
from lossmith.learned import AdaptiveLoss
from lossmith.losses import ClassificationLoss, DynamicalLoss, RegressionLoss
from lossmith.losses.entries import log_slope_limit
from lossmith.tasks import Task
from lossmith.trials.batches import StackBatches
from lossmith.trials.result import Series
from lossmith.trials.stacks import Models
from lossmith.trials.trial import Trial

TrainingLoss = ClassificationLoss | DynamicalLoss | AdaptiveLoss | RegressionLoss


class Step(NamedTuple):
    """A training step that M models took.

    Attributes:
        outputs: detached, shape (M, B, ...).
        targets: shape (M, B, ...).
        losses: the mean loss of each model's batch before the step, detached, shape (M,).
    """

    outputs: Tensor
    targets: Tensor
    losses: Tensor


class Stepper(Protocol):
    """Takes the training steps of M models, and knows what became of the losses.

    Attributes:
        gradient_ratio: norm of each loss's gradient over that of the reference loss on the first batch, (M,).
        extended: for how many targets so far each loss was continued by its tangent, (M,).
    """

    gradient_ratio: Tensor
    extended: Tensor

    def step(self, step: int) -> Step:
        """Take step number ``step``."""

    def loss(self, i: int) -> nn.Module:
        """The loss of model i."""

    def notes(self, i: int) -> tuple[str, ...]:
        """What the loss of model i warned of."""

    def series(self) -> dict[str, Series]:
        """What was written down of each step."""
        return {}

    def facts(self) -> dict[str, float | str]:
        """What is known of the loss after the training; see `TrialResult`."""
        return {}


class PlainStepper(Stepper):
    """Steps of models with losses that do not learn.

    Args:
        trials: one per model; those of one loss are neighbours.
        models: what is trained.
        splits: what they are trained on.
        task: what scores them.
        device: ``"cpu"`` or ``"cuda"``.
    """

    def __init__(self, trials: Sequence[Trial], models: Models, splits: Splits, task: Task, device: str) -> None:
        self.trials, self.models, self.splits, self.task = trials, models, splits, task
        self.groups = _loss_groups(trials, splits, task, device)
        self.batches = StackBatches(trials, splits, models.row_multiple, device)
        self.gradient_ratio = torch.full((len(trials),), torch.nan, device=device)
        self.extended = torch.zeros(len(trials), device=device)

    @override
    def step(self, step: int) -> Step:
        rows, size = self.batches.draw()
        inputs, targets = self.splits.train.batch(rows)
        outputs = self.models.logits(inputs)
        if step == 0:
            reference = self.task.reference_values(outputs[:, :size], targets[:, :size])
            self.models.backward(reference.sum(), retain_graph=True)
            norms = self.models.gradient_norms()
        losses = torch.cat([g.means(outputs[g.slices], targets[g.slices], size) for g in self.groups])
        self.models.backward(losses.sum())
        if step == 0:
            self.gradient_ratio = self.models.gradient_norms() / norms
        outputs, targets = outputs.detach()[:, :size], targets[:, :size]
        self._count_extensions(outputs, targets)
        self.models.update(step, self.trials[0].steps)
        for group in self.groups:
            group.loss.step()
        return Step(outputs, targets, losses.detach())

    @override
    def loss(self, i: int) -> nn.Module:
        return self._group(i).loss

    @override
    def notes(self, i: int) -> tuple[str, ...]:
        return self._group(i).notes

    def _group(self, i: int) -> _Group:
        return next(group for group in self.groups if i < group.slices.stop)

    def _count_extensions(self, outputs: Tensor, targets: Tensor) -> None:
        extending = [group for group in self.groups if group.extends_above is not None]
        if len(extending) > 1:  # mostly no loss is continued: one look at all slices, instead of one for each loss
            least = min(group.extends_above for group in extending if group.extends_above is not None)
            c = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(0, 1), reduction="none")
            if not (c > least).any():
                return
        for group in extending:
            assert not isinstance(group.loss, RegressionLoss)
            part, of = outputs[group.slices], targets[group.slices]
            found = group.loss.extended(part.flatten(0, 1), of.flatten(0, 1))
            self.extended[group.slices] += found.view(of.shape).flatten(1).sum(1)


class _Group(NamedTuple):
    """Neighbouring slices that share a loss."""

    slices: slice
    loss: TrainingLoss
    notes: tuple[str, ...]

    extends_above: float | None
    """The least cross-entropy above which the loss is continued by its tangent; ``None``: it never is."""

    def means(self, outputs: Tensor, targets: Tensor, size: int) -> Tensor:
        """The mean loss of each slice's first ``size`` rows; the others get zero gradient.

        Args:
            outputs: shape (G, B', ...).
            targets: shape (G, B', ...).
            size: B, from 1 to B'.

        Returns:
            Shape (G,).
        """
        assert not isinstance(self.loss, AdaptiveLoss), "losses that learn have a stepper of their own"
        means = []
        for fraction in self.loss.fractions(outputs.flatten(0, 1), targets.flatten(0, 1)):
            values, masses = (part.view(*targets.shape[:2], -1)[:, :size].flatten(1) for part in fraction)
            mass = masses.sum(1, keepdim=True)
            means.append((values / mass.masked_fill(mass == 0, 1)).sum(1))
        return torch.stack(means).sum(0)


def _loss_groups(trials: Sequence[Trial], splits: Splits, task: Task, device: str) -> list[_Group]:
    groups, start = [], 0
    for text, members in itertools.groupby(trial.loss for trial in trials):
        size = len(list(members))
        loss, notes = noted_loss(text, splits, task, trials[0].steps)
        groups.append(_Group(slice(start, start + size), loss.to(device), notes, _extends_above(loss)))
        start += size
    return groups


def _extends_above(loss: TrainingLoss) -> float | None:
    base = loss.base if isinstance(loss, DynamicalLoss) else loss
    if isinstance(loss, RegressionLoss) or not isinstance(base, ClassificationLoss):
        return None
    above = base.linear_above(log_slope_limit(torch.float32))
    return above if above is None else float(torch.as_tensor(above).min())


def noted_loss(text: str, splits: Splits, task: Task, steps: int) -> tuple[TrainingLoss, tuple[str, ...]]:
    """`training_loss`, and what it warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loss = training_loss(text, splits, task, steps)
    return loss, tuple(str(warning.message) for warning in caught)


class WrongTaskError(ValueError):
    """A loss for another task; the message is one sentence."""


def training_loss(text: str, splits: Splits, task: Task, steps: int) -> TrainingLoss:
    """The loss of a trial, told what the task says of its training targets and the length of its run.

    Args:
        text: the loss's text form.
        splits: what it will be trained on.
        task: what scores it.
        steps: number of optimiser steps.

    Returns:
        The loss.

    Raises:
        ValueError: if the text names no loss that can be trained.
        WrongTaskError: if it is for another task.
    """
    loss = create(text)
    if loss.kind not in task.loss_kinds or not isinstance(loss, TrainingLoss):
        raise WrongTaskError(f"{text} is a loss for {loss.kind}, not for {task.name}: see `lossmith list`")
    base = loss.base if isinstance(loss, DynamicalLoss | AdaptiveLoss) else loss
    if base.reduction != "mean":
        raise ValueError(f"{text}: trials train with reduction=mean; leave it out")
    if isinstance(base, ClassificationLoss) and base.task != "multiclass":
        raise ValueError(f"{text}: trials train with task=multiclass; leave it out")
    loss.bind(total_steps=steps, **task.facts(splits))
    return loss
