"""What is compared: squared error and its controls, other losses, and losses that learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.catalog import create
from lossmith.comparison.arms import Arm, Dimension, Role
from lossmith.learned import AdaptiveRegressionLoss

SQUARED: Final = "squared error"
AGAIN: Final = "squared error (again)"
WEIGHT_DECAY: Final = "squared error + weight decay"
LONGER: Final = "squared error, 3x steps"
SCALE: Final = "learned scale"
ONLINE: Final = "online"
RATE_REPLAY: Final = "rate replay of online"
LOSS_REPLAY: Final = "loss replay of online"

Base = Literal["squared", "absolute", "huber", "smae"]
Learns = Literal["nothing", "scale", "network", "network from random"]
Replay = Literal["nothing", "rate", "loss"]
LossFunction = Callable[[Tensor, Tensor], Tensor]

_DEFAULTS: Final = {"delta": 1.0, "meta_lr": 1e-3}
_META_LR: Final = Dimension("meta_lr", (1e-5, 1e-2), "log")
_DELTA: Final = Dimension("delta", (0.1, 5.0), "log")
_DECAY: Final = Dimension("weight_decay", (1e-5, 1e-4, 1e-3, 1e-2, 1e-1))


@dataclass(frozen=True)
class RegressionArm(Arm):
    """One row of the study.

    Args:
        base: the loss, or what a loss that learns begins as.
        learns: what of it is learned.
        online: whether it learns while the model trains.
        offline: whether it learns before.
        held_out: whether its meta data is a part of the training part that its model never trains on; else the next
            batch (online) or a fresh one (offline).
        replay: what of the online arm is played back.
        length: times as many steps as other arms.
    """

    base: Base = "squared"
    learns: Learns = "nothing"
    online: bool = False
    offline: bool = False
    held_out: bool = False
    replay: Replay = "nothing"
    length: int = 1

    @property
    def default_positions(self) -> list[float]:
        """See `Arm.default_positions`."""
        return [-1.0 if d.name not in _DEFAULTS else d.position(_DEFAULTS[d.name]) for d in self.tuned]

    def named(self, values: tuple[float, ...] | None) -> dict[str, float]:
        """All values by name: those tuned, and the defaults of what is not."""
        return _DEFAULTS | self.tuned_values(values)

    def tuned_values(self, values: tuple[float, ...] | None) -> dict[str, float]:
        """The tuned values by name; ``None``: their defaults, which is 0 for weight decay."""
        names = [dimension.name for dimension in self.tuned]
        return dict(zip(names, [_DEFAULTS.get(n, 0.0) for n in names] if values is None else values, strict=True))


class ScaledSquaredError(nn.Module):
    """``e^s (f - y)^2 / 2``, with one parameter s, at first 0."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over the batch."""
        return self.log_scale.exp() * half_squared_error(prediction, target)


def make_arms() -> list[RegressionArm]:
    """All arms, squared error first.

    Returns:
        Arms with distinct names; the online arm stands before its replays.
    """
    control = partial(_arm, "control")
    learned = partial(_arm, tuned=(_META_LR,), learns="network")
    return [
        control(SQUARED),
        control(AGAIN, stream=1),
        control(WEIGHT_DECAY, tuned=(_DECAY,)),
        control(LONGER, length=3),
        _arm("candidate", "absolute error", base="absolute"),
        _arm("candidate", "Huber, tuned delta", base="huber", tuned=(_DELTA,)),
        _arm("candidate", "smae", base="smae"),
        control(SCALE, tuned=(_META_LR,), learns="scale", online=True),
        _arm(
            "candidate",
            "ML3 (offline, random start)",
            tuned=(_META_LR,),
            learns="network from random",
            offline=True,
            held_out=True,
        ),
        learned("candidate", "offline", offline=True),
        learned("candidate", ONLINE, online=True),
        learned("candidate", "online, held-out", online=True, held_out=True),
        learned("candidate", "online + offline", online=True, offline=True),
        learned("control", RATE_REPLAY, replay="rate"),
        learned("control", LOSS_REPLAY, replay="loss"),
    ]


def make_loss(arm: RegressionArm, values: dict[str, float], seed: int) -> nn.Module | LossFunction:
    """The loss of an arm before anything is learned.

    Args:
        arm: the arm.
        values: what is tuned, by name.
        seed: of the weights of a loss network.

    Returns:
        A function of prediction and target, a module with parameters if it learns; means over the batch. Errors are
        halved so that near 0 all have the slope of half the squared error, where they have one.
    """
    if arm.learns == "scale":
        return ScaledSquaredError()
    if arm.learns == "network":
        return AdaptiveRegressionLoss(init_seed=seed)
    if arm.learns == "network from random":
        return AdaptiveRegressionLoss(start="random", hidden=50, activation="relu", output="softplus", init_seed=seed)
    if arm.base == "squared":
        return half_squared_error
    if arm.base == "absolute":
        return F.l1_loss
    return partial(F.huber_loss, delta=values["delta"]) if arm.base == "huber" else create("smooth_absolute_error")


def half_squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Half the mean squared error."""
    return 0.5 * F.mse_loss(prediction, target)


def _arm(
    role: Role,
    name: str,
    *,
    tuned: tuple[Dimension, ...] = (),
    stream: int = 0,
    base: Base = "squared",
    learns: Learns = "nothing",
    online: bool = False,
    offline: bool = False,
    held_out: bool = False,
    replay: Replay = "nothing",
    length: int = 1,
) -> RegressionArm:
    return RegressionArm(
        name,
        name,
        role,
        tuned,
        stream,
        base=base,
        learns=learns,
        online=online,
        offline=offline,
        held_out=held_out,
        replay=replay,
        length=length,
    )
