"""The losses under test: every classification loss at its defaults and at the corners of its arguments."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from loss_formulas import Loss, formula
from reference import gamma
from torch import Tensor, nn

import lossmith
from lossmith.losses import DynamicalLoss

C = 4
COUNTS = [40.0, 10.0, 5.0, 1.0]
PER_CLASS = [0.5, 0.0, -1.0, 2.0]


def _text(name: str, arguments: dict[str, Any]) -> str:
    own = ",".join(f"{key}={value}".replace(" ", "") for key, value in arguments.items())
    return f"{name}:{own}" if own else name


class Case(NamedTuple):
    """One loss: its name and own arguments; for a dynamical one its base, its arguments and the steps taken."""

    name: str
    arguments: dict[str, Any]
    schedule: dict[str, Any] | None = None
    steps: int = 0

    @property
    def text(self) -> str:
        own = _text(self.name, {key: value for key, value in self.arguments.items() if key != "class_counts"})
        return own if self.schedule is None else f"{_text(f'dynamical({own})', self.schedule)}@{self.steps}"

    def make(self, **common: Any) -> nn.Module:
        """The library's loss."""
        loss = lossmith.create(self.name, **self.arguments, **common)
        if self.schedule is None:
            return loss
        loss = DynamicalLoss(loss, **self.schedule)
        for _ in range(self.steps):
            loss.step()
        return loss

    def formula(self, num_classes: int = C, log_slope: float = 20) -> Loss:
        """The reference's loss."""
        return formula(self.name, num_classes, log_slope, **self.arguments)

    def class_scale(self, num_classes: int = C) -> list[float] | None:
        """The reference's class weights of a dynamical loss."""
        return None if self.schedule is None else gamma(self.steps, num_classes, **self.schedule)


def case(text: str, schedule: dict[str, Any] | None = None, steps: int = 0, **arguments: Any) -> Case:
    if text == "logit_adjusted":
        arguments["class_counts"] = COUNTS
    return Case(text, arguments, schedule, steps)


CASES = [
    case("cross_entropy"),
    case("rooted"),
    case("rooted", k=1),
    case("rooted", k=0.5),
    case("rooted", k=math.inf),
    case("rooted", form="released"),
    case("rooted", form="released", k=8, m=10),
    case("rooted", form="released", k=math.inf),
    case("tempered"),
    case("tempered", kappa=0),
    case("tempered", kappa=-1),
    case("tempered", kappa=PER_CLASS),
    case("m"),
    case("param_m"),
    case("param_m", alpha=2),
    case("l"),
    case("parabolic"),
    case("circle"),
    case("cos"),
    case("m_full"),
    case("l_full"),
    case("ngl"),
    case("ngl", scaling="sigmoid"),
    case("ngl", class_reduction="sum", alpha=1.5),
    case("focal"),
    case("focal", gamma=0),
    case("focal", gamma=0.5),
    case("poly1"),
    case("poly1", epsilon=-1),
    case("gce"),
    case("gce", q=1),
    case("mae"),
    case("taylor"),
    case("taylor", order=5),
    case("symmetric"),
    case("symmetric", alpha=0, A=-6),
    case("bi_tempered"),
    case("bi_tempered", t1=0.5, t2=2),
    case("bi_tempered", t1=0.5, t2=0.5),
    case("bi_tempered", t1=1, t2=1),
    case("brier"),
    case("label_smoothing"),
    case("label_smoothing", epsilon=1),
    case("sparse_label_smoothing"),
    case("sparse_label_smoothing", epsilon=1),
    case("logit_adjusted"),
    case("logit_adjusted", tau=2),
    case("scaled", factor=2.5),
    case("cross_entropy", {"amplitude": 20, "period": 10}, 23),
    case("focal", {"amplitude": 70, "period": 5, "order": [2, 0, 3, 1]}, 8),
    case("ngl", {"amplitude": 3, "period": 6, "period_mode": "released"}, 17),
    case("tempered", {"amplitude": 5, "period": 4, "static_after": 12}, 14, kappa=PER_CLASS),
    case("m_full", {"amplitude": 20, "period": 7, "static_after": 40}, 11),
]
IDS = [each.text for each in CASES]
STATIC = [each for each in CASES if each.schedule is None]

# Losses whose value has no bound as the target's probability goes to 0.
BOUNDED = {"parabolic", "circle", "cos", "ngl", "gce", "mae", "taylor", "brier"}


def is_bounded(each: Case) -> bool:
    own = each.arguments
    return (
        each.name in BOUNDED
        or (each.name == "rooted" and own.get("form") == "released" and own.get("k") != math.inf)
        or (each.name == "tempered" and not isinstance(own.get("kappa", 1), list) and own.get("kappa", 1) < 0)
        or (each.name == "symmetric" and own.get("alpha") == 0)
        or (each.name == "bi_tempered" and own.get("t1", 0.8) < 1)
    )


def rows(logits: Tensor) -> list[list[float]]:
    """Logits or probabilities (N, C, ...) as one row of C numbers per sample."""
    return logits.detach().double().movedim(1, -1).reshape(-1, logits.shape[1]).tolist()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
