"""From the name of a data set, or a path, to a `Dataset`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from lossmith.data.bundled import BUNDLED, load_bundled
from lossmith.data.dataset import Dataset, TaskName, check_task
from lossmith.data.errors import DataError, listed
from lossmith.data.files import FileSet, find_files
from lossmith.data.from_table import from_tables, read_tables
from lossmith.data.hints import note_on_empty
from lossmith.data.hub import PREFIX as HUB
from lossmith.data.hub import find_on_hub
from lossmith.data.labels import check_classes
from lossmith.data.openml import PREFIX as OPENML
from lossmith.data.openml import fetch_openml
from lossmith.data.pictures import read_pictures
from lossmith.data.read_idx import read_idx
from lossmith.data.read_npz import read_npz
from lossmith.data.spec import sorted_columns


def load_dataset(
    source: str | os.PathLike[str],
    label: str | None = None,
    task: TaskName | None = None,
    *,
    drop: Sequence[str] = (),
    image_size: int | None = None,
) -> Dataset:
    """Read a bundled data set, one from files, or one of OpenML or the Hugging Face Hub.

    A file is `.csv` (plain, `.gz` or `.xz`), `.parquet` or Keras-style `.npz`; a folder holds MNIST-style idx files, or
    one folder of images per class. `NAME_train`, `NAME_valid` (or `_val`, `_dev`) and `NAME_test` next to each other
    are one set, found by any of them or by `NAME` alone. A bundled name goes before a file of that name: write
    `./digits` for the file.

    Args:
        source: A key of `BUNDLED`, a path, "openml:NAME", or "hf:OWNER/NAME".
        label: The label column of a table; by default the one that the files declare, the one named label, target,
            class or y, else the last, unless the first could be it as well.
        task: What the targets are. None infers it: masks make a segmentation; numbers make a regression if one of them
            is not whole, or if they have over 1,000 distinct values or more than half as many as there are examples
            (and more than 20); all other labels are classes.
        drop: Columns of a table to leave out.
        image_size: The side in pixels to which images of files are brought; None needs images of one size.

    Returns:
        The data set as read; `Dataset.task` says what its targets are, `Dataset.notes` what a user should know of it.

    Raises:
        DataError: If there is no such data set, or it cannot be read, or not for this task.
    """
    source = os.fspath(source)
    if task is not None:
        check_task(task)
    left_out = sorted_columns(drop)
    if source in BUNDLED:
        _refuse_choices(source, label, left_out, image_size)
        return _bundled(source, task)
    if source.startswith(OPENML):
        table, name, digest, notes = fetch_openml(source)
        dataset = from_tables([table], name, digest, None, label, task, left_out, image_size)
    else:
        files, notes = _found(source)
        if files.format == "table":
            dataset = read_tables(files, label, task, left_out, image_size)
        elif files.format == "images":
            _refuse_choices(files.name, label, left_out)
            dataset = read_pictures(files, task, image_size)
        else:
            _refuse_choices(files.name, label, left_out, image_size)
            dataset = (read_npz if files.format == "npz" else read_idx)(files, task)
    if dataset.task == "classification":
        check_classes(dataset.targets, dataset.part, dataset.class_names, f"the data set {dataset.name!r}")
    empty = note_on_empty(dataset.inputs) if isinstance(dataset.inputs, list) else ()
    return replace(dataset, notes=(*notes, *dataset.notes, *empty))


def is_remote(source: str) -> bool:
    """Whether a data set is fetched from elsewhere rather than read from the user's files."""
    return source.startswith((OPENML, HUB))


def _found(source: str) -> tuple[FileSet, tuple[str, ...]]:
    """The files of a data set, and what to tell of them."""
    if source.startswith(HUB):
        return find_on_hub(source)
    files = find_files(source, bundled=tuple(BUNDLED))
    return files, files.announced()


def _bundled(name: str, task: TaskName | None) -> Dataset:
    dataset = load_bundled(name)
    if task not in {None, dataset.task}:
        raise DataError(
            f"the bundled data set {name!r} is for {dataset.task}, not {task}; leave the task out, or give"
            " another data set."
        )
    return dataset


def _refuse_choices(name: str, label: str | None, drop: tuple[str, ...], image_size: int | None = None) -> None:
    """Refuse what works for tables, or for images of files, alone."""
    if label is not None:
        raise DataError(
            f"the label column {label!r} cannot be chosen in {name!r}, which has its labels apart; leave label out."
        )
    if drop:
        raise DataError(f"{name!r} has no columns that could be dropped ({listed(drop)}); leave --drop out.")
    if image_size is not None:
        raise DataError(f"the images of {name!r} come as arrays of one size; leave --image-size out.")
