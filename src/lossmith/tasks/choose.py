"""Tasks by name, and the task of a data set."""

from __future__ import annotations

from typing import Final

from lossmith.data import Splits
from lossmith.tasks.classification import Classification
from lossmith.tasks.regression import Regression
from lossmith.tasks.scored import ScoredClassification, ScoredPixels, ScoredRegression
from lossmith.tasks.segmentation import Segmentation
from lossmith.tasks.task import Task

TASKS: Final[dict[str, type[Task]]] = {
    task.name: task
    for task in (
        Classification,
        Regression,
        Segmentation,
        ScoredClassification,
        ScoredPixels,
        ScoredRegression,
    )
}


def task_for(splits: Splits) -> Task:
    """The task of a data set that is ready for training."""
    return TASKS[splits.task].of(splits)
