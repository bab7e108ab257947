"""The final trainings of a comparison as one table: a row for each arm, fold and repeat."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lossmith.comparison.estimator import Estimator, Units
from lossmith.comparison.guessing import beats_guessing
from lossmith.comparison.plan import Plan
from lossmith.comparison.tuning import Setting
from lossmith.tasks.task import Judged, Scores
from lossmith.trials.result import TrialResult
from lossmith.trials.trial import Trial


@dataclass(frozen=True)
class FinalRun:
    """One final training.

    Args:
        arm: the name of what was trained.
        fold: the number of the test fold.
        repeat: the number of the repeat.
        setting: what tuning chose for the arm in this repeat.
        on_edge: whether the best learning rate still lay on the edge of the extended grid.
        trial: the training as planned.
        result: what it gave; its test part is sealed until the recommendation has been written.
    """

    arm: str
    fold: int
    repeat: int
    setting: Setting
    on_edge: bool
    trial: Trial
    result: TrialResult

    def judged(self, part: Literal["valid", "test"]) -> Judged:
        """The scores of each unit of a part of the data."""
        judged = self.result.valid if part == "valid" else self.result.test
        assert judged is not None, "final trainings keep what was judged, and their test part has been opened"
        return judged


def by_arm(runs: Iterable[FinalRun]) -> dict[str, list[FinalRun]]:
    """The rows of each arm, by fold and repeat."""
    found: dict[str, list[FinalRun]] = {}
    for run in runs:
        found.setdefault(run.arm, []).append(run)
    return found


def test_scores(plan: Plan, runs: Iterable[FinalRun]) -> dict[str, list[Scores]]:
    """Scores per unit of the test part in the plan's metric: for each arm one array (repeats, units) per fold."""
    return {
        arm: plan.task.unit_scores(
            [[run.judged("test") for run in rows if run.fold == fold] for fold in plan.folds], plan.metric
        )
        for arm, rows in by_arm(runs).items()
    }


def check_test_parts(runs: Iterable[FinalRun]) -> None:
    """Refuse test parts of different sizes in one fold, which a training function may return.

    Raises:
        ValueError: if there are some.
    """
    sizes: dict[int, int] = {}
    for run in runs:
        size = len(run.judged("test").score)
        if sizes.setdefault(run.fold, size) != size:
            raise ValueError(
                f"the test part of fold {run.fold} has {sizes[run.fold]} units in one training and {size} in another: "
                "a training function must score the same units, in the same order, whatever the loss"
            )


def test_estimator(plan: Plan, scores: Mapping[str, Sequence[Scores]], untrained: Collection[str]) -> Estimator:
    """What estimates differences on test.

    Args:
        plan: the plan.
        scores: `test_scores`.
        untrained: the arms that could not be trained; what these scatter is nobody else's.
    """
    return Estimator({name: [list(fold) for fold in of] for name, of in scores.items()}, _alike(plan, untrained))


def validation_estimator(plan: Plan, runs: Iterable[FinalRun]) -> Estimator:
    """What estimates differences on validation between arms that could be trained.

    Each repeat has a validation part of its own, unless that is official.
    """
    scores: dict[str, list[list[Scores]]] = {}
    units: Units = ()
    for arm, rows in by_arm(runs).items():
        folds = [[run.judged("valid") for run in rows if run.fold == fold] for fold in plan.folds]
        scores[arm] = [[plan.task.unit_scores([[run]], plan.metric)[0][0] for run in fold] for fold in folds]
        units = [[run.index for run in fold] for fold in folds]
    official = all(np.array_equal(run, fold[0]) for fold in units for run in fold)
    return Estimator(scores, _alike(plan, ()), None if official else units)


def reference_learned(plan: Plan, runs: Iterable[FinalRun]) -> bool:
    """Whether the reference does better than guessing on validation."""
    task, judged = plan.task.of_progress, [run.judged("valid") for run in by_arm(runs)[plan.names.reference]]
    scored = [(each, task.unit_scores([[each]], task.metric)[0][0]) for each in judged]
    return beats_guessing(scored, task.guess)


def _alike(plan: Plan, untrained: Collection[str]) -> list[str]:
    """The arms that spend their whole budget on the learning rate: their scatter is pooled."""
    return [arm.name for arm in plan.arms if not arm.tuned and arm.name not in untrained]
