"""The files of a finished run folder that other programs read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lossmith.comparison.files import csv_text, write_file
from lossmith.comparison.plan import Plan
from lossmith.comparison.results import FinalRun, by_arm
from lossmith.comparison.rows import Gap, Interval, Row, Summary
from lossmith.comparison.shown import named_of


def write_summary(summary: Summary, folder: Path) -> None:
    """Write ``summary.json`` and ``results.csv``, a row for each arm, into the run folder."""
    write_file(folder / "summary.json", msgspec.json.format(msgspec.json.encode(summary), indent=1).decode() + "\n")
    write_file(folder / "results.csv", csv_text([_result_columns(row) for row in summary.rows]))


def write_runs(plan: Plan, runs: Sequence[FinalRun], folder: Path) -> None:
    """Write ``runs.csv``, a row for each final training, and ``timings.csv`` into the run folder.

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
        rows.append({name: _cell(value) for name, value in columns.items()})
    write_file(folder / "runs.csv", csv_text(rows))
    timings = [
        {"loss": name, "seconds_per_training": f"{np.mean([run.result.seconds for run in of]):.4g}"}
        for name, of in by_arm(runs).items()
    ]
    write_file(folder / "timings.csv", csv_text(timings))


def _result_columns(row: Row) -> dict[str, str]:
    gap, tuning, training = row.against_reference, row.tuning, row.training
    ratio = row.speed.ratio if row.speed else None
    columns: dict[str, Any] = {
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
    return {name: _cell(value) for name, value in columns.items()}


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


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
