"""The eight losses of the notebooks of "Alternate Loss Functions"; their smooth absolute error is in `regression`.

Source of all: Noel, Banerjee, Oswal et al., "Alternate Loss Functions for Classification and Robust Regression Can
Improve the Accuracy of Artificial Neural Networks", 2023, arXiv 2303.09935. The formulas are those of the authors'
public notebooks; that they are the eight of the paper's first version is inferred, its text could not be read. Each is
computed from c = -log p in place of p, so that it is finite where the notebooks' ``divide_no_nan`` returns 0 or -1.
"""

from __future__ import annotations

from typing import Unpack

from lossmith.losses.arguments import Range, check_number
from lossmith.losses.base import CommonArguments
from lossmith.losses.shapes import ClasswiseLoss, TargetLoss


class MLoss(TargetLoss):
    """The M loss, strict everywhere: its strictness is 1/p.

    It is ``1/p - 1 = sum_{j != t} exp(z_j - z_t)``. With a sigmoid it is the exponential loss of AdaBoost; as a
    function it is the alpha-loss at 1/2. Convex in the logits; its optimum ``p ~ sqrt(q)`` is under-confident.
    Continued by its tangent beyond c = 20 (float16 logits: 8).

    Source: see the module.
    """

    name = "m"
    statement = "y*expm1(c)"


class ParamMLoss(TargetLoss):
    """The M loss with a parameter: alpha times the tempered cross-entropy with kappa = alpha.

    Continued by its tangent where its slope reaches e^20 (float16 logits: e^8).

    Args:
        alpha: from 1e-6 to 1000; 1 is M.
        **common: see `lossmith.losses.ClassificationLoss`.

    Source: see the module; the notebooks use alpha = 1 only, the default here is ours.
    """

    name = "param_m"
    statement = "y*expm1(alpha*c)"
    searched = (Range("alpha", (0.1, 2.0), "log"),)

    def __init__(self, alpha: float = 0.5, **common: Unpack[CommonArguments]) -> None:
        check_number("alpha", alpha, low=1e-6, high=1e3)
        super().__init__({"alpha": alpha}, **common)
        self.alpha = float(alpha)


class LLoss(TargetLoss):
    """The L loss: strict for p < 0.117, liberal above, slope 0 at p = 1, like the focal loss.

    The notebooks' form has its minimum at 1; here 1 is subtracted. Convex in the logits. Continued by its tangent
    where its slope reaches e^20 (float16 logits: e^8).

    Source: see the module.
    """

    name = "l"
    statement = "y*(1/sqrt(p*(2 - p)) - 1)"


class ParabolicLoss(TargetLoss):
    """The parabolic loss: concave in p, liberal for p < 0.707; hardly any gradient at the start of training.

    Source: see the module.
    """

    name = "parabolic"
    statement = "y*(1 - square(p))"


class CircleLoss(TargetLoss):
    """The circle loss: concave in p, infinite slope at p = 1, where the logits' gradient tends to 0 and is set to 0.

    Source: see the module. Not the metric-learning loss of the same name.
    """

    name = "circle"
    statement = "y*sqrt(1 - square(p))"


class CosLoss(TargetLoss):
    """The cosine loss: concave in p, liberal for p < 0.709.

    Source: see the module.
    """

    name = "cos"
    statement = "y*cos(pi/2*p)"


class MFullLoss(ClasswiseLoss):
    """M of every class.

    With two classes it is twice M. Continued by its tangents beyond c = 20 of the target and d = -log(1 - p) = 20 of
    any other class (float16 logits: 8).

    Source: see the module.
    """

    name = "m_full"
    statement = "y*expm1(c) + (1 - y)*p/(1 - p)"
    precise = True


class LFullLoss(ClasswiseLoss):
    """L of every class, with its minimum at 0.

    With two classes it is twice L. Continued by its tangents where a slope reaches e^20 (float16 logits: e^8).

    Source: see the module.
    """

    name = "l_full"
    statement = "y/sqrt(p*(2 - p)) + (1 - y)/sqrt((1 - p)*(1 + p)) - 1"
    precise = True
