"""Symmetric matrices that are known by their products with vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from typing_extensions import override

from lossmith.autodiff.model_function import Jacobian, ModelFunction
from lossmith.autodiff.objective import Batch, LossFunction, Objective

Product = Callable[[Tensor], Tensor]
"""A matrix, as the function that multiplies it with a vector."""


class Operator(Protocol):
    """A symmetric matrix.

    Attributes:
        size: the number of its rows.
        dtype: of the vectors that it takes and returns.
        device: of these vectors.
    """

    size: int
    dtype: torch.dtype
    device: torch.device

    def matvec(self, vector: Tensor) -> Tensor:
        """The product with a vector, both of shape (`size`,)."""


class _OfObjective(ABC):
    """A sum over the batches of an objective.

    Products differentiate, and take no finite differences, so that they are exact but for rounding: where a softmax is
    next to one-hot, float64 is needed. The graph of a single batch is kept from one product to the next, until the
    weights change; those of several batches are made anew each time, so that memory is that of one batch.

    Args:
        model: the model; it is called in the mode it is in, and stays as it is.
        loss: returns the mean loss of a batch, as any loss of ours or of PyTorch's.
        data: a batch ``(inputs, targets)``, or an iterable of batches that gives the same ones each time.

    Raises:
        ValueError: as `Objective`.
    """

    def __init__(self, model: nn.Module, loss: LossFunction, data: Batch | Iterable[Batch]) -> None:
        self.objective = Objective(model, loss, data)
        function = self.function = self.objective.function
        self.size, self.dtype, self.device = function.size, function.dtype, function.device
        self._kept: tuple[object, Product] | None = None

    def matvec(self, vector: Tensor) -> Tensor:
        """The product with a vector, both of shape (`size`,)."""
        state = self.objective.state
        if self._kept is not None and self._kept[0] == state:
            return self._kept[1](vector)
        total = torch.zeros_like(vector)
        for outputs, target in self.objective.batches():
            product = self._of_batch(outputs, target)
            total += product(vector)
            if self.objective.is_one_batch:
                self._kept = state, product
        return total

    @abstractmethod
    def _of_batch(self, outputs: Tensor, target: Tensor) -> Product:
        """The part of the matrix that a batch adds."""


class Hessian(_OfObjective):
    """The second derivatives of the mean loss by the parameters."""

    @override
    def _of_batch(self, outputs: Tensor, target: Tensor) -> Product:
        gradient = self.function.derivative(self.objective.term(outputs, target), keep=True)
        if not gradient.requires_grad:  # the loss is linear in the parameters
            return torch.zeros_like
        return lambda vector: self.function.derivative(gradient, vector)


class GaussNewton(_OfObjective):
    """The generalised Gauss-Newton matrix J^T H J.

    J holds the derivatives of the model's outputs by the parameters, and H the second derivatives of the mean loss by
    the outputs.
    """

    @override
    def _of_batch(self, outputs: Tensor, target: Tensor) -> Product:
        jacobian, leaf = Jacobian(self.function, outputs), outputs.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.objective.term(leaf, target), leaf, create_graph=True)
        if not slope.requires_grad:  # the loss is linear in the outputs
            return torch.zeros_like

        def product(vector: Tensor) -> Tensor:
            (bent,) = torch.autograd.grad(slope, leaf, jacobian.forward(vector), retain_graph=True)
            return jacobian.backward(bent)

        return product


class Fisher(_OfObjective):
    """The empirical Fisher matrix: the mean of g g^T over the samples, where g is the gradient of a sample's loss."""

    @override
    def _of_batch(self, outputs: Tensor, target: Tensor) -> Product:
        jacobian = Jacobian(self.function, self.objective.per_sample(outputs, target))
        return lambda vector: jacobian.backward(jacobian.forward(vector)) / self.objective.samples


class TangentKernel:
    """The neural tangent kernel J J^T of a model on some inputs, where J holds the derivatives of all outputs.

    See `tangent_kernel`, which returns the matrix itself.

    Args:
        model: the model; it is called in the mode it is in, and stays as it is.
        inputs: N samples, as the model takes them.
        kind: ``"full"``, with a row for each output of each sample; or ``"mean"``, of N rows: the mean over the C
            outputs of the kernel of one output.
    """

    def __init__(self, model: nn.Module, inputs: Any, kind: Literal["full", "mean"] = "mean") -> None:
        function = ModelFunction(model)
        outputs = function.outputs(inputs).flatten(1)
        parts = [outputs] if kind == "full" else list(outputs.unbind(1))
        self._jacobians = [Jacobian(function, part) for part in parts]
        self.size, self.dtype, self.device = parts[0].numel(), function.dtype, function.device

    def matvec(self, vector: Tensor) -> Tensor:
        """The product with a vector, both of shape (`size`,)."""
        products = [of.forward(of.backward(vector.view_as(of.of))).reshape(-1) for of in self._jacobians]
        return torch.stack(products).mean(0)


class Scaled:
    """S (A + D) S, where S and D are diagonal.

    Args:
        operator: A.
        scale: the diagonal of S, shape (size,).
        shift: the diagonal of D, shape (size,); ``None`` is 0.

    Raises:
        ValueError: if a diagonal is not of the operator's size.
    """

    def __init__(self, operator: Operator, scale: Tensor, shift: Tensor | None = None) -> None:
        for name, diagonal in (("scale", scale), ("shift", shift)):
            if diagonal is not None and diagonal.shape != (operator.size,):
                raise ValueError(f"the {name} has shape {tuple(diagonal.shape)}, and the operator {operator.size} rows")
        self.operator, self.scale, self.shift = operator, scale, shift
        self.size, self.dtype, self.device = operator.size, operator.dtype, operator.device

    def matvec(self, vector: Tensor) -> Tensor:
        """The product with a vector, both of shape (`size`,)."""
        inner = self.scale * vector
        product = self.operator.matvec(inner)
        return self.scale * (product if self.shift is None else product + self.shift * inner)


def dense(operator: Operator) -> Tensor:
    """The whole matrix, shape (size, size), by one product for each column."""
    columns = torch.eye(operator.size, dtype=operator.dtype, device=operator.device)
    return torch.stack([operator.matvec(column) for column in columns], 1)
