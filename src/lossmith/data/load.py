"""From the name of a data set, or a path, to a `Dataset`."""

from __future__ import annotations

import os

from lossmith.data.bundled import BUNDLED, load_bundled
from lossmith.data.dataset import Dataset, TaskName, check_task
from lossmith.data.errors import DataError
from lossmith.data.files import find_files
from lossmith.data.labels import check_classes
from lossmith.data.read_csv import read_csv
from lossmith.data.read_idx import read_idx
from lossmith.data.read_npz import read_npz


def load_dataset(source: str | os.PathLike[str], label: str | None = None, task: TaskName | None = None) -> Dataset:
    """Read a bundled data set, or one from files.

    A file is `.csv`, `.csv.gz` or Keras-style `.npz`; a folder holds MNIST-style idx files. `NAME_train`,
    `NAME_valid` (or `_val`, `_dev`) and `NAME_test` next to each other are one set, found by any of them or by
    `NAME` alone. A bundled name goes before a file of that name: write `./digits` for the file.

    Args:
        source: A key of `BUNDLED`, or a path.
        label: The label column of a table; by default the column named label, target, class or y, else the last.
        task: What the targets are. None infers it: masks make a segmentation; numbers make a regression if one of them
            is not whole, or if they have over 1,000 distinct values or more than half as many as there are examples
            (and more than 20); all other labels are classes.

    Returns:
        The data set as read; `Dataset.task` says what its targets are.

    Raises:
        DataError: If there is no such data set, or it cannot be read, or not for this task.
    """
    source = os.fspath(source)
    if task is not None:
        check_task(task)
    if source in BUNDLED:
        _refuse_label(source, label)
        dataset = load_bundled(source)
        if task not in {None, dataset.task}:
            raise DataError(
                f"the bundled data set {source!r} is for {dataset.task}, not {task}; leave the task out, or give"
                " another data set."
            )
        return dataset
    files = find_files(source, bundled=tuple(BUNDLED))
    if files.format == "csv":
        dataset = read_csv(files, label, task)
    else:
        _refuse_label(files.name, label)
        dataset = (read_npz if files.format == "npz" else read_idx)(files, task)
    if dataset.task == "classification":
        check_classes(dataset.targets, dataset.part, dataset.class_names, f"the data set {files.name!r}")
    return dataset


def _refuse_label(name: str, label: str | None) -> None:
    if label is not None:
        raise DataError(
            f"the label column {label!r} cannot be chosen in {name!r}, which has its labels apart; leave label out."
        )
