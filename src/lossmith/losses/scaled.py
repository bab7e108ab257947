"""A loss times a number."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor
from typing_extensions import override

from lossmith.formulas.arithmetic import folded
from lossmith.formulas.expression import Expression, constant
from lossmith.losses.arguments import check_number
from lossmith.losses.base import ClassificationLoss, CommonArguments
from lossmith.losses.loss import CallOptions
from lossmith.losses.reductions import Fraction
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
        super().__init__(**{name: getattr(base, name) for name in CommonArguments.__annotations__})
        self.base = base
        self.factor = float(factor)
        self.kind = base.kind

    @property
    @override
    def expression(self) -> Expression | None:  # type: ignore[override]  # the base's, whatever it is
        inner = self.base.expression
        return None if inner is None else folded("mul", constant(self.factor), inner)

    @override
    def evaluate(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        return self.factor * super().evaluate(logits, target, **options)

    @override
    def fractions(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> tuple[Fraction, ...]:
        fractions = super().fractions(logits, target, **options)
        return tuple(Fraction(self.factor * values, masses) for values, masses in fractions)

    @override
    def linear_above(self, limit: float) -> float | Tensor | None:
        return self.base.linear_above(limit)
