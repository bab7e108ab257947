"""`AdaptiveRegressionLoss`, a regression loss with learned parameters."""

from __future__ import annotations

import copy
from typing import Any, Self, Unpack, get_args

import torch
from torch import Tensor
from typing_extensions import override

from lossmith.learned.adaptive import Start
from lossmith.learned.network import LossNetwork, NetworkArguments
from lossmith.losses import RegressionLoss
from lossmith.losses.arguments import check_choice, defaults_of, whole_number
from lossmith.losses.reductions import Reduction
from lossmith.losses.regression import check_shapes


class AdaptiveRegressionLoss(RegressionLoss):
    """A regression loss that is learned: half the squared error plus a small network ``l_phi(y, f)``.

    Args:
        start: ``"base"`` starts as half the squared error; ``"random"`` uses the network alone, as in the paper.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        init_seed: seed of the network's initial weights.
        **network: see `LossNetwork`.

    Source: see `AdaptiveLoss`. For regression the inputs of the network are the target and the prediction.
    """

    name = "adaptive_regression"

    def __init__(
        self,
        *,
        start: Start = "base",
        reduction: Reduction = "mean",
        init_seed: int = 0,
        **network: Unpack[NetworkArguments],
    ) -> None:
        super().__init__(reduction=reduction)
        check_choice("start", start, get_args(Start))
        self.start = start
        self.init_seed = whole_number("init_seed", init_seed, low=0)
        self.network = LossNetwork(**network, silent=start == "base", seed=self.init_seed)
        vars(self).update(self.network.settings)  # the text form looks arguments up by name
        self.gain: Tensor
        self.register_buffer("gain", torch.ones(()))  # of the learner's last step
        self.factor = 1.0

    @classmethod
    @override
    def defaults(cls) -> dict[str, Any]:
        network = {
            name: value for name, value in defaults_of(LossNetwork).items() if name in NetworkArguments.__annotations__
        }
        return super().defaults() | network

    @override
    def per_sample(self, prediction: Tensor, target: Tensor) -> Tensor:
        check_shapes(prediction, target)
        terms: Tensor = self.network(target, prediction)
        if self.start == "base":
            terms = terms + 0.5 * (prediction - target).square()
        return terms if self.factor == 1 else self.factor * terms

    def base(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Half the squared error, the initial loss; see `forward`."""
        return self.reduced(0.5 * (prediction - target).square())

    def freeze(self) -> Self:
        """Return a frozen copy of the loss with its current parameters.

        It includes the factor by which `OnlineLossLearner` multiplied the loss in its last step.
        """
        own = copy.deepcopy(self).requires_grad_(requires_grad=False)
        own.factor = float(own.gain) * self.factor
        return own
