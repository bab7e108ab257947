"""Scores that a user's own training function returns, of which nothing else is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from typing_extensions import override

from lossmith.tasks.classification import Classification
from lossmith.tasks.regression import Regression
from lossmith.tasks.task import Counted, Diagram, Judged, Scores, Task

SCORE: Final = "score"


@dataclass(frozen=True)
class Scored(Task):
    """What the scores of classification and regression share.

    Args:
        untrained: the mean validation score after a few steps, which a training that learned something must beat.
    """

    untrained: float = 0.0

    metric_names: ClassVar[tuple[str, ...]] = (SCORE,)
    curve: ClassVar[tuple[str, ...]] = (SCORE,)
    tie_break: ClassVar[str] = "negative_score"
    sentences: ClassVar[Mapping[str, str]] = {SCORE: "score {:.4f}"}

    @property
    @override
    def guess(self) -> float:
        return self.untrained

    @property
    @override
    def meaning(self) -> str:
        return "the mean of what the training function returns"

    @property
    @override
    def of_progress(self) -> Task:
        return self

    @override
    def is_imbalanced(self, splits: Counted) -> bool:
        return False

    @override
    def usual_metric(self, splits: Counted) -> tuple[str, str]:
        return SCORE, "as the training function returns it"

    @override
    def conclude(self, valid: Judged, test: Judged | None) -> tuple[Judged, Judged | None, dict[str, float]]:
        return valid, test, {}

    @override
    def metrics(self, judged: Judged) -> dict[str, float]:
        return {SCORE: float(judged.score.mean())}

    @override
    def columns(self, judged: Judged) -> dict[str, float]:
        return {self.tie_break: -float(judged.score.mean())}

    @override
    def unit_scores(self, folds: Sequence[Sequence[Judged]], metric: str) -> list[Scores]:
        return [np.stack([seed.score for seed in fold]) for fold in folds]

    @override
    def diagrams(self, judged: Sequence[Judged]) -> tuple[Diagram, ...]:
        return ()

    @property
    @override
    def summary(self) -> str:
        return "scored by its own function"


@dataclass(frozen=True)
class ScoredClassification(Scored, Classification):
    """Training functions that classify, units of any kind, and return a score for each unit.

    Args:
        classes: one for each of the C outputs.
    """

    name: ClassVar[str] = "scores of a classification"


@dataclass(frozen=True)
class ScoredPixels(ScoredClassification):
    """Likewise where the model has outputs for each of many places: pixels, tokens."""

    name: ClassVar[str] = "scores of many places"
    loss_kinds = ("classification", "segmentation", "learned")


@dataclass(frozen=True)
class ScoredRegression(Scored, Regression):
    """Training functions that predict numbers and return a score for each unit."""

    name: ClassVar[str] = "scores of a regression"
