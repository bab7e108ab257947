"""The files of a finished run folder that other programs read."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lossmith.comparison.files import csv_text, write_file
from lossmith.comparison.plan import Plan
from lossmith.comparison.results import FinalRun, by_arm
from lossmith.comparison.rows import Gap, Interval, Row, Summary
from lossmith.comparison.shown import named_of
from lossmith.trials.files import written_whole


def write_summary(summary: Summary, folder: Path) -> None:
    """Write ``summary.json`` and the tables ``results.csv`` and ``results.parquet`` into the run folder.

    The tables have a row for each arm. Without pyarrow there is no ``results.parquet``.
    """
    write_file(folder / "summary.json", msgspec.json.format(msgspec.json.encode(summary), indent=1).decode() + "\n")
    rows = [_result_columns(row) for row in summary.rows]
    write_file(folder / "results.csv", csv_text([_cells(row) for row in rows]))
    if importlib.util.find_spec("pyarrow"):
        _write_parquet(rows, folder / "results.parquet")


def write_runs(plan: Plan, runs: Sequence[FinalRun], folder: Path) -> None:
    """Write ``runs.csv``, ``curves.csv`` and ``timings.csv`` into the run folder.

    The first has a row for each final training, the second one for each point of its learning curve.

    Everything but the timings is the same whenever and however the plan is carried out.
    """
    rows = []
    for run in runs:
        test = run.judged("test")
        columns = {
            "loss": run.arm,
            "fold": run.fold,
            "repeat": run.repeat,
            "score": plan.task.metrics(test)[plan.metric],
            **plan.task.columns(test),
            **run.result.fitted,
            "lr": run.setting.lr,
            "tuned": _tuned(named_of(plan.arm(run.arm), run.setting)),
            "gradient_ratio": run.result.gradient_ratio,
            "extended_share": run.result.extended_share,
            "diverged": run.result.diverged,
        }
        rows.append(_cells(columns))
    write_file(folder / "runs.csv", csv_text(rows))
    points = [_cells(point) for run in runs for point in _points(run)]
    if points:  # a user's training function need not log any
        write_file(folder / "curves.csv", csv_text(points))
    timings = [
        {"loss": name, "seconds_per_training": f"{np.mean([run.result.seconds for run in of]):.4g}"}
        for name, of in by_arm(runs).items()
    ]
    write_file(folder / "timings.csv", csv_text(timings))


def _points(run: FinalRun) -> Iterator[dict[str, Any]]:
    """The learning curve of a final training, point by point."""
    curve = run.result.curve
    for i, step in enumerate(curve.steps):
        train = {f"train_{name}": values[i] for name, values in curve.train.items()}
        valid = {f"valid_{name}": values[i] for name, values in curve.valid.items()}
        yield {"loss": run.arm, "fold": run.fold, "repeat": run.repeat, "step": step, **train, **valid}


def _result_columns(row: Row) -> dict[str, Any]:
    gap, tuning, training = row.against_reference, row.tuning, row.training
    ratio = row.speed.ratio if row.speed else None
    return {
        "rank": row.rank,
        "loss": row.name,
        "role": row.role,
        "score": row.score,
        **_gap_columns("reference", gap),
        "holm_p": gap.holm_p if gap else None,
        **_bounds("simultaneous", gap.simultaneous if gap else None),
        "mde": gap.mde if gap else None,
        "v_seed": gap.v_seed if gap else None,
        "v_test": gap.v_test if gap else None,
        **_gap_columns("rival", row.against_rival),
        "share_of_paired_seeds_won": row.share_won,
        "speed_ratio": ratio.ratio if ratio else None,
        **_bounds("speed", ratio.interval if ratio else None),
        **row.columns,
        "lr_median": float(np.median(tuning.lrs)) if tuning.lrs else None,
        "tuned": "; ".join(map(_tuned, tuning.values)).strip("; "),
        "trainings": tuning.trainings,
        "gradient_ratio": training.gradient_ratio,
        "extended_share": training.extended_share,
        "diverged": training.diverged,
        "verdict": row.untrained or row.verdict,
    }


def _gap_columns(other: str, gap: Gap | None) -> dict[str, float | None]:
    return {
        f"minus_{other}": gap.mean if gap else None,
        **_bounds(f"minus_{other}", gap.interval if gap else None),
        f"minus_{other}_p": gap.p if gap else None,
    }


def _bounds(name: str, interval: Interval | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _tuned(values: Mapping[str, float]) -> str:
    return " ".join(f"{name}={value:g}" for name, value in values.items())


def _cells(columns: Mapping[str, Any]) -> dict[str, str]:
    return {name: _cell(value) for name, value in columns.items()}


def _cell(value: Any) -> str:
    if _missing(value):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _write_parquet(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Write rows with the types of their values; a column without any is one of numbers.

    A row may lack columns: what could not be trained has none of the task's own.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [None if _missing(row.get(name)) else row[name] for row in rows]
        found = pa.array(values)
        columns[name] = found.cast(pa.float64()) if pa.types.is_null(found.type) else found
    with written_whole(file) as place:
        pq.write_table(pa.table(columns), place)
