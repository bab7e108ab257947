"""What a loss looks like: its value and its strictness as functions of the target's probability."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lossmith.losses import Loss
from lossmith.properties.subject import Subject, subject_of

_POINTS = 99
_MOST_ENTRIES = 100_000  # so that they stay in the cache


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


def loss_shape(loss: Loss, num_classes: int) -> Shape:
    """Evaluate a loss at p = .01, .02, ... .99 of the target, the other classes sharing the rest evenly.

    A dynamical loss is shown as its base.
    """
    p = torch.linspace(0.01, 0.99, _POINTS, dtype=torch.float64)
    value, strictness = along_line(subject_of(loss, num_classes), p, num_classes)
    return Shape(tuple(p.tolist()), tuple((value - value[-1]).tolist()), tuple(strictness.tolist()))


def along_line(subject: Subject, p: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """The loss, and its slope in the target's logit over cross-entropy's, where the target has probability p.

    p is float64, (N,), in (0, 1); the target is class 0, and the other classes share the rest evenly.
    """
    value, slope = along_gap(subject, p.logit() + math.log(num_classes - 1), num_classes)
    return value, -slope / (1 - p)


def along_gap(subject: Subject, gap: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """The loss and its slope where the target's logit exceeds all others, which are equal, by a gap; shapes (N,)."""
    values, slopes = [], []
    for part in gap.split(max(1, _MOST_ENTRIES // num_classes)):
        part = part.detach().requires_grad_()
        others = torch.zeros(len(part), num_classes - 1, dtype=gap.dtype)
        value = subject.of_class_0(torch.cat([part[:, None], others], 1))
        slopes += torch.autograd.grad(value.sum(), part)
        values.append(value.detach())
    return torch.cat(values), torch.cat(slopes)
