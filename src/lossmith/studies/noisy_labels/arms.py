"""What is compared: a loss that learns from the clean set, and everything else that uses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lossmith.comparison.arms import SEARCH, Arm, Dimension
from lossmith.comparison.tuning import Setting
from lossmith.trials.trial import CleanUse

ADAPTIVE: Final = "adaptive"
CLEAN_SHARE: Final = "clean_share"
_META_LR: Final = Dimension("meta_lr", (1e-3, 3e-2), "log")


@dataclass(frozen=True)
class StudyArm(Arm):
    """One method of the study.

    Args:
        clean: what its model does with clean examples; see `Trial`.
        clean_share: see `Trial`; ignored where it is tuned.
        follows: the arm whose chosen setting it runs with, in place of tuning of its own; ``None``: it is tuned.
    """

    clean: CleanUse = "unused"
    clean_share: float = 0.0
    follows: str | None = None

    def share(self, setting: Setting) -> float:
        """The share of clean examples under a setting."""
        return self.named(setting).get(CLEAN_SHARE, self.clean_share)

    def named(self, setting: Setting) -> dict[str, float]:
        """The tuned values of a setting by name."""
        return {d.name: v for d, v in zip(self.tuned, setting.values or (), strict=True)}


def make_arms() -> list[StudyArm]:
    """All methods, the loss that learns first; each has at most one tuned value besides the learning rate."""
    ce = "cross_entropy"
    mixed, last = (Dimension(CLEAN_SHARE, limits, "log") for limits in ((0.02, 0.8), (0.05, 0.7)))
    return [
        StudyArm(ADAPTIVE, "adaptive:meta_lr=?", tuned=(_META_LR,)),
        StudyArm("CE on noisy", ce, "control"),
        StudyArm("CE on clean", ce, "control", clean="mixed", clean_share=1.0),
        StudyArm("CE on both", ce, "control", (mixed,), clean="mixed"),
        StudyArm("CE fine-tuned on clean", ce, "control", (last,), clean="last"),
        StudyArm("GCE", "gce:q=?", tuned=(SEARCH["gce", "q"],)),
        # The learning rate takes care of the scale, which leaves the ratio of its two terms.
        StudyArm("symmetric CE", "symmetric:alpha=?,beta=1", tuned=(SEARCH["symmetric", "alpha"],)),
        StudyArm("label smoothing", "label_smoothing:epsilon=?", tuned=(SEARCH["label_smoothing", "epsilon"],)),
        _replay("rate replay", "rate_replay"),
        _replay("loss replay", "loss_replay"),
    ]


def _replay(name: str, control: str) -> StudyArm:
    loss = f"adaptive:control={control},meta_lr=?"
    return StudyArm(name, loss, "control", (_META_LR,), follows=ADAPTIVE)
