"""The comparison, stage by stage: bracket, search, final runs, recommendation, test, speed.

Each stage plans trials from results before it and reads their results; the ledger makes it resumable. The test part is
opened only after the recommendation has been written down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tomli_w

from lossmith.comparison.arms import Arm
from lossmith.comparison.files import write_file
from lossmith.comparison.plan import Plan
from lossmith.comparison.recommendation import Recommendation, recommend, why_untrained
from lossmith.comparison.stages.speed import Speed, measure_speed
from lossmith.comparison.stages.tune import Chosen, score_of, tune
from lossmith.comparison.statistics import PairedDifference, paired_difference
from lossmith.tasks.task import Judged, Scores
from lossmith.trials.result import TrialResult
from lossmith.trials.runner import Runner, TrainingFailedError
from lossmith.trials.trial import Trial

Trials = dict[tuple[str, int], list[Trial]]
"""Trials by arm and fold, one for each seed."""
Results = dict[str, tuple[tuple[TrialResult, ...], ...]]
"""Results by arm, fold and seed."""


@dataclass(frozen=True)
class Findings:
    """Everything a comparison found; by arm name.

    Args:
        chosen: what tuning found, by fold.
        untrained: arms that could not be trained, with the reason.
        weak_reference: the same reason for the reference, which stays the reference all the same; or ``None``.
        finals: final results by fold and seed, with their test scores; none of an arm of which a training failed.
        recommendation: fixed before the test part was opened.
        speed: steps to the reference's level.
        times_scored: how many models have been scored on the test split, the largest number over its folds.
    """

    chosen: dict[str, tuple[Chosen, ...]]
    untrained: dict[str, str]
    weak_reference: str | None
    finals: Results
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

    Raises:
        TrainingFailedError: if trainings of the reference fail.
    """
    chosen = tune(plan, plan.arms, runner)
    finals = _final_trials(plan, chosen)
    sealed = runner.run([trial for trials in finals.values() for trial in trials], "final trainings")
    failed = _failed(plan, chosen, finals, runner)
    if plan.names.reference in failed:
        raise TrainingFailedError(
            f"the reference {plan.names.reference} could not be trained: {failed[plan.names.reference]}"
        )
    finished = [arm for arm in plan.arms if arm.name not in failed]
    validated = {arm.name: _by_fold(plan, arm, finals, sealed.__getitem__) for arm in finished}
    untrained = why_untrained(
        {name: [score_of(plan, run) for fold in folds for run in fold] for name, folds in validated.items()},
        {name: [fold.on_edge for fold in chosen[name]] for name in validated},
        plan.task.guess,
        plan.names,
        plan.task.words,
    )
    weak_reference = untrained.pop(plan.names.reference, None)
    scores = {
        name: plan.task.unit_scores([[_valid(run) for run in fold] for fold in folds], plan.metric)
        for name, folds in validated.items()
        if name not in untrained
    }
    recommendation = recommend(scores, plan.names, plan.task.words)
    _write_recommendation(recommendation, folder)
    opened = {arm.name: _by_fold(plan, arm, finals, runner.ledger.open_test) for arm in finished}
    untrained |= failed
    speed = measure_speed(plan, chosen, finals, validated, untrained, runner)
    times = max(runner.ledger.times_scored(replace(plan.data, fold=fold)) for fold in plan.folds)
    return Findings(chosen, untrained, weak_reference, opened, recommendation, speed, times)


def difference(a: Sequence[Scores], b: Sequence[Scores]) -> PairedDifference:
    """The paired difference of two arms from their per-example scores."""
    return paired_difference([x - y for x, y in zip(a, b, strict=True)])


def _final_trials(plan: Plan, chosen: dict[str, tuple[Chosen, ...]]) -> Trials:
    return {
        (arm.name, fold): [
            plan.trial(arm, fold, chosen[arm.name][fold].setting, "final", seed) for seed in range(plan.final_seeds)
        ]
        for arm in plan.arms
        if arm.name in chosen
        for fold in plan.folds
    }


def _failed(plan: Plan, chosen: dict[str, tuple[Chosen, ...]], finals: Trials, runner: Runner) -> dict[str, str]:
    """The arms without a result for every final training, each with the end of a sentence that says why."""
    failed = {}
    for arm in plan.arms:
        trials = [trial for fold in plan.folds for trial in finals.get((arm.name, fold), [])]
        reasons = [runner.failures[trial] for trial in trials if trial in runner.failures]
        if arm.name not in chosen:
            first = next(t for t in runner.failures if t.loss == arm.loss_with())
            failed[arm.name] = f"all of its first trainings failed: {runner.failures[first]}"
        elif reasons:
            failed[arm.name] = f"{len(reasons)} of its {len(trials)} final trainings failed: {reasons[0]}"
    return failed


def _by_fold(
    plan: Plan, arm: Arm, trials: Trials, result_of: Callable[[Trial], TrialResult]
) -> tuple[tuple[TrialResult, ...], ...]:
    return tuple(tuple(map(result_of, trials[arm.name, fold])) for fold in plan.folds)


def _write_recommendation(recommendation: Recommendation, folder: Path) -> None:
    values = {"loss": recommendation.arm, "reason": recommendation.reason, "gain": recommendation.gain}
    if recommendation.se is not None:
        values["standard_error"] = recommendation.se
    write_file(folder / "recommendation.toml", tomli_w.dumps(values))


def _valid(result: TrialResult) -> Judged:
    assert result.valid is not None, "final trials keep their validation outcomes"
    return result.valid
