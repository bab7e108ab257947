"""The final trainings of a comparison as one table: a row for each arm, fold and seed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

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
        seed: the number of the final seed.
        setting: what tuning chose for the arm in this fold.
        trial: the training as planned.
        result: what it gave; its test part is sealed until the recommendation has been written.
    """

    arm: str
    fold: int
    seed: int
    setting: Setting
    trial: Trial
    result: TrialResult

    def judged(self, part: Literal["valid", "test"]) -> Judged:
        """The scores of each unit of a part of the data."""
        judged = self.result.valid if part == "valid" else self.result.test
        assert judged is not None, "final trainings keep what was judged, and their test part has been opened"
        return judged


def by_arm(runs: Iterable[FinalRun]) -> dict[str, list[FinalRun]]:
    """The rows of each arm, by fold and seed."""
    found: dict[str, list[FinalRun]] = {}
    for run in runs:
        found.setdefault(run.arm, []).append(run)
    return found


def unit_scores(plan: Plan, runs: Iterable[FinalRun], part: Literal["valid", "test"]) -> dict[str, list[Scores]]:
    """Scores per unit in the plan's metric: for each arm one array (seeds, units) per fold."""
    return {
        arm: plan.task.unit_scores(
            [[run.judged(part) for run in rows if run.fold == fold] for fold in plan.folds], plan.metric
        )
        for arm, rows in by_arm(runs).items()
    }
