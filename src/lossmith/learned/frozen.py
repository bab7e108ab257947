"""Learned losses after learning."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Unpack, cast

from torch import Tensor, nn
from typing_extensions import override

from lossmith.losses import ClassificationLoss
from lossmith.losses.base import CommonArguments
from lossmith.losses.loss import CallOptions, Implementation

_DIGITS: Final = 16  # hexadecimal digits of the file's SHA-256 in the text form


class FrozenLoss(ClassificationLoss):
    """A learned loss with fixed parameters: ``factor`` times the sum of its parts.

    A loss that was loaded from a file has the text form ``@path#digest``, where the digest is the beginning of the
    file's SHA-256; a comparison thus notices if the file changes. A loss that was never saved has no text form.

    Args:
        parts: the base loss, the learned network, or both. They share their common arguments, which this loss adopts,
            and their parameters are frozen.
        factor: the factor of the sum.
        source: path and digest of the file that the loss was loaded from.
    """

    name = "learned"
    kind = "classification"

    def __init__(self, parts: Sequence[ClassificationLoss], factor: float = 1.0, source: str | None = None) -> None:
        super().__init__(**common_arguments(parts[0], parts[0].implementation))
        self.parts = nn.ModuleList(parts)
        self.factor, self.source = float(factor), source
        self.requires_grad_(requires_grad=False)

    @override
    def evaluate(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        first, *rest = (part.evaluate(logits, target, **options) for part in self._parts())
        total: Tensor = sum(rest, start=first)
        return total if self.factor == 1 else self.factor * total

    @override
    def linear_above(self, limit: float) -> float | Tensor | None:
        return self._parts()[0].linear_above(limit)

    @override
    def bind(self, *, total_steps: int | None = None, class_counts: Sequence[float] | None = None) -> None:
        for part in self._parts():
            part.bind(total_steps=total_steps, class_counts=class_counts)

    @property
    @override
    def text(self) -> str:
        # `lossmith.create` does not know "learned", the text of a loss that was not saved.
        return self.name if self.source is None else f"@{self.source}"

    def _parts(self) -> list[ClassificationLoss]:
        return [part for part in self.parts if isinstance(part, ClassificationLoss)]


def common_arguments(loss: ClassificationLoss, implementation: Implementation) -> CommonArguments:
    """The common arguments of a loss, with another ``implementation``."""
    own = {name: getattr(loss, name) for name in CommonArguments.__annotations__}
    return cast("CommonArguments", own | {"implementation": implementation})


def source_of(path: str) -> str:
    """Append the beginning of a file's SHA-256 to its path, ``path#digest``, and check a digest that is there already.

    Raises:
        ValueError: if the digest does not match the file, or it is a folder.
        OSError: if the file cannot be read.
    """
    plain, _, digest = path.partition("#")
    if Path(plain).is_dir():
        raise ValueError("it is a folder: name a file in it, such as best.loss of a search")
    found = hashlib.sha256(Path(plain).read_bytes()).hexdigest()[:_DIGITS]
    if digest and digest != found:
        raise ValueError(f"the file has changed since, its digest is {found}")
    return f"{plain}#{found}"
