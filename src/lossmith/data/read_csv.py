"""Tables and texts from `.csv` and `.csv.gz`."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lossmith.data.columns import is_free_text, read_categories, read_numbers
from lossmith.data.dataset import Column, Dataset, TaskName
from lossmith.data.errors import DataError, did_you_mean, listed, quoted
from lossmith.data.files import FileSet, read_bytes
from lossmith.data.targets import read_texts

DELIMITERS = (",", ";", "\t")
LABEL_NAMES = ("label", "target", "class", "y")


def read_csv(files: FileSet, label: str | None = None, task: TaskName | None = None) -> Dataset:
    """Read a table in UTF-8 with a header row, its cells separated by commas, semicolons or tabs.

    A column of numbers is a feature; other columns are categories of at most 50 values. A table with exactly one column
    that is not numeric is read as texts if that column is the only one beside the label, or if it holds running text;
    columns that are then not used are named in a warning.
    """
    table = _joined([read_table(path) for path in files.paths])
    cells = dict(zip(table.header, zip(*table.rows, strict=True), strict=True))
    label_name = label_column(table, label)
    label_cells = cells.pop(label_name)
    if label_name in label_cells and all(_is_number(name) for name in cells):
        raise _no_header(table.paths[0])
    targets = read_texts(label_cells, task, f"the label column {quoted(label_name)}", table.where)
    common: dict[str, Any] = {
        "name": files.name,
        "digest": files.digest(),
        "targets": targets.values,
        "class_names": targets.class_names,
        "part": None if files.parts is None else np.repeat(np.array(files.parts, np.int8), table.sizes),
        "label": label,
        "task": targets.task,
    }
    numbers = {name: read_numbers(name, column, table.where) for name, column in cells.items()}
    words = [name for name, values in numbers.items() if values is None]
    if len(words) == 1 and (len(cells) == 1 or is_free_text(cells[words[0]])):
        _warn_of_unused(words[0], cells)
        return Dataset(kind="text", inputs=list(cells[words[0]]), **common)
    columns, features = [], []
    for name, values in numbers.items():
        column = Column(name)
        if values is None:
            column, values = read_categories(name, cells[name], table.where)
        columns.append(column)
        features.append(values)
    return Dataset(kind="tabular", inputs=np.stack(features, axis=1), columns=tuple(columns), **common)


@dataclass(frozen=True)
class Table:
    """CSV as it was read: the columns' names, the cells of each row, the files, and how many rows each has."""

    header: tuple[str, ...]
    rows: list[list[str]]
    paths: tuple[Path, ...]
    sizes: tuple[int, ...]

    def where(self, row: int) -> str:
        """Where a row stands, in words."""
        for path, size in zip(self.paths, self.sizes, strict=True):
            if row < size:
                return f"data row {row + 1} of {path.name!r}"
            row -= size
        raise IndexError(row)


def read_table(path: Path) -> Table:
    """Read one file of CSV, plain or gzipped, its delimiter found out, every cell as text."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"the file {str(path)!r} is not UTF-8 text (byte {error.start:,}); save it as CSV in UTF-8."
        ) from error
    delimiter = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows: list[list[str]] = []
    try:
        for row in reader:
            if not row:
                continue
            if rows and len(row) != len(rows[0]):
                raise DataError(
                    f"line {reader.line_num} of {str(path)!r} has {len(row)} cells where the header has {len(rows[0])};"
                    " correct that line, or quote cells that hold the separator."
                )
            rows.append(row)
    except csv.Error as error:
        raise DataError(
            f"line {reader.line_num} of {str(path)!r} is not valid CSV ({error}); correct its quotes."
        ) from error
    if len(rows) < 2:
        raise DataError(f"the file {str(path)!r} holds no examples; it needs a header row and data rows.")
    header = tuple(name.strip() for name in rows.pop(0))
    _check_header(header, path)
    return Table(header, rows, (path,), (len(rows),))


def _delimiter(text: str) -> str:
    first_line = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    return max(DELIMITERS, key=lambda each: len(next(csv.reader([first_line], delimiter=each), [])))


def _check_header(header: Sequence[str], path: Path) -> None:
    if len(header) < 2:
        raise DataError(
            f"the file {str(path)!r} has a single column; a label and at least one input are needed,"
            " separated by commas, semicolons or tabs."
        )
    if "" in header:
        raise DataError(
            f"column {header.index('') + 1} of {str(path)!r} has no name; name it,"
            " or remove it if it merely numbers the rows."
        )
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if all(_is_number(name) for name in header) and list(header) not in (_counting(header, 0), _counting(header, 1)):
        raise _no_header(path)
    if repeated:
        raise DataError(f"the file {str(path)!r} has several columns named {listed(repeated)}; rename all but one.")


def _counting(header: Sequence[str], start: int) -> list[str]:
    return [str(number) for number in range(start, start + len(header))]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _no_header(path: Path) -> DataError:
    return DataError(f"the first row of {str(path)!r} holds data and not the columns' names; add a header row.")


def _joined(tables: list[Table]) -> Table:
    """Put the parts of a set below each other, columns in the order of the first."""
    first = tables[0]
    rows = list(first.rows)
    for table in tables[1:]:
        if set(table.header) != set(first.header):
            differing = sorted(set(table.header) ^ set(first.header))
            raise DataError(
                f"{first.paths[0].name!r} and {table.paths[0].name!r} differ in the columns {listed(differing)};"
                " the files of one set need the same columns."
            )
        order = [table.header.index(name) for name in first.header]
        rows += table.rows if table.header == first.header else [[row[i] for i in order] for row in table.rows]
    paths = tuple(table.paths[0] for table in tables)
    return Table(first.header, rows, paths, tuple(table.sizes[0] for table in tables))


def label_column(table: Table, label: str | None) -> str:
    """The name of the label column: the one asked for, else one of the usual names, else the last."""
    if label is None:
        for wanted in LABEL_NAMES:
            found = [name for name in table.header if name.lower() == wanted]
            if found:
                return found[0]
        return table.header[-1]
    if label not in table.header:
        raise DataError(
            f"there is no column {quoted(label)} in {table.paths[0].name!r}"
            f" (it has {listed(table.header)}){did_you_mean(label, table.header)}"
        )
    return label


def _warn_of_unused(text: str, cells: dict[str, tuple[str, ...]]) -> None:
    unused = [name for name in cells if name != text]
    if unused:
        message = f"the text column {quoted(text)} makes this a text task; the columns {listed(unused)} are not used"
        warnings.warn(message, UserWarning, stacklevel=4)
