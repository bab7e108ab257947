"""Sharpness: the largest eigenvalue of the Hessian, which gradient descent can hardly exceed."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from lossmith.autodiff.model_function import flat
from lossmith.autodiff.objective import Batch, LossFunction
from lossmith.dynamics.lanczos import Eigenvalues, eigenvalues
from lossmith.dynamics.operators import GaussNewton, Hessian, Scaled


def sharpness(
    model: nn.Module, loss: LossFunction, data: Batch | Iterable[Batch], *, tol: float = 1e-3, seed: int = 0
) -> Eigenvalues:
    """Compute the largest eigenvalue of the Hessian of the mean loss.

    Gradient descent with learning rate lr and momentum m oscillates where it exceeds 2 (1 + m) / lr; see `threshold`.

    Args:
        model: the model; it is called in the mode it is in, and stays as it is.
        loss: returns the mean loss of a batch.
        data: a batch ``(inputs, targets)``, or an iterable of batches that gives the same ones each time.
        tol: the relative residual at which the Lanczos algorithm stops.
        seed: of its first vector.

    Returns:
        The eigenvalue, with its eigenvector and residual.
    """
    return eigenvalues(Hessian(model, loss, data), tol=tol, seed=seed)


def threshold(optimizer: torch.optim.Optimizer) -> float:
    """Compute the sharpness above which an optimiser diverges on a quadratic loss.

    With momentum m and weight decay w it is

    * SGD: (2 + 2 m) / lr - w, and with Nesterov's momentum (2 + 2 m) / ((1 + 2 m) lr) - w;
    * Adam: (2 + 2 b1) / ((1 - b1) lr), and AdamW less (1 + b1) / (1 - b1) w, to be compared with the sharpness of
      `adam_preconditioned`.

    It is infinite at a learning rate of 0.

    Source: Cohen, Kaur, Li, Kolter and Talwalkar, "Gradient Descent on Neural Networks Typically Occurs at the Edge of
    Stability", 2021, arXiv 2103.00065; Adam: Cohen et al., "Adaptive Gradient Methods at the Edge of Stability", 2022,
    arXiv 2207.14484.

    Args:
        optimizer: one of `torch.optim.SGD`, `Adam` and `AdamW` with a single parameter group.

    Returns:
        The threshold at the present learning rate.

    Raises:
        ValueError: for other optimisers, several groups, dampening, or ``maximize``.
    """
    if len(optimizer.param_groups) != 1:
        raise ValueError(f"the optimiser has {len(optimizer.param_groups)} parameter groups: there is no one threshold")
    (group,) = optimizer.param_groups
    lr = float(group["lr"])
    if group.get("maximize"):
        raise ValueError("the optimiser maximises: it has no threshold")
    if isinstance(optimizer, torch.optim.SGD):
        momentum, damped = float(group["momentum"]), float(group["dampening"])
        if damped:
            raise ValueError("the threshold of SGD with dampening is not known: leave dampening at 0")
        slower = 1 + 2 * momentum if group["nesterov"] else 1.0
        return (2 + 2 * momentum) / (slower * lr) - float(group["weight_decay"]) if lr else math.inf
    if isinstance(optimizer, torch.optim.Adam):
        first = float(group["betas"][0])
        decay = float(group["weight_decay"]) if isinstance(optimizer, torch.optim.AdamW) else 0.0
        return (1 + first) / (1 - first) * (2 / lr - decay) if lr else math.inf
    raise ValueError(f"the threshold of {type(optimizer).__name__} is not known: use SGD, Adam or AdamW")


def adam_preconditioned(operator: Hessian | GaussNewton, optimizer: torch.optim.Adam) -> Scaled:
    """Precondition an operator as Adam does: P^-1/2 (A + w) P^-1/2.

    Adam divides its steps by P = sqrt(v) + eps, where v is the bias-corrected second moment of the gradients, with
    ``amsgrad`` the largest so far. Its weight decay w adds to the curvature; that of AdamW does not (w = 0), but lowers
    the `threshold`.

    With batch norm, look at the model in training mode: a bias that batch norm cancels there has a second moment of 0,
    and in evaluation mode a curvature that this divides by.

    Args:
        operator: A, of the model that is trained.
        optimizer: Adam or AdamW, after a step or more.

    Returns:
        The operator.

    Raises:
        ValueError: if the optimiser has taken no step with a parameter of the model.
    """
    group_of = {value: group for group in optimizer.param_groups for value in group["params"]}
    parameters = operator.function.parameters.values()
    if not any("exp_avg_sq" in optimizer.state.get(value, {}) for value in parameters):
        raise ValueError("the optimiser has taken no step with the model: precondition after its first step")
    scales, decays = [], []
    for value in parameters:
        group, state = group_of[value], optimizer.state.get(value)
        second = torch.zeros_like(value)  # of a parameter that no step needed
        if state:
            moment = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
            second = moment / (1 - group["betas"][1] ** float(state["step"]))
        scales.append((second.sqrt() + group["eps"]) ** -0.5)
        coupled = not isinstance(optimizer, torch.optim.AdamW)
        decays.append(torch.full_like(value, float(group["weight_decay"]) if coupled else 0.0))
    return Scaled(operator, flat(scales), shift=flat(decays))
