"""What is shown of the trainings of an arm besides its score: columns, curves, and what tuning found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from lossmith.catalog import create
from lossmith.comparison.arms import Arm
from lossmith.comparison.plan import Plan
from lossmith.comparison.rows import LearnedRow, MeanCurve, ProbeRow, RatePoint, TrainingRow, TuningRow
from lossmith.comparison.stages.tune import Chosen
from lossmith.comparison.tuning import Setting, expected_best, smoothed
from lossmith.dynamics.measurements import MEASUREMENTS
from lossmith.losses.text import parse_loss
from lossmith.properties.shape import Shape, loss_shape
from lossmith.tasks import Judged
from lossmith.trials.result import TrialResult
from lossmith.trials.texts import parse
from lossmith.trials.trial import FunctionTrainer


def shape_of(plan: Plan, loss: str) -> Shape | None:
    """The shape of a loss; ``None`` for one that is no function of a sample's probabilities."""
    try:
        return loss_shape(create(parse(loss).loss), plan.task.outputs)
    except ValueError:
        return None


def columns_of(plan: Plan, runs: Sequence[TrialResult], tests: Sequence[Judged]) -> dict[str, float]:
    """Means of the task's columns over the final runs on test, and medians of what was fitted on validation."""
    told = [plan.task.columns(test) for test in tests]
    means = {name: float(np.mean([of[name] for of in told])) for name in (told[0] if told else ())}
    fitted = runs[0].fitted if runs else ()
    return means | {name: float(np.median([run.fitted[name] for run in runs])) for name in fitted}


def learned_of(runs: Sequence[TrialResult]) -> LearnedRow | None:
    """What became of the losses of runs, where they learned."""
    learned = [run for run in runs if "scale" in run.series]
    if not learned:
        return None
    first, points = learned[0], learned[0].curve.steps
    pulls = [run.series["pull"] for run in learned]
    scale = np.array(
        [[part.mean() for part in np.split(run.series["scale"].values, points[:-1])] for run in learned], dtype=float
    )
    formula, error = first.facts.get("formula"), first.facts.get("formula_error")
    assert pulls[0].axis is not None
    return LearnedRow(
        steps=points,
        scale=tuple(scale.mean(0).tolist()),
        lowest=tuple(scale.min(0).tolist()),
        highest=tuple(scale.max(0).tolist()),
        moments=tuple(pulls[0].steps.tolist()),
        axis=tuple(pulls[0].axis.tolist()),
        pull=tuple(map(tuple, np.mean([pull.values for pull in pulls], axis=0).tolist())),
        offline_steps=float(np.mean([float(run.facts["offline_steps"]) for run in learned])),
        formula=None if formula is None else str(formula),
        formula_error=None if error is None else float(error),
    )


def mean_curve(plan: Plan, runs: Sequence[TrialResult]) -> MeanCurve:
    """The learning curves of all runs together."""
    if not runs:
        trainer = plan.trial.trainer
        columns = trainer.curve if isinstance(trainer, FunctionTrainer) else plan.task.curve
        nothing: dict[str, tuple[float, ...]] = dict.fromkeys(columns, ())
        return MeanCurve((), nothing, nothing, (), ())
    curves = [run.curve for run in runs]
    shared = set.intersection(*(set(curve.steps) for curve in curves))  # a training function logs where it likes
    places = [[i for i, step in enumerate(curve.steps) if step in shared] for curve in curves]

    def means(part: Literal["train", "valid"], name: str) -> tuple[float, ...]:
        found = [getattr(curve, part)[name] for curve in curves]
        return _column_means([[of[i] for i in at] for of, at in zip(found, places, strict=True)])

    scores = np.array([[curve.score[i] for i in at] for curve, at in zip(curves, places, strict=True)])
    return MeanCurve(
        steps=tuple(sorted(shared)),
        train={name: means("train", name) for name in curves[0].train},
        valid={name: means("valid", name) for name in curves[0].valid},
        lowest=tuple(scores.min(0).tolist()),
        highest=tuple(scores.max(0).tolist()),
    )


def rates_of(plan: Plan, arm: Arm, chosen: Sequence[Chosen]) -> tuple[RatePoint, ...]:
    """The bracketing grid, averaged over folds and repeats."""
    plain: dict[float, list[float]] = {}
    smooth: dict[float, list[float]] = {}
    for of in chosen:
        grid = [point for point in of.points if point.setting.values is None]
        for point, value in zip(grid, smoothed(grid, arm, plan.task.guess), strict=True):
            plain.setdefault(point.setting.lr, []).append(point.score)
            smooth.setdefault(point.setting.lr, []).append(value)
    return tuple(
        RatePoint(lr, float(np.mean(plain[lr])), float(np.mean(smooth[lr])), len(plain[lr])) for lr in sorted(plain)
    )


def tuning_of(plan: Plan, arm: Arm, chosen: Sequence[Chosen]) -> TuningRow:
    """How an arm was tuned, over all folds and repeats."""
    return TuningRow(
        lrs=tuple(of.setting.lr for of in chosen),
        values=tuple(named_of(arm, of.setting) for of in chosen),
        trainings=sum(len(of.points) for of in chosen),
        failures=tuple(reason for of in chosen for reason in of.failures),
        rates=rates_of(plan, arm, chosen),
        expected_best=expected_best_of(chosen),
    )


def training_of(plan: Plan, runs: Sequence[TrialResult]) -> TrainingRow:
    """How the final trainings of an arm went."""
    return TrainingRow(
        curve=mean_curve(plan, runs),
        gradient_ratio=float(np.median([run.gradient_ratio for run in runs])) if runs else math.nan,
        extended_share=float(np.mean([run.extended_share for run in runs])) if runs else 0.0,
        diverged=sum(run.diverged for run in runs),
        notes=tuple(sorted({note for run in runs for note in run.notes})),
        learned=learned_of(runs),
        probes=probes_of(plan, runs),
    )


def probes_of(plan: Plan, runs: Sequence[TrialResult]) -> dict[str, ProbeRow]:
    """What the probes of a plan measured in runs of one length."""
    return {parse_loss(text).name: _probe_row(text, runs) for text in plan.trial.probes} if runs else {}


def _probe_row(text: str, runs: Sequence[TrialResult]) -> ProbeRow:
    name, series = parse_loss(text).name, [run.series[text] for run in runs]
    values = np.stack([of.values for of in series])
    columns = {column: values[..., place] for place, column in enumerate(MEASUREMENTS[name].columns)}
    if name == "sharpness":
        columns["ratio"] = values[..., 0] / values[..., 1]
    medians = {column: tuple(np.median(of, axis=0).tolist()) for column, of in columns.items()}
    return ProbeRow(tuple(series[0].steps.tolist()), medians)


def expected_best_of(chosen: Sequence[Chosen]) -> tuple[float, ...]:
    """The expected best validation score against the number of settings tried, averaged over folds and repeats."""
    curves = [expected_best([point.score for point in of.points]) for of in chosen]
    shortest = min(map(len, curves), default=0)
    return _column_means([curve[:shortest] for curve in curves]) if shortest else ()


def named_of(arm: Arm, setting: Setting) -> dict[str, float]:
    """The tuned values of a setting by name."""
    return dict(zip((d.name for d in arm.tuned), setting.values, strict=True)) if setting.values else {}


def _column_means(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(np.mean(np.array(rows, dtype=float), axis=0).tolist())
