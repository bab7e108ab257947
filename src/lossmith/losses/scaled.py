"""A loss times a number."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from torch import Tensor
from typing_extensions import override

from lossmith.formulas.arithmetic import folded
from lossmith.formulas.expression import Expression, constant
from lossmith.losses.arguments import check_number
from lossmith.losses.base import ClassificationLoss
from lossmith.losses.entries import Entries, Prepared
from lossmith.losses.wrapper import Wrapper, checked_base


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

    @property
    @override
    def expression(self) -> Expression | None:  # type: ignore[override]  # the base's, whatever it is
        inner = self.base.expression
        return None if inner is None else folded("mul", constant(self.factor), inner)

    @override
    def bind(self, *, total_steps: int | None = None, class_counts: Sequence[float] | None = None) -> None:
        self.base.bind(total_steps=total_steps, class_counts=class_counts)

    @override
    def adjust(self, logits: Tensor) -> Tensor:
        return self.base.adjust(logits)

    @override
    def label_terms(self, prepared: Prepared, target: Tensor) -> Tensor:
        return self.factor * self.base.label_terms(prepared, target)

    @override
    def soft_terms(self, prepared: Prepared, q: Tensor) -> Tensor:
        return self.factor * self.base.soft_terms(prepared, q)

    @override
    def binary_terms(self, prepared: Prepared, q: Tensor) -> Tensor:
        return self.factor * self.base.binary_terms(prepared, q)

    @override
    def linear_above(self, entries: Entries) -> float | Tensor | None:
        return self.base.linear_above(entries)
