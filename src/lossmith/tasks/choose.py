"""The task that data set."""

from __future__ import annotations

from lossmith.data import Splits
from lossmith.tasks.classification import Classification
from lossmith.tasks.task import Task


def task_for(splits: Splits) -> Task:
    """The task of a data set.

    Args:
        splits: the data set, ready for training.

    Returns:
        The task.
    """
    return Classification(splits.class_names)
