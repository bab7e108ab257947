"""How long a comparison will take, measured before its first training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lossmith.comparison.arms import Arm
from lossmith.comparison.plan import Plan
from lossmith.trials.ledger import Ledger
from lossmith.trials.rehearsal import time_function
from lossmith.trials.runner import STACK_SIZE
from lossmith.trials.timing import Timing, time_looks, time_trials
from lossmith.trials.training import stacks
from lossmith.trials.trial import FunctionTrainer, Sources, Trial

_BEYOND: Final = 1.25  # wider grids, and other rates for speed: what a plan cannot know adds about a quarter
_WORKER: Final = 3.0  # seconds in which a worker starts


@dataclass(frozen=True)
class Estimate:
    """What is left of a comparison.

    Args:
        trainings: how many, about.
        steps: of each, for most of them.
        seconds: of wall time.
        evaluation: share of it that goes into evaluation.
    """

    trainings: int
    steps: int
    seconds: float
    evaluation: float

    def __str__(self) -> str:
        trainings = f"{self.trainings:,} training{'s' * (self.trainings != 1)}"
        return (
            f"about {duration(self.seconds)}; {trainings} of {self.steps:,} steps; evaluation "
            f"{self.evaluation:.0%} of it".replace("%", " %")
        )


def duration(seconds: float) -> str:
    """A time in words, with no more digits than an estimate deserves."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            count = seconds / size
            return f"{count:.0f} {unit}" if count >= 5 else f"{count:.2g} {unit}"
    return f"{max(1, round(seconds))} s"


def measure(plan: Plan, sources: Sources) -> dict[str, Timing]:
    """What a training of each arm takes on this machine, by name of the arm.

    Arms whose losses do not learn are timed together, one stack or the reference alone standing for all of them.
    """
    trainer = plan.trial.trainer
    if isinstance(trainer, FunctionTrainer):
        return dict.fromkeys((arm.name for arm in plan.arms), time_function(trainer, sources, plan.device))
    planned = {arm.name: _first_trials(plan, arm) for arm in plan.arms}
    plain = {name: of for name, of in planned.items() if _timed(of[0]).stepper == plan.trial.stepper}
    stacked = stacks([trial for of in plain.values() for trial in of], STACK_SIZE)
    together = time_trials(stacked[len(stacked) // 2], sources, plan.device)
    alone = {name: time_trials([_timed(planned[name][0])], sources, plan.device) for name in planned.keys() - plain}
    return {name: alone.get(name, together) for name in planned}


def estimate(
    plan: Plan, timings: Mapping[str, Timing], workers: int, ledger: Ledger | None = None, looks: float = 0.0
) -> Estimate:
    """What a plan will take.

    Args:
        plan: the plan.
        timings: from `measure`, for at least its arms.
        workers: how many trainings go on at once.
        ledger: what is kept already; ``None``: nothing.
        looks: seconds that the probes of a final training take.

    Returns:
        The estimate; zero trainings if all of tuning is kept.
    """
    each = len(plan.pipelines) * (plan.budget + 1) * _BEYOND
    points = plan.trial.trainer.evaluations
    whole, evaluation = len(plan.pipelines) * len(plan.arms) * looks, 0.0
    for arm in plan.arms:
        whole += each * timings[arm.name].whole(round(arm.length * plan.trial.steps), points)
        evaluation += each * timings[arm.name].evaluation(points)
    left = 1 - _kept(plan, ledger)
    seconds = left * whole / workers + (_WORKER if left else 0.0)
    return Estimate(round(left * each * len(plan.arms)), plan.trial.steps, seconds, evaluation / whole)


def estimate_run(plan: Plan, sources: Sources, folder: Path, workers: int) -> Estimate:
    """What is left of a run, measured; what its ledger holds already is not counted.

    Args:
        plan: the plan.
        sources: where data and models lie.
        folder: the run folder, which need not exist.
        workers: how many trainings go on at once.

    Returns:
        The estimate.
    """
    file = folder.resolve().parent / "ledger.sqlite"
    timings, looks = measure(plan, sources), time_looks(plan.trial, sources, plan.device)
    if not file.is_file():
        return estimate(plan, timings, workers, looks=looks)
    with Ledger(file, plan.device) as ledger:
        return estimate(plan, timings, workers, ledger, looks)


def _first_trials(plan: Plan, arm: Arm) -> list[Trial]:
    return [plan.training(arm, *plan.pipelines[0], setting, "tuning") for setting in plan.bracket(arm)]


def _timed(trial: Trial) -> Trial:
    """What stands for a trial: for a replay, which needs a result, the training that it replays."""
    return trial.source or trial


def _kept(plan: Plan, ledger: Ledger | None) -> float:
    """The share of the first stage that is done."""
    if ledger is None:
        return 0.0
    trials = [
        plan.training(arm, *pipeline, setting, "tuning")
        for arm in plan.arms
        for pipeline in plan.pipelines
        for setting in plan.bracket(arm)
    ]
    return sum(trial in ledger for trial in trials) / len(trials)
