"""What a trial leaves behind, and how it is written to bytes and read back."""

from __future__ import annotations

import io
import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from lossmith.trials.metrics import Outcomes


@dataclass(frozen=True)
class Curve:
    """A learning curve, in the unweighted cross-entropy (nats) and accuracy whatever the loss.

    Args:
        steps: optimiser steps taken at each point.
        train_nll: mean over the last three training batches before the point, as each was met.
        train_accuracy: likewise.
        valid_nll: on the first 1,024 validation examples.
        valid_accuracy: likewise.
    """

    steps: tuple[int, ...]
    train_nll: tuple[float, ...]
    train_accuracy: tuple[float, ...]
    valid_nll: tuple[float, ...]
    valid_accuracy: tuple[float, ...]


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
        valid_accuracy: on the whole validation part.
        valid_balanced_accuracy: mean over the classes of the accuracy on each.
        valid_nll: mean cross-entropy there, nats.
        valid_nll_scaled: likewise after temperature scaling.
        temperature: fitted on the validation part.
        gradient_ratio: norm of the loss's gradient over that of cross-entropy, on the first batch; in the logits for a
            loss that learns.
        extended_share: share of the training examples seen for which the loss was continued by its tangent.
        diverged: whether a logit was not finite at some point of the curve.
        notes: warnings the loss gave.
        seconds: wall time; for a slice of a stack its share of the stack's.
        valid: outcomes per validation example, for final trials.
        test: outcomes per test example, for final trials.
        learned: what became of the loss, if it is one that learns.
    """

    curve: Curve
    valid_accuracy: float
    valid_balanced_accuracy: float
    valid_nll: float
    valid_nll_scaled: float
    temperature: float
    gradient_ratio: float
    extended_share: float
    diverged: bool
    notes: tuple[str, ...]
    seconds: float
    valid: Outcomes | None = None
    test: Outcomes | None = None
    learned: LearnedPath | None = None


def summary_to_json(result: TrialResult) -> str:
    """Everything but the outcomes per example, as JSON; non-finite numbers become ``null``."""
    summary = asdict(TrialResult(**{**_shallow(result), "valid": None, "test": None}))
    del summary["valid"], summary["test"]
    return json.dumps(_without_nonfinite(summary), sort_keys=True)


def result_from_json(text: str, valid: bytes | None, test: bytes | None) -> TrialResult:
    """Put a result together again from its parts; `test` may be left sealed (``None``)."""
    summary = json.loads(text)
    curve: Any = {name: tuple(map(_finite_or_nan, values)) for name, values in summary.pop("curve").items()}
    learned = summary.pop("learned", None)
    plain: Any = {name: _finite_or_nan(value) for name, value in summary.items()}
    plain["notes"] = tuple(plain["notes"])
    return TrialResult(
        curve=Curve(**curve),
        valid=None if valid is None else outcomes_from_bytes(valid),
        test=None if test is None else outcomes_from_bytes(test),
        learned=None if learned is None else LearnedPath(**{name: _tuples(value) for name, value in learned.items()}),
        **plain,
    )


def outcomes_to_bytes(outcomes: Outcomes) -> bytes:
    """The arrays as a compressed ``.npz``."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **_shallow(outcomes))
    return buffer.getvalue()


def outcomes_from_bytes(data: bytes) -> Outcomes:
    """The inverse of `outcomes_to_bytes`; nothing is unpickled."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return Outcomes(**{name: arrays[name] for name in arrays.files})


def _shallow(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, its nulls inside them as NaN."""
    return tuple(_finite_or_nan(_tuples(item)) for item in value) if isinstance(value, list) else value


def _finite_or_nan(value: Any) -> Any:
    return math.nan if value is None else value


def _without_nonfinite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nonfinite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nonfinite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
