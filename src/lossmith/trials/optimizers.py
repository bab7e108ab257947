"""`torch.optim`'s rules for stacked parameters, where each slice has a learning rate of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lossmith.trials.trial import OptimizerSpec

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8


class StackedOptimizer:
    """SGD, Adam or AdamW over M slices; slice m follows ``specs[m]`` as `torch.optim` would alone.

    Args:
        parameters: leaf tensors of shape (M, ...), changed in place by `step`.
        specs: one per slice, alike in name, Nesterov, schedule and whether they clip.
    """

    def __init__(self, parameters: Sequence[Tensor], specs: Sequence[OptimizerSpec]) -> None:
        self.parameters = list(parameters)
        self.first = specs[0]
        device = self.parameters[0].device
        self.lr = torch.tensor([spec.lr for spec in specs], device=device)
        self.momentum = torch.tensor([spec.momentum for spec in specs], device=device)
        self.weight_decay = torch.tensor([spec.weight_decay for spec in specs], device=device)
        self.decays = any(spec.weight_decay for spec in specs)
        self.clip = torch.tensor([spec.clip or math.inf for spec in specs], device=device)
        self.averages = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters] if self.first.name != "sgd" else []
        self.steps = 0

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Update all slices from the gradients, with every learning rate times ``factor``."""
        self.steps += 1
        if self.first.clip is not None:
            self._clip()
        for i, parameter in enumerate(self.parameters):
            if parameter.grad is not None:
                self._update(i, parameter, parameter.grad, factor)

    def gradient_norms(self) -> Tensor:
        """The norm of each slice's whole gradient, shape (M,)."""
        gradients = [p.grad.flatten(1) for p in self.parameters if p.grad is not None]
        norms: Tensor = torch.linalg.vector_norm(torch.cat(gradients, 1), dim=1)
        return norms

    def _update(self, i: int, parameter: Tensor, gradient: Tensor, factor: float) -> None:
        lr = _per_slice(self.lr, parameter) * factor
        if self.decays:
            decay = _per_slice(self.weight_decay, parameter)
            if self.first.name == "adamw":
                parameter.mul_(1 - lr * decay)
            else:
                gradient = gradient + decay * parameter
        if self.first.name == "sgd":
            momentum, velocity = _per_slice(self.momentum, parameter), self.averages[i]
            velocity.mul_(momentum).add_(gradient)
            direction = gradient + momentum * velocity if self.first.nesterov else velocity
            parameter.sub_(lr * direction)
            return
        average, square = self.averages[i], self.squares[i]
        average.lerp_(gradient, 1 - _BETA1)
        square.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        scale = square.sqrt().div_(math.sqrt(1 - _BETA2**self.steps)).add_(_EPS)
        parameter.sub_(average.div(scale).mul_(lr / (1 - _BETA1**self.steps)))

    def _clip(self) -> None:
        scale = (self.clip / (self.gradient_norms() + 1e-6)).clamp(max=1.0)
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(_per_slice(scale, parameter))


def torch_optimizer(parameters: Sequence[Tensor], spec: OptimizerSpec) -> torch.optim.Optimizer:
    """The `torch.optim` optimiser a spec names, for a model trained alone."""
    if spec.name == "sgd":
        return torch.optim.SGD(parameters, spec.lr, spec.momentum, 0.0, spec.weight_decay, spec.nesterov)
    cls = torch.optim.Adam if spec.name == "adam" else torch.optim.AdamW
    return cls(parameters, spec.lr, (_BETA1, _BETA2), _EPS, spec.weight_decay)


def schedule_factor(spec: OptimizerSpec, step: int, steps: int) -> float:
    """What the learning rate is multiplied by at ``step`` = 0, 1, ... of ``steps``."""
    return 1.0 if spec.schedule == "none" else 0.5 * (1 + math.cos(math.pi * step / steps))


def _per_slice(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *(1 for _ in like.shape[1:]))
