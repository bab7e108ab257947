"""One line of losses through cross-entropy: ``expm1(kappa c) / kappa``, and the points on it that have names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from lossmith.losses.arguments import check_number, class_values
from lossmith.losses.base import CommonArguments
from lossmith.losses.entries import Entries, linear_above, of_labels, scaled_expm1, scaled_expm1_continued
from lossmith.losses.shapes import TargetLoss
from lossmith.losses.written import over, times


class TemperedCrossEntropyLoss(TargetLoss):
    """``expm1(kappa c) / kappa = (p_target^(-kappa) - 1) / kappa``: from liberal (kappa < 0) to strict (kappa > 0).

    Its strictness is ``p^(-kappa)``. On this line lie cross-entropy (0), M (1), rooted (1/k), generalised
    cross-entropy (-q), the mean absolute error (-1), half the parabolic loss (-2); it is the alpha-loss with
    alpha = 1/(1 + kappa), also known as the Box-Cox or Tsallis loss. Proper only at 0: the optimum is
    ``p ~ q^(1/(1+kappa))`` for kappa > -1. For kappa > 0 continued by its tangent beyond ``c = 20 / kappa``
    (8 for float16 logits).

    Args:
        kappa: strictness, 0 or of size 1e-12 to 1000; or one per class (length C): that of the target's class counts.
        **common: see `lossmith.losses.ClassificationLoss`; ``task="binary"`` takes one number only.

    Source: Sypherd et al., "A Tunable Loss Function for Robust Classification", 2019, arXiv 1906.02314 (alpha-loss);
    the parametrisation by kappa is ours.
    """

    name = "tempered"

    def __init__(self, kappa: float | Sequence[float] | Tensor = 0.5, **common: Unpack[CommonArguments]) -> None:
        super().__init__(**common)
        if isinstance(kappa, (int, float)):
            _check_kappa(kappa)
            self.kappa: float | Tensor = float(kappa)
        else:
            if self.task == "binary":
                raise ValueError("kappa must be one number for task='binary', which has no classes")
            values = class_values("kappa", kappa)
            for value in values.tolist():
                _check_kappa(value)
            self.register_buffer("kappa", values, persistent=False)

    def phi(self, c: Tensor, entries: Entries) -> Tensor:
        """``expm1(kappa c) / kappa``; c where kappa is 0."""
        if isinstance(self.kappa, Tensor):
            if self.kappa.numel() != entries.num_classes:
                raise ValueError(f"kappa has {self.kappa.numel()} values, but there are {entries.num_classes} classes")
            kappa = torch.as_tensor(entries.take(self.kappa, c))
            x = kappa * c
            # The two signs of kappa apart; each is 0 where the other has its say.
            strict = scaled_expm1_continued(x.clamp(min=0), 1.0, 1.0, entries.log_slope_limit)
            liberal = torch.expm1(x.clamp(max=0))
            return torch.where(kappa == 0, c, (strict + liberal) / kappa.masked_fill(kappa == 0, 1.0))
        if self.kappa == 0:
            return c
        if self.kappa < 0:
            return scaled_expm1(c, 1 / self.kappa, self.kappa)
        return scaled_expm1_continued(c, 1 / self.kappa, self.kappa, entries.log_slope_limit)

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`."""
        if isinstance(self.kappa, Tensor):
            return None
        if self.kappa == 0:
            return f"{y}*c"
        if self.kappa < 0:
            return f"{y}*(-expm1(-{times(-self.kappa)}c)){over(-self.kappa)}"
        return f"{y}*expm1({times(self.kappa)}c){over(self.kappa)}"

    def linear_above(self, entries: Entries) -> float | Tensor | None:
        """``20 / kappa`` for positive kappa."""
        if not isinstance(self.kappa, Tensor):
            return linear_above(1 / self.kappa, self.kappa, entries.log_slope_limit) if self.kappa > 0 else None
        if not bool((self.kappa > 0).any()):
            return None
        above = entries.log_slope_limit / self.kappa.clamp(min=0)  # infinite where kappa <= 0
        return above if entries.labels is None else of_labels(above, entries.labels, entries.ignore_index)


def _check_kappa(kappa: float) -> None:
    if isinstance(kappa, bool) or (kappa != 0 and not 1e-12 <= abs(kappa) <= 1e3):
        raise ValueError(f"kappa must be 0 or a number of size 1e-12 to 1000, not {kappa!r}")


class GeneralizedCrossEntropyLoss(TargetLoss):
    """``(1 - p_target^q) / q``: between cross-entropy (q = 0) and the mean absolute error (q = 1).

    Bounded, hence more robust to label noise than cross-entropy.

    Args:
        q: from 1e-12 to 1.
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: Zhang and Sabuncu, "Generalized Cross Entropy Loss", 2018, arXiv 1805.07836.
    """

    name = "gce"

    def __init__(self, q: float = 0.7, **common: Unpack[CommonArguments]) -> None:
        check_number("q", q, low=1e-12, high=1.0)
        super().__init__(**common)
        self.q = float(q)

    def phi(self, c: Tensor, entries: Entries) -> Tensor:
        """``-expm1(-q c) / q``."""
        del entries
        return scaled_expm1(c, -1 / self.q, -self.q)

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`."""
        return f"{y}*(-expm1(-{times(self.q)}c)){over(self.q)}"


class MeanAbsoluteErrorLoss(TargetLoss):
    """``1 - p_target``: half the absolute error between probabilities and one-hot target.

    Args:
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: Ghosh, Kumar, Sastry, "Robust Loss Functions under Label Noise", 2017, arXiv 1712.09482, less a factor 2.
    """

    name = "mae"

    def __init__(self, **common: Unpack[CommonArguments]) -> None:
        super().__init__(**common)

    def phi(self, c: Tensor, entries: Entries) -> Tensor:
        """``-expm1(-c)``."""
        del entries
        return scaled_expm1(c, -1.0, -1.0)

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`."""
        return f"{y}*(1 - p)"
