"""From the losses of all samples to what a call returns."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lossmith.losses.entries import of_labels

Reduction = Literal["mean", "sum", "none"]


class Fraction(NamedTuple):
    """A mean that is not yet taken: the sum of ``values`` over the sum of ``masses``, both of one shape (N, ...)."""

    values: Tensor
    masses: Tensor


def reduced(terms: Tensor, reduction: Reduction, mass: float | Tensor, normalizer: float | Tensor | None) -> Tensor:
    """The losses, their sum, or their sum over ``normalizer``, else ``mass``, the sum of the weights; 0 over 0 is 0."""
    if reduction == "none":
        return terms
    total = terms.sum()
    if reduction == "sum":
        return total
    if normalizer is not None:
        mass = torch.as_tensor(normalizer, device=total.device)
    if isinstance(mass, Tensor):
        return total.where(mass != 0, 0.0) / mass.masked_fill(mass == 0, 1)
    return total / (mass or 1)


def mean_of_labels(
    terms: Tensor, target: Tensor, ignore_index: int, class_weight: Tensor | None, sample_weight: Tensor | None
) -> Tensor:
    """The sum of the weighted losses over the sum of the weights of all class indices that are not ignored."""
    mass = masses_of_labels(target, ignore_index, class_weight)
    if class_weight is None and sample_weight is None:
        return terms.sum() / mass.sum(dtype=terms.dtype).clamp(min=1)
    if sample_weight is not None:
        mass = mass * sample_weight
    return reduced(terms, "mean", mass.sum(), None)


def masses_of_labels(target: Tensor, ignore_index: int, class_weight: Tensor | None) -> Tensor:
    """What each class index adds to the divisor of the mean: its class weight or true; 0 where it is ignored."""
    valid = target != ignore_index
    return valid if class_weight is None else valid * of_labels(class_weight, target, ignore_index)
