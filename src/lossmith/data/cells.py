"""A table as files hold it: columns of cells, before anything is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lossmith.data.errors import DataError, listed


class Pictures(tuple[bytes, ...]):
    """A column of encoded images."""


Cells = Sequence[str] | NDArray[np.generic] | Pictures
"""A column (n,): texts; numbers, NaN where one is missing; or encoded images."""


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of equal length, from one file or from several below each other.

    Args:
        columns: The cells of each column, by its name.
        names: What the files are called.
        sizes: How many rows each of them has.
        label: The column that the files themselves declare as the label; None if they declare none.
        unread: Columns whose cells are neither texts nor numbers nor images, with what they are.
    """

    columns: Mapping[str, Cells]
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    label: str | None = None
    unread: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(self.sizes)

    def where(self, row: int) -> str:
        """Where a row stands, in words."""
        for name, size in zip(self.names, self.sizes, strict=True):
            if row < size:
                return f"data row {row + 1} of {name!r}"
            row -= size
        raise IndexError(row)

    def without(self, names: Sequence[str]) -> Table:
        """The table without some of its columns."""
        columns = {name: cells for name, cells in self.columns.items() if name not in names}
        unread = {name: kind for name, kind in self.unread.items() if name not in names}
        return Table(columns, self.names, self.sizes, None if self.label in names else self.label, unread)


def joined(tables: Sequence[Table]) -> Table:
    """Put the parts of a set below each other, columns in the order of the first."""
    first = tables[0]
    for table in tables[1:]:
        for one, other in ((table, first), (first, table)):
            missing = [name for name in other.columns if name not in one.columns]
            if missing:
                raise DataError(
                    f"{one.names[0]!r} has no column {listed(missing)}, as {other.names[0]!r} has; the parts of a set"
                    " need the same columns."
                )
    columns = {name: _stacked([table.columns[name] for table in tables]) for name in first.columns}
    names = tuple(name for table in tables for name in table.names)
    return Table(columns, names, tuple(size for table in tables for size in table.sizes), first.label, first.unread)


def as_texts(cells: Cells) -> Sequence[str]:
    """Cells as a CSV file would hold them."""
    if not isinstance(cells, np.ndarray):
        return [cell.hex() if isinstance(cell, bytes) else cell for cell in cells]
    return ["" if cell != cell else str(cell) for cell in cells.tolist()]


def _stacked(parts: list[Cells]) -> Cells:
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate([np.asarray(part) for part in parts])
    if all(isinstance(part, Pictures) for part in parts):
        return Pictures(picture for part in parts if isinstance(part, Pictures) for picture in part)
    return [text for part in parts for text in as_texts(part)]
