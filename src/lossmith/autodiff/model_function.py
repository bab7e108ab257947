"""A model as a function of one vector, that of its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lossmith.autodiff.calls import call


class ModelFunction:
    """A model as a function of those of its parameters that require a gradient.

    The model is called in the mode it is in, and its buffers stay as they are.

    Args:
        model: the model.

    Attributes:
        parameters: by name.
        size: the number of all their elements.
        dtype: of the parameters.
        device: of the parameters.

    Raises:
        ValueError: if no parameter requires a gradient, if parameters differ in dtype or device, or if a module draws
            random numbers (dropout in training mode).
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        if not self.parameters:
            raise ValueError("no parameter of the model requires a gradient")
        places = {(value.dtype, value.device) for value in self.parameters.values()}
        if len(places) > 1:
            raise ValueError(f"the parameters differ in dtype or device: {sorted(map(str, places))}")
        _refuse_randomness(model)
        ((self.dtype, self.device),) = places
        self.size = sum(value.numel() for value in self.parameters.values())

    def outputs(self, inputs: Any, at: Mapping[str, Tensor] | None = None) -> Tensor:
        """The model's outputs, with a graph to the parameters.

        Args:
            inputs: as `call` takes them.
            at: parameters and buffers by name that take the place of the model's own; buffers may be changed.

        Returns:
            The outputs.
        """
        buffers = {name: value.detach().clone() for name, value in self.model.named_buffers()}
        state = {**self.parameters, **buffers, **(at or {})}

        def forward(*args: Any, **kwargs: Any) -> Any:
            return functional_call(self.model, state, args, kwargs)

        return call(forward, inputs)

    def derivative(self, of: Tensor, along: Tensor | None = None, *, keep: bool = False) -> Tensor:
        """The derivative of a tensor by the parameters, as a vector; its graph is kept.

        Args:
            of: a scalar, or any tensor with ``along``.
            along: weights of the tensor's shape; the weighted sum is differentiated.
            keep: whether the derivative can be differentiated again.

        Returns:
            The derivative, shape (`size`,); zero where the tensor does not depend on a parameter.
        """
        parameters = list(self.parameters.values())
        return flat(torch.autograd.grad(of, parameters, along, True, keep, materialize_grads=True))


class Jacobian:
    """The derivatives of a tensor by the parameters of a model, known by products on both sides.

    Args:
        function: the model.
        of: the tensor, with a graph to the parameters.
    """

    def __init__(self, function: ModelFunction, of: Tensor) -> None:
        self.function, self.of = function, of
        # The product from the left is linear in its weights; differentiating by them gives the product from the right.
        self._left = torch.zeros_like(of, requires_grad=True)
        self._product = function.derivative(of, self._left, keep=True)

    def forward(self, vector: Tensor) -> Tensor:
        """The derivative along a vector (size,), of the tensor's shape."""
        (tangent,) = torch.autograd.grad(self._product, self._left, vector, retain_graph=True)
        return tangent

    def backward(self, weights: Tensor) -> Tensor:
        """The derivative of the sum of the tensor times weights of its shape, shape (size,)."""
        return self.function.derivative(self.of, weights)


def flat(values: Iterable[Tensor]) -> Tensor:
    """Tensors as one vector."""
    return torch.cat([value.reshape(-1) for value in values])


def state_of(module: nn.Module) -> tuple[object, ...]:
    """What differs as soon as a parameter or buffer of a module is changed or replaced, or its mode."""
    values = (*module.parameters(), *module.buffers())
    return (module.training, *((value.data_ptr(), value._version) for value in values))


def _refuse_randomness(model: nn.Module) -> None:
    for name, module in model.named_modules():
        drops = isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0
        drops |= isinstance(module, nn.RNNBase) and module.dropout > 0 and module.num_layers > 1
        if module.training and (drops or isinstance(module, nn.RReLU)):
            what = "RReLU" if isinstance(module, nn.RReLU) else "dropout"
            raise ValueError(f"the model draws random numbers ({name} is {what} in training mode): call model.eval()")
