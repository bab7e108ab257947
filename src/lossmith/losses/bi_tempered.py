"""Bi-tempered logistic loss: a bounded logarithm on top of a heavy-tailed softmax."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from typing_extensions import override

from lossmith.losses.arguments import Range, check_number
from lossmith.losses.base import CommonArguments
from lossmith.losses.entries import Prepared, Probability
from lossmith.losses.shapes import ClasswiseLoss

# Newton's iteration for the normaliser rises monotonically to its root. In the slowest case allowed (t2 = 4, equal
# logits, 1e6 classes) it needs 25 steps.
_NEWTON_STEPS = 30


class BiTemperedLoss(ClasswiseLoss):
    """A bounded logarithm, with temperature t1, of a tempered softmax, with temperature t2.

    It is ``-log_t1(p_t) - (1 - sum_j p_j^(2-t1)) / (2 - t1)`` with ``log_t(x) = (x^(1-t) - 1) / (1-t)``. t1 < 1 bounds
    the loss, t2 > 1 gives the softmax heavy tails; t1 = t2 = 1 is cross-entropy. With t2 = 1 the probabilities are
    softmax's. With any other t2 they are **not**: at test time take them from `probabilities`, the predicted class is
    the same. For probability targets the loss is the target's expectation; it differs from the published one by a term
    that does not depend on the prediction.

    Args:
        t1: in [0, 1].
        t2: in (0, 4]; below 1 only with t1 < 1.
        **common: see `lossmith.losses.ClassificationLoss`; ``task="binary"`` needs t2 = 1.

    Source: Amid et al., "Robust Bi-Tempered Logistic Loss Based on Bregman Divergences", 2019, arXiv 1906.03361. The
    normaliser is found by Newton's iteration, differentiable twice, in place of the authors' custom gradient.
    """

    name = "bi_tempered"
    statement = "y*((1 - exp(-bound*c))/bound - 1/share) + exp(-share*c)/share"
    unbounded = "y*(c - 1) + p"
    searched = (Range("t1", (0.2, 1.0), "linear"), Range("t2", (1.0, 2.0), "linear"))
    two_classes = True

    def __init__(self, t1: float = 0.8, t2: float = 1.0, **common: Unpack[CommonArguments]) -> None:
        check_number("t1", t1, low=0.0, high=1.0)
        check_number("t2", t2, low=0.0, high=4.0, open_low=True)
        if t1 == 1 and t2 < 1:
            raise ValueError("t2 < 1 gives probabilities of exactly 0, whose logarithm t1=1 would take: lower t1")
        if common.get("task") == "binary" and t2 != 1:
            raise ValueError("task='binary' uses the sigmoid and needs t2=1")
        values = {"bound": round(1 - t1, 15), "share": round(2 - t1, 15)}
        super().__init__(values, self.unbounded if t1 == 1 else None, **common)
        if t2 != 1:
            self.expression = None  # its probabilities are not softmax's
        self.t1, self.t2 = float(t1), float(t2)

    @override
    def probability(self, prepared: Prepared) -> Probability:
        if self.t2 == 1:
            return super().probability(prepared)
        return _tempered_softmax(prepared.logits, self.t2, prepared.entries.dim)

    def probabilities(self, logits: Tensor) -> Tensor:
        """The class probabilities this loss trains, for logits of shape (N, C, ...)."""
        return logits.softmax(1) if self.t2 == 1 else _tempered_softmax(logits, self.t2, 1).value


def _tempered_softmax(logits: Tensor, t: float, dim: int) -> Probability:
    """``p_j = exp_t(z_j - x)`` with x such that they sum to 1; ``exp_t(u) = max(0, 1 + (1-t) u)^(1/(1-t))``."""
    z = logits - logits.detach().amax(dim, keepdim=True)
    x = torch.zeros_like(z.detach().amax(dim, keepdim=True))
    for _ in range(_NEWTON_STEPS):
        x = _newton_step(z.detach(), x, t, dim)
    # Two more steps carry the derivatives: from the root, one is exact to first order, two to third.
    for _ in range(2):
        x = _newton_step(z, x, t, dim)
    log_p, inside = _log_exp_t(z - x, t)
    value = log_p.exp().where(inside, 0.0)
    return Probability(
        value=lambda: value,
        c=lambda: (-log_p).clamp(min=0.0).where(inside, torch.inf),  # rounding may put a p above 1
        d=lambda: -torch.log1p(-value),
        classes=lambda: inside.to(value.dtype).sum(dim, keepdim=True).expand_as(value),
    )


def _newton_step(z: Tensor, x: Tensor, t: float, dim: int) -> Tensor:
    """One step towards the x at which the probabilities ``exp_t(z - x)`` sum to 1; slopes are their t-th powers."""
    log_p, inside = _log_exp_t(z - x, t)
    excess = log_p.exp().where(inside, 0.0).sum(dim, keepdim=True) - 1
    slope = (t * log_p).exp().where(inside, 0.0).sum(dim, keepdim=True)
    return x + excess / slope


def _log_exp_t(u: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """``log exp_t(u) = log1p((1-t) u) / (1-t)``, 0 where exp_t is 0, and where it is not."""
    scaled = (1 - t) * u
    inside = (scaled > -1) & ~scaled.isinf()
    return torch.log1p(scaled.where(inside, 0.0)) / (1 - t), inside
