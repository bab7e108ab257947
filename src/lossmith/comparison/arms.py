"""What is compared: losses, each with what is tuned of it, and the controls no comparison goes without."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from lossmith.catalog import available
from lossmith.learned import LearnedLoss
from lossmith.losses import static_tail
from lossmith.losses.text import Term, Tune, Value, parse_loss, sum_text, terms_of
from lossmith.tasks import Task
from lossmith.trials.texts import SEARCHED, canonical, default_values, parse

EQUAL_TIME_LENGTH: Final = 3.0
"""What a step with a loss that learns online costs at least, in steps of the reference, if the gradient is exact."""

Role = Literal["candidate", "control"]


@dataclass(frozen=True)
class Dimension:
    """One value that is tuned besides the learning rate.

    Args:
        name: the loss's argument, or ``"weight_decay"`` of the optimiser.
        values: the values to choose from, ascending; or the lowest and highest of a continuous range.
        scale: ``"choices"``, ``"linear"`` or ``"log"``.
    """

    name: str
    values: tuple[float, ...]
    scale: Literal["choices", "linear", "log"] = "choices"

    def value(self, u: float) -> float:
        """The value at u in [0, 1): the quantile of the range or choices."""
        if self.scale == "choices":
            return self.values[min(int(u * len(self.values)), len(self.values) - 1)]
        low, high = self.values
        if self.scale == "linear":
            return float(f"{low + u * (high - low):.4g}")
        return float(f"{low * (high / low) ** u:.4g}")

    def position(self, value: float) -> float:
        """Where a value lies, in units of which neighbouring choices are 1 apart and a range is 4 long."""
        if self.scale == "choices":
            return float(min(range(len(self.values)), key=lambda i: abs(self.values[i] - value)))
        low, high = self.values
        if self.scale == "linear":
            return 4 * (value - low) / (high - low)
        return 4 * math.log(max(value, low) / low) / math.log(high / low)


@dataclass(frozen=True)
class Arm:
    """One row of a comparison.

    Args:
        name: what it is called.
        loss: canonical text of the loss, ``?`` where a value is tuned.
        role: ``"candidate"``, or ``"control"``, which is not counted among the losses tested.
        tuned: what is tuned besides the learning rate.
        stream: arms of one stream share their seeds: a loss that learns and its replays. Others have their own, so that
            the luck of one seed is not that of many losses.
        lr_scale: what its grid of learning rates is multiplied by: for SGD one over its gradient's norm at step 0
            relative to cross-entropy's, unless the loss learns; else 1.
        length: the steps of its trainings over those of the plan.
        replays: for a replay, the text of the loss that learns whose course it follows.
        replay: what is replayed of that loss: ``"rate"``, ``"loss"`` or nothing.
    """

    name: str
    loss: str
    role: Role = "candidate"
    tuned: tuple[Dimension, ...] = ()
    stream: int = 0
    lr_scale: float = 1.0
    length: float = 1.0
    replays: str | None = None
    replay: Literal["rate", "loss"] | None = None

    @property
    def default_positions(self) -> list[float]:
        """Where the defaults of the tuned dimensions lie; no weight decay is one step below the least."""
        defaults: dict[str, Any] = {}
        for term in terms_of(self.loss):
            defaults |= default_values(parse_loss(term.text).name)
        positions = []
        for dimension in self.tuned:
            value = defaults.get(dimension.name)
            positions.append(-1.0 if value is None else dimension.position(float(value)))
        return positions

    def loss_with(self, values: Sequence[float] | None = None) -> str:
        """The canonical text of the loss with values in place of ``?``; without values, its defaults."""
        given = {} if values is None else {d.name: v for d, v in zip(self.tuned, values, strict=True)}
        terms = [Term(term.factor, _with_values(term.text, given)) for term in terms_of(self.loss)]
        return canonical(str(sum_text(terms)))


@dataclass(frozen=True)
class Baselines:
    """The names of the arms that no comparison goes without.

    Args:
        reference: the loss that all others are compared with.
        rival: the tuned loss that must be beaten too, such as label smoothing.
    """

    reference: str
    rival: str

    @classmethod
    def of(cls, task: Task) -> Baselines:
        """Those of a task."""
        return cls(task.reference, f"{parse_loss(task.rival).name} (tuned)")

    @property
    def again(self) -> str:
        """The reference, tuned and seeded anew: its difference from the reference is the size of noise."""
        return f"{self.reference} (again)"

    def both(self, trained: Collection[str]) -> list[str]:
        """The two arms of the reference, as far as they could be trained: losses are compared with their mean."""
        return [name for name in (self.reference, self.again) if name in trained]

    @property
    def weight_decay(self) -> str:
        """The reference with weight decay tuned."""
        return f"{self.reference} + weight decay"

    @property
    def equal_time(self) -> str:
        """The reference with as much time as a loss that learns takes."""
        return f"{self.reference} ({EQUAL_TIME_LENGTH:g} times the steps)"


SEARCH: Final = {
    (info.name, each.argument): Dimension(each.argument, each.values, each.scale)
    for info in available()
    for each in (*info.loss_class.searched, *SEARCHED.get(info.name, ()))
}
"""What a `?` is tuned over, by loss and argument: what the losses say."""
_WEIGHT_DECAY: Final = {
    "sgd": Dimension("weight_decay", (1e-5, 1e-4, 3e-4, 1e-3, 3e-3)),
    "adam": Dimension("weight_decay", (0.01, 0.03, 0.1, 0.3, 1.0)),
}


def default_losses(task: Task, steps: int) -> list[str]:
    """Every loss of the catalog that the task can train with, but those that are controls anyway.

    Args:
        task: what scores a training.
        steps: length of a training; the dynamical loss gets a period that lets each class have its turn, and a
            static last sixth.

    Returns:
        Text forms.
    """
    losses = []
    for info in (info for kind in task.loss_kinds for info in available(kind)):
        if issubclass(info.loss_class, LearnedLoss):
            continue
        if info.name == "dynamical":
            period = max(2, 5 * steps // (6 * task.outputs))
            tail = min(period * task.outputs, static_tail(steps, period))
            losses.append(f"dynamical:amplitude=20,period={period},static_after={tail}")
        elif info.name not in {task.reference, "scaled", "formula", "logit_adjusted"}:
            losses.append(info.name)
    return [*losses, *task.sums]


def make_arms(
    task: Task, losses: Sequence[str], optimizer: str, class_counts: Sequence[int] | None = None
) -> list[Arm]:
    """The arms of a comparison: its controls, then the losses asked for.

    Args:
        task: what scores a training.
        losses: text forms; the reference may be named and is a control anyway.
        optimizer: ``"sgd"``, ``"adam"`` or ``"adamw"``.
        class_counts: how often each class occurs in training, where class-weighted and logit-adjusted cross-entropy
            are controls too.

    Returns:
        Arms with distinct names, the reference first. Where a loss learns online, one of the controls is the reference
        with three times the steps.

    Raises:
        ValueError: if a loss is unknown, or asks to tune what has no range.
    """
    decay = _WEIGHT_DECAY["sgd" if optimizer == "sgd" else "adam"]
    names, reference, rival = Baselines.of(task), task.reference, canonical(task.rival)
    arms = [
        Arm(reference, reference, "control"),
        Arm(names.again, reference, "control", stream=1),
        Arm(names.weight_decay, reference, "control", (decay,)),
        Arm(names.rival, rival, "control", _dimensions(rival)),
    ]
    if class_counts is not None:
        mean = sum(class_counts) / len(class_counts)
        weight = ",".join(f"{mean / count:.4g}" for count in class_counts)
        adjusted = canonical("logit_adjusted")
        arms.append(Arm(f"{reference} (class-weighted)", canonical(f"{reference}:weight=[{weight}]"), "control"))
        if adjusted not in map(canonical, losses):  # who asks for it asks for a verdict on it
            arms.append(Arm(adjusted, adjusted, "control"))
    asked: list[Arm] = []
    for text in losses:
        loss = canonical(text)
        if loss not in {arm.name for arm in arms + asked} and loss != rival:
            asked.append(_asked_for(loss))
    if any(_learns_online(arm) for arm in asked):
        arms.append(Arm(names.equal_time, reference, "control", length=EQUAL_TIME_LENGTH))
    others = [replace(arm, stream=_stream(arm.replays or arm.name)) for arm in arms[2:] + asked]
    return arms[:2] + others


def _stream(name: str) -> int:
    """Seeds that belong to a name: the same whatever else is compared."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") | 2  # 0 and 1 are the reference's


def _with_values(loss: str, given: Mapping[str, float]) -> str:
    """The text of one loss with values in place of ``?``, or without the argument where none is given."""
    text = parse_loss(loss)
    arguments: list[tuple[str, Value]] = []
    for name, value in text.arguments:
        if not isinstance(value, Tune):
            arguments.append((name, value))
        elif name in given:
            arguments.append((name, given[name]))
    return str(replace(text, arguments=tuple(arguments)))


def _asked_for(loss: str) -> Arm:
    """A loss that is asked for is a candidate, unless it says itself that it is a control."""
    parsed, text = parse(loss), parse_loss(loss)
    if any("?" in (parse_loss(term.text).inner or "") for term in terms_of(loss)):
        raise ValueError(f"{loss}: a value in brackets cannot be tuned: give it, or tune that loss on its own")
    role: Role = "control" if dict(text.arguments).get("control", "none") != "none" else "candidate"
    arm = Arm(loss, loss, role, _dimensions(loss))
    if parsed.replay is None:
        return arm
    own = replace(text, arguments=tuple(each for each in text.arguments if each[0] != "control"))
    return replace(arm, replays=canonical(str(own)), replay=parsed.replay)


def _learns_online(arm: Arm) -> bool:
    parsed = parse(arm.loss_with())
    return parsed.learns and parsed.adaptive.online


def _dimensions(loss: str) -> tuple[Dimension, ...]:
    """What is tuned of a loss, or of the terms of a sum."""
    dimensions: dict[str, Dimension] = {}
    for text in (parse_loss(term.text) for term in terms_of(loss)):
        for name, value in text.arguments:
            if not isinstance(value, Tune):
                continue
            if (text.name, name) not in SEARCH:
                known = [argument for of, argument in SEARCH if of == text.name]
                raise ValueError(
                    f"{name}=? of {text.name} cannot be tuned: "
                    + (f"of this loss {', '.join(known)} can" if known else "nothing of this loss can")
                )
            if name in dimensions:
                raise ValueError(f"{loss} has {name}=? twice: give a value to one of them")
            dimensions[name] = SEARCH[text.name, name]
    return tuple(dimensions.values())
