"""The oracle: algorithm 2's gradient by differentiating through the optimiser's step, written from its formulas."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

Update = Callable[[Tensor, Tensor, dict[str, Tensor]], Tensor]
State = dict[str, dict[str, Tensor]]


def sgd(lr: float, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False) -> Update:
    def update(theta: Tensor, g: Tensor, state: dict[str, Tensor]) -> Tensor:
        g = g + weight_decay * theta
        if momentum:
            buffer = momentum * state["buffer"] + g if "buffer" in state else g
            state["buffer"] = buffer
            g = g + momentum * buffer if nesterov else buffer
        return theta - lr * g

    return update


def adam(lr: float, weight_decay: float = 0.0, decoupled: bool = False) -> Update:
    b1, b2, eps = 0.9, 0.999, 1e-8

    def update(theta: Tensor, g: Tensor, state: dict[str, Tensor]) -> Tensor:
        t = state["t"] = state.get("t", torch.zeros(())) + 1
        if decoupled:
            theta = theta - lr * weight_decay * theta
        else:
            g = g + weight_decay * theta
        m = state["m"] = b1 * state.get("m", torch.zeros_like(g)) + (1 - b1) * g
        v = state["v"] = b2 * state.get("v", torch.zeros_like(g)) + (1 - b2) * g * g
        return theta - lr * (m / (1 - b1 ** t.item())) / ((v / (1 - b2 ** t.item())).sqrt() + eps)

    return update


class Unroll:
    """A model under training whose steps are differentiable functions of the loss's parameters.

    With a ``cap``, the loss's gradient in the logits is multiplied down to so many times cross-entropy's; with a cap of
    ``None`` it is multiplied, up or down, to cross-entropy's norm.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        update: Update,
        clip: float | None = None,
        cap: float | None = None,
    ) -> None:
        self.model, self.loss, self.update, self.clip, self.cap = model, loss, update, clip, cap
        self.theta = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.state: State = {name: {} for name in self.theta}
        self.has_clipped = False

    def forward(self, theta: dict[str, Tensor], x: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.model, theta, (x,))
        return logits

    def step(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """New weights, with their graph; the optimiser's state goes on without one."""
        theta = {name: value.detach().requires_grad_() for name, value in self.theta.items()}
        z = self.forward(theta, x)
        (slope,) = torch.autograd.grad(self.loss(z, y), z, create_graph=True)
        (of_cross_entropy,) = torch.autograd.grad(F.cross_entropy(z, y), z, retain_graph=True)
        gain = of_cross_entropy.norm() / slope.norm()
        if self.cap is not None:
            gain = (self.cap * gain).clamp(max=1)
        gradients = torch.autograd.grad(
            z, list(theta.values()), gain * slope, create_graph=True, materialize_grads=True
        )
        norm = torch.sqrt(sum((g * g).sum() for g in gradients))
        self.has_clipped = self.clip is not None and bool(norm > self.clip)
        if self.clip is not None:
            gradients = [g * (self.clip / (norm + 1e-6)).clamp(max=1) for g in gradients]
        new = {n: self.update(theta[n], g, self.state[n]) for n, g in zip(theta, gradients, strict=True)}
        self.theta = {name: value.detach() for name, value in new.items()}
        self.state = {n: {k: v.detach() for k, v in state.items()} for n, state in self.state.items()}
        return new

    def phi_gradient(self, x: Tensor, y: Tensor, x2: Tensor, y2: Tensor) -> list[Tensor]:
        """Take a step; the gradient of the task loss after it in the loss's parameters.

        The dropout masks of the task loss are those of the seed that the global generator would draw next.
        """
        new = self.step(x, y)
        torch.manual_seed(int(torch.randint(2**63 - 1, ())))
        task = F.cross_entropy(self.forward(new, x2), y2)
        return list(torch.autograd.grad(task, list(self.loss.parameters()), materialize_grads=True))
