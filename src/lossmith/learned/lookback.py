"""The gradient of a loss's parameters: what the task loss after a training step says of the loss that made the step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import torch
from torch import Tensor, nn

from lossmith.learned.passes import Draws, Model, State
from lossmith.learned.response import Clipped, Response
from lossmith.learned.scale import Gain

STEP_SIZE: Final = 2e-5
"""Of the one-sided difference: the step's length relative to the weights'.

A longer one is off by the curvature, a shorter one by rounding. Relative error of the gradient of the loss's parameters
over 200 steps on digits, median and 95 %, by ``benchmarks/adaptive.py``: at 2e-5 1.9e-3 and 2.7e-2 for a small ResNet,
2e-4 and 1.3e-3 for an MLP with SGD, 7e-4 and 5e-3 with Adam; at 1e-3 4e-2 and 2.7e-1, 3e-3 and 2e-2, 4e-3 and 2e-2; at
1e-6 1e-2 and 5e-2, 3e-3 and 2e-2, 1e-2 and 9e-2.
"""


@dataclass
class LookBack:
    """What an update of the loss has to know of the training step it looks back on.

    Attributes:
        inputs: the batch, or its first rows.
        target: likewise.
        weights: the parameters before the step, by name.
        buffers: likewise.
        draws: the random number generators before the step.
        response: ``dU/dg``, by name or one number for all; see `lossmith.learned.response`.
        clipped: what clipping the gradient did.
        gain: what the loss was multiplied by.
        gradients: of the loss, with their graph, by name; for the unroll alone.
        logits: of the whole batch before the step; for the difference alone.
    """

    inputs: Any
    target: Tensor
    weights: State
    buffers: State
    draws: Draws
    response: Response = field(default_factory=dict)
    clipped: Clipped | None = None
    gain: Gain | None = None
    gradients: State | None = None
    logits: Tensor | None = None

    def answer(self, v: State) -> tuple[State, Tensor | None]:
        """``w = (dU/dg)^T v``.

        Args:
            v: the task loss's gradient at the new weights, by name.

        Returns:
            A direction in weight space, by name, and what it is still to be multiplied by.
        """
        factor = self.response if isinstance(self.response, Tensor) else None
        if not isinstance(self.response, Tensor):
            v = {name: of * v[name] for name, of in self.response.items() if name in v}
        return v if self.clipped is None else self.clipped.transposed(v), factor

    def exact(self, model: Model, loss: nn.Module, phi: Sequence[Tensor], w: State) -> list[Tensor]:
        """``-d/dphi <g dM/dz, J w>``: by reverse mode through the gradients if they are at hand, else by forward mode.

        Args:
            model: the model.
            loss: M; g is the gain.
            phi: its parameters.
            w: a direction in weight space, by name.

        Returns:
            One gradient per parameter.
        """
        if self.gradients is not None:
            held = [(self.gradients[name] * of).sum() for name, of in w.items() if name in self.gradients]
            return _negative(torch.stack(held).sum(), phi)
        with self.draws.again():
            logits, slope = model.slope_at(self.weights, self.buffers, w, self.inputs)
        return self._along(model, loss, phi, logits, slope)

    def by_difference(self, model: Model, loss: nn.Module, phi: Sequence[Tensor], w: State) -> list[Tensor]:
        """As `exact`, with ``J w`` by a one-sided difference: one forward pass more, nothing recorded.

        The weights held here are moved, and good for nothing afterwards.
        """
        here = self.logits
        if here is None:
            with self.draws.again():
                here = model.at(self.weights, self.buffers, self.inputs)
        h = STEP_SIZE * norm(self.weights[name] for name in w) / norm(w.values()).clamp(min=1e-30)
        with torch.no_grad():
            for name, direction in w.items():
                self.weights[name].addcmul_(direction, h, value=-1)
        with self.draws.again():
            there = model.at(self.weights, self.buffers, self.inputs)
        return self._along(model, loss, phi, here, (here - there) / h)

    def to_state(self) -> dict[str, Any]:
        """Everything, as tensors in plain containers, not copied."""
        clipped = self.clipped
        return {
            "inputs": self.inputs,
            "target": self.target,
            "weights": self.weights,
            "buffers": self.buffers,
            "draws": self.draws.states,
            "response": self.response,
            "clipped": None if clipped is None else (clipped.ratio, clipped.norm, clipped.direction),
            "gain": None if self.gain is None else (self.gain.factor, self.gain.held),
            "logits": self.logits,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The inverse of `to_state`."""
        draws = Draws(state["target"].device, state["draws"])
        clipped = None if state["clipped"] is None else Clipped(*state["clipped"])
        gain = None if state["gain"] is None else Gain(*state["gain"])
        return cls(**state | {"draws": draws, "clipped": clipped, "gain": gain})

    def _along(
        self, model: Model, loss: nn.Module, phi: Sequence[Tensor], logits: Tensor, direction: Tensor
    ) -> list[Tensor]:
        """``-d/dphi <g dM/dz, direction>`` at the logits."""
        z = logits.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(z, self.target), z, create_graph=True)
        if self.gain is not None:
            direction = self.gain.transposed(direction, slope.detach(), model.total)
        return _negative((slope * direction).sum(), phi)


def norm(tensors: Iterable[Tensor]) -> Tensor:
    """The norm of several tensors as one vector."""
    whole: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors]))
    return whole


def _negative(inner: Tensor, phi: Sequence[Tensor]) -> list[Tensor]:
    gradients = torch.autograd.grad(inner, phi, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g.neg_() for p, g in zip(phi, gradients, strict=True)]
