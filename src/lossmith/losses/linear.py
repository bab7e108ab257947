"""The classifier's last layer and a loss in one call."""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.losses.base import ClassificationLoss
from lossmith.losses.entries import Entries, log_slope_limit
from lossmith.losses.fused import linear_sum
from lossmith.losses.reductions import mean_of_labels, reduced
from lossmith.losses.shapes import TargetLoss
from lossmith.losses.targets import check_labels


def linear_loss(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    loss: TargetLoss,
    *,
    bias: Tensor | None = None,
    sample_weight: Tensor | None = None,
    normalizer: float | Tensor | None = None,
) -> Tensor:
    """``loss(hidden @ weight.T + bias, target)`` for a target loss, without ever holding all logits.

    The logits of a chunk of rows are overwritten by their own gradient, which is multiplied into the gradients of
    hidden, weight and bias within the forward pass. These have first derivatives only, once a call; whatever else the
    loss depends on (sample weights, class weights, its own parameters, the normalizer) is differentiated as usual.
    Under `torch.compile` the logits are computed again in the backward pass. Under autocast the matrix products have
    its dtype.

    Args:
        hidden: the last layer's input, shape (..., D).
        weight: the last layer's weight, shape (C, D).
        target: class indices, shape (...).
        loss: a loss of the target's cross-entropy alone (`TargetLoss`), with ``reduction`` mean or sum.
        bias: shape (C,) or None.
        sample_weight: weight of each sample, shape (...).
        normalizer: the divisor of the mean; see `ClassificationLoss.forward`.

    Returns:
        A scalar; float32 for half-precision inputs.

    Raises:
        ValueError: if the loss is of another shape, has another reduction or smooths labels, or shapes do not fit.
        IndexError: if a target is out of range.
    """
    _check_loss(loss, len(weight), normalizer)
    _check_shapes(hidden, weight, target, bias, sample_weight)
    if torch.is_autocast_enabled(hidden.device.type):
        narrow = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight, bias = hidden.to(narrow), weight.to(narrow), None if bias is None else bias.to(narrow)
    samples, labels = hidden.flatten(0, -2), target.flatten().long()
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    entries = Entries(len(weight), labels, loss.ignore_index, 1, log_slope_limit(hidden.dtype))
    class_weight = None if loss.weight is None else loss.weight.to(dtype)
    weights = None if sample_weight is None else sample_weight.flatten().to(dtype)

    def per_row(c: Tensor, part: slice) -> Tensor:
        own = None if weights is None else weights[part]
        return loss.terms_of(c, labels[part], entries._replace(labels=labels[part]), class_weight, own)

    try:
        total = linear_sum(samples, weight, bias, labels, loss.ignore_index, per_row)
    except (IndexError, RuntimeError):
        check_labels(labels, len(weight), loss.ignore_index)
        raise
    if loss.reduction != "mean" or normalizer is not None:
        return reduced(total, loss.reduction, 1.0, normalizer)
    return mean_of_labels(total, labels, loss.ignore_index, class_weight, weights)


def _check_loss(loss: TargetLoss, num_classes: int, normalizer: float | Tensor | None) -> None:
    if not isinstance(loss, TargetLoss):
        raise ValueError(f"linear_loss takes a loss of the target's cross-entropy alone, which {loss!r} is not")
    if loss.reduction == "none":
        raise ValueError("linear_loss sums as it goes: make the loss with reduction='mean' or 'sum'")
    if loss.label_smoothing:
        raise ValueError("linear_loss sees the target's logit alone: label_smoothing needs all of them")
    if loss.task == "binary" or type(loss).adjust is not ClassificationLoss.adjust:
        raise ValueError(f"linear_loss cannot honour {loss!r}: apply it to the whole logits")
    if loss.weight is not None and len(loss.weight) != num_classes:
        raise ValueError(f"weight has {len(loss.weight)} values, but there are {num_classes} classes")
    if normalizer is not None and loss.reduction != "mean":
        raise ValueError(f"normalizer divides the mean and has no meaning with reduction={loss.reduction!r}")


def _check_shapes(
    hidden: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None, sample_weight: Tensor | None
) -> None:
    if weight.dim() != 2 or hidden.dim() < 2 or hidden.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"hidden {tuple(hidden.shape)} and weight {tuple(weight.shape)} must have shapes (..., D) and (C, D)"
        )
    samples = hidden.shape[:-1]
    if hidden.dtype != weight.dtype and not torch.is_autocast_enabled(hidden.device.type):
        raise ValueError(f"hidden and weight must have one dtype, not {hidden.dtype} and {weight.dtype}")
    if target.shape != samples or target.is_floating_point():
        raise ValueError(
            f"target must hold class indices of shape {tuple(samples)}, not {target.dtype} of {tuple(target.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must have shape {tuple(weight.shape[:1])}, not {tuple(bias.shape)}")
    if sample_weight is not None and sample_weight.shape != samples:
        raise ValueError(f"sample_weight must have shape {tuple(samples)}, not {tuple(sample_weight.shape)}")
