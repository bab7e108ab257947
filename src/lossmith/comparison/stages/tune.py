"""Tuning: bracket the learning rate of each arm in each fold, extend, search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lossmith.comparison.arms import Arm
from lossmith.comparison.plan import Plan, derive_seed
from lossmith.comparison.tuning import Scored, Setting, best, extension, sobol_settings
from lossmith.trials.result import TrialResult
from lossmith.trials.runner import Runner
from lossmith.trials.trial import Trial

MAX_EXTENSIONS: Final = 4

Key = tuple[Arm, int]
"""An arm in a fold."""


@dataclass(frozen=True)
class Chosen:
    """What tuning found for an arm in one fold.

    Args:
        setting: the chosen setting.
        points: everything that was tried, scored.
        on_edge: whether the best of the grid still lies on its edge after all extensions.
        trainings: how many trainings that took.
        failures: why some of them gave no result and counted as guessing.
    """

    setting: Setting
    points: tuple[Scored, ...]
    on_edge: bool
    trainings: int
    failures: tuple[str, ...] = ()


def tune(plan: Plan, arms: Sequence[Arm], runner: Runner, label: str = "") -> dict[str, tuple[Chosen, ...]]:
    """Bracket each arm's learning rate in each fold, extend the grid where its best lies on the edge, search."""
    tried = {(arm, fold): plan.grid(arm) for arm in arms for fold in plan.folds}
    scored = _score(plan, tried, runner, f"{label}learning rates")
    arms = [arm for arm in arms if any(_bracket_worked(plan, arm, fold, runner) for fold in plan.folds)]
    keys = [(arm, fold) for arm in arms for fold in plan.folds]
    for round_number in range(1, MAX_EXTENSIONS + 1):
        extra = {}
        for arm, fold in keys:
            lr = extension(scored[arm, fold], arm)
            if lr is not None:
                extra[arm, fold] = [Setting(float(f"{lr:.6g}"))]
        if not extra:
            break
        for key, points in _score(plan, extra, runner, f"{label}learning rates, extension {round_number}").items():
            scored[key] += points
    centres = {(arm, fold): best(scored[arm, fold], arm, plan.task.guess).setting.lr for arm, fold in keys}
    edges = {(arm, fold): extension(scored[arm, fold], arm) is not None for arm, fold in keys}
    search = {
        (arm, fold): sobol_settings(arm, centres[arm, fold], plan.budget // 2, derive_seed(plan.trial.seed, 2, fold))
        for arm, fold in keys
        if arm.tuned
    }
    if search:
        for key, points in _score(plan, search, runner, f"{label}hyperparameters").items():
            scored[key] += points
    return {
        arm.name: tuple(
            Chosen(
                best(scored[arm, fold], arm, plan.task.guess).setting,
                tuple(scored[arm, fold]),
                edges[arm, fold],
                sum(tuning_seeds(plan, arm, point.setting) for point in scored[arm, fold]),
                _failures(plan, arm, fold, [point.setting for point in scored[arm, fold]], runner),
            )
            for fold in plan.folds
        )
        for arm in arms
    }


def _score(
    plan: Plan,
    settings: dict[Key, list[Setting]],
    runner: Runner,
    label: str,
) -> dict[Key, list[Scored]]:
    """Train settings on the tuning seeds and score them on validation."""
    trials = {
        (arm, fold, setting): _trials(plan, arm, fold, setting)
        for (arm, fold), of in settings.items()
        for setting in of
    }
    results = runner.run([trial for group in trials.values() for trial in group], label)
    return {
        (arm, fold): [
            _scored(plan, setting, [results.get(trial) for trial in trials[arm, fold, setting]]) for setting in of
        ]
        for (arm, fold), of in settings.items()
    }


def _trials(plan: Plan, arm: Arm, fold: int, setting: Setting) -> list[Trial]:
    return [plan.training(arm, fold, setting, "tuning", j) for j in range(tuning_seeds(plan, arm, setting))]


def _failures(plan: Plan, arm: Arm, fold: int, settings: Sequence[Setting], runner: Runner) -> tuple[str, ...]:
    trials = [trial for setting in settings for trial in _trials(plan, arm, fold, setting)]
    return tuple(runner.failures[trial] for trial in trials if trial in runner.failures)


def _bracket_worked(plan: Plan, arm: Arm, fold: int, runner: Runner) -> bool:
    return any(
        trial not in runner.failures for setting in plan.grid(arm) for trial in _trials(plan, arm, fold, setting)
    )


def _scored(plan: Plan, setting: Setting, results: Sequence[TrialResult | None]) -> Scored:
    """A training that failed or diverged counts as guessing."""
    scores = [None if result is None else score_of(plan, result) for result in results]
    known = [plan.task.guess if score is None else score for score in scores]
    tie_break = [
        math.inf if result is None or result.diverged else result.columns[plan.task.tie_break] for result in results
    ]
    return Scored(setting, float(np.mean(known)), float(np.mean(tie_break)))


def score_of(plan: Plan, result: TrialResult) -> float | None:
    """The validation score of a training in the plan's metric; None if it diverged."""
    return None if result.diverged else result.scores[plan.metric]


def tuning_seeds(plan: Plan, arm: Arm, setting: Setting) -> int:
    """How often a setting is tried: what an arm with nothing else to tune has left goes into replicates of its grid."""
    if setting.values is not None:
        return 1
    return plan.bracket_seeds if arm.tuned else 2 * plan.bracket_seeds
