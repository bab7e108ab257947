"""What a loss looks like: its value and its strictness as functions of the target's probability."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lossmith.catalog import create
from lossmith.losses import ClassificationLoss, DynamicalLoss

_POINTS = 99


@dataclass(frozen=True)
class Shape:
    """A loss along the line on which the other classes share evenly.

    Args:
        p: probability of the target, ascending in (0, 1).
        loss: the loss less its value at the last point.
        strictness: gradient on the target's logit relative to cross-entropy's; 1 for cross-entropy.
    """

    p: tuple[float, ...]
    loss: tuple[float, ...]
    strictness: tuple[float, ...]


def loss_shape(text: str, num_classes: int) -> Shape:
    """Evaluate a loss where the target has probability p and the other classes share the rest evenly.

    Args:
        text: text form of a classification loss; a dynamical loss is shown as its base.
        num_classes: C.

    Returns:
        The shape at p = .01, .02, ... .99.
    """
    loss = create(text)
    assert isinstance(loss, (ClassificationLoss, DynamicalLoss))
    loss.bind(class_counts=[1.0] * num_classes)
    base = loss.base if isinstance(loss, DynamicalLoss) else loss
    base.reduction = "none"
    p = torch.linspace(0.01, 0.99, _POINTS, dtype=torch.float64)
    target_logit = (p.log() - ((1 - p) / (num_classes - 1)).log()).requires_grad_()
    logits = torch.cat([target_logit[:, None], torch.zeros(_POINTS, num_classes - 1, dtype=torch.float64)], 1)
    value = base(logits, torch.zeros(_POINTS, dtype=torch.int64))
    (slope,) = torch.autograd.grad(value.sum(), target_logit)
    value = value.detach()
    return Shape(tuple(p.tolist()), tuple((value - value[-1]).tolist()), tuple((-slope / (1 - p)).tolist()))
