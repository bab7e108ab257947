"""A finished run folder, read back and checked."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lossmith.comparison.rows import Row, Summary
from lossmith.report.reading import ReadError, clean, read
from lossmith.tasks import TASKS


class RunError(ValueError):
    """A folder that is not that of a finished run; the message is one sentence that names it and the mend."""


@dataclass(frozen=True)
class Data:
    """What a report says of how the data were split and spoilt; see `data.DataSpec`."""

    folds: int
    label_noise: float
    imbalance: float
    train_size: int | None


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
    classes: tuple[str, ...] | None = None

    def said(self, sentence: str) -> str:
        """A sentence in the words of the task, if it is known here."""
        return TASKS[self.name].said(sentence) if self.name in TASKS else sentence


@dataclass(frozen=True)
class Design:
    """The part of a plan that a report talks about; see `comparison.plan.Plan`."""

    name: str
    data: Data
    task: PlannedTask
    examples: tuple[int, int, int]
    model: str
    arms: tuple[PlannedArm, ...]
    lrs: tuple[float, ...]
    optimizer: Optimizer
    steps: int
    batch_size: int
    budget: int
    final_seeds: int
    metric: str
    delta: float
    select: str
    device: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Run:
    """A finished comparison: where it lies, its plan and its summary as they stand in the files.

    `design` and `results` hold the same, typed and checked.
    """

    folder: Path
    plan: dict[str, Any]
    summary: dict[str, Any]

    @cached_property
    def design(self) -> Design:
        """What the report says of the plan.

        Raises:
            ReadError: If something is missing or of the wrong type.
        """
        return read(Design, self.plan, "the plan")

    @cached_property
    def results(self) -> Summary:
        """The summary, typed; a number that is missing is NaN.

        Raises:
            ReadError: If something is missing, of the wrong type, or does not fit the plan.
        """
        rows = self.summary.get("rows")
        if not isinstance(rows, (list, tuple)) or not rows:
            raise ReadError("the summary has no rows")
        # Timings stand in timings.csv alone: they differ whenever a run is repeated.
        timeless = [{"seconds": None, **row} if isinstance(row, dict) else row for row in rows]
        results = read(Summary, {**self.summary, "rows": timeless}, "the summary")
        for row in results.rows:
            _require_one_length(row)
        if sorted(row.name for row in results.rows) != sorted(arm.name for arm in self.design.arms):
            raise ReadError("the losses of the summary are not those of the plan")
        return results

    @property
    def report(self) -> Path:
        """Where the page of HTML lies."""
        return self.folder / "report.html"


def load_run(folder: Path) -> Run:
    """Read a finished run folder; nothing in it is executed.

    Args:
        folder: The folder that `lossmith compare` printed.

    Returns:
        The run.

    Raises:
        RunError: If there is no such folder, it is not a run's, the run is not finished, or a file is damaged.
    """
    shown = clean(str(folder))
    if not folder.is_dir():
        raise RunError(f"{shown} is not a folder: give the run folder that `lossmith compare` printed")
    if not (folder / "plan.toml").is_file():
        raise RunError(f"{shown} is not a run folder, it holds no plan.toml: give one that `lossmith compare` wrote")
    if not (folder / "summary.json").is_file():
        raise RunError(
            f"the run in {shown} is not finished, it holds no summary.json: give the same `lossmith compare` command "
            "again to go on with it"
        )
    run = Run(folder, _parse(folder / "plan.toml", tomllib.loads), _parse(folder / "summary.json", json.loads))
    for file, part in (("plan.toml", "design"), ("summary.json", "results")):
        try:
            getattr(run, part)
        except ReadError as error:
            raise _damaged(folder / file, str(error)) from None
    return run


def _parse(file: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    try:
        value = parse(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(file, str(error)) from None
    if not isinstance(value, dict):
        raise _damaged(file, "it should be a table of values")
    return value


def _damaged(file: Path, why: str) -> RunError:
    return RunError(
        f"{clean(str(file))} is damaged ({clean(why)}): delete it and give the same `lossmith compare` command again"
    )


def _require_one_length(row: Row) -> None:
    curve = row.curve
    groups: dict[str, Sequence[Sequence[float]]] = {
        "curve": [curve.steps, *curve.train.values(), *curve.valid.values(), curve.lowest, curve.highest],
        "shape": [] if row.shape is None else list(vars(row.shape).values()),
        **{diagram.name: [diagram.x, diagram.y, diagram.count] for diagram in row.diagrams},
    }
    if row.learned is not None:
        of = row.learned
        groups |= {
            "learned": [of.steps, of.scale, of.lowest, of.highest],
            "learned.strictness": [of.p, *of.strictness],
            "learned.moments": [of.moments, tuple(float(len(curve)) for curve in of.strictness)],
        }
    for name, columns in groups.items():
        if len({len(column) for column in columns}) > 1:
            raise ReadError(f"the columns of {name} of {row.name} differ in length")
