"""Speed: the steps to the level that the reference ends at."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lossmith.comparison.arms import Arm
from lossmith.comparison.plan import Plan
from lossmith.comparison.speed import SpeedRatio, paired_log_ratio, steps_to_reach
from lossmith.comparison.stages.tune import Chosen, tune, tuning_seeds
from lossmith.comparison.tuning import Setting
from lossmith.trials.result import TrialResult
from lossmith.trials.runner import Runner
from lossmith.trials.trial import Trial


@dataclass(frozen=True)
class Speed:
    """How fast an arm reaches the reference's level.

    Args:
        lrs: the learning rate tuned for speed, one per fold.
        steps: steps to tau, one per fold and seed; inf if never.
        ratio: against the reference's steps.
        shortened_reference_missed: whether the reference re-tuned for so many steps missed tau; ``None`` if not asked.
        shortened_steps: that number of steps.
    """

    lrs: tuple[float, ...]
    steps: tuple[float, ...]
    ratio: SpeedRatio
    shortened_reference_missed: bool | None = None
    shortened_steps: int | None = None


def measure_speed(
    plan: Plan,
    chosen: dict[str, tuple[Chosen, ...]],
    finals: dict[tuple[str, int], list[Trial]],
    validated: dict[str, tuple[tuple[TrialResult, ...], ...]],
    untrained: dict[str, str],
    runner: Runner,
) -> dict[str, Speed]:
    """Steps to the level the reference ends at, each arm at the learning rate that reaches it soonest.

    Args:
        plan: the plan.
        chosen: what tuning found.
        finals: the final trials, by arm and fold.
        validated: their results, by arm, fold and seed.
        untrained: arms that are left out, with the reason.
        runner: what runs the trials.

    Returns:
        By arm.
    """
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
                planned = [plan.trial(arm, fold, setting, "final", s) for s in range(plan.final_seeds)]
                trials[arm.name, fold] = [replace(trial, final=False) for trial in planned]
    results = runner.run([trial for group in trials.values() for trial in group], "speed")
    times = {
        arm.name: tuple(
            _time(results.get(trial), taus[fold]) for fold in plan.folds for trial in trials[arm.name, fold]
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
                seeds = range(tuning_seeds(plan, arm, point.setting))
                runs = [runner.ledger.get(plan.trial(arm, fold, point.setting, "tuning", j)) for j in seeds]
                times[point.setting] = float(np.mean([_time(run, taus[fold]) for run in runs]))
            setting = min(times, key=lambda s: times[s])
            fastest[arm.name, fold] = setting if math.isfinite(times[setting]) else chosen[arm.name][fold].setting
    return fastest


def _seems_faster(ratio: SpeedRatio) -> bool:
    return ratio.ratio < 1 and ratio.p_value is not None and ratio.p_value < 0.05


def _against_shortened(plan: Plan, speed: Speed, taus: Sequence[float], runner: Runner) -> Speed:
    """Ask whether the reference gets there too if its schedule is cut to the steps the loss needed."""
    finite = [t for t in speed.steps if math.isfinite(t)]
    steps = math.ceil(float(np.median(finite)))
    short = replace(plan, steps=steps)
    arm = plan.arm(plan.names.reference)
    tuned = tune(short, [arm], runner, f"{arm.name} in {steps} steps, ")
    if arm.name not in tuned:
        return speed
    chosen = tuned[arm.name]
    trials = {
        fold: [
            replace(short.trial(arm, fold, chosen[fold].setting, "final", s), final=False)
            for s in range(plan.final_seeds)
        ]
        for fold in plan.folds
    }
    results = runner.run([t for group in trials.values() for t in group], f"{arm.name} in {steps} steps, final")
    reached = [
        trial in results and float(np.mean(results[trial].curve.score[-3:])) >= taus[fold] - 1e-12
        for fold in plan.folds
        for trial in trials[fold]
    ]
    return replace(speed, shortened_reference_missed=float(np.mean(reached)) < 0.5, shortened_steps=steps)


def _time(result: TrialResult | None, tau: float) -> float:
    """Steps to tau; infinite if a training did not get there, or failed."""
    return math.inf if result is None else steps_to_reach(result.curve.score, result.curve.steps, tau)
