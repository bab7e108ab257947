"""How large a loss's gradient is where training starts, and the loss scaled to cross-entropy's."""

from __future__ import annotations

import copy
import math
from typing import cast

import torch

from lossmith.losses import ClassificationLoss, DynamicalLoss, Loss, ScaledLoss
from lossmith.properties.subject import Subject, subject_of

_ROUNDING = 1e-14


def match_scale(loss: Loss, num_classes: int) -> Loss:
    """Scale a loss so that training starts with the gradient of cross-entropy: one learning rate then fits both.

    At the start a network gives all classes about the same probability; there the gradients on the logits get equal
    norms. A matched loss may still want another learning rate later on.

    Args:
        loss: a classification loss; it is copied, not changed.
        num_classes: C.

    Returns:
        ``scaled(loss):factor=...``, a drop-in as the loss was; around a dynamical loss's base, where there is one.

    Raises:
        ValueError: if the loss is none for classification, does not work with so many classes, or has no finite
            gradient at equal probabilities.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, not {num_classes}")
    if loss.kind != "classification":
        raise ValueError(f"{loss.text} is a loss for {loss.kind}: only classification losses can be matched")
    ratio = initial_gradient(subject_of(loss, num_classes), num_classes)
    if not 0 < ratio < math.inf:
        raise ValueError(f"{loss.text} cannot be matched: its gradient at equal probabilities is {ratio:g}")
    loss = copy.deepcopy(loss)
    if isinstance(loss, DynamicalLoss):
        loss.base = _scaled(loss.base, 1 / ratio)
        return loss
    return _scaled(loss, 1 / ratio)


def initial_gradient(subject: Subject, num_classes: int) -> float:
    """The norm of the gradient on the logits where all are equal, relative to cross-entropy's.

    Where classes differ it is the mean over the classes as targets, over the mean of their weights.
    """
    one = subject.symmetric or subject.binary
    logits = torch.zeros(1 if one else num_classes, num_classes, dtype=torch.float64, requires_grad=True)
    value = subject.of_class_0(logits) if one else subject.table(logits).diagonal()
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    weight = subject.loss.weight
    norm = gradient.norm(dim=1).mean() / (1.0 if weight is None else weight.double().mean())
    if norm <= _ROUNDING * value.detach().abs().max():
        return 0.0
    return float(norm) / math.sqrt((num_classes - 1) / num_classes)


def _scaled(loss: Loss, factor: float) -> ScaledLoss:
    if isinstance(loss, ScaledLoss):
        return _scaled(loss.base, factor * loss.factor)
    return ScaledLoss(cast("ClassificationLoss", loss), float(f"{factor:.8g}"))
