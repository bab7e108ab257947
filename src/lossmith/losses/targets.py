"""Targets and weights brought to the shape and meaning the losses work with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lossmith.losses.entries import along


def check_labels(target: Tensor, num_classes: int, ignore_index: int) -> None:
    """Refuse class indices that name no class.

    Raises:
        IndexError: if there is one, as in `torch.nn.functional.cross_entropy`.
    """
    bad = (target != ignore_index) & ((target < 0) | (target >= num_classes))
    if bool(bad.any()):
        raise IndexError(
            f"label {target[bad][0].item()} is out of range: there are {num_classes} classes, labels are "
            f"0..{num_classes - 1} or ignore_index={ignore_index}"
        )


def broadcast_sample_weight(sample_weight: Tensor, samples: torch.Size) -> Tensor:
    """Bring sample weights of shape (N,) or (N, d1, ...) to the shape of the samples, (N, d1, ...).

    Raises:
        ValueError: if they have another shape.
    """
    if sample_weight.shape != samples and sample_weight.shape != samples[:1]:
        raise ValueError(
            f"sample_weight must have shape {tuple(samples)} or {tuple(samples[:1])}, not {tuple(sample_weight.shape)}"
        )
    if sample_weight.dim() < len(samples):
        return along(sample_weight, 0, len(samples)).expand(samples)
    return sample_weight


def smooth(q: Tensor, logits: Tensor, smoothing: float, dim: int) -> Tensor:
    """(1 - e) q + e/C, the second part over the classes whose logit is not -inf."""
    if not smoothing:
        return q
    return (1 - smoothing) * q + smoothing * uniform(logits, dim)


def smooth_binary(q: Tensor, smoothing: float) -> Tensor:
    """(1 - e) q + e/2, for yes-no targets."""
    return (1 - smoothing) * q + smoothing / 2 if smoothing else q


def uniform(logits: Tensor, dim: int) -> Tensor:
    """The uniform distribution over the classes whose logit is not -inf, in the logits' shape."""
    present = (logits != -math.inf).to(logits.dtype)
    return present / present.sum(dim, keepdim=True)
