"""Rooted logistic objectives."""

from __future__ import annotations

import math
from typing import Literal, Unpack

import torch
from torch import Tensor

from lossmith.losses.arguments import Range, check_choice, check_number
from lossmith.losses.base import CommonArguments
from lossmith.losses.cross_entropy import CrossEntropyLoss
from lossmith.losses.loss import Loss
from lossmith.losses.shapes import TargetLoss


class RootedLogisticLoss(TargetLoss):
    """The rooted logistic objective; two opposite functions carry the name, both are here.

    * ``form="convex"``: the theory's form for several classes, ``k (p^(-1/k) - 1)``. Convex in the logits, strictness
      ``p^(-1/k) >= 1``: it weighs hard samples up. Not proper: the optimum is ``p ~ q^(k/(k+1))``, under-confident.
      Equals the alpha-loss at alpha = k/(k+1).
    * ``form="released"``: what the authors' image code computes, ``m (1 - p^(1/k))``. Bounded, not convex, weighs hard
      samples down. With m = k it is generalised cross-entropy with q = 1/k.

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
    statement = "k*y*expm1(c/k)"
    released = "m*y*(1 - exp(-c/k))"
    searched = (Range("k", (1.0, 20.0), "log"), Range("m", (1.0, 20.0), "log"))

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
        if k == math.inf:
            super().__init__(None, CrossEntropyLoss.statement, **common)
        else:
            statement = self.released if form == "released" else None
            super().__init__({"k": k, "m": k if m is None else m}, statement, **common)
        self.k, self.form, self.m = float(k), form, None if m is None else float(m)


class RootedGANLoss(Loss):
    """The rooted objective for adversarial training: the rooted loss of the discriminator's yes or no.

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
        self.rooted = RootedLogisticLoss(k, task="binary")
        self.k = self.rooted.k

    def generator(self, fake: Tensor) -> Tensor:
        """The generator's loss, a scalar, from the discriminator's logits on generated samples, of any shape."""
        return self._rooted(-fake)

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """The discriminator's loss, a scalar, from its logits on real and on generated samples, of any shapes."""
        return self._rooted(-real) + self._rooted(fake)

    def _rooted(self, logits: Tensor) -> Tensor:
        """The rooted loss of the answer no to each logit, on average."""
        terms: Tensor = self.rooted(logits, torch.zeros_like(logits))
        return terms


def _check_k(k: float) -> None:
    if k != math.inf:
        check_number("k", k, low=1e-3, high=1e6)
