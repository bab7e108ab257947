"""Faster forward-mode rules for the operations that hold a model's weights.

PyTorch's own rules multiply by tangents that are zero, such as those of an input batch, and split batch norm into a
dozen passes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
import torch.autograd.forward_ad as fwd
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from typing_extensions import override


class Tangents(TorchFunctionMode):
    """A context in which linear layers, convolutions and batch norm in training mode use the rules of this module.

    PyTorch handles all other operations, and these where a rule does not apply.
    """

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        rule = None if "input" in kwargs else _RULES.get(func)
        found = None if rule is None else rule(func, *args, **kwargs)
        return func(*args, **kwargs) if found is None else found


def _linear_in_both(
    func: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **options: Any
) -> Tensor:
    """The rule of ``f(x, W) + b``, where f is linear in x and in W."""
    x, x_dot = fwd.unpack_dual(x)
    weight, weight_dot = fwd.unpack_dual(weight)
    bias, bias_dot = (None, None) if bias is None else fwd.unpack_dual(bias)
    value = func(x, weight, bias, *rest, **options)
    value_dot = None
    if x_dot is not None:
        value_dot = func(x_dot, weight, bias_dot, *rest, **options)
        bias_dot = None
    if weight_dot is not None:
        part = func(x, weight_dot, bias_dot, *rest, **options)
        bias_dot = None
        value_dot = part if value_dot is None else value_dot.add_(part)
    if bias_dot is not None:
        value_dot = func(torch.zeros_like(x), weight, bias_dot, *rest, **options)
    return value if value_dot is None else fwd.make_dual(value, value_dot)


def _batch_norm(
    func: Callable[..., Tensor],
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    """The rule of batch norm. Its Jacobian in x is symmetric, so the backward pass computes the forward tangent."""
    if not training or x.dtype not in {torch.float32, torch.float64}:
        return None
    x, x_dot = fwd.unpack_dual(x)
    weight, weight_dot = (None, None) if weight is None else fwd.unpack_dual(weight)
    bias, bias_dot = (None, None) if bias is None else fwd.unpack_dual(bias)
    statistics = (running_mean, running_var)
    value, mean, inverse = torch.native_batch_norm(x, weight, bias, *statistics, True, momentum, eps)
    value_dot = None
    if weight_dot is not None or bias_dot is not None:
        scale = torch.zeros_like(mean) if weight_dot is None else weight_dot
        value_dot = func(x, mean, inverse.pow(-2), scale, bias_dot, False, 0.0, 0.0)
    if x_dot is not None:
        (part, _, _) = torch.ops.aten.native_batch_norm_backward(
            x_dot, x, weight, *statistics, mean, inverse, True, eps, [True, False, False]
        )
        value_dot = part if value_dot is None else value_dot.add_(part)
    return value if value_dot is None else fwd.make_dual(value, value_dot)


_RULES: Final[dict[Any, Callable[..., Tensor | None]]] = {
    F.linear: _linear_in_both,
    F.conv1d: _linear_in_both,
    F.conv2d: _linear_in_both,
    F.conv3d: _linear_in_both,
    F.batch_norm: _batch_norm,
}
