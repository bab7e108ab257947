"""A data set as read, before any split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["tabular", "image", "text"]

TRAIN, VALID, TEST = 0, 1, 2


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
    """Examples and labels as the files hold them: nothing scaled, nothing split.

    Args:
        name: Bundled name, or the stem of the file or files.
        digest: What identifies the contents: the bundled name, or "sha256:<hex>" over all files of the set.
        kind: What the inputs are, and so which models fit.
        inputs: Tabular: floats (n, d), NaN where a cell is missing, codes in categorical columns.  Image: uint8 or
            float32 (n, c, h, w).  Text: n strings.
        labels: Class indices (n,), 0..C-1.
        class_names: The C classes' names in the order of their indices.
        part: (n,) with 0 train, 1 valid, 2 test where the files say so, else None.
        columns: The d columns of a table; empty for images and text.
        label: The label column that was asked for; None for the default.
        standardize: False where the features are to be used as they are (spirals).
    """

    name: str
    digest: str
    kind: Kind
    inputs: NDArray[Any] | list[str]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    part: NDArray[np.int8] | None = None
    columns: tuple[Column, ...] = ()
    label: str | None = None
    standardize: bool = True

    def __len__(self) -> int:
        return len(self.labels)
