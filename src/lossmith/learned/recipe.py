"""How a trial learns an adaptive loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lossmith.learned.scale import Scale, cap_on_scale
from lossmith.losses.arguments import check_choice, check_number, whole_number

MetaData = Literal["held_out", "fresh", "same", "next"]


@dataclass(frozen=True)
class Recipe:
    """The settings with which a trial learns an adaptive loss.

    Custom training loops pass these settings to `OnlineLossLearner` and `learn_offline` directly.

    Args:
        online: whether the loss is learned while the model trains.
        meta_lr: learning rate of Adam for the loss's parameters.
        meta_data: the data of the task loss: ``"held_out"`` training examples that the model does not see, a
            ``"fresh"`` training batch, the ``"same"`` batch, or the ``"next"`` one.
        meta_part: fraction of the training examples that are held out.
        every: number of training steps per update of the loss.
        meta_share: fraction of each batch that an update uses.
        scale: ``"fixed"`` or ``"learned"``; see `OnlineLossLearner`.
        max_scale: largest effective scale when it is learned.
        offline: number of offline steps before training.
        offline_lr: learning rate of the model's plain SGD steps in the offline phase.
        offline_meta_lr: learning rate of Adam in the offline phase.
    """

    online: bool = True
    meta_lr: float = 1e-3
    meta_data: MetaData = "held_out"
    meta_part: float = 0.1
    every: int = 1
    meta_share: float = 1.0
    scale: Scale = "fixed"
    max_scale: float | None = None
    offline: int = 0
    offline_lr: float = 0.1
    offline_meta_lr: float = 1e-3

    def __post_init__(self) -> None:
        if not isinstance(self.online, bool):
            raise ValueError(f"online must be true or false, not {self.online!r}")
        check_choice("meta_data", self.meta_data, get_args(MetaData))
        check_number("meta_lr", self.meta_lr, low=0.0, high=10.0)
        check_number("meta_part", self.meta_part, low=0.01, high=0.9)
        check_number("meta_share", self.meta_share, low=0.01, high=1.0)
        cap_on_scale(self.scale, self.max_scale)
        check_number("offline_lr", self.offline_lr, low=1e-6, high=1e3)
        check_number("offline_meta_lr", self.offline_meta_lr, low=0.0, high=10.0)
        for name, low in (("every", 1), ("offline", 0)):  # numbers in a text form are floats
            object.__setattr__(self, name, whole_number(name, getattr(self, name), low=low))
