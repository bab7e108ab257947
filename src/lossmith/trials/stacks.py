"""Models under training behind one interface: one module alone, or many of one shape stacked."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from typing_extensions import override

from lossmith.trials.batches import pad_rows
from lossmith.trials.optimizers import StackedOptimizer, row_norms, schedule_factor, torch_optimizer
from lossmith.trials.trial import OptimizerSpec

VECTOR: Final = 32
"""Elements to which slices are padded: ATen's widest loops take two AVX-512 registers of float32 at a time."""
# Rows and input values per forward pass of a single model, few enough for its buffers to be reused.
_EVALUATION_BATCH, _EVALUATION_VALUES = 256, 2**20
_EVALUATION_ROWS = 1024  # rows per forward pass of a stack, whatever its size, so that this changes no rounding


class Models(Protocol):
    """M models trained side by side on batches of their own.

    Attributes:
        row_multiple: what the rows of a training batch must be a multiple of.
    """

    row_multiple: int

    def logits(self, inputs: Tensor) -> Tensor:
        """Outputs (M, B, ...) of training batches (M, B, ...), one per model."""

    def predict(self, inputs: Tensor) -> Iterator[Tensor]:
        """Outputs (M, n', ...) on inputs (n, ...) that all models share, some rows at a time; without gradients."""

    def backward(self, value: Tensor, *, retain_graph: bool = False) -> None:
        """Set every model's gradient to that of a scalar, in place of the gradient before."""

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

    def optimizer_of(self, i: int, model: nn.Module) -> torch.optim.Optimizer:
        """A copy of what trains model i, with its state, for a copy of that model."""


class SingleModel(Models):
    """One model, trained by `torch.optim`; any module will do."""

    row_multiple = 1

    def __init__(self, model: nn.Module, spec: OptimizerSpec) -> None:
        self.model, self.spec = model, spec
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch_optimizer(self.parameters, spec)
        self.kept: dict[str, Tensor] = {}

    @override
    def logits(self, inputs: Tensor) -> Tensor:
        self.model.train()
        logits: Tensor = self.model(inputs[0])
        return logits.unsqueeze(0)

    @override
    def predict(self, inputs: Tensor) -> Iterator[Tensor]:
        self.model.eval()
        for part in inputs.split(min(_EVALUATION_BATCH, max(1, _EVALUATION_VALUES // inputs[0].numel()))):
            with torch.no_grad():
                outputs: Tensor = self.model(part)
            yield outputs.unsqueeze(0)

    @override
    def backward(self, value: Tensor, *, retain_graph: bool = False) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        value.backward(retain_graph=retain_graph)

    @override
    def gradient_norms(self) -> Tensor:
        gradients = [p.grad.flatten() for p in self.parameters if p.grad is not None]
        norm: Tensor = torch.linalg.vector_norm(torch.cat(gradients))
        return norm.unsqueeze(0)

    @override
    def update(self, step: int, steps: int) -> None:
        if self.spec.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.spec.clip)
        self.set_rate(step, steps)
        self.optimizer.step()

    def set_rate(self, step: int, steps: int) -> None:
        """Set the learning rate of step number ``step`` of ``steps``."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.spec.lr * schedule_factor(self.spec, step, steps)

    @override
    def keep(self, better: Tensor) -> None:
        if bool(better):
            self.kept = {name: value.clone() for name, value in self.model.state_dict().items()}

    @override
    def restore(self) -> None:
        self.model.load_state_dict(self.kept)

    @override
    def module(self, i: int) -> nn.Module:
        assert i == 0
        return self.model

    @override
    def optimizer_of(self, i: int, model: nn.Module) -> torch.optim.Optimizer:
        copied = torch_optimizer([p for p in model.parameters() if p.requires_grad], self.spec)
        copied.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        return copied


class StackedModels(Models):
    """M models of one shape as one batched model; slice m computes bit for bit what it would compute alone.

    ATen's elementwise loops round the last elements of a tensor, those that do not fill a vector, differently from the
    others. Slices are therefore padded to whole vectors: batches by rows, parameters by zeros at the end of each row of
    ``values``, which holds the parameters of one model.

    Args:
        models: modules without buffers; the first is kept as the pattern.
        specs: one per model, as `StackedOptimizer` takes them.
    """

    row_multiple = VECTOR

    def __init__(self, models: Sequence[nn.Module], specs: Sequence[OptimizerSpec]) -> None:
        self.base = models[0]
        state, buffers = stack_module_state(list(models))
        assert not buffers, "models with buffers are not stacked"
        self.shapes = {name: value.shape for name, value in state.items()}
        flat = torch.cat([value.detach().flatten(1) for value in state.values()], 1)
        self.padding = -flat.shape[1] % VECTOR
        self.values = F.pad(flat, (0, self.padding))
        self.gradient = torch.zeros_like(self.values)
        self.state = {name: part.requires_grad_() for name, part in self._parts(self.values).items()}
        self.optimizer = StackedOptimizer(self.values, specs)
        self.spec = specs[0]
        self.kept = self.values.clone()

    @override
    def logits(self, inputs: Tensor) -> Tensor:
        logits: Tensor = vmap(self._call)(self.state, inputs)
        return logits

    @override
    def predict(self, inputs: Tensor) -> Iterator[Tensor]:
        for part in inputs.split(_EVALUATION_ROWS):
            with torch.no_grad():
                yield self._predict(part)

    @override
    def backward(self, value: Tensor, *, retain_graph: bool = False) -> None:
        gradients = torch.autograd.grad(value, list(self.state.values()), retain_graph=retain_graph)
        for part, gradient in zip(self._parts(self.gradient).values(), gradients, strict=True):
            part.copy_(gradient)

    @override
    def gradient_norms(self) -> Tensor:
        return row_norms(self.gradient)

    @override
    def update(self, step: int, steps: int) -> None:
        self.optimizer.step(self.gradient, schedule_factor(self.spec, step, steps))

    @override
    def keep(self, better: Tensor) -> None:
        self.kept[better] = self.values[better]

    @override
    def restore(self) -> None:
        self.values.copy_(self.kept)

    @override
    def module(self, i: int) -> nn.Module:
        model = copy.deepcopy(self.base)
        model.load_state_dict({name: value[i] for name, value in self.state.items()})
        return model

    @override
    def optimizer_of(self, i: int, model: nn.Module) -> torch.optim.Optimizer:
        copied = torch_optimizer(list(model.parameters()), self.optimizer.specs[i])
        if self.optimizer.steps and self.spec.name != "sgd":
            state = zip(
                self._parts(self.optimizer.average).values(), self._parts(self.optimizer.square).values(), strict=True
            )
            for value, (average, square) in zip(model.parameters(), state, strict=True):
                steps = torch.tensor(float(self.optimizer.steps))
                copied.state[value] = {"step": steps, "exp_avg": average[i].clone(), "exp_avg_sq": square[i].clone()}
        return copied

    def _parts(self, flat: Tensor) -> dict[str, Tensor]:
        """The rows of a matrix like ``values`` by the names of the parameters, as views (M, ...)."""
        parts = flat.split([*(shape[1:].numel() for shape in self.shapes.values()), self.padding], 1)
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=False)}

    def _predict(self, inputs: Tensor) -> Tensor:
        padded = pad_rows(inputs, VECTOR)
        return self.logits(padded.expand(len(self.values), *padded.shape))[:, : len(inputs)]

    def _call(self, state: dict[str, Tensor], inputs: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.base, state, (inputs,))
        return logits
