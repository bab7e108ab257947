"""The scale of a learned loss: its gradient norm is that of its base, or is learned up to a cap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, get_args

import torch
from torch import Tensor

from lossmith.losses.arguments import check_choice, check_number

Scale = Literal["fixed", "learned"]

MAX_SCALE: Final = 10.0
"""Default cap on a learned scale."""
_TINY: Final = 1e-30


def cap_on_scale(scale: Scale, max_scale: float | None) -> float | None:
    """Return the cap on the effective scale, which is ``None`` for a fixed scale.

    Raises:
        ValueError: if an argument is invalid, or ``max_scale`` is given for a fixed scale.
    """
    check_choice("scale", scale, get_args(Scale))
    if scale == "fixed" and max_scale is not None:
        raise ValueError(
            "max_scale caps a learned scale, but the scale is fixed: add scale='learned' or leave out max_scale"
        )
    if scale == "fixed":
        return None
    if max_scale is None:
        return MAX_SCALE
    check_number("max_scale", max_scale, low=1e-6)
    return float(max_scale)


@dataclass(frozen=True)
class Gain:
    """The factor g of a loss in one step: its gradient s with respect to the logits becomes ``s' = g s``.

    Let b be the gradient of the base. Then ``g = |b| / |s|`` for a fixed scale and ``min(1, cap |b| / |s|)`` for a
    learned one. Norms are over the whole batch.

    Attributes:
        factor: the factor g.
        held: whether g is proportional to ``1 / |s|``; otherwise it is the constant 1.
    """

    factor: Tensor
    held: Tensor

    @classmethod
    def of(cls, ours: Tensor, bases: Tensor, cap: float | None) -> Gain:
        """Compute the gain from the norms ``|s|`` and ``|b|``; without a cap the ratio ``|s'| / |b|`` is 1."""
        allowed = (bases if cap is None else cap * bases) / ours.clamp(min=_TINY)
        held = torch.ones_like(allowed, dtype=torch.bool) if cap is None else allowed < 1
        return cls(allowed.where(held, 1.0), held)

    def applied(self, slope: Tensor) -> Tensor:
        """Compute ``s'`` as a differentiable function of the gradient s of the whole batch."""
        norm = torch.linalg.vector_norm(wide(slope))
        relative = norm.detach().clamp(min=_TINY) / norm.clamp(min=_TINY)
        scaled: Tensor = slope * self.factor * relative.where(self.held, 1.0)
        return scaled

    def transposed(self, direction: Tensor, slope: Tensor, total: Callable[[Tensor], Tensor]) -> Tensor:
        """Compute ``(ds'/ds)^T u = g (u - s <s, u> / <s, s>)``; the projection is left out if g is constant.

        ``direction`` is u, ``slope`` is s, and ``total`` sums a tensor over all processes.
        """
        s, u = wide(slope), wide(direction)
        along, square = total(torch.stack([(s * u).sum(), (s * s).sum()]))
        lost = (along / square.clamp(min=_TINY)).where(self.held, 0.0)
        pulled: Tensor = self.factor * (direction - lost * slope)
        return pulled


def wide(tensor: Tensor) -> Tensor:
    """Convert a tensor to at least float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
