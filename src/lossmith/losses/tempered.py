"""One line of losses through cross-entropy: ``expm1(kappa c) / kappa``, and the points on it that have names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor
from typing_extensions import override

from lossmith.formulas.expression import terminal
from lossmith.formulas.program import program_of
from lossmith.losses.arguments import Range, check_number, class_values
from lossmith.losses.base import CommonArguments
from lossmith.losses.cross_entropy import CrossEntropyLoss
from lossmith.losses.entries import Entries
from lossmith.losses.parts import loss_in_c, stated, target_part
from lossmith.losses.shapes import TargetLoss


class TemperedCrossEntropyLoss(TargetLoss):
    """Cross-entropy made liberal (kappa < 0) or strict (kappa > 0).

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
    statement = "y*expm1(kappa*c)/kappa"
    searched = (Range("kappa", (-1.0, 1.0), "linear"),)

    def __init__(self, kappa: float | Sequence[float] | Tensor = 0.5, **common: Unpack[CommonArguments]) -> None:
        if isinstance(kappa, (int, float)):
            _check_kappa(kappa)
            super().__init__({"kappa": kappa}, None if kappa else CrossEntropyLoss.statement, **common)
            self.kappa: float | Tensor = float(kappa)
            return
        super().__init__(None, CrossEntropyLoss.statement, **common)
        self.expression = None  # each class has its own
        if self.task == "binary":
            raise ValueError("kappa must be one number for task='binary', which has no classes")
        values = class_values("kappa", kappa)
        for value in values.tolist():
            _check_kappa(value)
        self.register_buffer("kappa", values, persistent=False)
        # With x = kappa c the loss is that of kappa 1 at x, over kappa; so is its tangent.
        self.program = program_of(loss_in_c(stated(self.statement, {"kappa": terminal("h")})))
        self.part_of_one = target_part(stated(self.statement, {"kappa": 1.0}), exploding=True)

    @override
    def phi(self, c: Tensor, entries: Entries) -> Tensor:
        if not isinstance(self.kappa, Tensor):
            return super().phi(c, entries)
        if self.kappa.numel() != entries.num_classes:
            raise ValueError(f"kappa has {self.kappa.numel()} values, but there are {entries.num_classes} classes")
        kappa = torch.as_tensor(entries.take(self.kappa, c))
        is_plain = kappa == 0
        kappa = kappa.masked_fill(is_plain, 1.0)
        above = self._above(kappa, entries.log_slope_limit)
        curved: Tensor = self.program.run({"c": torch.minimum(c, above), "h": kappa})
        beyond = math.exp(entries.log_slope_limit) * (c - above).clamp(min=0)
        return torch.where(is_plain, c, torch.where(kappa > 0, curved + beyond, curved))

    @override
    def linear_above(self, limit: float) -> float | Tensor | None:
        if not isinstance(self.kappa, Tensor):
            return super().linear_above(limit)
        return self._above(self.kappa, limit) if bool((self.kappa > 0).any()) else None

    def _above(self, kappa: Tensor, limit: float) -> Tensor:
        """The c beyond which the tangent of each kappa begins; infinite where kappa is not positive."""
        above = self.part_of_one.linear_above(limit)
        assert above is not None
        return above / kappa.clamp(min=0)


def _check_kappa(kappa: float) -> None:
    if isinstance(kappa, bool) or (kappa != 0 and not 1e-12 <= abs(kappa) <= 1e3):
        raise ValueError(f"kappa must be 0 or a number of size 1e-12 to 1000, not {kappa!r}")


class GeneralizedCrossEntropyLoss(TargetLoss):
    """Generalised cross-entropy: between cross-entropy (q = 0) and the mean absolute error (q = 1).

    It is bounded, hence more robust to label noise than cross-entropy.

    Args:
        q: from 1e-12 to 1.
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: Zhang and Sabuncu, "Generalized Cross Entropy Loss", 2018, arXiv 1805.07836.
    """

    name = "gce"
    statement = "y*(1 - exp(-q*c))/q"
    searched = (Range("q", (0.1, 1.0), "linear"),)

    def __init__(self, q: float = 0.7, **common: Unpack[CommonArguments]) -> None:
        check_number("q", q, low=1e-12, high=1.0)
        super().__init__({"q": q}, **common)
        self.q = float(q)


class MeanAbsoluteErrorLoss(TargetLoss):
    """The mean absolute error: half that between the probabilities and the one-hot target.

    Source: Ghosh, Kumar, Sastry, "Robust Loss Functions under Label Noise", 2017, arXiv 1712.09482, less a factor 2.
    """

    name = "mae"
    statement = "y*(1 - p)"
