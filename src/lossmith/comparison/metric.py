"""The metric of a comparison: one of the task's, or a function from a user's file."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

import numpy as np

from lossmith.catalog import nearest
from lossmith.tasks import FEW_UNITS, OF_CLASSES, Classification, Counted, MetricError, OwnMetric, Task
from lossmith.trials.own_metric import own_metric
from lossmith.trials.request import Draft
from lossmith.trials.trial import Sources
from lossmith.trials.user_code import canonical_function

ASKED_FOR: Final = "as asked for"
"""Why a metric is used that the user named."""


def with_metric(drafted: Draft, text: str | None, sources: Sources) -> tuple[Draft, str]:
    """Settle the metric of a draft's task.

    Args:
        drafted: the draft.
        text: the name of a metric, in any case, its words apart or joined by ``_`` or ``-``; or
            ``path/to/file.py:function``; ``None`` for the metric that the data ask for.
        sources: where the path of a user's metric is noted.

    Returns:
        The draft, with a note where the test part is too small for the metric; and why it has this metric.

    Raises:
        ValueError: if there is no such metric, or a user's one fails on the validation part; one sentence.
    """
    drafted, reason = _settled(drafted, text, sources)
    return replace(drafted, notes=drafted.notes + _doubts(drafted)), reason


def _settled(drafted: Draft, text: str | None, sources: Sources) -> tuple[Draft, str]:
    if text is not None and (".py" in text or ".pkl:" in text):
        return _with_own_metric(drafted, text, sources), ASKED_FOR
    task, reason = asked_metric(drafted.task, text, drafted.splits)
    return replace(drafted, task=task), reason


def asked_metric(task: Task, text: str | None, counted: Counted) -> tuple[Task, str]:
    """A task in one of its metrics, and why it has it; arguments as `with_metric`.

    Raises:
        MetricError: if there is no such metric.
    """
    if text is None:
        name, reason = task.usual_metric(counted)
        return replace(task, metric=name), reason
    names = {_plain(name): name for name in task.metric_names}
    if _plain(text) not in names:
        known = [*map(short_name, task.metric_names), "path/to/file.py:function"]
        raise MetricError(f"--metric {text}: there is no such metric of {task.name}; {nearest(text, known)}")
    return replace(task, metric=names[_plain(text)]), ASKED_FOR


def _doubts(drafted: Draft) -> tuple[str, ...]:
    """A class with too few test examples for good intervals."""
    task, splits = drafted.task, drafted.splits
    if not isinstance(task, Classification) or task.metric not in OF_CLASSES:
        return ()
    counts = np.bincount(splits.test.targets.cpu().numpy(), minlength=task.outputs) * max(1, drafted.trial.ours.folds)
    few = int(counts.argmin())
    if counts[few] >= FEW_UNITS:
        return ()
    return (
        f"the class {task.classes[few]} has about {counts[few]} test examples, fewer than {FEW_UNITS}: intervals of "
        f"{task.metric} come out too narrow",
    )


def short_name(name: str) -> str:
    """How a metric is named on the command line."""
    return name.removesuffix(" skill").replace(" ", "_").lower()


def _with_own_metric(drafted: Draft, text: str, sources: Sources) -> Draft:
    """The user's metric, tried on what guessing by the shares of the classes predicts for the validation part."""
    task, trial = drafted.task, drafted.trial
    if not isinstance(task, Classification):
        raise MetricError(f"--metric {text}: a metric from a file is for classification, and this is {task.name}")
    canonical = canonical_function(text, "metric", sources)
    metric = own_metric(canonical, sources)
    label = drafted.splits.valid.targets.cpu().numpy()
    guess = metric.units(label, np.tile(np.array(task.shares), (len(label), 1)), spread=False)
    known = OwnMetric(canonical, float(f"{guess.mean():.6g}"))
    scored = replace(trial, trainer=replace(trial.ours, metric=canonical))
    return replace(drafted, trial=scored, task=replace(task, metric=canonical, own=known))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", short_name(name))
