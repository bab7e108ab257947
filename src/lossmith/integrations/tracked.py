"""A finished comparison as trackers show it: its final trainings with their curves, and what was found of each loss."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lossmith.comparison.rows import Row
from lossmith.report.folder import RunError, refusing
from lossmith.report.reading import clean
from lossmith.report.run import Run, load_run

ARTIFACTS = (
    "report.html", "plan.toml", "recommendation.toml", "results.csv", "results.parquet", "runs.csv", "curves.csv",
    "summary.json",
)  # fmt: skip
"""The files of a run folder that are worth keeping with its results."""

_NAMES = ("loss", "fold", "repeat")
_SETTINGS = ("lr", "tuned")


@dataclass(frozen=True)
class Training:
    """A final training.

    Attributes:
        loss: the name of what was trained.
        params: what it was trained with, as texts: loss, fold, repeat, learning rate, tuned values.
        scores: numbers of its end, by name; ``score`` on test is among them.
        curves: the learning curves by name, ``train/...`` or ``valid/...``; each a list of steps and values.
    """

    loss: str
    params: dict[str, str]
    scores: dict[str, float]
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Loss, fold and repeat."""
        return f"{self.loss}, fold {self.params['fold']}, repeat {self.params['repeat']}"


@dataclass(frozen=True)
class Tracked:
    """A finished comparison.

    Attributes:
        run: the run folder, read.
        params: the plan in a few words, by name.
        trainings: the final trainings, by loss.
    """

    run: Run
    params: dict[str, str]
    trainings: dict[str, list[Training]]

    @property
    def artifacts(self) -> list[Path]:
        """The files of the run folder to keep."""
        return [self.run.folder / name for name in ARTIFACTS if (self.run.folder / name).is_file()]


def load_tracked(folder: Path) -> Tracked:
    """Read a finished run folder for a tracker.

    Raises:
        RunError: if the folder is not that of a finished comparison, or is damaged; one sentence.
    """
    run = load_run(folder)
    design = run.design
    params = {
        "data": design.name,
        "model": design.model,
        "optimizer": design.optimizer.name,
        "metric": design.task.metric,
        "steps": str(design.steps),
        **({"batch_size": str(design.batch_size)} if design.batch_size else {}),
        "repeats": str(design.repeats),
        "reference": run.results.reference,
    }
    try:
        return Tracked(run, params, _trainings(run))
    except (LookupError, TypeError, csv.Error, ValueError):
        raise RunError(
            f"the tables of {clean(str(folder))} are damaged or missing: run the same `lossmith compare` command again"
        ) from None


def _trainings(run: Run) -> dict[str, list[Training]]:
    """The final trainings of a run folder, by loss."""
    by_name: dict[tuple[str, ...], Training] = {}
    for cells in _rows(run.folder / "runs.csv"):
        settings = {name: clean(cells.pop(name)) for name in (*_NAMES, *_SETTINGS)}
        by_name[_key(settings)] = Training(settings["loss"], settings, dict(_numbers(cells)))
    if (run.folder / "curves.csv").is_file():  # a training function need not log any
        for cells in _rows(run.folder / "curves.csv"):
            training, step = by_name[_key(cells)], int(cells["step"])
            for name, value in _numbers({n: v for n, v in cells.items() if n.startswith(("train_", "valid_"))}):
                training.curves.setdefault(name.replace("_", "/", 1), []).append((step, value))
    return {row.name: [of for of in by_name.values() if of.loss == row.name] for row in run.results.rows}


def found(row: Row) -> dict[str, float]:
    """What was found of a loss, as numbers by name; those that are not known are left out."""
    numbers: dict[str, float | None] = {"score": row.score, "rank": row.rank}
    for name, gap in (("reference", row.against_reference), ("rival", row.against_rival)):
        if gap is not None:
            low, high = gap.interval or (None, None)
            numbers |= {f"minus_{name}": gap.mean, f"minus_{name}_low": low, f"minus_{name}_high": high}
            numbers |= {f"minus_{name}_p": gap.p}
    numbers |= row.columns
    return {name: float(value) for name, value in numbers.items() if value is not None and math.isfinite(value)}


def said(row: Row) -> str:
    """The verdict on a loss, or why there is none."""
    return row.untrained or row.verdict


def _rows(file: Path) -> Iterator[dict[str, str]]:
    """The rows of a table of the run folder."""
    with refusing(file), file.open(encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)


def _key(cells: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(cells[name] for name in _NAMES)


def _numbers(cells: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    for name, text in cells.items():
        if text:
            yield clean(name), float({"True": 1, "False": 0}.get(text, text))
