"""The comparison, stage by stage: tuning, final runs, recommendation, test, speed.

Each stage plans trials from results before it and reads their results; the ledger makes it resumable. The test part is
opened only after the recommendation has been written down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tomli_w

from lossmith.comparison.files import write_file
from lossmith.comparison.plan import Plan
from lossmith.comparison.recommendation import Recommendation, recommend, why_untrained
from lossmith.comparison.results import FinalRun, by_arm, check_test_parts, reference_learned, validation_estimator
from lossmith.comparison.speed import Speed
from lossmith.comparison.stages.speed import measure_speed
from lossmith.comparison.stages.tune import Chosen, score_of, tune
from lossmith.comparison.statistics import PairedDifference
from lossmith.comparison.tuning import Setting
from lossmith.tasks import metric_title
from lossmith.trials.runner import Runner, TrainingFailedError
from lossmith.trials.trial import Trial


@dataclass(frozen=True)
class Findings:
    """Everything a comparison found; by arm name.

    Args:
        chosen: what tuning found, by fold and repeat.
        untrained: arms that could not be trained, with the reason.
        weak_reference: the same reason for the reference, which stays the reference all the same; or ``None``.
        runs: the final trainings with their test scores; none of an arm of which a training failed.
        recommendation: fixed before the test part was opened.
        speed: steps to the reference's level.
        times_scored: how many models have been scored on the test split, the largest number over its folds.
    """

    chosen: dict[str, tuple[Chosen, ...]]
    untrained: dict[str, str]
    weak_reference: str | None
    runs: tuple[FinalRun, ...]
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
    planned = _final_trials(plan, chosen)
    sealed = runner.run([trial for *_, trial in planned], "final trainings")
    failed = _failed(plan, chosen, planned, runner)
    if plan.names.reference in failed:
        raise TrainingFailedError(
            f"the reference {plan.names.reference} could not be trained: {failed[plan.names.reference]}"
        )
    runs = [FinalRun(*row, sealed[row[-1]]) for row in planned if row[0] not in failed]
    untrained = untrained_arms(plan, runs)
    weak_reference = untrained.pop(plan.names.reference, None)
    trained = [run for run in runs if run.arm not in untrained]
    recommendation = recommendation_from(plan, validation_differences(plan, trained))
    _write_recommendation(recommendation, folder)
    opened = tuple(replace(run, result=runner.ledger.open_test(run.trial)) for run in runs)
    check_test_parts(opened)
    speed = measure_speed(plan, chosen, trained, runner)
    times = max(runner.ledger.times_scored(plan.trial.trainer.on_fold(fold)) for fold in plan.folds)
    return Findings(chosen, untrained | failed, weak_reference, opened, recommendation, speed, times)


def untrained_arms(plan: Plan, runs: Sequence[FinalRun]) -> dict[str, str]:
    """The arms that could not be trained, each with the reason; see `why_untrained`."""
    task, runs_of = plan.task.of_progress, by_arm(runs)
    return why_untrained(
        {name: [score_of(task, run.result) for run in of] for name, of in runs_of.items()},
        {name: [run.on_edge for run in of] for name, of in runs_of.items()},
        task.guess,
        plan.names,
        task.words,
        metric=metric_title(task.metric),
        learned_something=reference_learned(plan, runs),
    )


def validation_differences(plan: Plan, trained: Sequence[FinalRun]) -> dict[str, PairedDifference]:
    """Each arm that could be trained minus the reference on validation, without the reference's own arms."""
    estimator, names = validation_estimator(plan, trained), list(by_arm(trained))
    references = plan.names.both(names)
    return {name: estimator.difference(name, *references) for name in names if name not in references}


def recommendation_from(plan: Plan, differences: Mapping[str, PairedDifference]) -> Recommendation:
    """What `validation_differences` recommend."""
    tested = sum(arm.name not in {plan.names.reference, plan.names.again} for arm in plan.arms)
    return recommend(differences, tested, plan.names, plan.task.words)


_Planned = tuple[str, int, int, Setting, bool, Trial]


def _final_trials(plan: Plan, chosen: dict[str, tuple[Chosen, ...]]) -> list[_Planned]:
    """The rows of the table of `FinalRun`, their results still missing."""
    return [
        (
            arm.name,
            of.fold,
            of.repeat,
            of.setting,
            of.on_edge,
            plan.training(arm, of.fold, of.repeat, of.setting, "final"),
        )
        for arm in plan.arms
        for of in chosen.get(arm.name, ())
    ]


def _failed(
    plan: Plan, chosen: dict[str, tuple[Chosen, ...]], planned: Sequence[_Planned], runner: Runner
) -> dict[str, str]:
    """The arms without a result for every final training, each with the end of a sentence that says why."""
    failed = {}
    for arm in plan.arms:
        trials = [trial for name, *_, trial in planned if name == arm.name]
        reasons = [runner.failures[trial] for trial in trials if trial in runner.failures]
        if arm.name not in chosen:
            first = next(t for t in runner.failures if t.loss == arm.loss_with())
            failed[arm.name] = f"all of its first trainings failed: {runner.failures[first]}"
        elif reasons:
            failed[arm.name] = f"{len(reasons)} of its {len(trials)} final trainings failed: {reasons[0]}"
    return failed


def _write_recommendation(recommendation: Recommendation, folder: Path) -> None:
    values = {"loss": recommendation.arm, "reason": recommendation.reason, "gain": recommendation.gain}
    if recommendation.se is not None:
        values["standard_error"] = recommendation.se
    write_file(folder / "recommendation.toml", tomli_w.dumps(values))
