"""Data sets from tables: features, texts or images, with a label column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossmith.data.cells import Pictures, Table, joined
from lossmith.data.columns import as_floats, is_free_text, is_missing, read_categories, read_numbers
from lossmith.data.dataset import TRAIN, Column, Dataset, TaskName
from lossmith.data.errors import DataError, did_you_mean, listed, quoted
from lossmith.data.files import FileSet
from lossmith.data.hints import note_on_unread, note_on_unused, notes_on, notes_on_texts
from lossmith.data.label_column import choose_label
from lossmith.data.pictures import decode
from lossmith.data.read_csv import is_number, no_header, read_csv
from lossmith.data.read_parquet import read_parquet
from lossmith.data.targets import Targets, read_array, read_texts


def read_table(path: Path) -> Table:
    """Read one file of a table, of any format."""
    return read_parquet(path) if path.suffix.lower() == ".parquet" else read_csv(path)


def read_tables(
    files: FileSet, label: str | None, task: TaskName | None, drop: tuple[str, ...], image_size: int | None
) -> Dataset:
    """Read the data set that files of tables make; see `from_tables`."""
    tables = [read_table(path) for path in files.paths]
    return from_tables(tables, files.name, files.digest(), files.parts, label, task, drop, image_size)


def from_tables(
    tables: Sequence[Table],
    name: str,
    digest: str,
    parts: tuple[int, ...] | None,
    label: str | None,
    task: TaskName | None,
    drop: tuple[str, ...],
    image_size: int | None,
) -> Dataset:
    """Make a data set of a table, or of one for each part.

    A column of numbers is a feature; other columns are categories of at most 50 values. A table with exactly one column
    that is not numeric is read as texts if that column is the only one beside the label, or if it holds running text. A
    column of images makes a data set of images. Validation and test parts without labels are left out.
    """
    _check_drop(tables[0], drop)
    tables = [table.without(drop) for table in tables]
    if len(tables[0].columns) < 2:
        raise DataError(
            f"{tables[0].names[0]!r} has a single column; a label and at least one input are needed,"
            " separated by commas, semicolons or tabs."
        )
    label_name, why = choose_label(tables[0], label)
    tables, parts, left_out = _labelled(tables, parts, label_name)
    table = joined(tables)
    features = table.without([label_name])
    if all(map(is_number, features.columns)) and label_name in table.columns[label_name]:
        raise no_header(table.names[0])
    targets = _targets(table, label_name, task)
    notes = [*([why] if why else []), *left_out, *note_on_unread(table), *targets.notes]
    common: dict[str, Any] = {
        "name": name,
        "digest": digest,
        "targets": targets.values,
        "class_names": targets.class_names,
        "part": None if parts is None or len(set(parts)) < 2 else np.repeat(np.array(parts, np.int8), table.sizes),
        "label": label,
        "task": targets.task,
        "drop": drop,
        "image_size": image_size,
        "target": label_name,
    }
    kind, inputs, columns = _inputs(features, image_size)
    if kind == "tabular":
        notes += notes_on(features, columns)
    elif kind == "text":
        notes += notes_on_texts(columns[0].name, features)
    else:
        notes += note_on_unused(columns[0].name, "images", features)
    return Dataset(kind=kind, inputs=inputs, columns=columns, notes=tuple(notes), **common)


def _check_drop(table: Table, drop: tuple[str, ...]) -> None:
    header = [*table.columns, *table.unread]
    for name in drop:
        if name not in header:
            raise DataError(
                f"there is no column {quoted(name)} to drop in {table.names[0]!r} (it has {listed(header)})"
                f"{did_you_mean(name, header)}"
            )


def _labelled(
    tables: Sequence[Table], parts: tuple[int, ...] | None, label: str
) -> tuple[list[Table], tuple[int, ...] | None, list[str]]:
    """The tables without those outside the training part that hold no labels, their parts, and what to say of it."""
    if parts is None:
        return list(tables), None, []
    kept, notes = [], []
    for table, part in zip(tables, parts, strict=True):
        cells = table.columns.get(label, ())
        if part == TRAIN or any(not is_missing(str(cell)) for cell in cells):
            kept.append((table, part))
        else:
            notes.append(f"{table.names[0]!r} holds no labels in the column {quoted(label)} and is left out")
    return [table for table, _ in kept], tuple(part for _, part in kept), notes


def _targets(table: Table, label: str, task: TaskName | None) -> Targets:
    cells, what = table.columns[label], f"the label column {quoted(label)}"
    if isinstance(cells, Pictures):
        raise DataError(f"{what} holds images; name another column (--label).")
    if isinstance(cells, np.ndarray):
        return read_array(cells, task, what, table.where)
    return read_texts(cells, task, what, table.where)


def _inputs(table: Table, image_size: int | None) -> tuple[Any, NDArray[Any] | list[str], tuple[Column, ...]]:
    """What the inputs are, the inputs, and the columns they come from."""
    pictures = [(name, cells) for name, cells in table.columns.items() if isinstance(cells, Pictures)]
    if len(pictures) > 1:
        names = listed(name for name, _ in pictures)
        raise DataError(f"{table.names[0]!r} has images in the columns {names}; leave out all but one (--drop).")
    if pictures:
        name, images = pictures[0]
        decoded = decode(images, lambda row: f"{table.where(row)}, column {quoted(name)},", image_size)
        return "image", decoded, (Column(name),)
    if image_size is not None:
        raise DataError(f"{table.names[0]!r} holds no images whose size could be {image_size}; leave --image-size out.")
    words = [name for name, cells in table.columns.items() if as_floats(cells) is None]
    texts = {name: [str(cell) for cell in table.columns[name]] for name in words}
    if len(words) == 1 and (len(table.columns) == 1 or is_free_text(texts[words[0]])):
        return "text", texts[words[0]], (Column(words[0]),)
    columns, features = [], []
    for name, cells in table.columns.items():
        column, values = Column(name), read_numbers(name, cells, table.where)
        if values is None:
            column, values = read_categories(name, texts[name], table.where)
        columns.append(column)
        features.append(values)
    return "tabular", np.stack(features, axis=1), tuple(columns)
