"""Which task a data set is."""

from __future__ import annotations

from lossmith.data import DataError, Splits
from lossmith.tasks.classification import Classification
from lossmith.tasks.regression import Regression
from lossmith.tasks.task import Task


def task_for(splits: Splits) -> Task:
    """The task of a data set.

    Args:
        splits: the data set, ready for training.

    Returns:
        The task.
    """
    if splits.task == "regression":
        assert splits.target_std is not None
        return Regression(splits.target_std)
    if splits.task == "segmentation":
        raise DataError(f"{splits.name!r} holds masks; training on them is not built yet.")
    return Classification(splits.class_names)
