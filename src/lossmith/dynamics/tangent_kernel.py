"""The neural tangent kernel: how an update by one sample's gradient moves the outputs for another."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from lossmith.autodiff.model_function import ModelFunction

Kind = Literal["full", "mean", "class"]


def tangent_kernel(model: nn.Module, inputs: Tensor, others: Tensor | None = None, *, kind: Kind = "mean") -> Tensor:
    r"""Compute the empirical neural tangent kernel of a model.

    With the derivatives J_c(x) of output c by all parameters that require a gradient, the kernel is

        Theta(x, x')[c, c'] = J_c(x) . J_c'(x').

    Args:
        model: the model; its outputs have the shape (N, C), and those of a sample depend on that sample alone.
        inputs: samples x, shape (N, ...).
        others: samples x', shape (M, ...); ``None``: the same.
        kind: ``"full"``; ``"mean"``, the mean of Theta[c, c] over the outputs; or ``"class"``, Theta[c, c] for each.

    Returns:
        The kernel, of shape (N, C, M, C), (N, M) or (C, N, M).
    """
    left = _jacobian(model, inputs)
    right = left if others is None else _jacobian(model, others)
    if kind == "full":
        return torch.einsum("ncp,mdp->ncmd", left, right)
    each = torch.einsum("ncp,mcp->cnm", left, right)
    return each if kind == "class" else each.mean(0)


def _jacobian(model: nn.Module, inputs: Tensor) -> Tensor:
    """The derivatives of each sample's outputs, shape (N, C, P)."""
    function = ModelFunction(model)
    fixed = {name: value.detach() for name, value in (*model.named_parameters(), *model.named_buffers())}

    def outputs(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
        rows: Tensor = functional_call(model, fixed | parameters, (row[None],))
        return rows[0]

    own = {name: value.detach() for name, value in function.parameters.items()}
    parts = vmap(jacrev(outputs), (None, 0))(own, inputs)
    return torch.cat([part.flatten(2) for part in parts.values()], 2)
