"""A DataFrame of pandas as a table of Arrow, which a Parquet file holds."""

from __future__ import annotations

import datetime
import decimal
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import Any, Final

import numpy as np

from lossmith.data.arrays import as_labels
from lossmith.data.dataset import TaskName
from lossmith.data.errors import DataError, did_you_mean, listed, quoted

_WRITTEN: Final = (str, Number, np.generic, decimal.Decimal, datetime.date, datetime.time, datetime.timedelta)
"""What is written as text in a column of different kinds, as `DataFrame.to_csv` writes it."""

LABEL: Final = "lossmith.label"
NOTES: Final = "lossmith.notes"
"""The attributes of a `joined_frame` with its label column, and with what a user should know of it."""


def is_frame(data: object) -> bool:
    """Whether something is a DataFrame of pandas."""
    pandas = sys.modules.get("pandas")  # nobody holds a DataFrame without it
    return pandas is not None and isinstance(data, pandas.DataFrame)


def are_parts(items: Sequence[Any], label: Hashable | None) -> bool:
    """Whether tables are parts of a set, not inputs and labels: each has several columns, or the label that is asked.

    Args:
        items: training, validation and test part, or ``(X, y)``.
        label: the label column, if it is named.
    """
    if not all(map(is_frame, items)):
        return False
    columns = [list(map(str, item.columns)) for item in items]
    if len(items) > 2 or all(str(label) in names for names in columns):
        return True
    train, other = columns
    if len(other) > 1 and not set(train) & set(other):
        raise DataError(f"y has the columns {listed(other)}; give the one that holds the labels: y[{other[0]!r}].")
    return len(other) > 1 or train == other


def joined_frame(x: Any, y: Any) -> Any:
    """A DataFrame of inputs with their labels beside them; rows match by position.

    Args:
        x: the DataFrame.
        y: the labels, (n,) or (n, 1).

    Raises:
        DataError: if they differ in length, are named alike, or have one index in two orders.
    """
    values = y.iloc[:, 0] if is_frame(y) and y.shape[1] == 1 else y
    own = getattr(values, "name", None)
    wanted = "label" if own is None else str(own)
    if wanted in map(str, x.columns):
        raise DataError(f"the labels are called {wanted!r} as a column of X is; rename one of them.")
    if len(values) != len(x):
        raise DataError(f"X has {len(x):,} examples but y has {len(values):,}; they must agree.")
    joined = x.copy(deep=False)
    joined[wanted] = values.array if hasattr(values, "array") else list(as_labels(values))
    joined.attrs = {**x.attrs, LABEL: wanted, NOTES: _note_on_rows(x, values)}
    return joined


def _note_on_rows(x: Any, y: Any) -> tuple[str, ...]:
    """What to say of labels whose index is not that of the inputs."""
    if not hasattr(y, "iloc") or x.index.equals(y.index):
        return ()
    if Counter(x.index) == Counter(y.index):
        raise DataError(
            "X and y have the same index in another order; give y in the order of X, y = y.loc[X.index], or as an"
            " array, y.to_numpy(), if its rows are already those of X."
        )
    return ("the indices of X and y differ; row i of y is taken as the label of row i of X, as scikit-learn does",)


def read_frame(frame: Any) -> dict[str, Any]:
    """The columns of a DataFrame as arrays of Arrow, by name; the index is left out.

    Args:
        frame: the DataFrame.

    Raises:
        DataError: if it is empty, its columns have no names of their own, or a column cannot be written.
    """
    if frame.columns.nlevels > 1:
        raise DataError(
            f"the columns of the DataFrame have {frame.columns.nlevels} levels; give each one name: frame.columns ="
            ' frame.columns.map("_".join).'
        )
    if not len(frame):
        raise DataError("the DataFrame holds no examples; give one that does.")
    names = [str(name) for name in frame.columns]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"the DataFrame has several columns named {listed(twice)}; rename all but one of each.")
    return {name: _cells(frame.iloc[:, place], name) for place, name in enumerate(names)}


def checked_label(frame: Any, label: str) -> str:
    """The label column, as it is named in the file.

    Raises:
        DataError: if there is no such column.
    """
    names = [str(name) for name in frame.columns]
    if label in names:
        return label
    if label in map(str, frame.index.names):
        raise DataError(f"the label {quoted(label)} is the index of the DataFrame; make it a column: reset_index().")
    raise DataError(
        f"there is no column {quoted(label)} in the DataFrame (it has {listed(names)}){did_you_mean(label, names)}"
    )


def label_task(frame: Any, label: str | None) -> TaskName | None:
    """A label of a categorical type is a class, whatever its values; other types leave the task open."""
    if label is None:
        return None
    column = frame.iloc[:, [str(name) for name in frame.columns].index(label)]
    return "classification" if hasattr(column, "cat") else None


def notes_on_index(frame: Any) -> tuple[str, ...]:
    """A note on an index that holds something: one with a name, or of anything but whole numbers."""
    index = frame.index
    named = [str(name) for name in index.names if name is not None]
    if not named and index.nlevels == 1 and index.dtype.kind in "iu":
        return ()
    called = f"index {listed(named)}" if named else "index"
    return (f"the {called} of the DataFrame is not read; reset_index() makes it a column",)


def write_table(columns: Mapping[str, Any]) -> Callable[[Path], None]:
    """What writes columns as Parquet, the same bytes for the same columns.

    Raises:
        DataError: without pyarrow.
    """
    arrow = _arrow()

    def write(file: Path) -> None:
        import pyarrow.parquet as pq

        pq.write_table(arrow.table(dict(columns)), file)

    return write


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(
            "tables and texts in memory are written by pyarrow, which is not installed; pip install"
            " 'lossmith[notebook]'."
        ) from error
    return pyarrow


def _cells(column: Any, name: str) -> Any:
    """A column as an array of Arrow; what Arrow has no type for as text."""
    import pandas as pd

    arrow = _arrow()
    if isinstance(column.dtype, pd.SparseDtype):
        column = column.sparse.to_dense()
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    if column.dtype == np.float16:
        column = column.astype(np.float32)
    try:
        if isinstance(column.dtype, pd.PeriodDtype | pd.IntervalDtype):
            raise arrow.ArrowInvalid("its type is Arrow's for pandas alone")
        array = arrow.array(column, from_pandas=True)
        if isinstance(array.type, arrow.BaseExtensionType):
            raise arrow.ArrowInvalid("its type is not one of Arrow's own")
    except (arrow.ArrowException, TypeError, ValueError, OverflowError):
        return arrow.array([_text(cell, name) for cell in column.tolist()], arrow.string())
    return array.combine_chunks() if isinstance(array, arrow.ChunkedArray) else array


def _text(cell: Any, name: str) -> str | None:
    import pandas as pd

    if isinstance(cell, _WRITTEN) or type(cell).__module__.partition(".")[0] == "pandas":
        return None if pd.isna(cell) else str(cell)
    if cell is None:
        return None
    raise DataError(
        f"the column {quoted(name)} of the DataFrame holds objects of type {type(cell).__name__}; give numbers, texts,"
        " dates or encoded images, or drop the column."
    )
