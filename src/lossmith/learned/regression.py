"""`AdaptiveRegressionLoss`, a regression loss with learned parameters."""

from __future__ import annotations

import copy
from typing import Self, Unpack

from torch import Tensor
from typing_extensions import override

from lossmith.learned.network import NetworkArguments
from lossmith.learned.parameters import Control, LearnedLoss, Start
from lossmith.losses import MeanSquaredErrorLoss, RegressionLoss
from lossmith.losses.reductions import Reduction
from lossmith.losses.regression import check_shapes


class AdaptiveRegressionLoss(LearnedLoss, RegressionLoss):
    """A regression loss that is learned: the squared error plus a small network ``l_phi(y, f)``.

    Args:
        start: ``"base"`` starts as the squared error; ``"random"`` uses the network alone, as in the paper.
        control: ``"scale"`` replaces the network by one learned factor of the squared error.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        init_seed: seed of the network's initial weights.
        **network: see `LossNetwork`.

    Source: see `AdaptiveLoss`. For regression the inputs of the network are the target and the prediction.
    """

    name = "adaptive_regression"
    base: RegressionLoss

    def __init__(
        self,
        *,
        start: Start = "base",
        control: Control = "none",
        reduction: Reduction = "mean",
        init_seed: int = 0,
        **network: Unpack[NetworkArguments],
    ) -> None:
        super().__init__(reduction=reduction)
        if start == "random" and control == "scale":
            raise ValueError("start='random' uses no base loss: leave out control='scale'")
        self.base = MeanSquaredErrorLoss(reduction=reduction)
        self.network = self.make_parameters(start, control, init_seed, **network)
        self.factor = 1.0
        self.source: str | None = None

    @property
    @override
    def text(self) -> str:
        return super().text if self.source is None else f"@{self.source}"

    @override
    def per_sample(self, prediction: Tensor, target: Tensor) -> Tensor:
        check_shapes(prediction, target)
        if self.network is None:
            terms: Tensor = self.log_scale.exp() * self.base.per_sample(prediction, target)
        else:
            terms = self.network(target, prediction)
            if self.start == "base":
                terms = terms + self.base.per_sample(prediction, target)
        return terms if self.factor == 1 else self.factor * terms

    def freeze(self) -> Self:
        """Return a frozen copy of the loss with its current parameters.

        It includes the factor by which `OnlineLossLearner` multiplied the loss in its last step.
        """
        own = copy.deepcopy(self).requires_grad_(requires_grad=False)
        own.factor = float(own.gain) * self.factor
        return own
