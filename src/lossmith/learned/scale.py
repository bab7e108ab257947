"""How large the step of a learned loss is: that of its base, or what the loss learns, up to a cap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, get_args

import torch
from torch import Tensor

from lossmith.losses.arguments import check_choice, check_number

Scale = Literal["fixed", "learned"]

MAX_SCALE: Final = 10.0
"""The cap on a learned scale where none is given."""
_TINY: Final = 1e-30


def cap_on_scale(scale: Scale, max_scale: float | None) -> float | None:
    """The cap on the effective scale: ``None`` for a fixed scale, `MAX_SCALE` for a learned one without its own.

    Raises:
        ValueError: if one of the two is not allowed, or they do not go together.
    """
    check_choice("scale", scale, get_args(Scale))
    if scale == "fixed" and max_scale is not None:
        raise ValueError("max_scale caps a learned scale, and this one is fixed: add scale='learned', or leave it out")
    if scale == "fixed":
        return None
    if max_scale is None:
        return MAX_SCALE
    check_number("max_scale", max_scale, low=1e-6)
    return float(max_scale)


@dataclass(frozen=True)
class Gain:
    """What a loss was multiplied by in one step: its gradient s in the logits became ``s' = g s``.

    With b the base's gradient there, ``g = |b| / |s|`` for a fixed scale and ``min(1, cap |b| / |s|)`` for a learned
    one. Norms are over the whole batch.

    Attributes:
        factor: g.
        held: whether g follows ``1 / |s|``; where not, it is the constant 1.
    """

    factor: Tensor
    held: Tensor

    @classmethod
    def of(cls, ours: Tensor, bases: Tensor, cap: float | None) -> Gain:
        """The gain from the two norms.

        Args:
            ours: ``|s|``.
            bases: ``|b|``.
            cap: largest ``|s'| / |b|``; ``None`` for exactly 1.
        """
        allowed = (bases if cap is None else cap * bases) / ours.clamp(min=_TINY)
        held = torch.ones_like(allowed, dtype=torch.bool) if cap is None else allowed < 1
        return cls(allowed.where(held, 1.0), held)

    def applied(self, slope: Tensor) -> Tensor:
        """``s'`` as a function of s, differentiable in it.

        Args:
            slope: s of the whole batch.
        """
        norm = torch.linalg.vector_norm(wide(slope))
        relative = norm.detach().clamp(min=_TINY) / norm.clamp(min=_TINY)
        scaled: Tensor = slope * self.factor * relative.where(self.held, 1.0)
        return scaled

    def transposed(self, direction: Tensor, slope: Tensor, total: Callable[[Tensor], Tensor]) -> Tensor:
        """``(ds'/ds)^T u = g (u - s <s, u> / <s, s>)``, the latter part only where g follows s.

        Args:
            direction: u, of the shape of ``slope``.
            slope: s.
            total: the sum over all processes.
        """
        s, u = wide(slope), wide(direction)
        along, square = total(torch.stack([(s * u).sum(), (s * s).sum()]))
        lost = (along / square.clamp(min=_TINY)).where(self.held, 0.0)
        pulled: Tensor = self.factor * (direction - lost * slope)
        return pulled


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float32 at least."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
