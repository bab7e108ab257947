"""`AdaptiveLoss`, whose parameters are learned while the model trains."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Unpack, get_args

import torch
from torch import Tensor, nn
from typing_extensions import override

from lossmith.learned.frozen import FrozenLoss, common_arguments
from lossmith.learned.network import Activation, LossNetwork, Output
from lossmith.learned.recipe import MetaData, Recipe
from lossmith.learned.scale import Scale
from lossmith.losses import ClassificationLoss, ClasswiseLoss, CrossEntropyLoss, Wrapper
from lossmith.losses.arguments import Range, check_choice, whole_number
from lossmith.losses.base import CallOptions
from lossmith.losses.entries import Entries, Prepared, Probability
from lossmith.losses.wrapper import checked_base

Start = Literal["base", "random"]
Control = Literal["none", "scale", "rate_replay", "loss_replay"]
ClassReduction = Literal["mean", "sum"]


class AdaptiveLoss(Wrapper):
    """A loss that is learned: a base loss plus a small network ``l_phi(y_j, p_j)`` averaged over the classes.

    With ``start="base"`` the loss is ``M_phi = base + (1/C) sum_j l_phi(y_j, p_j)``, and the last layer of the network
    starts at 0, so that training starts exactly as with the base loss. With ``start="random"`` the base is left out, as
    in the paper. Adding ``a(y) + lambda p`` to ``l_phi`` changes no gradient, because probabilities sum to 1.

    The parameters are learned online by an `OnlineLossLearner`, offline by `learn_offline`, or both; the arguments from
    ``online`` on say which of these a trial does. The model's optimiser must not hold the parameters.

    Args:
        base: the initial loss; ``None`` is cross-entropy.
        start: ``"base"`` or ``"random"`` (Kaiming normal initialisation without a base).
        control: controls that show how much of a gain is due to adaptation. ``"scale"`` replaces the network by one
            learned factor: ``e^s base``. The other two exist in trials only: ``"rate_replay"`` multiplies each step's
            gradient of the base by the effective scale that the adaptive loss had at that step, and ``"loss_replay"``
            replays the losses that were learned under another seed.
        hidden: units per hidden layer.
        layers: number of hidden layers.
        activation: ``"smooth_leaky_relu"`` or ``"relu"``.
        output: ``"smooth_leaky_relu"``, ``"identity"`` or ``"softplus"``.
        beta: smoothness of the smooth leaky ReLU.
        gamma: its slope at minus infinity.
        bias: whether layers have biases.
        class_reduction: ``"mean"`` over the classes, as in the paper, or ``"sum"``, as in the authors' other code.
        init_seed: seed of the network's initial weights.
        online: whether the loss is learned while the model trains. `Recipe` describes this and the following arguments.
        meta_lr: learning rate of Adam for the loss's parameters.
        meta_data: ``"held_out"``, ``"fresh"``, ``"same"`` or ``"next"``.
        meta_part: fraction of the training examples held out.
        every: number of training steps per update of the loss.
        meta_share: fraction of each batch that an update uses.
        scale: ``"fixed"`` learns the shape of the loss only, ``"learned"`` its scale too. ``control="scale"`` always
            learns the scale.
        max_scale: largest effective scale when it is learned; ``None`` is 10.
        offline: number of offline steps before training.
        offline_lr: learning rate of the model in the offline steps.
        offline_meta_lr: learning rate of Adam in the offline steps.

    Source: Raymond, Chen, Xue, Zhang, "Online Loss Function Learning", 2023, arXiv 2301.13247. The network and its
    activation are from the method section of the paper, beta and gamma from other authors' code built on it. No source
    specifies the output activation and biases. Starting from a base loss is ours.
    """

    name = "adaptive"
    searched = (Range("meta_lr", (1e-5, 1e-2), "log"),)
    kind = "learned"

    def __init__(
        self,
        base: ClassificationLoss | None = None,
        *,
        start: Start = "base",
        control: Control = "none",
        hidden: int = 40,
        layers: int = 2,
        activation: Activation = "smooth_leaky_relu",
        output: Output = "smooth_leaky_relu",
        beta: float = 10.0,
        gamma: float = 0.01,
        bias: bool = False,
        class_reduction: ClassReduction = "mean",
        init_seed: int = 0,
        online: bool = True,
        meta_lr: float = 1e-3,
        meta_data: MetaData = "held_out",
        meta_part: float = 0.1,
        every: int = 1,
        meta_share: float = 1.0,
        scale: Scale = "fixed",
        max_scale: float | None = None,
        offline: int = 0,
        offline_lr: float = 0.1,
        offline_meta_lr: float = 1e-3,
    ) -> None:
        super().__init__()
        base = checked_base(base)
        check_choice("start", start, get_args(Start))
        check_choice("control", control, get_args(Control))
        check_choice("class_reduction", class_reduction, get_args(ClassReduction))
        if start == "random" and (control == "scale" or type(base) is not CrossEntropyLoss):
            raise ValueError("start='random' uses no base loss: leave out the loss in brackets, and control='scale'")
        self.base = copy.deepcopy(base)
        self.start, self.control, self.class_reduction = start, control, class_reduction
        self.init_seed = whole_number("init_seed", init_seed, low=0)
        self.recipe = Recipe(
            online,
            meta_lr,
            meta_data,
            meta_part,
            every,
            meta_share,
            "learned" if control == "scale" else scale,
            max_scale,
            offline,
            offline_lr,
            offline_meta_lr,
        )
        vars(self).update(asdict(self.recipe) | {"scale": scale})  # the text form looks arguments up by name
        network = LossNetwork(
            hidden,
            layers,
            activation=activation,
            output=output,
            beta=beta,
            gamma=gamma,
            bias=bias,
            silent=start == "base",
            seed=self.init_seed,
        )
        vars(self).update(network.settings)
        self.gain: Tensor
        self.register_buffer("gain", torch.ones(()))  # of the learner's last step
        self.residual: _NetworkLoss | None = None
        if control in {"scale", "rate_replay"}:
            self.log_scale = nn.Parameter(torch.zeros(()))
        else:
            self.residual = _NetworkLoss(network, class_reduction, **common_arguments(base, "reference"))

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

    def save(self, path: str | Path) -> None:
        """Save the loss to a ``.safetensors`` file; ``lossmith.create("@path")`` loads it, frozen.

        Args:
            path: the file to write.
        """
        from safetensors.torch import save_file

        path = Path(path)
        partial = path.with_name(path.name + ".part")
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, partial, {"loss": self.text})
        partial.replace(path)


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
