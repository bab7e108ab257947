"""What a trial leaves behind, and how it is written to bytes and read back."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossmith.tasks import Judged


@dataclass(frozen=True)
class Curve:
    """A learning curve in the columns of the task's `curve`, which are the same whatever the loss.

    Args:
        steps: optimiser steps taken at each point.
        train: each column by name: mean over the last three training batches before the point, as each was met.
        valid: likewise, on the trainer's `evaluation_rows` validation examples; the first column is the score.
    """

    steps: tuple[int, ...]
    train: dict[str, tuple[float, ...]]
    valid: dict[str, tuple[float, ...]]

    @property
    def score(self) -> tuple[float, ...]:
        """The validation score at each point."""
        return next(iter(self.valid.values()))


@dataclass(frozen=True, eq=False)
class Series:
    """Something that was written down during a training.

    Args:
        steps: numbers of optimiser steps taken, int64 (k,).
        values: what it was after each, (k, ...).
        axis: what the last axis of the values stands for; ``None`` for a mere count.
    """

    steps: NDArray[np.int64]
    values: NDArray[Any]
    axis: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial.

    Args:
        curve: the learning curve.
        scores: on the whole validation part, by metric.
        columns: what else the task tells of the validation part.
        fitted: what was fitted on the validation part, such as a temperature.
        gradient_ratio: norm of the loss's gradient over that of the reference loss, on the first batch; in the outputs
            for a loss that learns.
        extended_share: share of the training targets seen for which the loss was continued by its tangent.
        diverged: whether an output was not finite at some point of the curve.
        notes: warnings the loss gave.
        seconds: wall time; for a slice of a stack its share of the stack's.
        valid: each unit of the validation part, for final trials.
        test: each unit of the test part, for final trials.
        series: what the probes wrote down, by their text; for a loss that learns also ``scale``, its effective scale at
            each step.
        facts: what else is known of the loss, by name: for one that learns ``offline_steps`` and, in final trials of
            classification, the ``formula`` it was distilled to with its ``formula_error``.
        probe_seconds: the part of the wall time that the probes took.
    """

    curve: Curve
    scores: dict[str, float]
    columns: dict[str, float]
    fitted: dict[str, float]
    gradient_ratio: float
    extended_share: float
    diverged: bool
    notes: tuple[str, ...]
    seconds: float
    valid: Judged | None = None
    test: Judged | None = None
    series: dict[str, Series] = field(default_factory=dict)
    facts: dict[str, float | str] = field(default_factory=dict)
    probe_seconds: float = 0.0


def summary_to_json(result: TrialResult) -> str:
    """Everything but units and series, as JSON with Python's ``NaN`` and ``Infinity``."""
    summary = asdict(replace(result, valid=None, test=None, series={}))
    del summary["valid"], summary["test"], summary["series"]
    return json.dumps(summary)


def result_from_json(text: str, valid: bytes | None, test: bytes | None, series: bytes) -> TrialResult:
    """Put a result together again from its parts; `test` may be left sealed (``None``)."""
    summary = _with_tuples(json.loads(text))
    curve = summary.pop("curve")
    return TrialResult(
        curve=Curve(**curve),
        valid=None if valid is None else judged_from_bytes(valid),
        test=None if test is None else judged_from_bytes(test),
        series=series_from_bytes(series),
        **summary,
    )


def series_to_bytes(series: Mapping[str, Series]) -> bytes:
    """Named series as a compressed ``.npz``; empty for none."""
    arrays = {
        f"{name} {part}": values for name, one in series.items() for part, values in vars(one).items()
        if values is not None
    }  # fmt: skip
    return _to_bytes(arrays) if arrays else b""


def series_from_bytes(data: bytes) -> dict[str, Series]:
    """The inverse of `series_to_bytes`."""
    parts: dict[str, dict[str, Any]] = {}
    for key, values in (_from_bytes(data) if data else {}).items():
        name, _, part = key.rpartition(" ")
        parts.setdefault(name, {})[part] = values
    return {name: Series(**arrays) for name, arrays in parts.items()}


def judged_to_bytes(judged: Judged) -> bytes:
    """The arrays as a compressed ``.npz``."""
    named = {
        f"{group} {name}": values
        for group, of in (("column", judged.columns), ("few", judged.few))
        for name, values in of.items()
    }
    return _to_bytes({"index": judged.index, "score": judged.score, **named})


def judged_from_bytes(data: bytes) -> Judged:
    """The inverse of `judged_to_bytes`."""
    arrays = _from_bytes(data)
    columns, few = (
        {name.removeprefix(group): each for name, each in arrays.items() if name.startswith(group)}
        for group in ("column ", "few ")
    )
    return Judged(arrays["index"], arrays["score"], columns, few)


def _to_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(arrays))  # type: ignore[arg-type]
    return buffer.getvalue()


def _from_bytes(data: bytes) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)


def _with_tuples(value: Any) -> Any:
    """JSON's lists as tuples."""
    if isinstance(value, dict):
        return {name: _with_tuples(item) for name, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
