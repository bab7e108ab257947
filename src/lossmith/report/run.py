"""A finished run folder, read back and checked."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from lossmith.comparison.rows import Row, Summary
from lossmith.dynamics.measurements import MEASUREMENTS
from lossmith.report.folder import COMPARISON, find_run, refusing
from lossmith.report.reading import ReadError, clean_lines, read
from lossmith.tasks import TASKS, Words, metric_said

_MEASURED: Final = {
    name: {*of.columns, *(("ratio",) if name == "sharpness" else ())} for name, of in MEASUREMENTS.items()
}
"""The columns of what a probe measured."""


@dataclass(frozen=True)
class Data:
    """What a report says of how the data were split and spoilt; see `data.DataSpec`."""

    folds: int
    label_noise: float
    imbalance: float
    train_size: int | None = None


@dataclass(frozen=True)
class Optimizer:
    """What a report says of the optimiser; see `trials.trial.OptimizerSpec`."""

    name: str
    momentum: float
    nesterov: bool
    schedule: str


@dataclass(frozen=True)
class PlannedArm:
    """An arm by its name."""

    name: str


@dataclass(frozen=True)
class PlannedTask:
    """What a report says of the task; see `tasks.Task`."""

    name: str
    summary: str
    guess: float
    metric: str
    meaning: str
    classes: tuple[str, ...] | None = None

    @property
    def words(self) -> Words:
        """What sentences call its reference and rival."""
        return TASKS[self.name].words if self.name in TASKS else Words()


@dataclass(frozen=True)
class Design:
    """The part of a plan that a report talks about; see `comparison.plan.Plan`.

    Of a user's training function, `function` and `folds` are in the plan in place of `model` and `data`.
    """

    name: str
    task: PlannedTask
    examples: tuple[int, int, int]
    arms: tuple[PlannedArm, ...]
    lrs: tuple[float, ...]
    optimizer: Optimizer
    steps: int
    budget: int
    repeats: int
    metric_reason: str
    delta: float
    device: str
    versions: dict[str, str]
    model: str = ""
    data: Data = Data(0, 0.0, 1.0)
    batch_size: int = 0
    select: str = "last"
    function: str | None = None
    folds: int = 0

    @property
    def metric_said(self) -> str:
        """What losses are judged by, and why."""
        return metric_said(self.task.metric, self.metric_reason, self.task.meaning)


@dataclass(frozen=True)
class Run:
    """A finished comparison: folder, text of ``plan.toml``, what the report says of the plan, and the summary."""

    folder: Path
    plan: str
    design: Design
    results: Summary

    @property
    def report(self) -> Path:
        """Where the HTML page lies."""
        return self.folder / "report.html"


def load_run(folder: Path) -> Run:
    """Read a finished run folder; nothing in it is executed, and whatever is wrong with it is a `RunError`."""
    plan, summary = find_run(folder, COMPARISON)
    with refusing(plan):
        text = plan.read_text(encoding="utf-8")
        design = read(Design, tomllib.loads(text))
        # People know their file by its name.
        design = replace(design, model=(design.function or design.model).partition("#")[0])
        if design.function is not None:
            design = replace(design, data=replace(design.data, folds=design.folds))
    with refusing(summary):
        results = read(Summary, msgspec.json.decode(summary.read_bytes()))
        _check(results, design)
    return Run(folder, clean_lines(text), design, results)


def _check(results: Summary, design: Design) -> None:
    """Refuse what is well typed but does not fit together."""
    if not results.rows:
        raise ReadError("the summary has no rows")
    for row in results.rows:
        _require_one_length(row)
    if sorted(row.name for row in results.rows) != sorted(arm.name for arm in design.arms):
        raise ReadError("the losses of the summary are not those of the plan")


def _require_one_length(row: Row) -> None:
    curve, learned = row.training.curve, row.training.learned
    groups: dict[str, Sequence[Sequence[float]]] = {
        "curve": [curve.steps, *curve.train.values(), *curve.valid.values(), curve.lowest, curve.highest],
        "shape": [] if row.shape is None else list(vars(row.shape).values()),
        **{diagram.name: [diagram.x, diagram.y, diagram.count] for diagram in row.diagrams},
    }
    if learned is not None:
        groups |= {
            "learned": [learned.steps, learned.scale, learned.lowest, learned.highest],
            "learned.pull": [learned.axis, *learned.pull],
            "learned.moments": [learned.moments, tuple(float(len(each)) for each in learned.pull)],
        }
    for name, of in row.training.probes.items():
        known = _MEASURED.get(name)
        if known is None or not known <= of.columns.keys():
            raise ReadError(f"the probe {name} of {row.name} is not known, or lacks a column")
        groups[f"probe {name}"] = [of.steps, *of.columns.values()]
    for name, columns in groups.items():
        if len({len(column) for column in columns}) > 1:
            raise ReadError(f"the columns of {name} of {row.name} differ in length")
