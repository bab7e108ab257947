"""Losses that stand around another loss."""

from __future__ import annotations

import inspect
from typing import Any

from typing_extensions import override

from lossmith.losses.base import ClassificationLoss, Loss
from lossmith.losses.cross_entropy import CrossEntropyLoss
from lossmith.losses.text import LossText, parse_loss


class Wrapper(Loss):
    """A loss around a classification loss: its text form holds that loss in brackets, ``name(base):arguments``."""

    base: ClassificationLoss

    @classmethod
    @override
    def defaults(cls) -> dict[str, Any]:
        parameters = inspect.signature(cls).parameters.values()
        return {p.name: p.default for p in parameters if p.name != "base"}

    @override
    def step(self) -> None:
        self.base.step()

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
