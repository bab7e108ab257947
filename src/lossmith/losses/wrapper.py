"""Losses that stand around another loss."""

from __future__ import annotations

import inspect
from typing import Any

from lossmith.losses.base import ClassificationLoss, Loss
from lossmith.losses.cross_entropy import CrossEntropyLoss
from lossmith.losses.text import LossText, parse_loss


class Wrapper(Loss):
    """A loss around a classification loss: its text form holds that loss in brackets, ``name(base):arguments``."""

    base: ClassificationLoss

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The wrapper's own constructor arguments, without ``base``, which the text form puts in brackets."""
        parameters = inspect.signature(cls).parameters.values()
        return {p.name: p.default for p in parameters if p.name != "base"}

    def step(self) -> None:
        """Count one optimiser step of the base; see `Loss.step`."""
        self.base.step()

    @property
    def text(self) -> str:
        """The canonical text form; the base is left out if it is plain cross-entropy."""
        own = parse_loss(super().text)
        inner = self.base.text
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
