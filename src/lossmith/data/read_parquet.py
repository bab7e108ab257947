"""Tables from `.parquet`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from lossmith.data.cells import Cells, Pictures, Table
from lossmith.data.errors import DataError
from lossmith.data.files import unreadable

_PANDAS_INDEX: Final = "__index_level_"


def read_parquet(path: Path) -> Table:
    """Read one file; the same table is read from Parquet as from CSV.

    A column of images is one of bytes, or of structs with a field `bytes`, as Hugging Face's datasets write them. Their
    class labels are read by name; where exactly one column holds such labels, it is the table's own label.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataError(
            f"the file {str(path)!r} is read by pyarrow, which is not installed; pip install 'lossmith[data]'."
        ) from error
    try:
        found = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, error) from error
    if not found.num_rows:
        raise DataError(f"the file {str(path)!r} holds no examples; give one that does.")
    class_names = _class_names(found.schema)
    columns: dict[str, Cells] = {}
    unread: dict[str, str] = {}
    for name, column in zip(found.column_names, found.columns, strict=True):
        if name.startswith(_PANDAS_INDEX):
            continue
        if name in columns or name in unread:
            raise DataError(f"the file {str(path)!r} has several columns named {name!r}; rename all but one.")
        cells = _cells(pa.types, column)
        if cells is None:
            unread[name] = str(column.type)
        else:
            columns[name] = _named(cells, class_names[name]) if name in class_names else cells
    label = next(iter(class_names)) if len(class_names) == 1 else None
    return Table(columns, (path.name,), (found.num_rows,), label, unread)


def _cells(types: Any, column: Any) -> Cells | None:
    """The cells of a column of Arrow's, None if they are of no kind that is read."""
    kind = column.type
    if types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if types.is_integer(kind) and not column.null_count:
        return np.asarray(column.to_numpy())
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return np.asarray(column.cast("float64").to_numpy())
    if types.is_temporal(kind) and not types.is_duration(kind):
        column, kind = column.cast("string"), column.cast("string").type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind) or types.is_null(kind):
        return ["" if cell is None else str(cell) for cell in column.to_pylist()]
    if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return Pictures((cell or {}).get("bytes") or b"" for cell in column.to_pylist())
    if types.is_binary(kind) or types.is_large_binary(kind):
        return Pictures(cell or b"" for cell in column.to_pylist())
    return None


def _class_names(schema: Any) -> dict[str, list[str]]:
    """The names of the classes of each column of class labels, as the metadata of Hugging Face's datasets hold them."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        labels = {name: what["names"] for name, what in features.items() if what.get("_type") == "ClassLabel"}
        return {name: [str(each) for each in names] for name, names in labels.items() if name in schema.names}
    except (TypeError, KeyError, ValueError, AttributeError):
        return {}


def _named(cells: Cells, names: list[str]) -> Cells:
    """Class labels by name, empty where one is missing or not known."""
    if not isinstance(cells, np.ndarray):
        return cells
    return [names[int(code)] if 0 <= code < len(names) else "" for code in cells.tolist()]
