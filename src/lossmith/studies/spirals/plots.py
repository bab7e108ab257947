"""The pictures of the study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossmith.dynamics import bifurcation
from lossmith.studies.findings import Line, Plot
from lossmith.studies.spirals.numbers import Mean, Onsets, per_period
from lossmith.studies.spirals.plan import Outcome, Outcomes, Trained
from lossmith.studies.spirals.problem import CLASSES, Run, class_weights
from lossmith.studies.spirals.training import INNER

Array = NDArray[np.float64]

_POINTS: Final = 700
"""Points of a line that is thinned to a band."""
_DOTS: Final = 2000
"""Points of one that is thinned to dots."""
_CHANGE: Final = 0.25
"""The largest change of the loss that is shown, as in the paper's figure."""
_VISITED: Final = 40
"""Losses of each run that a bifurcation diagram shows."""
_UPDATE: Final = "update"


def panels(run: Run, outcome: Outcome, first: int, last: int) -> tuple[Plot, ...]:
    """The six panels of the paper's figure between two updates, and the kernel of all samples."""
    weights = class_weights(run).numpy()
    losses = outcome["losses"].astype(np.float64)
    part = f"updates {first:,} to {last:,}"

    def line(at: ArrayLike, values: ArrayLike, name: str) -> Line:
        return _band(*_between(at, values, first, last), name)

    def dots(at: ArrayLike, values: ArrayLike, name: str) -> Line:
        return _thinned(*_between(at, values, first, last), name)

    updates, at, all_at = np.arange(run.updates), outcome["at"], outcome["all_at"]
    classes = tuple(dots(updates, weights[:, number], f"class {number}") for number in range(CLASSES))
    change = np.diff(losses)
    change[np.abs(change) > _CHANGE] = np.nan
    inner = line(at, outcome["inner"], f"first {INNER} samples")
    title = f"Change of the loss within {_CHANGE:g}, {part}"
    return (
        Plot(f"Class weights, {part}", _UPDATE, "weight", classes),
        Plot(f"Loss, {part}", _UPDATE, "weighted loss", (line(updates, losses, "loss"),), log="y"),
        Plot(title, _UPDATE, "F(t) - F(t - 1)", (dots(updates[1:], change, "change"),), dots=True),
        Plot(f"Accuracy, {part}", _UPDATE, "training accuracy", (line(at, outcome["curve"], "accuracy"),)),
        Plot(
            f"Sharpness and 2/lr, {part}",
            _UPDATE,
            "largest eigenvalue",
            (dots(at, outcome["sharpness"], "sharpness"),),
            log="y",
            level=2 / run.lr,
            dots=True,
        ),
        Plot(
            f"Tangent kernel, {part}",
            _UPDATE,
            "largest eigenvalue",
            (inner, line(all_at, outcome["all"], "all samples")),
            log="y",
        ),
    )


def _between(at: ArrayLike, values: ArrayLike, first: int, last: int) -> tuple[Array, Array]:
    at, values = np.asarray(at), np.asarray(values, np.float64)
    inside = (at >= first) & (at < last)
    return at[inside], values[inside]


def _thinned(at: Array, values: Array, name: str) -> Line:
    """Points at an odd stride, so that both branches of an alternation are met."""
    stride = math.ceil(len(at) / _DOTS) | 1
    return Line(at[::stride].tolist(), values[::stride].tolist(), name)


def _band(at: Array, values: Array, name: str) -> Line:
    """A line thinned to the means of blocks, in a band from the smallest to the largest value of each."""
    if len(at) <= _POINTS:
        return Line(at.tolist(), values.tolist(), name)
    blocks = np.array_split(np.arange(len(at)), _POINTS)
    rows = [values[block] for block in blocks]
    x, y = [float(at[block[0]]) for block in blocks], [float(row.mean()) for row in rows]
    return Line(x, y, name, [float(row.min()) for row in rows], [float(row.max()) for row in rows])


def curves(title: str, arms: Mapping[str, tuple[Outcomes, Sequence[Run]]]) -> Plot:
    """The mean training accuracy of some arms, with 95 % intervals."""
    lines = []
    for name, (outcomes, runs) in arms.items():
        at = outcomes[runs[0]]["at"]
        stride = max(len(at) // 100, 1)
        rows = np.array([outcomes[run]["curve"][::stride] for run in runs])
        means = [Mean.of(row) for row in rows.T]
        low, high = [max(mean.low, 0) for mean in means], [min(mean.high, 1) for mean in means]
        lines.append(Line(at[::stride].tolist(), [mean.value for mean in means], name, low, high))
    return Plot(title, _UPDATE, "training accuracy", tuple(lines))


def rounds(trained: Trained) -> Plot:
    """The median sharpness in each period, of the dynamical and the static loss."""
    figure = trained.plan.figure
    lines = []
    for name in ("dynamical", "static"):
        rows = np.array([per_period(run, trained.figure[run]) for run in figure[name]])
        means = [Mean.of(row) for row in rows.T]
        low, high = [mean.low for mean in means], [mean.high for mean in means]
        lines.append(Line(list(range(1, len(means) + 1)), [mean.value for mean in means], name, low, high))
    title = f"Median sharpness in each period, mean over {len(figure['dynamical'])} runs"
    return Plot(title, "period", "sharpness", tuple(lines), level=2 / figure["static"][0].lr)


def onsets_by_period(trained: Trained) -> Plot:
    """The sharpness around the first onset of each period, over 2/lr."""
    lines = []
    for name in ("dynamical", "half"):
        runs = trained.plan.figure[name]
        onsets = Onsets.of(trained.figure, runs)
        x, y = 1 + np.concatenate(onsets.periods), np.concatenate(onsets.first)
        lines.append(Line(x.tolist(), y.tolist(), f"rate {runs[0].lr:g}"))
    title = "Sharpness around the first onset of each period, a point per run"
    return Plot(title, "period", "sharpness over 2/lr", tuple(lines), log="y", level=1.0, dots=True)


def kernels(trained: Trained) -> Plot:
    """The tangent kernel's largest eigenvalue during training, of the dynamical and the static loss."""
    figure = trained.plan.figure
    lines = []
    for name in ("dynamical", "static"):
        at = trained.figure[figure[name][0]]["all_at"]
        rows = np.log([trained.figure[run]["all"] for run in figure[name]])
        means = [Mean.of(row) for row in rows.T]
        low, high = [float(np.exp(mean.low)) for mean in means], [float(np.exp(mean.high)) for mean in means]
        lines.append(Line(at.tolist(), [float(np.exp(mean.value)) for mean in means], name, low, high))
    title = f"Tangent kernel of all samples, geometric mean over {len(figure['dynamical'])} runs"
    return Plot(title, _UPDATE, "largest eigenvalue", tuple(lines), log="y")


def diagrams(trained: Trained) -> tuple[tuple[Plot, tuple[str, ...]], ...]:
    """The bifurcation diagrams, each with the values of its parameter and what became of the loss there."""
    found = []
    names = {"amplitude": "amplitude of constant class weights", "lr": "learning rate of the static loss"}
    for name, label in names.items():
        runs, losses = trained.plan.sweep(name).runs, trained.sweeps[name]
        values = [float(getattr(run, name)) for run in runs]
        of = dict(zip(values, losses, strict=True))
        diagram = bifurcation(of.__getitem__, values, tail=min(200, losses.shape[1]))
        kept = diagram.visited[:, -_VISITED:]
        dots = Line(np.repeat(diagram.values, kept.shape[1]).tolist(), kept.ravel().tolist(), "loss")
        title = f"Losses by {label}: the last {kept.shape[1]} of {losses.shape[1]:,} updates"
        found.append((Plot(title, label, "loss", (dots,), log="xy", dots=True), _stretches(values, diagram.periods)))
    return tuple(found)


def _stretches(values: Sequence[float], periods: Sequence[int | None]) -> tuple[str, ...]:
    """Stretches of the parameter with the same behaviour, in words."""
    words = {1: "at rest", 2: "period 2", 4: "period 4", None: "no such period"}
    ends = [i for i in range(1, len(values)) if periods[i] != periods[i - 1]]
    return tuple(
        f"{words[periods[begin]]} from {values[begin]:.3g} to {values[end - 1]:.3g}"
        for begin, end in zip([0, *ends], [*ends, len(values)], strict=True)
    )
