"""Speed: the steps to the level that the reference ends at."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from lossmith.comparison.arms import Arm
from lossmith.comparison.plan import Plan
from lossmith.comparison.results import FinalRun, by_arm
from lossmith.comparison.speed import Speed, SpeedRatio, paired_log_ratio, steps_to_reach
from lossmith.comparison.stages.tune import Chosen, tune, tuning_seeds
from lossmith.comparison.tuning import Setting
from lossmith.trials.result import TrialResult
from lossmith.trials.runner import Runner
from lossmith.trials.trial import Trial


def measure_speed(
    plan: Plan, chosen: dict[str, tuple[Chosen, ...]], runs: Sequence[FinalRun], runner: Runner
) -> dict[str, Speed]:
    """Steps to the level the reference ends at, each arm at the learning rate that reaches it soonest."""
    reference = by_arm(runs)[plan.names.reference]
    taus = [min(run.result.curve.score[-1] for run in reference if run.fold == fold) for fold in plan.folds]
    fastest = _fastest_settings(plan, [plan.arm(name) for name in by_arm(runs)], chosen, taus, runner)
    trials = [
        run.trial if fastest[run.arm, run.fold] == run.setting else _unscored(plan, run, fastest[run.arm, run.fold])
        for run in runs
    ]
    results = runner.run(trials, "speed")
    times: dict[str, list[float]] = {run.arm: [] for run in runs}
    for run, trial in zip(runs, trials, strict=True):
        times[run.arm].append(_time(results.get(trial), taus[run.fold]))
    speed = {
        name: Speed(
            tuple(fastest[name, fold].lr for fold in plan.folds),
            tuple(of),
            paired_log_ratio(of, times[plan.names.reference]),
        )
        for name, of in times.items()
    }
    for name, found in speed.items():
        if name not in {plan.names.reference, plan.names.again} and _seems_faster(found.ratio):
            speed[name] = _against_shortened(plan, found, taus, runner)
    return speed


def _unscored(plan: Plan, run: FinalRun, setting: Setting) -> Trial:
    """The final training at another setting, which is not scored on test."""
    return replace(plan.training(plan.arm(run.arm), run.fold, setting, "final", run.seed), final=False)


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
                runs = [runner.ledger.get(plan.training(arm, fold, point.setting, "tuning", j)) for j in seeds]
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
    short = replace(plan, trial=replace(plan.trial, steps=steps))
    arm = plan.arm(plan.names.reference)
    tuned = tune(short, [arm], runner, f"{arm.name} in {steps} steps, ")
    if arm.name not in tuned:
        return speed
    chosen = tuned[arm.name]
    trials = {
        fold: [
            replace(short.training(arm, fold, chosen[fold].setting, "final", s), final=False)
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
