"""The comparison, stage by stage: bracket, search, final runs, recommendation, test, speed.

Each stage plans trials from results before it and reads their results; the ledger makes it resumable. The test part is
opened only after the recommendation has been written down.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import tomli_w

from lossmith.comparison.arms import Arm
from lossmith.comparison.files import write_file
from lossmith.comparison.plan import Plan, derive_seed
from lossmith.comparison.recommendation import Recommendation, recommend, why_untrained
from lossmith.comparison.speed import SpeedRatio, paired_log_ratio, steps_to_reach
from lossmith.comparison.statistics import PairedDifference, paired_difference
from lossmith.comparison.tuning import Scored, Setting, best, extension, sobol_settings
from lossmith.tasks.task import Judged, Scores
from lossmith.trials.result import Curve, TrialResult
from lossmith.trials.runner import Runner
from lossmith.trials.trial import Trial

MAX_EXTENSIONS: Final = 4


@dataclass(frozen=True)
class Chosen:
    """What tuning found for an arm in one fold.

    Args:
        setting: the chosen setting.
        points: everything that was tried, scored.
        on_edge: whether the best of the grid still lies on its edge after all extensions.
        trainings: how many trainings that took.
    """

    setting: Setting
    points: tuple[Scored, ...]
    on_edge: bool
    trainings: int


@dataclass(frozen=True)
class Speed:
    """How fast an arm reaches cross-entropy's level.

    Args:
        lrs: the learning rate tuned for speed, one per fold.
        steps: steps to tau, one per fold and seed; inf if never.
        ratio: against cross-entropy's steps.
        shortened_ce_missed: whether cross-entropy re-tuned for so many steps missed tau; ``None`` if not asked.
        shortened_steps: that number of steps.
    """

    lrs: tuple[float, ...]
    steps: tuple[float, ...]
    ratio: SpeedRatio
    shortened_ce_missed: bool | None = None
    shortened_steps: int | None = None


@dataclass(frozen=True)
class Findings:
    """Everything a comparison found; by arm name.

    Args:
        chosen: what tuning found, by fold.
        untrained: arms that could not be trained, with the reason.
        weak_reference: the same reason for cross-entropy, which stays the reference all the same; or ``None``.
        finals: final results by fold and seed, with their test outcomes.
        recommendation: fixed before the test part was opened.
        speed: steps to cross-entropy's level.
        times_scored: how many models have been scored on the test split, the largest number over its folds.
    """

    chosen: dict[str, tuple[Chosen, ...]]
    untrained: dict[str, str]
    weak_reference: str | None
    finals: dict[str, tuple[tuple[TrialResult, ...], ...]]
    recommendation: Recommendation
    speed: dict[str, Speed]
    times_scored: int


def run_protocol(plan: Plan, runner: Runner, folder: Path) -> Findings:
    """Carry out a plan.

    Args:
        plan: the plan, already written to the run folder.
        runner: what runs the trials.
        folder: the run folder; the recommendation is written there.

    Returns:
        The findings.
    """
    chosen = _tune(plan, plan.arms, runner)
    wanted = {
        (arm.name, fold): [plan.trial(arm, fold, chosen[arm.name][fold].setting, "final", s) for s in _seeds(plan)]
        for arm in plan.arms
        for fold in plan.folds
    }
    sealed = runner.run([trial for trials in wanted.values() for trial in trials], "final trainings")
    validated = {
        arm.name: tuple(tuple(sealed[trial] for trial in wanted[arm.name, fold]) for fold in plan.folds)
        for arm in plan.arms
    }
    untrained = why_untrained(
        {name: [_score_of(plan, run) for fold in folds for run in fold] for name, folds in validated.items()},
        {name: [fold.on_edge for fold in folds] for name, folds in chosen.items()},
        plan.task.guess,
        plan.names,
    )
    weak_reference = untrained.pop(plan.names.reference, None)
    scores = {
        name: plan.task.unit_scores([[_valid(run) for run in fold] for fold in folds], plan.metric)
        for name, folds in validated.items()
        if name not in untrained
    }
    recommendation = recommend(scores, plan.names)
    _write_recommendation(recommendation, folder)
    finals = {
        arm.name: tuple(
            tuple(runner.ledger.open_test(trial) for trial in wanted[arm.name, fold]) for fold in plan.folds
        )
        for arm in plan.arms
    }
    speed = _measure_speed(plan, chosen, wanted, validated, untrained, runner)
    times = max(runner.ledger.times_scored(replace(plan.data, fold=fold)) for fold in plan.folds)
    return Findings(chosen, untrained, weak_reference, finals, recommendation, speed, times)


def difference(a: Sequence[Scores], b: Sequence[Scores]) -> PairedDifference:
    """The paired difference of two arms from their per-example scores."""
    return paired_difference([x - y for x, y in zip(a, b, strict=True)])


def _tune(plan: Plan, arms: Sequence[Arm], runner: Runner, label: str = "") -> dict[str, tuple[Chosen, ...]]:
    """Bracket each arm's learning rate in each fold, extend the grid where its best lies on the edge, search."""
    keys = [(arm, fold) for arm in arms for fold in plan.folds]
    tried = {key: plan.grid(key[0]) for key in keys}
    scored = _score(plan, tried, runner, f"{label}learning rates")
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
        (arm, fold): sobol_settings(arm, centres[arm, fold], plan.budget // 2, derive_seed(plan.seed, 2, fold))
        for arm, fold in keys
        if arm.tuned
    }
    if search:
        for key, points in _score(plan, search, runner, f"{label}hyperparameters", seeds=1).items():
            scored[key] += points
    return {
        arm.name: tuple(
            Chosen(
                best(scored[arm, fold], arm, plan.task.guess).setting,
                tuple(scored[arm, fold]),
                edges[arm, fold],
                sum(1 if point.setting.values is not None else _grid_seeds(plan, arm) for point in scored[arm, fold]),
            )
            for fold in plan.folds
        )
        for arm in arms
    }


def _score(
    plan: Plan,
    settings: dict[tuple[Arm, int], list[Setting]],
    runner: Runner,
    label: str,
    seeds: int | None = None,
) -> dict[tuple[Arm, int], list[Scored]]:
    """Train settings on the tuning seeds and score them on validation."""
    trials = {
        (arm, fold, setting): [
            plan.trial(arm, fold, setting, "tuning", j)
            for j in range(_grid_seeds(plan, arm) if seeds is None else seeds)
        ]
        for (arm, fold), of in settings.items()
        for setting in of
    }
    results = runner.run([trial for group in trials.values() for trial in group], label)
    return {
        (arm, fold): [
            _scored(plan, setting, [results[trial] for trial in trials[arm, fold, setting]]) for setting in of
        ]
        for (arm, fold), of in settings.items()
    }


def _scored(plan: Plan, setting: Setting, results: Sequence[TrialResult]) -> Scored:
    scores = [_score_of(plan, result) for result in results]
    known = [plan.task.guess if score is None else score for score in scores]
    tie_break = [math.inf if result.diverged else result.columns[plan.task.tie_break] for result in results]
    return Scored(setting, float(np.mean(known)), float(np.mean(tie_break)))


def _score_of(plan: Plan, result: TrialResult) -> float | None:
    """The validation score of a training in the plan's metric; None if it diverged."""
    if result.diverged:
        return None
    return result.scores[plan.metric]


def _grid_seeds(plan: Plan, arm: Arm) -> int:
    """Tuning seeds of each grid point: what an arm with nothing else to tune has left goes into replicates."""
    return plan.bracket_seeds if arm.tuned else 2 * plan.bracket_seeds


def _write_recommendation(recommendation: Recommendation, folder: Path) -> None:
    values = {"loss": recommendation.arm, "reason": recommendation.reason, "gain": recommendation.gain}
    if recommendation.se is not None:
        values["standard_error"] = recommendation.se
    write_file(folder / "recommendation.toml", tomli_w.dumps(values))


def _measure_speed(
    plan: Plan,
    chosen: dict[str, tuple[Chosen, ...]],
    finals: dict[tuple[str, int], list[Trial]],
    validated: dict[str, tuple[tuple[TrialResult, ...], ...]],
    untrained: dict[str, str],
    runner: Runner,
) -> dict[str, Speed]:
    """Steps to the level cross-entropy ends at, each arm at the learning rate that reaches it soonest."""
    taus = [min(run.curve.score[-1] for run in fold) for fold in validated[plan.names.reference]]
    arms = [arm for arm in plan.arms if arm.name not in untrained]
    fastest = _fastest_settings(plan, arms, chosen, taus, runner)
    trials: dict[tuple[str, int], list[Trial]] = {}
    for arm in arms:
        for fold in plan.folds:
            setting = fastest[arm.name, fold]
            if setting == chosen[arm.name][fold].setting:
                trials[arm.name, fold] = finals[arm.name, fold]
            else:
                planned = [plan.trial(arm, fold, setting, "final", s) for s in _seeds(plan)]
                trials[arm.name, fold] = [replace(trial, final=False) for trial in planned]
    results = runner.run([trial for group in trials.values() for trial in group], "speed")
    times = {
        arm.name: tuple(
            _time(results[trial].curve, taus[fold]) for fold in plan.folds for trial in trials[arm.name, fold]
        )
        for arm in arms
    }
    speed = {
        arm.name: Speed(
            tuple(fastest[arm.name, fold].lr for fold in plan.folds),
            times[arm.name],
            paired_log_ratio(times[arm.name], times[plan.names.reference]),
        )
        for arm in arms
    }
    for name, of in speed.items():
        if name not in {plan.names.reference, plan.names.again} and _seems_faster(of.ratio):
            speed[name] = _against_shortened(plan, of, taus, runner)
    return speed


def _fastest_settings(
    plan: Plan, arms: Iterable[Arm], chosen: dict[str, tuple[Chosen, ...]], taus: Sequence[float], runner: Runner
) -> dict[tuple[str, int], Setting]:
    """Of all settings tried in tuning, the one whose runs reach tau soonest on average; the chosen one if none does."""
    fastest = {}
    for arm in arms:
        for fold in plan.folds:
            times = {}
            for point in chosen[arm.name][fold].points:
                seeds = 1 if point.setting.values is not None else _grid_seeds(plan, arm)
                runs = [runner.ledger.get(plan.trial(arm, fold, point.setting, "tuning", j)) for j in range(seeds)]
                times[point.setting] = float(np.mean([_time(run.curve, taus[fold]) for run in runs if run is not None]))
            setting = min(times, key=lambda s: times[s])
            fastest[arm.name, fold] = setting if math.isfinite(times[setting]) else chosen[arm.name][fold].setting
    return fastest


def _seems_faster(ratio: SpeedRatio) -> bool:
    return ratio.ratio < 1 and ratio.p_value is not None and ratio.p_value < 0.05


def _against_shortened(plan: Plan, speed: Speed, taus: Sequence[float], runner: Runner) -> Speed:
    """Ask whether cross-entropy gets there too if its schedule is cut to the steps the loss needed."""
    finite = [t for t in speed.steps if math.isfinite(t)]
    steps = math.ceil(float(np.median(finite)))
    short = replace(plan, steps=steps)
    arm = plan.arm(plan.names.reference)
    chosen = _tune(short, [arm], runner, f"cross-entropy in {steps} steps, ")[arm.name]
    trials = {
        fold: [replace(short.trial(arm, fold, chosen[fold].setting, "final", s), final=False) for s in _seeds(plan)]
        for fold in plan.folds
    }
    results = runner.run([t for group in trials.values() for t in group], f"cross-entropy in {steps} steps, final")
    reached = [
        float(np.mean(results[trial].curve.score[-3:])) >= taus[fold] - 1e-12
        for fold in plan.folds
        for trial in trials[fold]
    ]
    return replace(speed, shortened_ce_missed=float(np.mean(reached)) < 0.5, shortened_steps=steps)


def _time(curve: Curve, tau: float) -> float:
    return steps_to_reach(curve.score, curve.steps, tau)


def _seeds(plan: Plan) -> range:
    return range(plan.final_seeds)


def _valid(result: TrialResult) -> Judged:
    assert result.valid is not None, "final trials keep their validation outcomes"
    return result.valid
