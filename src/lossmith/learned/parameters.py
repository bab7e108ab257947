"""What losses with learned parameters have in common."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Literal, Unpack, get_args

import torch
from torch import Tensor, nn
from typing_extensions import override

from lossmith.learned.network import LossNetwork, NetworkArguments
from lossmith.losses.arguments import check_choice, defaults_of, whole_number
from lossmith.losses.loss import Loss

Start = Literal["base", "random"]
Control = Literal["none", "scale"]


class LearnedLoss(Loss):
    """Base of the losses that are learned: a base loss with a small network beside it, or with one learned factor.

    Attributes:
        base: the loss it starts as, a function of prediction and target.
        control: ``"scale"`` if what is learned is the factor ``e^log_scale`` of the base.
        gain: the factor of the loss in the last step of an `OnlineLossLearner`.
    """

    base: Loss
    control: Control
    gain: Tensor

    @classmethod
    @override
    def defaults(cls) -> dict[str, Any]:
        own = super().defaults()
        if "network" not in inspect.signature(cls).parameters:
            return own
        return own | {n: v for n, v in defaults_of(LossNetwork).items() if n in NetworkArguments.__annotations__}

    def make_parameters(
        self, start: Start, control: Control, init_seed: int, **network: Unpack[NetworkArguments]
    ) -> LossNetwork | None:
        """Make what is learned; for constructors of subclasses.

        Args:
            start: ``"base"`` or ``"random"``.
            control: ``"none"`` or ``"scale"``.
            init_seed: seed of the network's initial weights.
            **network: arguments of `LossNetwork`.

        Returns:
            The network, ``None`` for ``control="scale"``.

        Raises:
            ValueError: if an argument is out of range.
        """
        check_choice("start", start, get_args(Start))
        check_choice("control", control, get_args(Control))
        self.start, self.control = start, control
        self.init_seed = whole_number("init_seed", init_seed, low=0)
        made = LossNetwork(**network, silent=start == "base", seed=self.init_seed)
        vars(self).update(made.settings)  # the text form looks arguments up by name
        self.register_buffer("gain", torch.ones(()))
        if control == "none":
            return made
        self.log_scale = nn.Parameter(torch.zeros(()))
        return None

    def freeze(self) -> Loss:
        """Return the loss with its current parameters, frozen."""
        raise NotImplementedError

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
