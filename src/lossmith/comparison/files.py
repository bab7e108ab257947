"""The files of a run folder that other programs read."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lossmith.comparison.rows import Gap, Row, Summary


def write_summary(summary: Summary, folder: Path) -> None:
    """Write ``summary.json``, ``results.csv`` and ``timings.csv`` into the run folder.

    Everything but the timings is the same whenever and however the plan is carried out.

    Args:
        summary: the summary.
        folder: the run folder.
    """
    plain = _without_nonfinite(asdict(summary))
    for row in plain["rows"]:
        del row["seconds"]
    write_file(folder / "summary.json", json.dumps(plain, indent=1) + "\n")
    write_file(folder / "results.csv", csv_text([_result_columns(row) for row in summary.rows]))
    timings = [{"loss": row.name, "seconds_per_training": f"{row.seconds:.4g}"} for row in summary.rows]
    write_file(folder / "timings.csv", csv_text(timings))


def _result_columns(row: Row) -> dict[str, str]:
    ce, ls, speed = row.against_reference, row.against_rival, row.speed
    columns: dict[str, Any] = {
        "rank": row.rank,
        "loss": row.name,
        "role": row.role,
        "score": row.score,
        **_gap_columns("reference", ce),
        "holm_p": None if ce is None else ce.holm_p,
        "simultaneous_low": ce.simultaneous[0] if ce and ce.simultaneous else None,
        "simultaneous_high": ce.simultaneous[1] if ce and ce.simultaneous else None,
        "mde": None if ce is None else ce.mde,
        "v_seed": None if ce is None else ce.v_seed,
        "v_test": None if ce is None else ce.v_test,
        **_gap_columns("rival", ls),
        "share_of_paired_seeds_won": row.share_won,
        "speed_ratio": speed.ratio if speed else None,
        "speed_low": speed.interval[0] if speed and speed.interval else None,
        "speed_high": speed.interval[1] if speed and speed.interval else None,
        **row.columns,
        "lr_median": float(np.median(row.lrs)) if row.lrs else None,
        "tuned": "; ".join(" ".join(f"{k}={v:g}" for k, v in values.items()) for values in row.values).strip("; "),
        "trainings": row.trainings,
        "gradient_ratio": row.gradient_ratio,
        "extended_share": row.extended_share,
        "diverged": row.diverged,
        "verdict": row.untrained or row.verdict,
    }
    return {name: _cell(value) for name, value in columns.items()}


def _gap_columns(prefix: str, gap: Gap | None) -> dict[str, float | None]:
    interval = gap.interval if gap else None
    return {
        f"minus_{prefix}": gap.mean if gap else None,
        f"minus_{prefix}_low": interval[0] if interval else None,
        f"minus_{prefix}_high": interval[1] if interval else None,
        f"minus_{prefix}_p": gap.p if gap else None,
    }


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _without_nonfinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nonfinite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nonfinite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_file(file: Path, text: str) -> None:
    """Write a file whole or not at all, its folder with it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".part")
    partial.write_text(text, encoding="utf-8", newline="")
    partial.replace(file)


def csv_text(rows: Sequence[dict[str, str]]) -> str:
    """Rows as CSV, with the keys of the first as the header."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
