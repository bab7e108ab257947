"""The derivative of an optimiser's step with respect to the gradient, as a linear map.

An optimiser of `torch.optim` turns the gradient g into new weights ``theta' = theta - U(g)``. A gradient v with respect
to the new weights pulls back to ``w = (dU/dg)^T v``, up to the sign. The map is elementwise for SGD, Adam and AdamW. It
is read off the optimiser's state right after the step. Clipping the gradient norm comes before it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]
Response = State | Tensor  # a single number if it is the same for all parameters

SUPPORTED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)


@dataclass(frozen=True)
class Clipped:
    """The effect of clipping the norm of the gradient: ``g' = r g`` with ``r = limit / (|g| + 1e-6) < 1``.

    Attributes:
        ratio: r.
        norm: |g| before clipping.
        direction: g / |g|, by parameter name.
    """

    ratio: Tensor
    norm: Tensor
    direction: State

    def transposed(self, v: State) -> State:
        """Compute ``(dg'/dg)^T v``; the map is symmetric."""
        v = {name: of for name, of in v.items() if name in self.direction}
        along = torch.stack([(self.direction[name] * of).sum() for name, of in v.items()]).sum()
        lost = along * self.ratio * self.norm / (self.norm + 1e-6)
        return {name: self.ratio * of - lost * self.direction[name] for name, of in v.items()}


def clip(parameters: State, limit: float) -> Clipped | None:
    """Clip the gradients in place as `torch.nn.utils.clip_grad_norm_` does.

    Returns:
        The effect of clipping; ``None`` if the norm was below the limit.
    """
    norm = torch.nn.utils.clip_grad_norm_(parameters.values(), limit)
    ratio = limit / (norm + 1e-6)
    if not bool(ratio < 1):
        return None
    gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    return Clipped(ratio, norm, {name: g / (ratio * norm) for name, g in gradients.items()})


def check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Reject optimisers whose step cannot be differentiated here.

    Raises:
        ValueError: if the optimiser is not one of `SUPPORTED` or uses an unsupported option.
    """
    if type(optimizer) not in SUPPORTED:
        known = ", ".join(cls.__name__ for cls in SUPPORTED)
        raise ValueError(f"the optimizer must be one of torch.optim's {known}, not {type(optimizer).__name__}")
    for group in optimizer.param_groups:
        for option in ("maximize", "amsgrad", "dampening"):
            if group.get(option):
                raise ValueError(f"the optimizer's {option}={group[option]} is not supported here: leave it out")


def response(optimizer: torch.optim.Optimizer, names: dict[int, str], before: State) -> Response:
    """Compute the elementwise ``dU/dg`` of the step just taken; the parameters still hold its gradients.

    ``names`` are the names of the parameters by `id`, ``before`` the parameters before the step by name.

    Returns:
        A scalar or a tensor of the parameter's shape for each parameter with a gradient, or one scalar if it is the
        same for all. Entries where Adam has seen only zero gradients are 0; its step is not differentiable there.
    """
    if isinstance(optimizer, torch.optim.SGD):
        return _of_sgd(optimizer, names)
    answers = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                name = names[id(parameter)]
                answers[name] = _of_adam(group, optimizer.state[parameter], parameter.grad, before[name])
    return answers


def _of_sgd(optimizer: torch.optim.SGD, names: dict[int, str]) -> Response:
    """``lr``, or with Nesterov's momentum ``(1 + mu) lr``."""
    rates = [float(group["lr"]) * (1 + group["momentum"] * group["nesterov"]) for group in optimizer.param_groups]
    trained = [[p for p in group["params"] if p.requires_grad] for group in optimizer.param_groups]
    first = next(p for group in trained for p in group)
    if len(set(rates)) == 1:
        return torch.full((), rates[0], dtype=first.dtype, device=first.device)
    return {
        names[id(p)]: torch.full((), rate, dtype=p.dtype, device=p.device)
        for rate, group in zip(rates, trained, strict=True)
        for p in group
    }


@torch.no_grad()
def _of_adam(group: dict[str, Any], state: dict[str, Any], gradient: Tensor, before: Tensor) -> Tensor:
    """``lr ((1 - b1) / (c1 D) - m (1 - b2) g / (c1 c2 sqrt(v / c2) D^2))`` with ``D = sqrt(v / c2) + eps``."""
    beta1, beta2 = (float(beta) for beta in group["betas"])
    step, rate = float(state["step"]), float(group["lr"])
    correction1, correction2 = 1 - beta1**step, 1 - beta2**step
    if group["weight_decay"] and not group.get("decoupled_weight_decay", False):
        gradient = gradient.add(before, alpha=group["weight_decay"])
    # The cost is passes over memory, one per call. Where v is 0, the infinity makes the result 0.
    root = F.threshold(state["exp_avg_sq"], 0.0, math.inf).sqrt_()
    answer = (state["exp_avg"] * gradient).div_(root)
    below = root.add_(group["eps"] * math.sqrt(correction2))  # sqrt(c2) D
    constant = answer.new_tensor(rate * (1 - beta1) * math.sqrt(correction2) / correction1)
    factor = -rate * (1 - beta2) * math.sqrt(correction2) / correction1
    known: Tensor = torch.addcdiv(constant, answer, below, value=factor, out=answer).div_(below)
    return known
