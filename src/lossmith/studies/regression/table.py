"""A table whose label is a number, and its parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossmith.data.columns import Where, is_missing, read_categories, read_numbers
from lossmith.data.dataset import Column, Dataset
from lossmith.data.errors import DataError, quoted
from lossmith.data.files import find_files
from lossmith.data.generators import Purpose, generator
from lossmith.data.read_csv import label_column, read_table
from lossmith.data.rows import HELD_OUT
from lossmith.data.table import fit_table

MIN_ROWS: Final = 100
META_SHARE: Final = 0.2
"""Share of the training part that is the meta part."""


@dataclass(frozen=True, eq=False)
class Regression:
    """A table with a target.

    Attributes:
        table: the inputs as read.
        target: (n,), as in the file.
    """

    table: Dataset
    target: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs (n, d) and target (n,), standardised by the training part."""

    inputs: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True, eq=False)
class Parts:
    """What one outer fold is made of; the four parts are disjoint.

    Attributes:
        train: what the models of most arms are trained on: the meta part, then the rest.
        meta: how many of its first examples are the meta part, which an arm with held-out meta data leaves out of its
            training.
        valid: for every choice, and for nothing else.
        test: the fold.
        rows: row numbers in the file of train, valid and test.
        spread: standard deviation of the target over the training part, in the file's units.
    """

    train: Examples
    meta: int
    valid: Examples
    test: Examples
    rows: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
    spread: float


def read_regression(path: str | Path, label: str) -> Regression:
    """Read a table in CSV with a header row, one column of which is the number to predict.

    Args:
        path: of a ``.csv`` or ``.csv.gz`` file.
        label: name of the target's column.

    Returns:
        The table.

    Raises:
        DataError: if the file cannot be read, has no such column or too few rows, or the target is not a number in
            every row; one sentence.
    """
    files = find_files(str(path))
    if files.format != "csv" or len(files.paths) > 1:
        raise DataError(f"{str(path)!r} is not one table: give a single .csv or .csv.gz file.")
    read = read_table(files.paths[0])
    label = label_column(read, label)
    cells = dict(zip(read.header, zip(*read.rows, strict=True), strict=True))
    texts = cells.pop(label)
    if len(texts) < MIN_ROWS:
        raise DataError(
            f"{files.name!r} has {len(texts)} rows, too few for folds, a validation and a meta part: at least "
            f"{MIN_ROWS} are needed."
        )
    target = _target(texts, label, read.where)
    columns, features = [], []
    for name, column_cells in cells.items():
        column, values = Column(name), read_numbers(name, column_cells, read.where)
        if values is None:
            column, values = read_categories(name, column_cells, read.where)
        columns.append(column)
        features.append(values)
    table = Dataset(
        name=files.name,
        digest=files.digest(),
        kind="tabular",
        inputs=np.stack(features, axis=1),
        targets=np.zeros(len(texts), np.int64),
        class_names=("",),
        columns=tuple(columns),
        label=label,
    )
    return Regression(table, target)


def split(data: Regression, fold: int, folds: int, seed: int) -> Parts:
    """Split into train, meta, validation and test part.

    Args:
        data: the table.
        fold: which outer fold is the test part, from 0.
        folds: how many there are; each row tests once.
        seed: of the draws.

    Returns:
        The parts: of the rows outside the fold a fifth is the validation part.

    Raises:
        DataError: if the target is the same in all rows of the training part.
    """
    order = generator(seed, Purpose.FOLDS).permutation(len(data))
    test = np.sort(order[fold::folds])
    rest = np.sort(np.setdiff1d(order, test))
    drawn = generator(seed, Purpose.VALID, fold).permutation(rest)
    count = round(HELD_OUT * len(rest))
    valid, train = np.sort(drawn[:count]), drawn[count:]
    of_train = data.target[train]
    mean, spread = float(of_train.mean()), float(of_train.std())
    if of_train.min() == of_train.max():
        raise DataError(f"the target {quoted(data.table.label)} is the same in all training rows; choose another.")
    encoding, inputs = fit_table(data.table, train), np.asarray(data.table.inputs)

    def examples(rows: NDArray[np.int64]) -> Examples:
        return Examples(
            encoding.encode(inputs[rows]), torch.from_numpy(((data.target[rows] - mean) / spread).astype(np.float32))
        )

    return Parts(
        examples(train), round(META_SHARE * len(train)), examples(valid), examples(test), (train, valid, test), spread
    )


def _target(texts: tuple[str, ...], label: str, where: Where) -> NDArray[np.float64]:
    for row, text in enumerate(texts):
        if is_missing(text):
            raise DataError(
                f"the target {quoted(label)} is empty in {where(row)} ({quoted(text)}); fill it or remove the row."
            )
    target = read_numbers(label, texts, where)
    if target is None:
        words = next(row for row, text in enumerate(texts) if read_numbers(label, [text], where) is None)
        raise DataError(
            f"the target {quoted(label)} is no number in {where(words)} ({quoted(texts[words])}); regression needs "
            "numbers."
        )
    return target
