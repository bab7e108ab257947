"""The data, the networks and the schedules of the experiment."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from lossmith.data.bundled import spiral_points
from lossmith.losses.dynamical import gamma

CLASSES: Final = 3
PER_CLASS: Final = 100
SAMPLES: Final = CLASSES * PER_CLASS


@dataclass(frozen=True)
class Run:
    """One training by gradient descent on all samples.

    Args:
        seed: of the weights, and of a random order of the classes.
        draw: of the data; 0 is that of the authors' notebook.
        width: units of the hidden layer.
        init: how the weights begin: ``"original"``, as in the notebook, N(0, 1 / fan-in) and biases 0; or
            ``"updated"``, as in its later version, Glorot's normal distribution and biases N(0, 0.01^2).
        bias: whether there are biases.
        updates: how many.
        loss: ``"cross_entropy"``; or the squared error, whose weights are those of the samples' classes in
            ``"samples_squared"``, and of the output units in ``"units_squared"``.
        amplitude: A of the weights; 1: none.
        period: T, one update shorter than a period, as in the notebook.
        order: ``"cyclic"``; ``"random"``, shuffled in each round; or ``"held"``: class 0 has its largest weight always.
        tail: the weights are 1 from the first end of a period on that leaves at most so many updates.
        lr: the learning rate.
        rate: how it goes: ``"constant"``; ``"cosine"``, down to 0; or ``"triangle"``, multiplied by the weight that the
            class in turn would have, in place of weights.
        momentum: of gradient descent.
    """

    seed: int
    draw: int = 0
    width: int = 100
    init: Literal["original", "updated"] = "original"
    bias: bool = True
    updates: int = 35_000
    loss: Literal["cross_entropy", "samples_squared", "units_squared"] = "cross_entropy"
    amplitude: float = 1.0
    period: int = 5000
    order: Literal["cyclic", "random", "held"] = "cyclic"
    tail: int = 5000
    lr: float = 1.0
    rate: Literal["constant", "cosine", "triangle"] = "constant"
    momentum: float = 0.0

    @property
    def static_after(self) -> int:
        """The update from which on the weights are 1."""
        length = self.period + 1
        return math.ceil((self.updates - self.tail) / length) * length


@functools.cache
def spirals(draw: int) -> Tensor:
    """The points of a draw with a third coordinate 1, shape (3, 300), class after class."""
    points = spiral_points(draw, CLASSES, PER_CLASS)
    return torch.from_numpy(np.column_stack([points, np.ones(len(points))]).T.copy())


def held_out(draw: int) -> Tensor:
    """The points for validation, as `spirals`: those of the next draw."""
    return spirals(draw + 1)


def first_weights(run: Run) -> tuple[Tensor, Tensor, Tensor]:
    """The weights before the first update: of shapes (width, 3), biases last, (3, width) and (3, 1)."""
    generator = torch.Generator().manual_seed(run.seed)

    def normal(*shape: int, scale: float) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64) * scale

    glorot = run.init == "updated"
    first = normal(run.width, 3, scale=math.sqrt(2 / (2 + run.width) if glorot else 1 / 2))
    second = normal(CLASSES, run.width, scale=math.sqrt(2 / (CLASSES + run.width) if glorot else 1 / run.width))
    small = 0.01 if glorot and run.bias else 0.0
    first[:, 2] = normal(run.width, scale=small)
    return first, second, normal(CLASSES, 1, scale=small)


def class_weights(run: Run) -> Tensor:
    """Gamma at each update, shape (updates, 3)."""
    steps = torch.arange(run.updates)
    if run.rate == "triangle":
        return torch.ones(run.updates, CLASSES, dtype=torch.float64)
    weights = _gamma(run, steps)
    if run.order == "held":
        weights = torch.where(steps[:, None] < run.static_after, _gamma(run, torch.tensor([run.period // 2])), 1.0)
    if run.order == "random":
        generator = torch.Generator().manual_seed(run.seed)
        rounds = steps // (CLASSES * (run.period + 1))
        orders = torch.stack([torch.randperm(CLASSES, generator=generator) for _ in range(int(rounds[-1]) + 1)])
        weights = weights.gather(1, orders[rounds])
    return weights


def rates(run: Run) -> Tensor:
    """The learning rate of each update, shape (updates,)."""
    steps = torch.arange(run.updates)
    if run.rate == "cosine":
        return run.lr * (1 + torch.cos(math.pi * steps.double() / run.updates)) / 2
    if run.rate == "triangle":
        return run.lr * _gamma(run, steps).amax(1)
    return torch.full((run.updates,), run.lr, dtype=torch.float64)


def _gamma(run: Run, steps: Tensor) -> Tensor:
    def at(step: Tensor) -> Tensor:
        return gamma(step, CLASSES, run.amplitude, run.period, static_after=run.static_after, period_mode="released")

    return torch.vmap(at)(steps)
