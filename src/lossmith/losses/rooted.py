"""Rooted logistic objectives."""

from __future__ import annotations

import math
from typing import Literal, Unpack

import torch.nn.functional as F
from torch import Tensor

from lossmith.losses.arguments import check_choice, check_number
from lossmith.losses.base import CommonArguments, Loss
from lossmith.losses.entries import (
    Entries,
    at_least_float32,
    linear_above,
    log_slope_limit,
    scaled_expm1,
    scaled_expm1_continued,
)
from lossmith.losses.shapes import TargetLoss
from lossmith.losses.written import over, times


class RootedLogisticLoss(TargetLoss):
    """The rooted logistic objective; two opposite functions carry the name, both are here.

    * ``form="convex"``: ``k expm1(c / k) = k (p_target^(-1/k) - 1)``, the theory's form for several classes. Convex in
      the logits, strictness ``p^(-1/k) >= 1``: it weighs hard samples up. Not proper: the optimum is
      ``p ~ q^(k/(k+1))``, under-confident. Equals the alpha-loss at alpha = k/(k+1).
    * ``form="released"``: ``-m expm1(-c / k) = m (1 - p_target^(1/k))``, what the authors' image code computes.
      Bounded, not convex, weighs hard samples down. With m = k it is generalised cross-entropy with q = 1/k.

    Both tend to cross-entropy as k grows (m = k). The convex form is continued by its tangent beyond ``c = 20 k``
    (``8 k`` for float16 logits).

    Args:
        k: the root's degree, from 0.001 to 1e6; ``inf`` is cross-entropy.
        form: ``"convex"`` or ``"released"``.
        m: factor of the released form, from 1e-6 to 1e6; ``None`` is k. Refused for the convex form, which has none.
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: Wang, Veluswami, Mishra, Ravi, "Accelerated Neural Network Training with Rooted Logistic Objectives", 2023,
    arXiv 2310.03890. The convex form is derived from the binary objective k (1 + exp(-z))^(1/k) of their GAN code; the
    released form is that of their classification code. The paper's typeset equation could not be read.
    """

    name = "rooted"

    def __init__(
        self,
        k: float = 3.0,
        *,
        form: Literal["convex", "released"] = "convex",
        m: float | None = None,
        **common: Unpack[CommonArguments],
    ) -> None:
        _check_k(k)
        check_choice("form", form, ("convex", "released"))
        if m is not None:
            if form == "convex":
                raise ValueError("m scales form='released' only: the convex form has no such factor")
            if k == math.inf:
                raise ValueError("m has no meaning at k=inf, where m (1 - p^(1/k)) is 0: leave it out")
            check_number("m", m, low=1e-6, high=1e6)
        super().__init__(**common)
        self.k, self.form, self.m = float(k), form, None if m is None else float(m)

    def phi(self, c: Tensor, entries: Entries) -> Tensor:
        """``k expm1(c/k)`` or ``-m expm1(-c/k)``."""
        if self.k == math.inf:
            return c
        if self.form == "released":
            return scaled_expm1(c, -self.k if self.m is None else -self.m, -1 / self.k)
        return scaled_expm1_continued(c, self.k, 1 / self.k, entries.log_slope_limit)

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`."""
        if self.k == math.inf:
            return f"{y}*c"
        if self.form == "released":
            return f"{times(self.k if self.m is None else self.m)}{y}*(-expm1(-c{over(self.k)}))"
        return f"{times(self.k)}{y}*expm1(c{over(self.k)})"

    def linear_above(self, entries: Entries) -> float | None:
        """``20 k`` for the convex form."""
        if self.form == "released" or self.k == math.inf:
            return None
        return linear_above(self.k, 1 / self.k, entries.log_slope_limit)


class RootedGANLoss(Loss):
    """The rooted objective for adversarial training: ``softplus(t)`` becomes ``k exp(softplus(t) / k)``.

    Args:
        k: the root's degree, from 0.001 to 1e6; ``inf`` is the usual non-saturating loss.

    Source: the authors' StyleGAN2-ADA code for arXiv 2310.03890, less its constant k, so that k = inf is the logistic
    loss; a constant changes no gradient. Continued by its tangent beyond softplus = 20 k (float16 logits: 8 k), where
    the authors' own run overflowed to infinity.
    """

    name = "rooted_gan"
    kind = "gan"

    def __init__(self, k: float = 2.0) -> None:
        super().__init__()
        _check_k(k)
        self.k = float(k)

    def generator(self, fake: Tensor) -> Tensor:
        """The generator's loss, a scalar, from the discriminator's logits on generated samples, of any shape."""
        return self._rooted(-fake)

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """The discriminator's loss, a scalar, from its logits on real and on generated samples, of any shapes."""
        return self._rooted(-real) + self._rooted(fake)

    def _rooted(self, logits: Tensor) -> Tensor:
        """The mean of ``k expm1(softplus(logits) / k)``."""
        c = -F.logsigmoid(-at_least_float32(logits))
        if self.k != math.inf:
            c = scaled_expm1_continued(c, self.k, 1 / self.k, log_slope_limit(logits.dtype))
        return c.mean()


def _check_k(k: float) -> None:
    if k != math.inf:
        check_number("k", k, low=1e-3, high=1e6)
