"""Weighted sums of losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor, nn
from typing_extensions import override

from lossmith.formulas.arithmetic import folded
from lossmith.formulas.expression import Expression, constant
from lossmith.losses.arguments import check_number
from lossmith.losses.base import ClassificationLoss
from lossmith.losses.loss import CallOptions
from lossmith.losses.reductions import Fraction
from lossmith.losses.text import SUM, Term, sum_text
from lossmith.losses.wrapper import checked_base

_SHARED = ("ignore_index", "reduction", "task")


class SumLoss(ClassificationLoss):
    """A weighted sum of classification losses, such as ``0.5*cross_entropy+0.5*soft_dice``.

    Each loss is reduced as if it stood alone, then multiplied by its factor and added. Class weights and label
    smoothing are arguments of the losses, not of the sum.

    Args:
        losses: the losses; they agree in ``ignore_index``, ``reduction`` and ``task``.
        factors: their factors, positive numbers up to 1e30; ``None`` is 1 for each.

    Raises:
        ValueError: if a loss is none of Lossmith's classification losses, or the losses do not agree.

    Source: ours; the sum of cross-entropy and soft Dice is common practice in segmentation.
    """

    name = SUM

    def __init__(self, losses: Sequence[ClassificationLoss], factors: Sequence[float] | None = None) -> None:
        losses = [checked_base(loss) for loss in losses]
        factors = [1.0] * len(losses) if factors is None else list(factors)
        if not losses or len(losses) != len(factors):
            raise ValueError(f"a sum needs a factor for each loss, not {len(factors)} for {len(losses)}")
        for name in _SHARED:
            if len({getattr(loss, name) for loss in losses}) > 1:
                raise ValueError(f"the losses of a sum need one {name}: give all of them the same")
        for factor in factors:
            check_number("factor", factor, low=0.0, high=1e30, open_low=True)
        super().__init__(**{name: getattr(losses[0], name) for name in _SHARED})
        self.losses = nn.ModuleList(losses)
        self.factors = tuple(map(float, factors))
        self.kind = next((loss.kind for loss in losses if loss.kind != "classification"), "classification")

    @property
    def terms(self) -> list[tuple[float, ClassificationLoss]]:
        """The factors and the losses."""
        losses = [loss for loss in self.losses if isinstance(loss, ClassificationLoss)]
        return list(zip(self.factors, losses, strict=True))

    @property
    @override
    def text(self) -> str:
        return str(sum_text([Term(factor, loss.text) for factor, loss in self.terms]))

    @property
    @override
    def expression(self) -> Expression | None:  # type: ignore[override]  # of the losses, whatever they are
        total: Expression | None = None
        for factor, loss in self.terms:
            own = loss.expression
            if own is None or own.depends_on("t") or loss.weight is not None or loss.label_smoothing:
                return None
            own = own if factor == 1 else folded("mul", constant(factor), own)
            total = own if total is None else folded("add", total, own)
        return total

    @override
    def evaluate(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        values = [factor * loss.evaluate(logits, target, **options) for factor, loss in self.terms]
        if len({value.shape for value in values}) > 1:
            raise ValueError(f"{self.text} adds losses of images to losses of pixels, which only reduction='mean' does")
        return torch.stack(values).sum(0) if len(values) > 1 else values[0]

    @override
    def fractions(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> tuple[Fraction, ...]:
        return tuple(
            Fraction(factor * fraction.values, fraction.masses)
            for factor, loss in self.terms
            for fraction in loss.fractions(logits, target, **options)
        )

    @override
    def linear_above(self, limit: float) -> float | Tensor | None:
        found = [above for _, loss in self.terms if (above := loss.linear_above(limit)) is not None]
        if not any(isinstance(above, Tensor) for above in found):
            return min(map(float, found), default=None)
        return torch.stack(torch.broadcast_tensors(*map(torch.as_tensor, found))).amin(0)

    @override
    def bind(self, *, total_steps: int | None = None, class_counts: Sequence[float] | None = None) -> None:
        for _, loss in self.terms:
            loss.bind(total_steps=total_steps, class_counts=class_counts)

    @override
    def step(self) -> None:
        for _, loss in self.terms:
            loss.step()
