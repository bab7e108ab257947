"""Speed: the steps to the level that the reference ends at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lossmith.comparison.plan import Plan
from lossmith.comparison.results import FinalRun, by_arm
from lossmith.comparison.speed import LEAST_POINTS, Speed, SpeedRatio, paired_log_ratio, steps_to_reach
from lossmith.comparison.stages.tune import Chosen, tune
from lossmith.comparison.statistics import holm
from lossmith.comparison.tuning import Setting
from lossmith.comparison.verdict import ALPHA
from lossmith.trials.result import TrialResult
from lossmith.trials.runner import Runner
from lossmith.trials.trial import Trial

Pipeline = tuple[str, int, int]
"""Name of an arm, fold, repeat."""


def measure_speed(
    plan: Plan, chosen: dict[str, tuple[Chosen, ...]], runs: Sequence[FinalRun], runner: Runner
) -> dict[str, Speed]:
    """Steps to the level the reference ends at, each arm at the learning rate that reaches it soonest.

    Args:
        plan: the plan.
        chosen: what tuning found, by arm.
        runs: the final trainings of the arms that could be trained, the reference's among them.
        runner: what runs the trials.

    Returns:
        What was found, by arm. A loss that is faster with a Holm-adjusted p below .05 is held against the reference
        re-tuned for as few steps. Nothing where the reference's curves have too few points, which a training function
        may log.
    """
    runs_of = by_arm(runs)
    references = plan.names.both(runs_of)
    if any(len(run.result.curve.steps) < LEAST_POINTS for name in references for run in runs_of[name]):
        return {}
    taus = {
        fold: min(run.result.curve.score[-1] for name in references for run in runs_of[name] if run.fold == fold)
        for fold in plan.folds
    }
    fastest = _fastest_settings(plan, {name: chosen[name] for name in runs_of}, taus, runner)
    trials = [_at(plan, run, fastest[run.arm, run.fold, run.repeat]) for run in runs]
    results = runner.run(trials, "speed")
    times: dict[str, list[float]] = {name: [] for name in runs_of}
    for run, trial in zip(runs, trials, strict=True):
        times[run.arm].append(_time(results.get(trial), taus[run.fold]))
    ratios = {name: _ratio(of, [times[name] for name in references]) for name, of in times.items()}
    candidates = [arm.name for arm in plan.arms if arm.role == "candidate"]
    p_values = [1.0 if name not in ratios or (p := ratios[name].p_value) is None else p for name in candidates]
    adjusted = dict(zip(candidates, holm(p_values).tolist(), strict=True))
    speed = {}
    for name, of in times.items():
        lrs = tuple(fastest[name, *pipeline].lr for pipeline in plan.pipelines)
        ratio, holm_p = ratios[name], adjusted.get(name, ratios[name].p_value)
        speed[name] = Speed(lrs, tuple(of), ratio, holm_p)
        if name not in references and ratio.ratio < 1 and holm_p is not None and holm_p < ALPHA:
            speed[name] = _against_shortened(plan, speed[name], taus, runner)
    return speed


def _ratio(times: Sequence[float], references: Sequence[Sequence[float]]) -> SpeedRatio:
    """The ratio to the geometric mean of the reference's arms, or, if a run never arrived, to each of them in turn.

    A mean of two is infinite twice as often as a single time, which would make any loss look faster.
    """
    together = np.array(references)
    if np.isfinite(together).all() and np.isfinite(times).all():
        return paired_log_ratio(times, np.exp(np.log(together).mean(0)))
    pairs = np.arange(together.shape[1])
    return paired_log_ratio(times, together[pairs % len(together), pairs])


def _at(plan: Plan, run: FinalRun, setting: Setting) -> Trial:
    """A final training, or the same at another setting, which is not scored on test."""
    if setting == run.setting:
        return run.trial
    return plan.training(plan.arm(run.arm), run.fold, run.repeat, setting, "speed")


def _fastest_settings(
    plan: Plan, chosen: dict[str, tuple[Chosen, ...]], taus: dict[int, float], runner: Runner
) -> dict[Pipeline, Setting]:
    """Of all settings tried in tuning, the one whose run reaches tau soonest; the chosen one if none does."""
    fastest = {}
    for name, pipelines in chosen.items():
        for of in pipelines:
            times = {}
            for point in of.points:
                trial = plan.training(plan.arm(name), of.fold, of.repeat, point.setting, "tuning")
                times[point.setting] = _time(runner.ledger.get(trial), taus[of.fold])
            setting = min(times, key=lambda s: times[s])
            fastest[name, of.fold, of.repeat] = setting if math.isfinite(times[setting]) else of.setting
    return fastest


def _against_shortened(plan: Plan, speed: Speed, taus: dict[int, float], runner: Runner) -> Speed:
    """Ask whether the reference gets there too if its schedule is cut to the steps the loss needed."""
    finite = [t for t in speed.steps if math.isfinite(t)]
    steps = math.ceil(float(np.median(finite)))
    short = replace(plan, trial=replace(plan.trial, steps=steps))
    arm = plan.arm(plan.names.reference)
    tuned = tune(short, [arm], runner, f"{arm.name} in {steps} steps, ")
    if arm.name not in tuned:
        return speed
    trials = {
        (of.fold, of.repeat): short.training(arm, of.fold, of.repeat, of.setting, "speed") for of in tuned[arm.name]
    }
    results = runner.run(list(trials.values()), f"{arm.name} in {steps} steps, final")
    reached = [
        trial in results and float(np.mean(results[trial].curve.score[-3:])) >= taus[fold] - 1e-12
        for (fold, _), trial in trials.items()
    ]
    return replace(speed, shortened_reference_missed=float(np.mean(reached)) < 0.5, shortened_steps=steps)


def _time(result: TrialResult | None, tau: float) -> float:
    """Steps to tau; infinite if a training did not get there, or failed."""
    return math.inf if result is None else steps_to_reach(result.curve.score, result.curve.steps, tau)
