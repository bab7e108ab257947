"""Columns that are probably not what they were read as: identifiers, dates, amounts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from lossmith.data.cells import Cells, Pictures, Table, as_texts
from lossmith.data.columns import as_floats, is_missing, odd_cells, said_of_odd
from lossmith.data.dataset import Column
from lossmith.data.errors import listed, quoted
from lossmith.data.labels import written_as

_FEWEST: Final = 10
"""In so many rows, ascending numbers are no accident."""

_IDENTIFIER: Final = re.compile(r"(?i:(.*[\W_])?(id|ids|uuid|guid|index|idx|rowid|rownames|unnamed: \d+))|.*[a-z]I[dD]")


def is_named_identifier(name: str) -> bool:
    """Whether a column's name is one of those that people give to identifiers, such as id, user_id or PassengerId."""
    return bool(_IDENTIFIER.fullmatch(name.strip()))


def counts_rows(cells: Cells, table: Table) -> bool:
    """Whether a column holds whole numbers that ascend from row to row, in each of at least 10 rows of each file."""
    values = as_floats(cells)
    if values is None or min(table.sizes) < _FEWEST or not np.array_equal(values, np.floor(values)):
        return False
    return all((np.diff(part) > 0).all() for part in np.split(values, np.cumsum(table.sizes)[:-1]))


def notes_on(table: Table, features: Iterable[Column]) -> tuple[str, ...]:
    """Name the features that look like identifiers, and quantities that were read as categories."""
    found: dict[str, str] = {}
    notes: list[str] = []
    for column in features:
        cells = table.columns[column.name]
        why = _identifies(column.name, cells, table)
        if why is not None:
            found[column.name] = why
        if column.values is not None and not isinstance(cells, np.ndarray | Pictures):
            notes += _note_on_quantity(column.name, cells, table, f"{len(column.values)} categories")
    if found:
        said = ", ".join(f"{quoted(name)} ({why})" for name, why in found.items())
        verb = "looks like an identifier" if len(found) == 1 else "look like identifiers"
        notes.append(f"{said} {verb} and may mislead the model; to leave out: --drop {shlex.quote(','.join(found))}")
    return tuple(notes)


def notes_on_texts(column: str, table: Table) -> tuple[str, ...]:
    """Name the columns beside that of the texts, and quantities that were read as texts."""
    cells = as_texts(table.columns[column])
    return note_on_unused(column, "texts", table) + _note_on_quantity(column, cells, table, "texts")


def note_on_empty(texts: Sequence[str]) -> tuple[str, ...]:
    """Say how many texts are empty."""
    empty = sum(not text.strip() for text in texts)
    return (f"{empty:,} of the {len(texts):,} texts are empty",) if empty else ()


def note_on_unread(table: Table) -> tuple[str, ...]:
    """Name the columns that a file holds but nothing reads."""
    kinds = [f"{quoted(name)} ({kind})" for name, kind in table.unread.items()]
    return (f"columns of these kinds are not read and left out: {', '.join(kinds)}",) if kinds else ()


def note_on_unused(used: str, kind: str, table: Table) -> tuple[str, ...]:
    """Name the columns beside the one that holds the texts or images."""
    unused = [name for name in table.columns if name != used]
    if not unused:
        return ()
    return (f"the column {quoted(used)} makes this a task on {kind}; the columns {listed(unused)} are not used",)


def _note_on_quantity(name: str, cells: Sequence[str], table: Table, read_as: str) -> tuple[str, ...]:
    """Name a column of quantities not written as numbers, or of numbers with a few other cells."""
    quantity, odd = written_as(cells), odd_cells(cells)
    if quantity is not None:
        what, row, fix = quantity
        said = f"holds {what} ({quoted(cells[row])} in {table.where(row)}), read as {read_as}; {fix}, or leave the"
        return (f"the column {quoted(name)} {said} column out (--drop)",)
    if odd is not None:
        return (f"the column {quoted(name)} is read as {read_as}, for it {said_of_odd(odd, table.where)}",)
    return ()


def _identifies(name: str, cells: Cells, table: Table) -> str | None:
    """Why a column looks like an identifier; None if it does not."""
    if counts_rows(cells, table):
        return "whole numbers that ascend row by row"
    texts = [text for text in as_texts(cells) if not is_missing(text)]
    unique = len(texts) >= _FEWEST and len(set(texts)) == len(texts)
    if is_named_identifier(name):
        return "by its name, with a different value in each row" if unique else "by its name"
    if unique and as_floats(cells) is None:
        return "a different value in each row"
    return None
