"""What the probes of one training wrote down, in panels: for the page of its dynamics and for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossmith.catalog import create
from lossmith.dynamics.instability import Instability, instabilities, sharpness_around
from lossmith.dynamics.measurements import MEASUREMENTS
from lossmith.losses import DynamicalLoss
from lossmith.losses.dynamical import gamma
from lossmith.losses.text import parse_loss
from lossmith.report.method import optimizer_said
from lossmith.report.reading import clean
from lossmith.trials.models import ModelError
from lossmith.trials.probes import INSTABILITY
from lossmith.trials.result import Series
from lossmith.trials.saving import load_series

Array = NDArray[np.float64]

_POINTS: Final = 4000
_KINDS: Final = {2: "period 2", 4: "period 4", None: "chaos"}


@dataclass(frozen=True)
class Panel:
    """A plot of series over steps.

    Attributes:
        title: what it shows.
        reading: how to read it.
        steps: numbers of steps taken, ascending.
        lines: by name, one value for each step.
        log: whether the axis upwards is logarithmic.
        dashed: the line that is a threshold.
    """

    title: str
    reading: str
    steps: Array
    lines: dict[str, Array]
    log: bool = False
    dashed: str = ""


@dataclass(frozen=True)
class Onset:
    """An instability, and the sharpness where it begins.

    Attributes:
        of: the instability.
        sharpness: the mean of both branches over 50 steps before and after; NaN where it was not measured.
        threshold: of the optimiser at the nearest measurement; NaN likewise.
    """

    of: Instability
    sharpness: float
    threshold: float

    @property
    def kind(self) -> str:
        """Its period in words."""
        return _KINDS[self.of.period]


@dataclass(frozen=True)
class Course:
    """The course of a training.

    Attributes:
        loss: text form.
        facts: of the training, in a few words each.
        steps: its length.
        panels: what was measured.
        onsets: its instabilities; ``None``: the losses of its steps were not kept.
        diverged: the first step whose loss was not finite; ``None``: there is none.
        losses: how many were kept.
    """

    loss: str
    facts: tuple[str, ...]
    steps: int
    panels: tuple[Panel, ...]
    onsets: tuple[Onset, ...] | None
    diverged: int | None
    losses: int


def load_course(folder: Path) -> Course:
    """Read the course of a training that ``lossmith train`` saved.

    Raises:
        ValueError: if the folder holds none, or it is damaged; one sentence.
    """
    described, series = load_series(folder)
    try:
        for of in series.values():
            _check(of)
        return course_of(described, series)
    except (LookupError, TypeError, AttributeError, ValueError, RuntimeError):
        raise ModelError(f"the series in {folder} are damaged: train it anew") from None


def course_of(described: dict[str, Any], series: dict[str, Series]) -> Course:
    """The course of a training.

    Args:
        described: its trial and task as plain values.
        series: what was measured.
    """
    trial, classes = described["trial"], described["task"].get("classes") or ()
    named = {parse_loss(name).name: of for name, of in series.items() if " " not in name}
    losses, optimizer, steps = named.get(INSTABILITY), trial["optimizer"], int(trial["steps"])
    how = optimizer_said(str(optimizer["name"]), float(optimizer["momentum"]), nesterov=bool(optimizer["nesterov"]))
    facts = (
        clean(str(trial["trainer"]["model"])).partition("#")[0],
        f"{steps:,} steps of {trial['trainer']['batch_size']} examples",
        f"{clean(how)}, learning rate {optimizer['lr']:g}",
    )
    panels = (
        *_class_weights(trial["loss"], len(classes), steps),
        *([] if losses is None else _loss(losses)),
        *(_panel("margin", named, _ACCURACY) if "margin" in named else _score(series)),
        *(panel for name, shown in _SHOWN.items() if name in named for panel in _panel(name, named, shown)),
    )
    onsets = None if losses is None else tuple(_onsets(losses, named.get("sharpness")))
    wild = np.array([]) if losses is None else np.flatnonzero(~np.isfinite(losses.values))
    diverged, kept = int(wild[0]) if len(wild) else None, 0 if losses is None else len(losses.values)
    return Course(clean(str(trial["loss"])), facts, steps, panels, onsets, diverged, kept)


def _check(of: Series) -> None:
    """Refuse what is no series of real numbers."""
    if of.steps.dtype.kind not in "iu" or of.values.dtype.kind not in "fiu" or of.steps.shape != of.values.shape[:1]:
        raise ValueError("it is no series of numbers")


@dataclass(frozen=True)
class _Shown:
    """How a series is shown: title and reading of its panel, and which of its columns."""

    title: str
    reading: str
    columns: tuple[str, ...]
    log: bool = False
    dashed: str = ""


_ACCURACY: Final = _Shown("Accuracy", "On the training examples that are measured.", ("accuracy",))
_SHOWN: Final = {
    "sharpness": _Shown(
        "Sharpness",
        "The largest eigenvalue of the Hessian. Above the dashed threshold a step overshoots.",
        ("sharpness", "threshold"),
        log=True,
        dashed="threshold",
    ),
    "ntk": _Shown("Tangent kernel", "Its largest eigenvalue.", ("largest eigenvalue",), log=True),
    "margin": _Shown("Margins", "The logit of the target minus the largest of the others.", ("smallest", "median")),
    "scale": _Shown("Effective scale", "Of the loss that learned.", ("scale",)),
}


_COLUMNS: Final = {"scale": ("scale",)} | {name: of.columns for name, of in MEASUREMENTS.items()}
"""What the columns of each series are."""


def _panel(name: str, series: Mapping[str, Series], shown: _Shown) -> Iterator[Panel]:
    of, columns = series[name], _COLUMNS[name]
    values = of.values.reshape(len(of.steps), len(columns)).astype(float)
    lines = {column: values[:, columns.index(column)] for column in shown.columns}
    yield Panel(shown.title, shown.reading, _floats(of), lines, shown.log, shown.dashed)


def _class_weights(text: str, classes: int, steps: int) -> Iterator[Panel]:
    """Those of a dynamical loss."""
    if "@" in text:  # what a file from elsewhere says must not make us read another
        return
    loss = create(text)
    if not isinstance(loss, DynamicalLoss) or not classes:
        return
    at = np.unique(np.linspace(0, steps - 1, _POINTS).astype(int))
    order, tail, mode = loss.order, loss.static_after, loss.period_mode
    weights = np.array([
        gamma(step, classes, loss.amplitude, loss.period, order=order, static_after=tail, period_mode=mode).tolist()
        for step in at.tolist()
    ])  # fmt: skip
    lines = {f"class {k}": weights[:, k] for k in range(classes)}
    yield Panel("Class weights", "How much each class counts in the loss.", at.astype(float), lines)


def _loss(of: Series) -> Iterator[Panel]:
    values = of.values.astype(float)
    positive = bool((values[np.isfinite(values)] > 0).all())
    yield Panel("Loss", "Of each step, on its batch.", _floats(of), {"loss": values}, log=positive)
    with np.errstate(invalid="ignore"):  # of infinite losses
        change = {"difference": np.diff(values)}
    yield Panel("Step difference", "The change of the loss from one step to the next.", _floats(of)[1:], change)


def _score(series: dict[str, Series]) -> Iterator[Panel]:
    """The first column of the learning curve."""
    name, of = next((name.partition(" ")[2], of) for name, of in series.items() if name.startswith("valid "))
    yield Panel(clean(name).capitalize(), "On validation.", _floats(of), {clean(name): of.values.astype(float)})


def _onsets(losses: Series, sharpness: Series | None) -> Iterator[Onset]:
    for found in instabilities(losses.values):
        if sharpness is None:
            yield Onset(found, np.nan, np.nan)
            continue
        steps, (values, thresholds) = sharpness.steps, sharpness.values.T
        near = int(np.abs(steps - found.start).argmin())
        yield Onset(found, sharpness_around(found.start, steps, values), float(thresholds[near]))


def _floats(of: Series) -> Array:
    return of.steps.astype(float)
