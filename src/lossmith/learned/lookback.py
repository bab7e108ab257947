"""The meta gradient: how the task loss after a training step depends on the parameters of the loss behind the step."""

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
"""Step length of the one-sided difference, relative to the norm of the weights.

A longer step suffers from curvature, a shorter one from rounding. ``benchmarks/adaptive.py`` printed these relative
errors of the meta gradient over 200 steps on digits (median, 95th percentile):

=========  ================  ================  ================
step size  small ResNet      MLP with SGD      MLP with Adam
=========  ================  ================  ================
1e-6       1e-2, 5e-2        3e-3, 2e-2        1e-2, 9e-2
2e-5       1.9e-3, 2.7e-2    2e-4, 1.3e-3      7e-4, 5e-3
1e-3       4e-2, 2.7e-1      3e-3, 2e-2        4e-3, 2e-2
=========  ================  ================  ================
"""


@dataclass
class LookBack:
    """A training step, recorded for the update of the loss that looks back on it.

    Attributes:
        inputs: inputs of the batch, or its first rows.
        target: their targets.
        weights: the parameters before the step, by name.
        buffers: the buffers before the step, by name.
        draws: the states of the random number generators before the step.
        response: ``dU/dg``, by name or one number for all parameters; see `lossmith.learned.response`.
        clipped: the effect of gradient clipping, if the gradient was clipped.
        gain: the factor of the loss in this step.
        gradients: the gradients of the loss with their graph, by name; for ``gradient="unroll"`` only.
        logits: the logits of the whole batch before the step; for ``gradient="difference"`` only.
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
        """Compute ``w = (dU/dg)^T v`` for the gradient v of the task loss at the new weights.

        Returns:
            A direction in weight space, by name, and a factor by which it remains to be multiplied (None for 1).
        """
        factor = self.response if isinstance(self.response, Tensor) else None
        if not isinstance(self.response, Tensor):
            v = {name: of * v[name] for name, of in self.response.items() if name in v}
        return v if self.clipped is None else self.clipped.transposed(v), factor

    def exact(self, model: Model, loss: nn.Module, phi: Sequence[Tensor], w: State) -> list[Tensor]:
        """Compute ``-d/dphi <g dM/dz, J w>`` for a loss M with gain g, its parameters phi and a direction w.

        It uses reverse mode if the gradients were recorded, otherwise forward mode.
        """
        if self.gradients is not None:
            held = [(self.gradients[name] * of).sum() for name, of in w.items() if name in self.gradients]
            return _negative(torch.stack(held).sum(), phi)
        with self.draws.again():
            logits, slope = model.slope_at(self.weights, self.buffers, w, self.inputs)
        return self._along(model, loss, phi, logits, slope)

    def by_difference(self, model: Model, loss: nn.Module, phi: Sequence[Tensor], w: State) -> list[Tensor]:
        """Compute the same as `exact` with a one-sided difference for ``J w``, which needs no graph or forward mode.

        The recorded weights are changed in place and cannot be used afterwards.
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
        """Return the record as plain containers of tensors, without copying."""
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
        """Restore a record from `to_state`."""
        draws = Draws(state["target"].device, state["draws"])
        clipped = None if state["clipped"] is None else Clipped(*state["clipped"])
        gain = None if state["gain"] is None else Gain(*state["gain"])
        return cls(**state | {"draws": draws, "clipped": clipped, "gain": gain})

    def _along(
        self, model: Model, loss: nn.Module, phi: Sequence[Tensor], logits: Tensor, direction: Tensor
    ) -> list[Tensor]:
        """Compute ``-d/dphi <g dM/dz, direction>`` at the logits."""
        z = logits.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(z, self.target), z, create_graph=True)
        if self.gain is not None:
            direction = self.gain.transposed(direction, slope.detach(), model.total)
        return _negative((slope * direction).sum(), phi)


def norm(tensors: Iterable[Tensor]) -> Tensor:
    """The Euclidean norm of several tensors taken as one vector."""
    whole: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(tensor) for tensor in tensors]))
    return whole


def _negative(inner: Tensor, phi: Sequence[Tensor]) -> list[Tensor]:
    gradients = torch.autograd.grad(inner, phi, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g.neg_() for p, g in zip(phi, gradients, strict=True)]
