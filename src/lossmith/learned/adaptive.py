"""`AdaptiveLoss`, whose parameters are learned while the model trains."""

from __future__ import annotations

import copy
from typing import Any, Literal, Unpack, get_args

import torch
from torch import Tensor
from typing_extensions import override

from lossmith.learned.frozen import FrozenLoss, common_arguments
from lossmith.learned.network import LossNetwork, NetworkArguments
from lossmith.learned.parameters import Control, LearnedLoss, Start
from lossmith.losses import ClassificationLoss, ClasswiseLoss, CrossEntropyLoss, Wrapper
from lossmith.losses.arguments import check_choice
from lossmith.losses.entries import Entries, Prepared, Probability
from lossmith.losses.loss import CallOptions
from lossmith.losses.wrapper import checked_base

ClassReduction = Literal["mean", "sum"]


class AdaptiveLoss(LearnedLoss, Wrapper):
    """A loss that is learned: a base loss plus a small network ``l_phi(y_j, p_j)`` averaged over the classes.

    With ``start="base"`` the loss is ``M_phi = base + (1/C) sum_j l_phi(y_j, p_j)``, and the last layer of the network
    starts at 0, so that training starts exactly as with the base loss. With ``start="random"`` the base is left out, as
    in the paper. Adding ``a(y) + lambda p`` to ``l_phi`` changes no gradient, because probabilities sum to 1.

    The parameters are learned online by an `OnlineLossLearner`, offline by `learn_offline`, or both. The model's
    optimiser must not hold them.

    Args:
        base: the initial loss; ``None`` is cross-entropy.
        start: ``"base"`` or ``"random"`` (Kaiming normal initialisation without a base).
        control: ``"scale"`` replaces the network by one learned factor, ``e^s base``: a control that shows how much of
            a gain is a learned learning rate.
        class_reduction: ``"mean"`` over the classes, as in the paper, or ``"sum"``, as in the authors' other code.
        init_seed: seed of the network's initial weights.
        **network: see `LossNetwork`.

    Source: Raymond, Chen, Xue, Zhang, "Online Loss Function Learning", 2023, arXiv 2301.13247. The network and its
    activation are from the method section of the paper, beta and gamma from other authors' code built on it. No source
    specifies the output activation and biases. Starting from a base loss is ours.
    """

    name = "adaptive"
    kind = "learned"
    base: ClassificationLoss

    def __init__(
        self,
        base: ClassificationLoss | None = None,
        *,
        start: Start = "base",
        control: Control = "none",
        class_reduction: ClassReduction = "mean",
        init_seed: int = 0,
        **network: Unpack[NetworkArguments],
    ) -> None:
        super().__init__()
        base = checked_base(base)
        check_choice("class_reduction", class_reduction, get_args(ClassReduction))
        if start == "random" and (control == "scale" or type(base) is not CrossEntropyLoss):
            raise ValueError("start='random' uses no base loss: leave out the loss in brackets, and control='scale'")
        self.base = copy.deepcopy(base)
        self.class_reduction = class_reduction
        learned = self.make_parameters(start, control, init_seed, **network)
        self.residual: _NetworkLoss | None = None
        if learned is not None:
            self.residual = _NetworkLoss(learned, class_reduction, **common_arguments(base, "reference"))

    @override
    def evaluate(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        options["implementation"] = "reference"  # to learn, a loss needs second derivatives, which the kernels lack
        if self.residual is None:
            return self.log_scale.exp() * self.base.evaluate(logits, target, **options)
        residual = self.residual.evaluate(logits, target, **options)
        return residual if self.start == "random" else residual + self.base.evaluate(logits, target, **options)

    def extended(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mask of the samples in the base's tangent extension; see `ClassificationLoss.extended`."""
        if self.start == "random":
            return torch.zeros_like(target, dtype=torch.bool)
        return super().extended(logits, target)

    def freeze(self) -> FrozenLoss:
        """Return the loss with its current parameters, frozen.

        It includes the factor by which `OnlineLossLearner` multiplied the loss in its last step.

        Returns:
            A copy that later changes of this loss do not affect.
        """
        own = copy.deepcopy(self)
        factor = float(own.gain)
        if own.residual is None:
            return FrozenLoss([own.base], factor * float(own.log_scale.detach().exp()))
        return FrozenLoss([own.residual] if own.start == "random" else [own.base, own.residual], factor)


class _NetworkLoss(ClasswiseLoss):
    """``sum_j l_phi(y_j, p_j)``, or the mean over the classes."""

    name = "network"

    def __init__(self, network: LossNetwork, class_reduction: ClassReduction, **common: Any) -> None:
        super().__init__(**common)
        self.network, self.class_reduction = network, class_reduction

    @override
    def label_terms(self, prepared: Prepared, target: Tensor) -> Tensor:
        if self.label_smoothing:
            return super().label_terms(prepared, target)
        # One pass of the network over all classes in place of three.
        dim, valid = prepared.entries.dim, target != self.ignore_index
        p = self.probability(prepared).value
        y = torch.zeros_like(p).scatter(dim, target.where(valid, 0).unsqueeze(dim), 1.0)
        terms: Tensor = self.network(y, p).sum(dim)
        mass = self.target_weight(prepared.class_weight, target)
        return self.weighted(terms, mass, prepared).where(valid, 0.0)

    @override
    def positive(self, p: Probability, entries: Entries) -> Tensor:
        value: Tensor = self.network(1.0, p.value)
        return value

    @override
    def negative(self, p: Probability, entries: Entries) -> Tensor:
        value: Tensor = self.network(0.0, p.value)
        return value

    @override
    def class_factor(self, entries: Entries) -> float:
        return 1.0 if self.class_reduction == "sum" else 1 / entries.num_classes
