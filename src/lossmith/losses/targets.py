"""Targets and weights: refused where they do not fit, and brought to the shape the losses work with."""

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


def check_call(logits: Tensor, target: Tensor, *, binary: bool, ignore_index: int) -> None:
    """Refuse logits and targets that do not fit together.

    Raises:
        ValueError: by their shapes or dtypes.
    """
    if not logits.is_floating_point():
        raise ValueError(f"logits must be floating, not {logits.dtype}")
    if target.is_floating_point():
        if target.shape != logits.shape:
            raise ValueError(
                f"floating targets must have the logits' shape {tuple(logits.shape)}, not {tuple(target.shape)}"
            )
        if ignore_index >= 0:
            raise ValueError(f"ignore_index={ignore_index} needs class indices as targets, not probabilities")
        return
    if binary:
        raise ValueError(f"task='binary' needs floating targets, not {target.dtype}")
    if target.dtype == torch.bool or target.is_complex():
        raise ValueError(f"class indices must be integers, not {target.dtype}")
    dims = logits.dim()
    expected = logits.shape[:1] + logits.shape[2:] if dims > 2 else logits.shape[: dims - 1]
    if dims == 0 or target.shape != expected:
        raise ValueError(
            f"class indices for logits of shape {tuple(logits.shape)} must have shape {tuple(expected)}, "
            f"not {tuple(target.shape)}"
        )


def check_values(target: Tensor, num_classes: int, ignore_index: int, *, binary: bool) -> None:
    """Refuse the first bad value of the targets; costs a pass over them.

    Raises:
        ValueError: if a probability is negative, infinite or no number, or above 1 for a yes-no question.
        IndexError: if a class index names no class.
    """
    if not target.is_floating_point():
        check_labels(target, num_classes, ignore_index)
        return
    bad = ~((target >= 0) & (target <= (1.0 if binary else math.inf))) | target.isinf()
    if bool(bad.any()):
        bounds = "in [0, 1]" if binary else "finite and >= 0"
        raise ValueError(f"target probabilities must be {bounds}, found {target[bad][0].item()}")


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
