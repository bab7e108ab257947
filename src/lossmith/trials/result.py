"""What a trial leaves behind, and how it is written to bytes and read back."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from lossmith.tasks import Judged


@dataclass(frozen=True)
class Curve:
    """A learning curve in the columns of the task's `curve`, which are the same whatever the loss.

    Args:
        steps: optimiser steps taken at each point.
        train: each column by name: mean over the last three training batches before the point, as each was met.
        valid: likewise, on the first 1,024 validation examples; the first column is the score.
    """

    steps: tuple[int, ...]
    train: dict[str, tuple[float, ...]]
    valid: dict[str, tuple[float, ...]]

    @property
    def score(self) -> tuple[float, ...]:
        """The validation score at each point."""
        return next(iter(self.valid.values()))


@dataclass(frozen=True)
class LearnedPath:
    """What became of a loss that learned in a training.

    Args:
        steps: the points of the learning curve.
        scale: effective scale, the norm of the loss's gradient in the logits over that of its base: its mean since the
            point before.
        moments: the steps after which the loss was kept, 0 the first.
        p: probabilities of the target.
        strictness: at each moment, the slope in the target's logit relative to cross-entropy's at each ``p``, other
            classes sharing evenly.
        offline_steps: of offline learning before.
        formula: what the loss was distilled to at the end; ``None`` where it was not.
        formula_error: relative error of the formula's gradient.
    """

    steps: tuple[int, ...]
    scale: tuple[float, ...]
    moments: tuple[int, ...]
    p: tuple[float, ...]
    strictness: tuple[tuple[float, ...], ...]
    offline_steps: int
    formula: str | None
    formula_error: float | None


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
        learned: what became of the loss, if it is one that learns.
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
    learned: LearnedPath | None = None


def summary_to_json(result: TrialResult) -> str:
    """Everything but what is known of each unit, as JSON with Python's ``NaN`` and ``Infinity``."""
    summary = asdict(replace(result, valid=None, test=None))
    del summary["valid"], summary["test"]
    return json.dumps(summary)


def result_from_json(text: str, valid: bytes | None, test: bytes | None) -> TrialResult:
    """Put a result together again from its parts; `test` may be left sealed (``None``)."""
    summary = _with_tuples(json.loads(text))
    curve, learned = summary.pop("curve"), summary.pop("learned")
    return TrialResult(
        curve=Curve(**curve),
        valid=None if valid is None else judged_from_bytes(valid),
        test=None if test is None else judged_from_bytes(test),
        learned=None if learned is None else LearnedPath(**learned),
        **summary,
    )


def judged_to_bytes(judged: Judged) -> bytes:
    """The arrays as a compressed ``.npz``."""
    buffer = io.BytesIO()
    named: dict[str, Any] = {
        f"{group} {name}": values
        for group, of in (("column", judged.columns), ("few", judged.few))
        for name, values in of.items()
    }
    np.savez_compressed(buffer, index=judged.index, score=judged.score, **named)
    return buffer.getvalue()


def judged_from_bytes(data: bytes) -> Judged:
    """The inverse of `judged_to_bytes`; nothing is unpickled."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        columns, few = (
            {name.removeprefix(group): arrays[name] for name in arrays.files if name.startswith(group)}
            for group in ("column ", "few ")
        )
        return Judged(arrays["index"], arrays["score"], columns, few)


def _with_tuples(value: Any) -> Any:
    """JSON's lists as tuples."""
    if isinstance(value, dict):
        return {name: _with_tuples(item) for name, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
