"""From the text form of a loss to a trial: a loss that learns also says how it is learned.

``adaptive:hidden=20,meta_lr=0.01`` is the loss ``adaptive:hidden=20`` with the stepper ``Adaptive(meta_lr=0.01)``; with
``control=rate_replay`` or ``control=loss_replay`` the stepper is a `Replay` of that training.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from lossmith import catalog
from lossmith.learned import LossNetwork
from lossmith.losses import ClassificationLoss
from lossmith.losses.arguments import Range
from lossmith.losses.text import LossText, LossTextError, Tune, Value, parse_loss, sum_text, terms_of
from lossmith.trials.trial import Adaptive, ModelTrainer, Plain, Replay, Trial

REPLAY_STREAM: Final = 2_000_003
"""Added to a trial's seed for the training whose learned losses it replays."""

_DEFAULTS: Final = {
    "adaptive": Adaptive(),
    "adaptive_regression": Adaptive(),
    "ml3": Adaptive(online=False, offline=250, offline_lr=0.01, scale="learned"),
}
_OF_ML3: Final = ("offline", "offline_lr", "meta_lr", "meta_data", "meta_part", "max_scale")
_REPLAYS: Final[Mapping[Value, Literal["rate", "loss"]]] = {"rate_replay": "rate", "loss_replay": "loss"}
SEARCHED: Final = {
    "adaptive": (Range("meta_lr", (1e-5, 1e-2), "log"),),
    "adaptive_regression": (Range("meta_lr", (1e-5, 1e-2), "log"),),
    "ml3": (Range("meta_lr", (1e-4, 1e-2), "log"),),
}
"""What ``?`` is tuned over of the settings that are not the loss's own, by name of the loss."""


@dataclass(frozen=True)
class Parsed:
    """A text form, taken apart.

    Attributes:
        loss: the loss alone.
        settings: of `Adaptive`, by name, ``?`` included.
        replay: what is replayed, if anything.
    """

    loss: LossText
    settings: dict[str, Value]
    replay: Literal["rate", "loss"] | None

    @property
    def learns(self) -> bool:
        """Whether the loss is one that is learned."""
        return self.loss.name in _DEFAULTS

    @property
    def adaptive(self) -> Adaptive:
        """How it is learned; settings with ``?`` keep their defaults."""
        given: dict[str, Any] = {name: value for name, value in self.settings.items() if not isinstance(value, Tune)}
        if dict(self.loss.arguments).get("control") == "scale" and given.setdefault("scale", "learned") == "fixed":
            raise LossTextError(f"{self.loss.name}: control=scale has only a scale to learn: leave out scale=fixed")
        try:
            return replace(_DEFAULTS[self.loss.name], **given)
        except ValueError as error:
            raise LossTextError(f"{self.loss.name}: {error}") from None


def parse(text: str) -> Parsed:
    """Take a text form apart.

    Args:
        text: of one loss.

    Returns:
        Its parts.

    Raises:
        ValueError: if the text is malformed, or no loss or setting has that name.
    """
    whole = catalog.opened(sum_text(terms_of(text)))  # 1*adaptive is adaptive
    if whole.name not in _DEFAULTS:
        return Parsed(whole, {}, None)
    arguments = dict(whole.arguments)
    replay = _REPLAYS.get(arguments.get("control")) if whole.name != "ml3" else None
    if replay is not None:
        del arguments["control"]
    known = default_values(whole.name)
    settings = {name: arguments.pop(name) for name in list(arguments) if name in _settings(whole.name)}
    for name in arguments:
        if name not in known and name not in ClassificationLoss.defaults():
            raise LossTextError(f"{whole.name} has no argument {name!r}: {catalog.nearest(name, known)}")
    return Parsed(LossText(whole.name, whole.inner, tuple(sorted(arguments.items()))), settings, replay)


def canonical(text: str) -> str:
    """Normalise a text form, as `lossmith.catalog.canonical` does, with the settings of a loss that learns.

    Args:
        text: of one loss; values may be ``?``.

    Returns:
        The canonical text.

    Raises:
        ValueError: if it names no loss.
    """
    return _canonical.__wrapped__(text) if "@" in text else _canonical(text)  # a saved loss is what its file is now


@functools.lru_cache(maxsize=4096)
def _canonical(text: str) -> str:
    parsed = parse(text)
    loss = parse_loss(catalog.canonical(str(parsed.loss)))
    if not parsed.learns:
        return str(loss)
    usual = asdict(_usual(parsed))
    settings = {name: value for name, value in asdict(parsed.adaptive).items() if value != usual[name]}
    tuned = {name: value for name, value in parsed.settings.items() if isinstance(value, Tune)}
    replay = {} if parsed.replay is None else {"control": f"{parsed.replay}_replay"}
    return str(replace(loss, arguments=tuple(sorted((dict(loss.arguments) | settings | tuned | replay).items()))))


def default_values(name: str) -> dict[str, Any]:
    """The default of each argument in the text form of a loss, those of learning it included."""
    settings = asdict(_DEFAULTS[name]) if name in _DEFAULTS else {}
    return catalog.defaults_of(name) | {setting: settings[setting] for setting in _settings(name)}


def with_loss(trial: Trial, text: str) -> Trial:
    """A trial with another loss, whose steps are taken as the text form says.

    Args:
        trial: everything but the loss, with a `Plain` stepper.
        text: of the loss, without ``?``.

    Returns:
        The trial.

    Raises:
        ValueError: if it names no loss.
    """
    parsed = parse(canonical(text))
    loss = str(parsed.loss)
    trainer = trial.trainer
    if isinstance(trainer, ModelTrainer) and not can_be_stacked(loss):
        trainer = replace(trainer, engine="single")
    if not parsed.learns:
        return replace(trial, trainer=trainer, loss=loss)
    if trial.stepper != Plain():
        raise LossTextError(f"{text} takes the clean examples as meta data: its model cannot train on them")
    learning = replace(trial, trainer=trainer, loss=loss, stepper=parsed.adaptive, probes=_with(trial.probes, "pull"))
    if parsed.replay is None:
        return learning
    if parsed.replay == "rate":
        alone = canonical(str(replace(parsed.loss, arguments=(("control", "scale"),))))
        return replace(learning, loss=alone, stepper=Replay(learning, "rate"))
    other = replace(learning, seed=trial.seed + REPLAY_STREAM, probes=("parameters",), final=False)
    return replace(learning, stepper=Replay(other, "loss"))


def _with(probes: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Probes and one more, unless it is among them."""
    return tuple(dict.fromkeys((*probes, name)))


@functools.lru_cache(maxsize=4096)
def can_be_stacked(text: str) -> bool:
    """Whether trainings with a loss may be stacked.

    They may not where the loss is or was a network, whose rounding depends on the number of examples.
    """
    return not parse(text).learns and not any(isinstance(part, LossNetwork) for part in catalog.create(text).modules())


def _settings(name: str) -> tuple[str, ...]:
    """The names of the settings of `Adaptive` that the text form of a loss may hold."""
    return () if name not in _DEFAULTS else _OF_ML3 if name == "ml3" else tuple(vars(_DEFAULTS[name]))


def _usual(parsed: Parsed) -> Adaptive:
    """How a loss is learned if the text does not say."""
    return replace(parsed, settings={}).adaptive
