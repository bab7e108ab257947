"""What is said of one finished training."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lossmith.dynamics.measurements import MEASUREMENTS
from lossmith.losses.text import parse_loss
from lossmith.tasks import Task
from lossmith.trials.result import TrialResult
from lossmith.trials.trial import Trial


def training_lines(trial: Trial, task: Task, result: TrialResult) -> list[str]:
    """What `lossmith train` says of a finished training."""
    test = result.test
    assert test is not None
    lines = [
        f"loss             {trial.loss}",
        f"validation       {task.told(result.scores | result.columns | result.fitted)}",
        f"test             {task.told(task.metrics(test) | task.columns(test) | result.fitted)}",
        f"first gradient   {result.gradient_ratio:.3g} times that of {task.reference}",
        f"steps, seconds   {trial.steps}, {result.seconds:.1f}",
    ]
    if "scale" in result.series:
        lines += _learned_lines(result)
    if trial.probes:
        lines += _probe_lines(result)
    if result.extended_share:
        lines.append(f"continued        by its tangent for {100 * result.extended_share:.2g} % of the examples seen")
    if result.diverged and not math.isfinite(result.gradient_ratio):
        lines.append("the loss or its gradient was not finite at the first step: no learning rate mends that")
    elif result.diverged:
        lines.append("it diverged: lower the learning rate (--lr)")
    return lines + [f"note             {note}" for note in result.notes]


def _probe_lines(result: TrialResult) -> list[str]:
    """What the probes found, in short, and what they cost."""
    lines = []
    for text, of in result.series.items():
        measurement = MEASUREMENTS.get(parse_loss(text).name)
        if measurement is not None:
            name, columns = parse_loss(text).name, zip(measurement.columns, of.values.T, strict=True)
            shown = [_course(column, values) for column, values in columns if column != "threshold"]
            if name == "sharpness" and np.isfinite(ratios := of.values[:, 0] / of.values[:, 1]).any():
                shown.append(f"at most {np.nanmax(ratios):.3g} times the threshold")
            lines.append(f"{name:15}  {', '.join(shown)}")
    share = result.probe_seconds / result.seconds
    return [*lines, f"probes           {100 * share:.0f} % of the time"]


def _course(column: str, values: NDArray[np.float64]) -> str:
    """Its first and last number; Adam has no sharpness before its first step."""
    known = values[np.isfinite(values)]
    return f"{column} {known[0]:.3g} to {known[-1]:.3g}" if len(known) else f"{column}: no number"


def _learned_lines(result: TrialResult) -> list[str]:
    """What became of a loss that learned."""
    scale, facts = result.series["scale"].values, result.facts
    offline = f" after {facts['offline_steps']} offline steps" if facts["offline_steps"] else ""
    lines = [f"effective scale  {scale[0]:.3g} at first{offline}, {scale[-1]:.3g} at last"]
    if "formula" in facts:
        lines += [
            f"learned          {facts['formula']}",
            f"                 (its gradient to {100 * float(facts['formula_error']):.2g} %)",
        ]
    return lines
