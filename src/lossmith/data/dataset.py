"""A data set as read, before any split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lossmith.data.errors import DataError

Kind = Literal["tabular", "image", "text"]
TaskName = Literal["classification", "regression", "segmentation"]

TRAIN, VALID, TEST = 0, 1, 2

IGNORE: Final = 255
"""The value, in files, of a mask's pixels that count neither in a loss nor in a score."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        name: The column's name in the header.
        values: For a categorical column the values that its codes 0, 1, ... stand for; None for a numeric one.
    """

    name: str
    values: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples and targets as the files hold them: nothing scaled, nothing split.

    Args:
        name: Bundled name, or the stem of the file or files.
        digest: What identifies the contents: the bundled name, or "sha256:<hex>" over all files of the set.
        kind: What the inputs are, and so which models fit.
        inputs: Tabular: floats (n, d), NaN where a cell is missing, codes in categorical columns. Image: uint8 or
            float32 (n, c, h, w). Text: n strings.
        targets: Classification: class indices, int64 (n,). Regression: finite numbers that are not all equal, float64
            (n,). Segmentation: class indices of the pixels, uint8 (n, h, w), 255 where a pixel is ignored.
        class_names: The C classes' names in the order of their indices; empty for regression.
        part: (n,) with 0 train, 1 valid, 2 test where the files say so, else None.
        columns: The d columns of a table, or the one that holds the texts; empty for images and texts without a name.
        label: The label column that was asked for; None for the default.
        drop: The columns that were to be left out, in alphabetical order.
        image_size: The side of the square that images of files were brought to, in pixels; None for their own size.
        target: The name of the label column; None where the labels have none.
        standardize: False where the features are to be used as they are (spirals).
        task: What the targets are.
        notes: What a user should know of how the data were read, a line each.
    """

    name: str
    digest: str
    kind: Kind
    inputs: NDArray[Any] | list[str]
    targets: NDArray[Any]
    class_names: tuple[str, ...]
    part: NDArray[np.int8] | None = None
    columns: tuple[Column, ...] = ()
    label: str | None = None
    standardize: bool = True
    task: TaskName = "classification"
    drop: tuple[str, ...] = ()
    image_size: int | None = None
    target: str | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)


def check_task(task: str) -> None:
    """Raise a `DataError` unless there is a task of this name."""
    if task not in get_args(TaskName):
        raise DataError(f"the task is {task!r}; it is one of {', '.join(get_args(TaskName))}.")
