"""Which column of a table is the label: what was asked for, else what its name or its place says beyond doubt."""

from __future__ import annotations

import shlex
from enum import IntEnum
from typing import Final

import numpy as np

from lossmith.data.cells import Cells, Pictures, Table
from lossmith.data.columns import as_floats, is_free_text, is_missing
from lossmith.data.errors import DataError, did_you_mean, listed, quoted
from lossmith.data.hints import counts_rows, is_named_identifier
from lossmith.data.labels import MANY_CLASSES, MOST_CLASSES, written_as

NAMES: Final = ("label", "target", "class", "y")


class _Looks(IntEnum):
    """What a column looks like, by how clearly it could be a label."""

    NO_LABEL = 0
    QUANTITY = 1
    FEW_NUMBERS = 2
    CLASS_NAMES = 3


def choose_label(table: Table, asked: str | None) -> tuple[str, str | None]:
    """Choose the label column of a table.

    Without a choice of the user it is the one that the file declares, else the one named label, target, class or y. By
    place it is the last column, unless the first could be the label as well: because it holds names of classes, or
    fewer different whole numbers than the last holds values. The first is taken where the last holds texts.

    Args:
        table: With all columns but those to be left out.
        asked: The column that the user names.

    Returns:
        The column, and in one line why it was chosen; None if it was asked for.

    Raises:
        DataError: If there is no such column, or the label is not clear.
    """
    where, header = table.names[0], list(table.columns)
    if asked is not None:
        if asked not in table.columns:
            found = f"there is no column {quoted(asked)} in {where!r} (it has {listed(header)})"
            raise DataError(found + did_you_mean(asked, header))
        return asked, None
    if table.label is not None:
        return table.label, f"the label is the column {quoted(table.label)}, as the file declares"
    named = [name for wanted in NAMES for name in header if name.lower() == wanted]
    clear = [name for name in named if name.lower() != "y"] or named  # beside another name, y is a coordinate
    if len(clear) > 1:
        raise _unclear(where, *clear[:2])
    if clear:
        return clear[0], f"the label is the column {quoted(clear[0])}, by its name"
    candidates = [name for name in header if not is_named_identifier(name)] or header
    last = candidates[-1]
    first = next((name for name in candidates if not counts_rows(table.columns[name], table)), last)
    place = "the last one" if last == header[-1] else "the last one that is no identifier"
    if first == last:
        return last, f"the label is the column {quoted(last)}, {place} (--label names another)"
    (of_first, values), (of_last, others) = _looks(table.columns[first]), _looks(table.columns[last])
    if of_last == _Looks.NO_LABEL and of_first >= _Looks.FEW_NUMBERS and _holds_texts(table.columns[last]):
        return first, f"the label is the column {quoted(first)}, for the last one holds texts (--label names another)"
    rivals = of_first == _Looks.CLASS_NAMES or (
        of_first == _Looks.FEW_NUMBERS and (of_last == _Looks.QUANTITY or values < others)
    )
    if rivals and of_last > _Looks.NO_LABEL:
        raise _unclear(where, first, last)
    return last, f"the label is the column {quoted(last)}, {place} (--label names another)"


def _unclear(where: str, one: str, other: str) -> DataError:
    return DataError(
        f"the label column of {where!r} is not clear, for it could be {quoted(one)} or {quoted(other)}; name it by"
        f" --label {shlex.quote(one)} or --label {shlex.quote(other)}."
    )


def _looks(cells: Cells) -> tuple[_Looks, int]:
    """What a column looks like, and how many different values it has."""
    values = as_floats(cells)
    if values is not None:
        distinct = np.unique(values[~np.isnan(values)])
        if len(distinct) < 2:
            return _Looks.NO_LABEL, len(distinct)
        few = len(distinct) <= MANY_CLASSES and np.array_equal(distinct, np.floor(distinct))
        return _Looks.FEW_NUMBERS if few else _Looks.QUANTITY, len(distinct)
    if isinstance(cells, np.ndarray | Pictures):
        return _Looks.NO_LABEL, 0
    names = {cell.strip() for cell in cells if not is_missing(cell)}
    written = written_as(cells)
    if written is not None:
        return _Looks.NO_LABEL if written[0] in {"dates", "times"} else _Looks.QUANTITY, len(names)
    few = 2 <= len(names) <= MOST_CLASSES and 2 * len(names) <= max(len(cells), 40)
    return _Looks.CLASS_NAMES if few and not is_free_text(cells) else _Looks.NO_LABEL, len(names)


def _holds_texts(cells: Cells) -> bool:
    return isinstance(cells, Pictures) or (as_floats(cells) is None and written_as(list(map(str, cells))) is None)
