"""The eight losses of the notebooks of "Alternate Loss Functions"; their smooth absolute error is in `regression`.

Source of all: Noel, Banerjee, Oswal et al., "Alternate Loss Functions for Classification and Robust Regression Can
Improve the Accuracy of Artificial Neural Networks", 2023, arXiv 2303.09935. The formulas are those of the authors'
public notebooks; that they are the eight of the paper's first version is inferred, its text could not be read. Each is
computed from c = -log p in place of p, so that it is finite where the notebooks' ``divide_no_nan`` returns 0 or -1.
"""

from __future__ import annotations

import math
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.losses.arguments import check_number
from lossmith.losses.base import CommonArguments
from lossmith.losses.entries import Entries, Probability, linear_above, scaled_expm1, scaled_expm1_continued
from lossmith.losses.shapes import ClasswiseLoss, TargetLoss
from lossmith.losses.written import number, times


class MLoss(TargetLoss):
    """``1/p - 1 = expm1(c) = sum_{j != t} exp(z_j - z_t)``: strict everywhere, strictness 1/p.

    With a sigmoid it is the exponential loss of AdaBoost; as a function it is the alpha-loss at 1/2. Convex in the
    logits; its optimum ``p ~ sqrt(q)`` is under-confident. Continued by its tangent beyond c = 20 (float16 logits: 8).

    Args:
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: see the module.
    """

    name = "m"

    def __init__(self, **common: Unpack[CommonArguments]) -> None:
        super().__init__(**common)

    def phi(self, c: Tensor, entries: Entries) -> Tensor:
        """``expm1(c)``."""
        return _m(c, entries)

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`."""
        return f"{y}*expm1(c)"

    def linear_above(self, entries: Entries) -> float | None:
        """20."""
        return entries.log_slope_limit


class ParamMLoss(TargetLoss):
    """``p^(-alpha) - 1 = expm1(alpha c)``: alpha times the tempered cross-entropy with kappa = alpha.

    Continued by its tangent where its slope reaches e^20 (float16 logits: e^8).

    Args:
        alpha: from 1e-6 to 1000; 1 is M.
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: see the module; the notebooks use alpha = 1 only, the default here is ours.
    """

    name = "param_m"

    def __init__(self, alpha: float = 0.5, **common: Unpack[CommonArguments]) -> None:
        check_number("alpha", alpha, low=1e-6, high=1e3)
        super().__init__(**common)
        self.alpha = float(alpha)

    def phi(self, c: Tensor, entries: Entries) -> Tensor:
        """``expm1(alpha c)``."""
        return scaled_expm1_continued(c, 1.0, self.alpha, entries.log_slope_limit)

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`."""
        return f"{y}*expm1({times(self.alpha)}c)"

    def linear_above(self, entries: Entries) -> float | None:
        """``(20 - log alpha) / alpha``."""
        return linear_above(1.0, self.alpha, entries.log_slope_limit)


class LLoss(TargetLoss):
    """``1/sqrt(1 - (1-p)^2) - 1``: strict for p < 0.117, liberal above, slope 0 at p = 1, like the focal loss.

    The notebooks' form has its minimum at 1; here 1 is subtracted. Convex in the logits. Continued by its tangent
    where its slope reaches e^20 (float16 logits: e^8).

    Args:
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: see the module.
    """

    name = "l"

    def __init__(self, **common: Unpack[CommonArguments]) -> None:
        super().__init__(**common)

    def phi(self, c: Tensor, entries: Entries) -> Tensor:
        """``2 sinh^2(atanh(q) / 2)``, q = 1 - p."""
        return _l(c, entries)

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`."""
        return f"{y}*(1/sqrt(p*(2 - p)) - 1)"

    def linear_above(self, entries: Entries) -> float | None:
        """The c at which the slope is e^20."""
        return _l_linear_above(entries)


class ParabolicLoss(TargetLoss):
    """``1 - p^2 = -expm1(-2c)``: concave in p, liberal for p < 0.707; hardly any gradient at the start of training.

    Args:
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: see the module.
    """

    name = "parabolic"

    def __init__(self, **common: Unpack[CommonArguments]) -> None:
        super().__init__(**common)

    def phi(self, c: Tensor, entries: Entries) -> Tensor:
        """``-expm1(-2c)``."""
        del entries
        return scaled_expm1(c, -1.0, -2.0)

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`."""
        return f"{y}*(1 - square(p))"


class CircleLoss(TargetLoss):
    """``sqrt(1 - p^2)``: concave in p, infinite slope at p = 1, where the logits' gradient tends to 0 and is set to 0.

    Args:
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: see the module. Not the metric-learning loss of the same name.
    """

    name = "circle"

    def __init__(self, **common: Unpack[CommonArguments]) -> None:
        super().__init__(**common)

    def phi(self, c: Tensor, entries: Entries) -> Tensor:
        """``sqrt(-expm1(-2c))``."""
        del entries
        at_one = c == 0
        return scaled_expm1(c.masked_fill(at_one, 1.0), -1.0, -2.0).sqrt().masked_fill(at_one, 0.0)

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`."""
        return f"{y}*sqrt(1 - square(p))"


class CosLoss(TargetLoss):
    """``cos(pi p / 2) = sin(pi (1 - p) / 2)``: concave in p, liberal for p < 0.709.

    Args:
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: see the module.
    """

    name = "cos"

    def __init__(self, **common: Unpack[CommonArguments]) -> None:
        super().__init__(**common)

    def phi(self, c: Tensor, entries: Entries) -> Tensor:
        """``sin(pi/2 (1 - p))``."""
        del entries
        return scaled_expm1(c, -math.pi / 2, -1.0).sin()

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`."""
        return f"{y}*cos({number(math.pi / 2)}*p)"


class MFullLoss(ClasswiseLoss):
    """M of every class: ``(1/p_t - 1) + sum_{j != t} p_j / (1 - p_j)``.

    With two classes it is twice M. Continued by its tangents beyond c = 20 of the target and d = -log(1 - p) = 20 of
    any other class (float16 logits: 8).

    Args:
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: see the module.
    """

    name = "m_full"
    singular = True

    def __init__(self, **common: Unpack[CommonArguments]) -> None:
        super().__init__(**common)

    def positive(self, p: Probability, entries: Entries) -> Tensor:
        """``1/p - 1 = expm1(c)``."""
        return _m(_c_near_one(p), entries)

    def negative(self, p: Probability, entries: Entries) -> Tensor:
        """``p/(1-p) = expm1(d)``."""
        return _m(p.d, entries)

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`."""
        return f"{y}*expm1(c) + (1 - {y})*p/(1 - p)"

    def linear_above(self, entries: Entries) -> float | None:
        """20."""
        return entries.log_slope_limit


class LFullLoss(ClasswiseLoss):
    """L of every class: ``L(p_t) + sum_{j != t} (1/sqrt(1 - p_j^2) - 1)``, with its minimum at 0.

    With two classes it is twice L. Continued by its tangents where a slope reaches e^20 (float16 logits: e^8).

    Args:
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: see the module.
    """

    name = "l_full"
    singular = True

    def __init__(self, **common: Unpack[CommonArguments]) -> None:
        super().__init__(**common)

    def positive(self, p: Probability, entries: Entries) -> Tensor:
        """L of c."""
        return _l(_c_near_one(p), entries)

    def negative(self, p: Probability, entries: Entries) -> Tensor:
        """L of d."""
        return _l(p.d, entries)

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`."""
        return f"{y}/sqrt(p*(2 - p)) + (1 - {y})/sqrt((1 - p)*(1 + p)) - 1"

    def linear_above(self, entries: Entries) -> float | None:
        """As for L."""
        return _l_linear_above(entries)


def _m(c: Tensor, entries: Entries) -> Tensor:
    """``1/p - 1`` from c = -log p."""
    return scaled_expm1_continued(c, 1.0, 1.0, entries.log_slope_limit)


def _l(c: Tensor, entries: Entries) -> Tensor:
    """``1/sqrt(p (2 - p)) - 1`` from c = -log p.

    With q = 1 - p it is cosh(b/2) - 1 = 2 sinh^2(b/4), b = 2 atanh(q) = c + log(1 + q): no cancellation at either end.
    At large c the slope is e^(b/2) / 4, hence the limit.
    """
    b = c + scaled_expm1(c, -1.0, -1.0).log1p()
    limit = 2 * (entries.log_slope_limit + math.log(4))
    curved = 2 * torch.sinh(0.25 * b.clamp(max=limit)).square()
    return curved.add(F.softshrink(b, limit), alpha=0.5 * math.sinh(limit / 2))


def _c_near_one(p: Probability) -> Tensor:
    """``c``, computed from d where p > 1/2: log_softmax leaves a small c few digits."""
    is_near = p.d > math.log(2)
    return torch.where(is_near, -torch.log1p(-torch.exp(-p.d.masked_fill(~is_near, 1.0))), p.c)


def _l_linear_above(entries: Entries) -> float:
    """Where the slope of L is e^20: there b = c + log 2 is the limit."""
    return 2 * (entries.log_slope_limit + math.log(4)) - math.log(2)
