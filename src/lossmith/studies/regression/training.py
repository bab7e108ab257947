"""One training of a small network on a table, with a loss that may learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import torch
from torch import Tensor, nn

from lossmith.learned import OnlineLossLearner, learn_offline
from lossmith.studies.regression.arms import RegressionArm, half_squared_error, make_loss
from lossmith.studies.regression.table import Examples, Parts
from lossmith.trials.batches import batches
from lossmith.trials.optimizers import schedule_factor, torch_optimizer
from lossmith.trials.seeding import seeded
from lossmith.trials.trial import OptimizerSpec

HIDDEN: Final = 64
MAX_SCALE: Final = 10.0
OFFLINE_LR: Final = 0.01
_NEVER: Final = 1 << 50
# What is added to a training's seed to draw other things than the model's weights and batches.
_META_STREAM: Final = 1_000_003
_REPLAY_STREAM: Final = 2_000_003
_OFFLINE_STREAM: Final = 3_000_017

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Training:
    """One training but for its data.

    Args:
        arm: what is trained with.
        lr: learning rate of the model.
        values: what is tuned besides, by name.
        seed: of the model's weights, the batches, and the weights of the loss.
        steps: optimiser steps.
        batch_size: examples per step.
        offline_steps: fresh models of an offline phase.
    """

    arm: RegressionArm
    lr: float
    values: dict[str, float]
    seed: int
    steps: int
    batch_size: int
    offline_steps: int

    @property
    def optimizer(self) -> OptimizerSpec:
        """SGD with Nesterov's momentum of .9, the learning rate falling along a cosine."""
        decay = self.values.get("weight_decay", 0.0)
        return OptimizerSpec("sgd", self.lr, momentum=0.9, nesterov=True, weight_decay=decay)


@dataclass(frozen=True)
class Trained:
    """What came out.

    Attributes:
        model: with its last weights.
        scales: effective scale of the loss at each step, where it was measured.
    """

    model: nn.Module
    scales: tuple[float, ...] = ()


@dataclass
class Memory:
    """What trainings on the same parts have in common, so that it is done once.

    Attributes:
        offline: parameters of a loss after its offline phase.
        scales: courses of the online arm's effective scale.
    """

    offline: dict[tuple[object, ...], list[Tensor]] = field(default_factory=dict)
    scales: dict[tuple[object, ...], tuple[float, ...]] = field(default_factory=dict)


def train(training: Training, parts: Parts, memory: Memory) -> Trained:
    """Train a fresh model.

    Args:
        training: how.
        parts: on what; validation and test part are not touched.
        memory: of these parts.

    Returns:
        The model.
    """
    arm = training.arm
    if arm.replay == "rate":
        scales = online_scales(training, parts, memory)
        return Trained(_plain(training, parts, half_squared_error, lambda step: scales[step]), scales)
    loss = prepared_loss(training, parts, memory)
    if not isinstance(loss, nn.Module) or arm.learns == "nothing":
        return Trained(_plain(training, parts, loss, lambda step: 1.0))
    course = _course(training, parts, memory) if arm.replay == "loss" else None
    run = _Learning(training, parts, loss, still=not arm.online)
    for step in range(training.steps):
        if course is not None:
            nn.utils.vector_to_parameters(course[step], loss.parameters())
        run.step(step)
    found = Trained(run.model, tuple(run.scales))
    if _can_be_replayed(arm):
        memory.scales[_key(training)] = found.scales
    return found


def prepared_loss(training: Training, parts: Parts, memory: Memory) -> nn.Module | Callable[[Tensor, Tensor], Tensor]:
    """The loss at the beginning of the training: after the offline phase, where there is one.

    Args:
        training: how it is trained.
        parts: on what.
        memory: of these parts.

    Returns:
        A function of prediction and target.
    """
    arm = training.arm
    loss = make_loss(arm, training.values, training.seed)
    if not arm.offline:
        return loss
    assert isinstance(loss, nn.Module)
    key = (arm.learns, arm.held_out, training.values["meta_lr"], training.seed, training.offline_steps)
    if key not in memory.offline:
        seed = training.seed + _OFFLINE_STREAM
        model_batches, meta_batches = _draw(replace(training, seed=seed), parts)
        learn_offline(
            loss,
            lambda i: make_model(parts.train, seed + i),
            zip(model_batches, meta_batches, strict=False),
            steps=training.offline_steps,
            lr=OFFLINE_LR,
            meta_lr=training.values["meta_lr"],
            task_loss=half_squared_error,
            scale="learned",
            max_scale=MAX_SCALE,
        )
        memory.offline[key] = [parameter.detach().clone() for parameter in loss.parameters()]
    with torch.no_grad():
        for parameter, value in zip(loss.parameters(), memory.offline[key], strict=True):
            parameter.copy_(value)
    return loss


def online_scales(training: Training, parts: Parts, memory: Memory) -> tuple[float, ...]:
    """The course of the effective scale in the online arm's training of the same settings and seed.

    Args:
        training: a training of the rate replay.
        parts: on what.
        memory: of these parts.

    Returns:
        One factor per step.
    """
    key = _key(training)
    if key not in memory.scales:
        memory.scales[key] = train(replace(training, arm=_online(training.arm)), parts, memory).scales
    return memory.scales[key]


def gradient_ratio(training: Training, parts: Parts, memory: Memory) -> float:
    """The norm of the loss's first gradient over that of half the squared error.

    Args:
        training: how it would be trained.
        parts: on what.
        memory: of these parts.

    Returns:
        A ratio; 1 where the loss has no usable gradient.
    """
    inputs, target = next(_draw(training, parts)[0])
    norms = []
    for loss in (prepared_loss(training, parts, memory), half_squared_error):
        model = make_model(parts.train, training.seed)
        gradients = torch.autograd.grad(loss(model(inputs), target), list(model.parameters()))
        norms.append(float(torch.cat([gradient.flatten() for gradient in gradients]).norm()))
    ratio = norms[0] / norms[1] if norms[1] else 1.0
    return float(f"{ratio:.4g}") if 0 < ratio < float("inf") else 1.0


def make_model(examples: Examples, seed: int) -> nn.Module:
    """A network with one hidden layer of 64 ReLU units, from inputs (n, d) to predictions (n,).

    Args:
        examples: what it is for; says d.
        seed: of its weights.

    Returns:
        The model.
    """
    with seeded(seed):
        return nn.Sequential(
            nn.Linear(examples.inputs.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1), nn.Flatten(0)
        )


def _plain(
    training: Training, parts: Parts, loss: Callable[[Tensor, Tensor], Tensor], factor: Callable[[int], float]
) -> nn.Module:
    """A model trained with a loss that stays as it is, times a factor at each step."""
    model = make_model(parts.train, training.seed)
    optimizer = torch_optimizer(list(model.parameters()), training.optimizer)
    (group,) = optimizer.param_groups
    drawn, _ = _draw(training, parts)
    for step in range(training.steps):
        group["lr"] = training.lr * schedule_factor(training.optimizer, step, training.steps)
        inputs, target = next(drawn)
        optimizer.zero_grad()
        (factor(step) * loss(model(inputs), target)).backward()
        optimizer.step()
    return model


class _Learning:
    """A training whose loss learns, step by step; or, ``still``, stays as it is under the same cap."""

    def __init__(self, training: Training, parts: Parts, loss: nn.Module, *, still: bool) -> None:
        self.training, self.model = training, make_model(parts.train, training.seed)
        self.optimizer = torch_optimizer(list(self.model.parameters()), training.optimizer)
        self.batches, self.meta = _draw(training, parts)
        self.scales: list[float] = []
        self.learner = OnlineLossLearner(
            self.model,
            loss,
            self.optimizer,
            torch.optim.Adam(loss.parameters(), training.values["meta_lr"]),
            task_loss=half_squared_error,
            meta_data="given" if training.arm.held_out else "next",
            gradient="unroll",
            every=_NEVER if still else 1,
            scale="learned",
            max_scale=MAX_SCALE,
        )

    def step(self, step: int) -> None:
        (group,) = self.optimizer.param_groups
        group["lr"] = self.training.lr * schedule_factor(self.training.optimizer, step, self.training.steps)
        batch = next(self.batches)
        record = self.learner.step(batch, next(self.meta) if self.learner.wants_meta_batch else None)
        self.scales.append(float(record.scale))


def _draw(training: Training, parts: Parts) -> tuple[Iterator[Batch], Iterator[Batch]]:
    """Endless batches for the model, and for the loss."""
    held_out = parts.meta if training.arm.held_out else 0
    size = len(parts.train)
    return (
        _batches(parts.train, held_out, size - held_out, training.batch_size, training.seed),
        _batches(parts.train, 0, held_out or size, training.batch_size, training.seed + _META_STREAM),
    )


def _batches(examples: Examples, start: int, size: int, batch_size: int, seed: int) -> Iterator[Batch]:
    for rows in batches(size, batch_size, seed):
        yield examples.inputs[start + rows], examples.target[start + rows]


def _course(training: Training, parts: Parts, memory: Memory) -> list[Tensor]:
    """The parameters that the online arm's loss has at each step, under another seed."""
    other = replace(training, arm=_online(training.arm), seed=training.seed + _REPLAY_STREAM)
    loss = prepared_loss(other, parts, memory)
    assert isinstance(loss, nn.Module)
    run = _Learning(other, parts, loss, still=False)
    course = []
    for step in range(training.steps):
        run.step(step)  # with the next batch as meta batch the loss is updated before the model's step
        course.append(nn.utils.parameters_to_vector(loss.parameters()).detach())
    return course


def _online(replayed: RegressionArm) -> RegressionArm:
    """The arm that a replay plays back."""
    return replace(replayed, online=True, replay="nothing")


def _can_be_replayed(arm: RegressionArm) -> bool:
    return arm.online and not arm.offline and not arm.held_out


def _key(training: Training) -> tuple[object, ...]:
    return training.arm.learns, training.lr, training.values["meta_lr"], training.seed, training.steps
