"""Models under training behind one interface: one module alone, or many of one shape stacked."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from lossmith.trials.optimizers import StackedOptimizer, schedule_factor, torch_optimizer
from lossmith.trials.trial import OptimizerSpec

_EVALUATION_ROWS = 65_536  # rows times models per forward pass of a stack
_EVALUATION_BATCH = 256  # rows per forward pass of a single model, few enough for its buffers to be reused


class Bank(Protocol):
    """M models trained side by side on batches of their own."""

    def logits(self, inputs: Tensor) -> Tensor:
        """Logits (M, B, C) of training batches (M, B, ...), one per model."""

    def predict(self, inputs: Tensor) -> Tensor:
        """Logits (M, n, C) on inputs (n, ...) that all models share; nothing is recorded for gradients."""

    def zero_gradients(self) -> None:
        """Forget the gradients."""

    def gradient_norms(self) -> Tensor:
        """The norm of each model's gradient, (M,)."""

    def update(self, step: int, steps: int) -> None:
        """Take optimiser step number ``step`` of ``steps`` from the gradients."""

    def keep(self, better: Tensor) -> None:
        """Remember the present weights of the models where ``better`` (M,) is true."""

    def restore(self) -> None:
        """Go back to the weights remembered last."""

    def module(self, i: int) -> nn.Module:
        """Model i as a module of its own."""


class SingleBank:
    """One model, trained by `torch.optim`; any module will do."""

    def __init__(self, model: nn.Module, spec: OptimizerSpec) -> None:
        self.model, self.spec = model, spec
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch_optimizer(self.parameters, spec)
        self.kept: dict[str, Tensor] = {}

    def logits(self, inputs: Tensor) -> Tensor:
        """See `Bank`."""
        self.model.train()
        logits: Tensor = self.model(inputs[0])
        return logits.unsqueeze(0)

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Tensor:
        """See `Bank`."""
        self.model.eval()
        return torch.cat([self.model(part) for part in inputs.split(_EVALUATION_BATCH)]).unsqueeze(0)

    def zero_gradients(self) -> None:
        """See `Bank`."""
        self.optimizer.zero_grad(set_to_none=True)

    def gradient_norms(self) -> Tensor:
        """See `Bank`."""
        gradients = [p.grad.flatten() for p in self.parameters if p.grad is not None]
        norm: Tensor = torch.linalg.vector_norm(torch.cat(gradients))
        return norm.unsqueeze(0)

    def update(self, step: int, steps: int) -> None:
        """See `Bank`."""
        if self.spec.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.spec.clip)
        self.set_rate(step, steps)
        self.optimizer.step()

    def set_rate(self, step: int, steps: int) -> None:
        """Set the learning rate of step number ``step`` of ``steps``."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.spec.lr * schedule_factor(self.spec, step, steps)

    def keep(self, better: Tensor) -> None:
        """See `Bank`."""
        if bool(better):
            self.kept = {name: value.clone() for name, value in self.model.state_dict().items()}

    def restore(self) -> None:
        """See `Bank`."""
        self.model.load_state_dict(self.kept)

    def module(self, i: int) -> nn.Module:
        """See `Bank`."""
        assert i == 0
        return self.model


class StackedBank:
    """M models of one shape as one batched model; slice m computes what it would compute alone."""

    def __init__(self, models: Sequence[nn.Module], specs: Sequence[OptimizerSpec]) -> None:
        self.base = models[0]
        state, buffers = stack_module_state(list(models))
        assert not buffers, "models with buffers are not stacked"
        self.state = {name: value.detach().requires_grad_() for name, value in state.items()}
        self.optimizer = StackedOptimizer(list(self.state.values()), specs)
        self.spec = specs[0]
        self.kept = {name: value.detach().clone() for name, value in self.state.items()}

    def logits(self, inputs: Tensor) -> Tensor:
        """See `Bank`."""
        logits: Tensor = vmap(self._call)(self.state, inputs)
        return logits

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Tensor:
        """See `Bank`."""
        rows = max(1, _EVALUATION_ROWS // len(self.optimizer.lr))
        return torch.cat([vmap(self._call, (0, None))(self.state, part) for part in inputs.split(rows)], 1)

    def zero_gradients(self) -> None:
        """See `Bank`."""
        for parameter in self.state.values():
            parameter.grad = None

    def gradient_norms(self) -> Tensor:
        """See `Bank`."""
        return self.optimizer.gradient_norms()

    def update(self, step: int, steps: int) -> None:
        """See `Bank`."""
        self.optimizer.step(schedule_factor(self.spec, step, steps))

    def keep(self, better: Tensor) -> None:
        """See `Bank`."""
        for name, value in self.state.items():
            self.kept[name][better] = value.detach()[better]

    def restore(self) -> None:
        """See `Bank`."""
        with torch.no_grad():
            for name, value in self.state.items():
                value.copy_(self.kept[name])

    def module(self, i: int) -> nn.Module:
        """See `Bank`."""
        model = copy.deepcopy(self.base)
        model.load_state_dict({name: value[i] for name, value in self.state.items()})
        return model

    def _call(self, state: dict[str, Tensor], inputs: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.base, state, (inputs,))
        return logits
