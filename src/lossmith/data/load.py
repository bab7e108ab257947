"""From the name of a data set, or a path, to a `Dataset`."""

from __future__ import annotations

import os

from lossmith.data.bundled import BUNDLED, load_bundled
from lossmith.data.dataset import Dataset
from lossmith.data.errors import DataError
from lossmith.data.files import find_files
from lossmith.data.labels import check_classes
from lossmith.data.read_csv import read_csv
from lossmith.data.read_idx import read_idx
from lossmith.data.read_npz import read_npz


def load_dataset(source: str | os.PathLike[str], label: str | None = None) -> Dataset:
    """Read a bundled data set, or one from files.

    A file is `.csv`, `.csv.gz` or Keras-style `.npz`; a folder holds MNIST-style idx files.  `NAME_train`,
    `NAME_valid` (or `_val`, `_dev`) and `NAME_test` next to each other are one set, found by any of them or by
    `NAME` alone.  A bundled name goes before a file of that name: write `./digits` for the file.

    Args:
        source: A key of `BUNDLED`, or a path.
        label: The label column of a table; by default the column named label, target, class or y, else the last.

    Returns:
        The data set as read.

    Raises:
        DataError: If there is no such data set, or it cannot be read as a classification problem.
    """
    source = os.fspath(source)
    if source in BUNDLED:
        _refuse_label(source, label)
        return load_bundled(source)
    files = find_files(source, bundled=tuple(BUNDLED))
    if files.format == "csv":
        dataset = read_csv(files, label)
    else:
        _refuse_label(files.name, label)
        dataset = read_npz(files) if files.format == "npz" else read_idx(files)
    check_classes(dataset.labels, dataset.part, dataset.class_names, f"the data set {files.name!r}")
    return dataset


def _refuse_label(name: str, label: str | None) -> None:
    if label is not None:
        raise DataError(
            f"the label column {label!r} cannot be chosen in {name!r}, which has its labels apart; leave label out."
        )
