"""Which of the named losses a loss resembles most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from lossmith import losses
from lossmith.kernels.threads import one_thread
from lossmith.losses import ClassificationLoss, Loss
from lossmith.properties.shape import along_line
from lossmith.properties.subject import subject_of

POINTS: Final = 199
_ALIKE: Final = 1e-6


@dataclass(frozen=True)
class Nearest:
    """The named loss whose gradient is most like that of another, apart from a factor.

    Attributes:
        known: its text form.
        apart: root mean square of what is left of the gradient, relative to the gradient's own, at the best factor;
            over 199 probabilities of the target from .005 to .995, while the other classes share the rest evenly.
    """

    known: str
    apart: float

    @property
    def alike(self) -> bool:
        """Whether the two are the same there, but for a factor."""
        return self.apart < _ALIKE


def nearest(loss: Loss, num_classes: int = 10) -> Nearest | None:
    """Find the named loss that a loss resembles most in the gradient by the target's logit.

    Args:
        loss: a classification loss.
        num_classes: C, 2 or more.

    Returns:
        The nearest of about forty named losses; ``None`` where the gradient vanishes or is no number.

    Raises:
        ValueError: if it is no loss for that many classes.
    """
    with one_thread():
        own = _gradient(loss, num_classes)
        if own is None:
            return None
        found = []
        for known in _known():
            other = _gradient(known, num_classes)
            if other is not None:
                found.append(Nearest(known.text, float((own - (own @ other) * other).norm())))
    return min(found, key=lambda each: each.apart, default=None)


def _gradient(loss: Loss, num_classes: int) -> Tensor | None:
    """The gradient by the target's logit on a line of predictions, of length 1; ``None`` where there is none."""
    subject = subject_of(loss, num_classes)
    if not subject.of_class_0(torch.zeros(1, num_classes, dtype=torch.float64, requires_grad=True)).requires_grad:
        return None
    p = torch.linspace(0.005, 0.995, POINTS, dtype=torch.float64)
    gradient = -along_line(subject, p, num_classes)[1] * (1 - p)
    size = gradient.norm()
    return gradient / size if bool(size.isfinite()) and float(size) > 0 else None


def _known() -> list[ClassificationLoss]:
    """The simplest first: of two that fit equally well, the first is named."""
    return [
        losses.CrossEntropyLoss(),
        *(losses.LabelSmoothingLoss(epsilon) for epsilon in (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.4)),
        losses.BrierLoss(),
        losses.MeanAbsoluteErrorLoss(),
        losses.NextGenerationLoss(),
        *(losses.FocalLoss(gamma) for gamma in (0.5, 1.0, 2.0, 3.0, 5.0)),
        *(losses.GeneralizedCrossEntropyLoss(q) for q in (0.1, 0.3, 0.5, 0.7, 0.9)),
        *(losses.PolyLoss(epsilon) for epsilon in (-1.0, 1.0, 2.0, 5.0)),
        *(losses.RootedLogisticLoss(k) for k in (2.0, 3.0, 5.0, 8.0)),
        *(losses.TemperedCrossEntropyLoss(kappa) for kappa in (0.5, 1.0)),
        *(losses.TaylorCrossEntropyLoss(order) for order in (2, 4, 6)),
        losses.SymmetricCrossEntropyLoss(),
        losses.ParabolicLoss(),
        losses.CircleLoss(),
        losses.CosLoss(),
        losses.MLoss(),
        losses.LLoss(),
    ]
