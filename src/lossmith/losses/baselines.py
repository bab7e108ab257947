"""The losses people try first: focal, Poly-1, Taylor, symmetric cross-entropy, Brier."""

from __future__ import annotations

from typing import Final, Unpack

from typing_extensions import override

from lossmith.formulas.expression import Expression, constant, terminal
from lossmith.losses.arguments import Range, check_number, whole_number
from lossmith.losses.base import CommonArguments
from lossmith.losses.shapes import ClasswiseLoss, TargetLoss

_READABLE: Final = 20
"""The most terms of a series that a formula shows."""


class FocalLoss(TargetLoss):
    """The focal loss: cross-entropy that counts well-classified samples less.

    The softmax form: p_target is the softmax probability of the target; with ``task="binary"`` it is the sigmoid form.
    With probability targets the loss is the target's expectation of it, as everywhere in this library. For gamma < 1
    the slope's own slope is infinite at p = 1; the gradient there is its limit, 0.

    Args:
        gamma: at least 0; 0 is cross-entropy.
        **common: see `lossmith.losses.ClassificationLoss`; ``weight`` is the paper's alpha.

    Source: Lin et al., "Focal Loss for Dense Object Detection", 2017, arXiv 1708.02002.
    """

    name = "focal"
    statement = "y*pow(1 - p, gamma)*c"
    searched = (Range("gamma", (0.0, 5.0), "linear"),)

    def __init__(self, gamma: float = 2.0, **common: Unpack[CommonArguments]) -> None:
        check_number("gamma", gamma, low=0.0, high=1e3)
        super().__init__({"gamma": gamma}, **common)
        self.gamma = float(gamma)


class PolyLoss(TargetLoss):
    """Poly-1: cross-entropy and the first term of its series at p = 1 once more; strictness ``1 + epsilon p``.

    Args:
        epsilon: from -1, below which the loss is not monotone, to 1e6.
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: Leng et al., "PolyLoss", 2022, arXiv 2204.12511.
    """

    name = "poly1"
    statement = "y*(c + epsilon*(1 - p))"
    searched = (Range("epsilon", (-1.0, 6.0), "linear"),)

    def __init__(self, epsilon: float = 1.0, **common: Unpack[CommonArguments]) -> None:
        check_number("epsilon", epsilon, low=-1.0, high=1e6)
        super().__init__({"epsilon": epsilon}, **common)
        self.epsilon = float(epsilon)


class TaylorCrossEntropyLoss(TargetLoss):
    """Cross-entropy's series at p = 1, ``sum_{i=1}^{order} (1 - p)^i / i``, cut off; bounded.

    Order 1 is the mean absolute error; strictness ``1 - (1 - p)^order``.

    Args:
        order: number of terms, 1 to 1000.
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: Feng et al., "Can Cross Entropy Loss Be Robust to Label Noise?", IJCAI 2020; the formula is recalled and
    agrees with the series given in "PolyLoss", arXiv 2204.12511.
    """

    name = "taylor"
    searched = (Range("order", (1.0, 2.0, 3.0, 5.0, 8.0)),)

    def __init__(self, order: int = 2, **common: Unpack[CommonArguments]) -> None:
        check_number("order", order, low=1, high=1000)
        self.order = whole_number("order", order, low=1)
        super().__init__(None, _series(self.order), **common)

    @property
    @override
    def formula(self) -> str | None:
        return super().formula if self.order <= _READABLE else None


def _series(order: int) -> Expression:
    """The series by Horner's rule, times y."""
    q = 1.0 - terminal("p")
    series = q / order
    for i in range(order - 1, 0, -1):
        first = constant(1.0) / constant(i) if i > 1 else constant(1.0)
        series = q * (first + series)
    return terminal("y") * series


class SymmetricCrossEntropyLoss(TargetLoss):
    """Symmetric cross-entropy: alpha times cross-entropy plus beta times its reverse, with log 0 set to A.

    Args:
        alpha: factor of cross-entropy, from 0 to 1e6.
        beta: factor of the reverse part, from 0 to 1e6.
        A: the value of log 0, from -1e6 to 0.
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: Wang et al., "Symmetric Cross Entropy for Robust Learning with Noisy Labels", 2019, arXiv 1908.06112.
    """

    name = "symmetric"
    statement = "y*(alpha*c + reverse*(1 - p))"
    searched = (
        Range("alpha", (0.01, 1.0), "log"),
        Range("beta", (0.1, 10.0), "log"),
        Range("A", (-8.0, -2.0), "linear"),
    )

    def __init__(
        self, alpha: float = 0.1, beta: float = 1.0, A: float = -4.0, **common: Unpack[CommonArguments]
    ) -> None:
        check_number("alpha", alpha, low=0.0, high=1e6)
        check_number("beta", beta, low=0.0, high=1e6)
        check_number("A", A, low=-1e6, high=0.0)
        if alpha == 0 and (beta == 0 or A == 0):
            raise ValueError("alpha and beta A cannot both be 0: nothing would be left")
        super().__init__({"alpha": alpha, "reverse": -beta * A}, **common)
        self.alpha, self.beta, self.A = float(alpha), float(beta), float(A)


class BrierLoss(ClasswiseLoss):
    """The Brier score, the squared error of the probabilities; proper and bounded by 2.

    For probability targets q it is the expectation over the label, ``sum_j (p_j - q_j)^2 + q_j (1 - q_j)``, whose
    second part does not depend on the prediction.

    Source: Brier, "Verification of forecasts expressed in terms of probability", 1950.
    """

    name = "brier"
    statement = "square(p - y)"
