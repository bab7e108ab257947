"""Tuning: bracket the learning rate of each arm in each repeat, extend, search, choose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lossmith.comparison.arms import Arm
from lossmith.comparison.plan import Plan, derive_seed
from lossmith.comparison.tuning import Scored, Setting, best, extension, sobol_settings
from lossmith.tasks import Task
from lossmith.trials.result import TrialResult
from lossmith.trials.runner import Runner
from lossmith.trials.trial import Trial

MAX_EXTENSIONS: Final = 4

Key = tuple[Arm, int, int]
"""An arm in a fold and repeat."""


@dataclass(frozen=True)
class Chosen:
    """What tuning found for an arm in one repeat.

    Args:
        fold: number of the fold.
        repeat: number of the repeat.
        setting: the chosen setting.
        points: everything that was tried, scored.
        on_edge: whether the best of the bracket still lies on its edge after all extensions.
        failures: why some of the trainings gave no result and counted as guessing.
    """

    fold: int
    repeat: int
    setting: Setting
    points: tuple[Scored, ...]
    on_edge: bool
    failures: tuple[str, ...] = ()


def tune(plan: Plan, arms: Sequence[Arm], runner: Runner, label: str = "") -> dict[str, tuple[Chosen, ...]]:
    """Bracket each arm's learning rate in each repeat, extend where the best lies on the edge, search, choose.

    Args:
        plan: the plan.
        arms: what is tuned.
        runner: what runs the trials.
        label: what comes before the names of the stages.

    Returns:
        The choices of each arm, by fold and repeat; none of an arm of which every training failed.
    """
    tried = {(arm, *pipeline): plan.bracket(arm) for arm in arms for pipeline in plan.pipelines}
    scored = _score(plan, tried, runner, f"{label}learning rates")
    worked = {arm for arm, fold, repeat in tried if _bracket_worked(plan, arm, fold, repeat, runner)}
    keys = [key for key in tried if key[0] in worked]
    for round_number in range(1, MAX_EXTENSIONS + 1):
        further = {key: extension(scored[key], key[0]) for key in keys}
        extra = {key: [Setting(float(f"{lr:.6g}"))] for key, lr in further.items() if lr is not None}
        if not extra:
            break
        for key, points in _score(plan, extra, runner, f"{label}learning rates, extension {round_number}").items():
            scored[key] += points
    edges = {key: extension(scored[key], key[0]) is not None for key in keys}
    search = {key: found for key in keys if (found := _searched(plan, key, scored[key]))}
    if search:
        for key, points in _score(plan, search, runner, f"{label}hyperparameters").items():
            scored[key] += points
    chosen: dict[str, list[Chosen]] = {}
    for key in keys:
        arm, fold, repeat = key
        setting = best(scored[key], arm, plan.task.guess).setting
        trials = [plan.training(*key, point.setting, "tuning") for point in scored[key]]
        failures = tuple(runner.failures[trial] for trial in trials if trial in runner.failures)
        chosen.setdefault(arm.name, []).append(Chosen(fold, repeat, setting, tuple(scored[key]), edges[key], failures))
    return {name: tuple(of) for name, of in chosen.items()}


def score_of(task: Task, result: TrialResult) -> float | None:
    """The validation score of a training in the metric; None if it diverged."""
    return None if result.diverged else result.scores[task.metric]


def _searched(plan: Plan, key: Key, bracket: Sequence[Scored]) -> list[Setting]:
    """What is tried near the best learning rate with what the bracket has left of the budget."""
    arm, fold, repeat = key
    left = plan.budget - len(plan.bracket(arm))
    if not left:
        return []
    centre = best(bracket, arm, plan.task.guess).setting.lr
    return sobol_settings(arm, centre, left, derive_seed(plan.trial.seed, 2, fold, repeat))


def _score(plan: Plan, settings: dict[Key, list[Setting]], runner: Runner, label: str) -> dict[Key, list[Scored]]:
    """Train settings and score them on validation."""
    trials = {key: [plan.training(*key, setting, "tuning") for setting in of] for key, of in settings.items()}
    results = runner.run([trial for group in trials.values() for trial in group], label)
    return {
        key: [_scored(plan, setting, results.get(t)) for setting, t in zip(of, trials[key], strict=True)]
        for key, of in settings.items()
    }


def _bracket_worked(plan: Plan, arm: Arm, fold: int, repeat: int, runner: Runner) -> bool:
    trials: list[Trial] = [plan.training(arm, fold, repeat, setting, "tuning") for setting in plan.bracket(arm)]
    return any(trial not in runner.failures for trial in trials)


def _scored(plan: Plan, setting: Setting, result: TrialResult | None) -> Scored:
    """A training that failed or diverged counts as guessing."""
    score = None if result is None else score_of(plan.task, result)
    if result is None or score is None:
        return Scored(setting, plan.task.guess, math.inf)
    return Scored(setting, score, result.columns[plan.task.tie_break])
