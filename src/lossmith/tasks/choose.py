"""Tasks by name, and the task of a data set."""

from __future__ import annotations

from typing import Final

from lossmith.data import DataError, Splits
from lossmith.tasks.classification import Classification
from lossmith.tasks.regression import Regression
from lossmith.tasks.task import Task

TASKS: Final[dict[str, type[Task]]] = {task.name: task for task in (Classification, Regression)}


def task_for(splits: Splits) -> Task:
    """The task of a data set.

    Args:
        splits: the data set, ready for training.

    Returns:
        The task.

    Raises:
        DataError: if no model can be trained on it yet; the message is one sentence.
    """
    if splits.task == "regression":
        assert splits.target_std is not None
        assert splits.target_mean is not None
        return Regression(splits.target_std, splits.target_mean)
    if splits.task == "segmentation":
        raise DataError(
            f"{splits.name!r} holds masks, which no model here is trained on yet; give class labels or numbers."
        )
    return Classification(splits.class_names)
