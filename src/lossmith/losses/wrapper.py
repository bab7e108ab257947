"""Losses that stand around another loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from torch import Tensor
from typing_extensions import override

from lossmith.losses.arguments import defaults_of
from lossmith.losses.base import ClassificationLoss
from lossmith.losses.cross_entropy import CrossEntropyLoss
from lossmith.losses.loss import CallOptions, LogitLoss
from lossmith.losses.reductions import Fraction
from lossmith.losses.text import LossText, parse_loss


class Wrapper(LogitLoss):
    """A loss around a classification loss: its text form holds that loss in brackets, ``name(base):arguments``."""

    base: ClassificationLoss

    @classmethod
    @override
    def defaults(cls) -> dict[str, Any]:
        return {name: default for name, default in defaults_of(cls).items() if name != "base"}

    @override
    def evaluate(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        return self.base.evaluate(logits, target, **options)

    @override
    def fractions(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> tuple[Fraction, ...]:
        return self.base.fractions(logits, target, **options)

    @override
    def bind(self, *, total_steps: int | None = None, class_counts: Sequence[float] | None = None) -> None:
        self.base.bind(total_steps=total_steps, class_counts=class_counts)

    @override
    def step(self) -> None:
        self.base.step()

    def extended(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mask of the samples in the base's tangent extension; see `ClassificationLoss.extended`."""
        return self.base.extended(logits, target)

    @property
    @override
    def text(self) -> str:
        own = parse_loss(super().text)
        inner = self.base.text
        # The base is left out if it is plain cross-entropy.
        return str(LossText(self.name, None if inner == CrossEntropyLoss.name else inner, own.arguments))


def checked_base(base: ClassificationLoss | None) -> ClassificationLoss:
    """The loss to wrap: cross-entropy for ``None``.

    Raises:
        ValueError: if it is none of Lossmith's classification losses.
    """
    base = CrossEntropyLoss() if base is None else base
    if not isinstance(base, ClassificationLoss):
        raise ValueError(f"base must be one of Lossmith's classification losses, not {type(base).__name__}")
    return base
