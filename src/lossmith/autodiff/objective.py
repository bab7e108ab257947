"""The mean loss on given data, as a function of the model's parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.autodiff.model_function import ModelFunction, state_of
from lossmith.losses.cross_entropy import CrossEntropyLoss
from lossmith.losses.loss import LogitLoss, Loss
from lossmith.losses.reductions import Fraction
from lossmith.losses.regression import RegressionLoss

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""Takes outputs and targets of a batch, and returns their mean loss: any loss of ours or of PyTorch's."""
Batch = tuple[Any, Tensor]
"""Inputs, as `ModelFunction.outputs` takes them, and targets, both with the samples along the first dimension."""


class Objective:
    """The mean loss of a model on all its data.

    The mean is that of one batch that holds all samples: batches are summed before they are divided by the weights of
    all samples.

    Args:
        model: the model.
        loss: returns the mean loss of a batch. Our losses and `torch.nn.CrossEntropyLoss` may have class weights and
            ignored labels; of other losses, the mean over the batches weights each by its number of samples.
        data: a batch ``(inputs, targets)``, or an iterable of batches that gives the same ones each time.

    Attributes:
        function: the model as a function.
        samples: the number of samples in the data.

    Raises:
        ValueError: as `ModelFunction`; if there are no data, if they can be gone through once only, or if the loss does
            not return a mean.
    """

    def __init__(self, model: nn.Module, loss: LossFunction, data: Batch | Iterable[Batch]) -> None:
        self.function, self.loss = ModelFunction(model), _checked(loss)
        self._data: Iterable[Batch] = [data] if _is_batch(data) else data  # type: ignore[list-item,assignment]
        if isinstance(self._data, Iterator):
            raise ValueError("the data can be gone through once only: give a list of batches or a DataLoader")
        self.samples = 0
        self._masses = self._divisors()

    @property
    def is_one_batch(self) -> bool:
        """Whether there is one batch only."""
        return isinstance(self._data, list) and len(self._data) == 1

    @property
    def state(self) -> tuple[object, ...]:
        """What differs as soon as the model or the loss is changed."""
        loss = state_of(self.loss) if isinstance(self.loss, nn.Module) else ()
        return state_of(self.function.model) + loss

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The outputs, with a graph to the parameters, and the targets of each batch."""
        for inputs, target in self._data:
            yield self.function.outputs(inputs), target

    def value(self, at: Mapping[str, Tensor] | None = None) -> float:
        """The mean loss, of the model or at other parameters and buffers, which `ModelFunction.outputs` takes."""
        with torch.no_grad():
            terms = (self.term(self.function.outputs(inputs, at), target) for inputs, target in self._data)
            return float(sum(term.double() for term in terms))

    def term(self, outputs: Tensor, target: Tensor) -> Tensor:
        """What a batch adds to the mean loss, a scalar."""
        fractions = zip(self._fractions(outputs, target), self._masses, strict=True)
        return sum((of.values.sum() / mass for of, mass in fractions), start=outputs.new_zeros(()))

    def per_sample(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The loss of each sample of a batch, shape (N,), scaled so that `term` is their sum over `samples`."""
        if not isinstance(self.loss, Loss):
            losses: Tensor = torch.vmap(lambda row, label: self.loss(row[None], label[None]))(outputs, target)
            return losses
        fractions = zip(self._fractions(outputs, target), self._masses, strict=True)
        rows = (of.values.reshape(len(target), -1).sum(1) / mass for of, mass in fractions)
        return self.samples * sum(rows, start=outputs.new_zeros(len(target)))

    def _fractions(self, outputs: Tensor, target: Tensor) -> tuple[Fraction, ...]:
        """The loss of a batch as sums, and what each of them adds to its divisor."""
        loss = self.loss
        if isinstance(loss, RegressionLoss) or (isinstance(loss, LogitLoss) and not target.is_floating_point()):
            return loss.fractions(outputs, target)
        if isinstance(loss, LogitLoss):
            values = loss.per_sample(outputs, target)
            return (Fraction(values, torch.ones_like(values)),)
        count = outputs.new_tensor(len(target))
        return (Fraction(count * loss(outputs, target), count),)

    def _divisors(self) -> list[Tensor]:
        """What the sums over all batches are divided by."""
        found: list[list[Tensor]] = []
        with torch.no_grad():
            for outputs, target in self.batches():
                self.samples += len(target)
                found.append([of.masses.sum(dtype=outputs.dtype) for of in self._fractions(outputs, target)])
        if not found:
            raise ValueError("the data hold no batch: give (inputs, targets), or a list or loader of these")
        return [torch.stack(of).sum() for of in zip(*found, strict=True)]


def _checked(loss: LossFunction) -> LossFunction:
    """A loss that returns a mean; PyTorch's cross-entropy as ours, which tells its sum from what it is divided by."""
    reduction = getattr(loss, "reduction", "mean")
    if reduction != "mean":
        raise ValueError(f"the loss has reduction={reduction!r}: give one that returns the mean of a batch")
    if type(loss) is nn.CrossEntropyLoss:
        return CrossEntropyLoss(
            weight=loss.weight, ignore_index=loss.ignore_index, label_smoothing=loss.label_smoothing
        )
    return loss


def _is_batch(data: Any) -> bool:
    return isinstance(data, tuple | list) and len(data) == 2 and isinstance(data[1], Tensor)
