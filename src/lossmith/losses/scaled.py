"""A loss times a number."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from torch import Tensor

from lossmith.losses.arguments import check_number
from lossmith.losses.base import ClassificationLoss, Prepared
from lossmith.losses.entries import Entries
from lossmith.losses.wrapper import Wrapper, checked_base
from lossmith.losses.written import times


class ScaledLoss(Wrapper, ClassificationLoss):
    """``factor`` times any classification loss: changes nothing but the size of its gradient.

    The common arguments (weight, reduction, ...) are those of the base. `lossmith.match_scale` finds the factor at
    which training starts with cross-entropy's gradient.

    Args:
        base: the loss to scale; ``None`` is cross-entropy.
        factor: a positive number, up to 1e30.

    Source: ours.
    """

    name = "scaled"

    def __init__(self, base: ClassificationLoss | None = None, factor: float = 1.0) -> None:
        base = checked_base(base)
        check_number("factor", factor, low=0.0, high=1e30, open_low=True)
        super().__init__(**{name: getattr(base, name) for name in inspect.signature(ClassificationLoss).parameters})
        self.base = base
        self.factor = float(factor)

    def bind(self, *, total_steps: int | None = None, class_counts: Sequence[float] | None = None) -> None:
        """See `Loss.bind`."""
        self.base.bind(total_steps=total_steps, class_counts=class_counts)

    def adjust(self, logits: Tensor) -> Tensor:
        """See `ClassificationLoss.adjust`."""
        return self.base.adjust(logits)

    def label_terms(self, prepared: Prepared, target: Tensor) -> Tensor:
        """See `ClassificationLoss.label_terms`."""
        return self.factor * self.base.label_terms(prepared, target)

    def soft_terms(self, prepared: Prepared, q: Tensor) -> Tensor:
        """See `ClassificationLoss.soft_terms`."""
        return self.factor * self.base.soft_terms(prepared, q)

    def binary_terms(self, prepared: Prepared, q: Tensor) -> Tensor:
        """See `ClassificationLoss.binary_terms`."""
        return self.factor * self.base.binary_terms(prepared, q)

    def linear_above(self, entries: Entries) -> float | Tensor | None:
        """See `ClassificationLoss.linear_above`."""
        return self.base.linear_above(entries)

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`."""
        inner = self.base.expression(y)
        return inner if inner is None or self.factor == 1 else f"{times(self.factor)}({inner})"
