"""The losses people try first: focal, Poly-1, Taylor, symmetric cross-entropy, Brier."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from lossmith.losses.arguments import check_number, whole_number
from lossmith.losses.base import CommonArguments
from lossmith.losses.entries import Entries, Probability, scaled_expm1
from lossmith.losses.shapes import ClasswiseLoss, TargetLoss
from lossmith.losses.written import number, times


class FocalLoss(TargetLoss):
    """``(1 - p_target)^gamma c``: cross-entropy that counts well-classified samples less.

    The softmax form: p_target is the softmax probability of the target; with ``task="binary"`` it is the sigmoid form.
    With probability targets the loss is the target's expectation of it, as everywhere in this library. For gamma < 1
    the slope's own slope is infinite at p = 1; the gradient there is its limit, 0.

    Args:
        gamma: >= 0; 0 is cross-entropy.
        **common: see `lossmith.losses.ClassificationLoss`; ``weight`` is the paper's alpha.

    Source: Lin et al., "Focal Loss for Dense Object Detection", 2017, arXiv 1708.02002.
    """

    name = "focal"

    def __init__(self, gamma: float = 2.0, **common: Unpack[CommonArguments]) -> None:
        check_number("gamma", gamma, low=0.0, high=1e3)
        super().__init__(**common)
        self.gamma = float(gamma)

    def phi(self, c: Tensor, entries: Entries) -> Tensor:
        """``(-expm1(-c))^gamma c``."""
        del entries
        if self.gamma == 0:
            return c
        if self.gamma < 1:  # at c = 0 the power's slope is infinite
            at_one = c == 0
            return self._inner(c.masked_fill(at_one, 1.0)).masked_fill(at_one, 0.0)
        return self._inner(c)

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`."""
        return f"{y}*c" if self.gamma == 0 else f"{y}*pow(1 - p, {number(self.gamma)})*c"

    def _inner(self, c: Tensor) -> Tensor:
        # Beyond c = 750 even float64 has p = 0; the bound keeps the product rule from inf * 0 at c = inf.
        return scaled_expm1(c.clamp(max=750.0), -1.0, -1.0).pow(self.gamma) * c


class PolyLoss(TargetLoss):
    """Poly-1: ``c + epsilon (1 - p_target)``; strictness ``1 + epsilon p``.

    Args:
        epsilon: from -1, below which the loss is not monotone, to 1e6.
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: Leng et al., "PolyLoss", 2022, arXiv 2204.12511.
    """

    name = "poly1"

    def __init__(self, epsilon: float = 1.0, **common: Unpack[CommonArguments]) -> None:
        check_number("epsilon", epsilon, low=-1.0, high=1e6)
        super().__init__(**common)
        self.epsilon = float(epsilon)

    def phi(self, c: Tensor, entries: Entries) -> Tensor:
        """``c - epsilon expm1(-c)``."""
        del entries
        return c + scaled_expm1(c, -self.epsilon, -1.0)

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`."""
        return f"{y}*(c + {times(self.epsilon)}(1 - p))"


class TaylorCrossEntropyLoss(TargetLoss):
    """``sum_{i=1}^{order} (1 - p_target)^i / i``: cross-entropy's series at p = 1, cut off; bounded.

    Order 1 is the mean absolute error; strictness ``1 - (1 - p)^order``.

    Args:
        order: number of terms, 1 to 1000.
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: Feng et al., "Can Cross Entropy Loss Be Robust to Label Noise?", IJCAI 2020; the formula is recalled and
    agrees with the series given in "PolyLoss", arXiv 2204.12511.
    """

    name = "taylor"

    def __init__(self, order: int = 2, **common: Unpack[CommonArguments]) -> None:
        check_number("order", order, low=1, high=1000)
        super().__init__(**common)
        self.order = whole_number("order", order, low=1)

    def phi(self, c: Tensor, entries: Entries) -> Tensor:
        """The cut-off series in q = 1 - p, by Horner's rule."""
        del entries
        q = scaled_expm1(c, -1.0, -1.0)
        series = q / self.order
        for i in range(self.order - 1, 0, -1):
            series = q * (series + 1 / i)
        return series

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`; ``None`` beyond 20 terms, which no one would read."""
        if self.order > 20:
            return None
        terms = ["(1 - p)", *(f"pow(1 - p, {i})/{i}" for i in range(2, self.order + 1))]
        return f"{y}*({' + '.join(terms)})"


class SymmetricCrossEntropyLoss(TargetLoss):
    """``alpha c - beta A (1 - p_target)``: cross-entropy plus its reverse, with log 0 set to A.

    Args:
        alpha: factor of cross-entropy, from 0 to 1e6.
        beta: factor of the reverse part, from 0 to 1e6.
        A: the value of log 0, from -1e6 to 0.
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: Wang et al., "Symmetric Cross Entropy for Robust Learning with Noisy Labels", 2019, arXiv 1908.06112.
    """

    name = "symmetric"

    def __init__(
        self, alpha: float = 0.1, beta: float = 1.0, A: float = -4.0, **common: Unpack[CommonArguments]
    ) -> None:
        check_number("alpha", alpha, low=0.0, high=1e6)
        check_number("beta", beta, low=0.0, high=1e6)
        check_number("A", A, low=-1e6, high=0.0)
        if alpha == 0 and (beta == 0 or A == 0):
            raise ValueError("alpha and beta A cannot both be 0: nothing would be left")
        super().__init__(**common)
        self.alpha, self.beta, self.A = float(alpha), float(beta), float(A)

    def phi(self, c: Tensor, entries: Entries) -> Tensor:
        """``alpha c + beta A expm1(-c)``."""
        del entries
        reverse = scaled_expm1(c, self.beta * self.A, -1.0)
        return reverse if self.alpha == 0 else reverse.add(c, alpha=self.alpha)

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`."""
        reverse = -self.beta * self.A
        terms = [f"{times(self.alpha)}c"] * (self.alpha != 0) + [f"{times(reverse)}(1 - p)"] * (reverse != 0)
        return f"{y}*({' + '.join(terms)})"


class BrierLoss(ClasswiseLoss):
    """``sum_j (p_j - q_j)^2``, the squared error of the probabilities; proper and bounded by 2.

    For probability targets q it is the expectation over the label, ``sum_j (p_j - q_j)^2 + q_j (1 - q_j)``, whose
    second part does not depend on the prediction.

    Args:
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: Brier, "Verification of forecasts expressed in terms of probability", 1950.
    """

    name = "brier"

    def __init__(self, **common: Unpack[CommonArguments]) -> None:
        super().__init__(**common)

    def positive(self, p: Probability, entries: Entries) -> Tensor:
        """``(1 - p)^2``."""
        del entries
        return (1 - p.value).square()

    def negative(self, p: Probability, entries: Entries) -> Tensor:
        """``p^2``."""
        del entries
        return p.value.square()

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`."""
        return "square(p - y)" if y == "y" else f"{y}*square(1 - p) + (1 - {y})*square(p)"
