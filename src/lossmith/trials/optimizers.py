"""`torch.optim`'s update rules for stacked models, each with its own learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lossmith.trials.trial import OptimizerSpec

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8


class StackedOptimizer:
    """SGD, Adam or AdamW over M rows of parameters; row m follows ``specs[m]`` as `torch.optim` would alone.

    Args:
        parameters: shape (M, P), changed in place by `step`.
        specs: one per row, alike in name, Nesterov, schedule and whether they clip.
    """

    def __init__(self, parameters: Tensor, specs: Sequence[OptimizerSpec]) -> None:
        def column(values: Iterable[float]) -> Tensor:
            return torch.tensor(list(values), device=parameters.device).unsqueeze(1)

        self.parameters, self.specs = parameters, specs
        self.first = specs[0]
        self.lr = column(spec.lr for spec in specs)
        self.momentum = column(spec.momentum for spec in specs)
        self.weight_decay = column(spec.weight_decay for spec in specs)
        self.decays = any(spec.weight_decay for spec in specs)
        self.clip = column(math.inf if spec.clip is None else spec.clip for spec in specs)
        self.average, self.square = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self.buffer = torch.empty_like(parameters)  # a fresh one each step would cost more than the arithmetic
        self.steps = 0

    @torch.no_grad()
    def step(self, gradient: Tensor, factor: float) -> None:
        """Update all rows from their gradients (M, P), with every learning rate times ``factor``."""
        self.steps += 1
        lr = self.lr * factor
        if self.first.clip is not None:
            gradient = gradient * (self.clip / (row_norms(gradient).unsqueeze(1) + 1e-6)).clamp(max=1.0)
        if self.decays and self.first.name == "adamw":
            self.parameters.mul_(1 - lr * self.weight_decay)
        elif self.decays:
            gradient = gradient + self.weight_decay * self.parameters
        if self.first.name == "sgd":
            self.average.mul_(self.momentum).add_(gradient)
            direction = gradient + self.momentum * self.average if self.first.nesterov else self.average
            self.parameters.sub_(lr * direction)
            return
        self.average.lerp_(gradient, 1 - _BETA1)
        self.square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        scale = torch.sqrt(self.square, out=self.buffer).div_(math.sqrt(1 - _BETA2**self.steps)).add_(_EPS)
        self.parameters.sub_(torch.div(self.average, scale, out=scale).mul_(lr / (1 - _BETA1**self.steps)))


def row_norms(values: Tensor) -> Tensor:
    """The Euclidean norm of each row of a matrix (M, P), shape (M,)."""
    norms: Tensor = torch.linalg.vector_norm(values, dim=1)
    return norms


def torch_optimizer(parameters: Sequence[Tensor], spec: OptimizerSpec) -> torch.optim.Optimizer:
    """The `torch.optim` optimiser a spec names, for a model trained alone."""
    if spec.name == "sgd":
        return torch.optim.SGD(parameters, spec.lr, spec.momentum, 0.0, spec.weight_decay, spec.nesterov)
    cls = torch.optim.Adam if spec.name == "adam" else torch.optim.AdamW
    return cls(parameters, spec.lr, (_BETA1, _BETA2), _EPS, spec.weight_decay)


def schedule_factor(spec: OptimizerSpec, step: int, steps: int) -> float:
    """The factor of the learning rate at step t = 0, 1, ...: ``(1 + cos(pi t / steps)) / 2`` for "cosine", else 1."""
    return 1.0 if spec.schedule == "none" else 0.5 * (1 + math.cos(math.pi * step / steps))
