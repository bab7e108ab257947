"""Data that a Python program holds, written once to a file named by its content, so that all else reads files.

Workers on this machine or elsewhere, the ledger and a later session know the data by that file.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import tempfile
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from lossmith.data.arrays import as_array, as_labels, as_texts
from lossmith.data.dataset import TaskName
from lossmith.data.errors import DataError, listed, quoted
from lossmith.data.files import PARTS
from lossmith.data.frames import (
    LABEL,
    NOTES,
    are_parts,
    checked_label,
    is_frame,
    joined_frame,
    label_task,
    notes_on_index,
    read_frame,
    write_table,
)
from lossmith.data.read_npz import BESIDE, SPLITS
from lossmith.data.torch_datasets import class_names, is_dataset, read_items, title

_NAMED: Final = {1: (None,), 2: ("train", "test"), 3: ("train", "valid", "test")}
_DIGITS: Final = 8  # hexadecimal digits of the SHA-256 of the content in the name
_TAKEN: Final = (
    "give the name of a data set, a path, a DataFrame, arrays (X, y), a dict of arrays x_train, y_train, x_test,"
    " y_test, or torch Datasets"
)
_TEXT, _LABEL = "text", "label"

Parts = Mapping[str | None, Any]
"""What is in memory, by part; ``None``: not split into parts."""


@dataclass(frozen=True)
class Stored:
    """Data in memory as a file.

    Args:
        source: what to give `load_dataset`.
        label: the label column, if it is a table and one was named.
        task: what the targets are, if their type says so.
        notes: what a user should know of how the data were read.
        written: the files that had not been there before.
        called: what the data are called in sentences.
    """

    source: str
    label: str | None = None
    task: TaskName | None = None
    notes: tuple[str, ...] = ()
    written: tuple[Path, ...] = ()
    called: str = "the arrays"

    def discard(self) -> None:
        """Remove what was written, because the data cannot be used."""
        for file in self.written:
            file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # it holds other data
                file.parent.rmdir()


def store(data: object, folder: Path, *, label: Hashable | None = None, name: str | None = None) -> Stored:
    """Write data in memory to a file, unless it lies there already.

    A DataFrame and texts become Parquet, arrays and Datasets ``.npz``. Equal data have one file. Datasets are read
    once, item by item, with whatever random numbers there are.

    Args:
        data: a DataFrame, or anything with ``to_pandas``; ``(X, y)``; a dict of arrays named as in a Keras ``.npz``;
            a map-style `torch.utils.data.Dataset`; parts of these, as a tuple (train, test) or (train, valid, test) or
            a dict by such names; a Bunch of scikit-learn.
        folder: made if absent.
        label: the label column of a DataFrame.
        name: what the data are called; the beginning of the file's name.

    Returns:
        The file, and what to know of it.

    Raises:
        DataError: if the data are of no kind that is read, or have no such label.
    """
    parts = _parts(data, label)
    first = next(iter(parts.values()))
    if label is not None and not is_frame(first):
        raise DataError(f"label {str(label)!r} names a column of a table, and the data are arrays; leave it out.")
    if is_frame(first):
        stored = _store_frames(parts, folder, label, name or "dataframe")
        return replace(stored, called=quoted(name) if name else "the DataFrame")
    if is_dataset(first):
        stored = _store_datasets(parts, folder, name or title(first))
        return replace(stored, called=quoted(name) if name else "the Dataset")
    stored = _store_pairs(parts, folder, name or "arrays")
    return replace(stored, called=quoted(name)) if name else stored


def is_in_memory(data: object) -> bool:
    """Whether something is meant as data in memory: neither a name or path, nor a function or class."""
    return not isinstance(data, str | Path) and not (callable(data) and not is_dataset(data))


def _parts(data: object, label: Hashable | None = None) -> Parts:
    """What there is by part: in each a DataFrame, a Dataset or a pair of inputs and labels."""
    data = _converted(data)
    if is_frame(data) or is_dataset(data):
        return {None: data}
    if isinstance(data, Mapping):
        return _parts_of_mapping(data, label)
    if isinstance(data, tuple | list) and len(data) in {2, 3}:
        items = [_converted(item) for item in data]
        whole = all(map(is_dataset, items)) or are_parts(items, label)
        if whole or all(isinstance(item, tuple) and len(item) == 2 for item in items):
            return dict(zip(_NAMED[len(items)], map(_joined, items), strict=True))
        if len(items) == 2:
            return {None: _joined((items[0], items[1]))}
        raise DataError("three objects are training, validation and test part; give each as a pair (X, y) or a table.")
    if isinstance(data, tuple | list) and data and all(map(is_dataset, data)):
        return dict(zip(_NAMED.get(len(data), ()), data, strict=False)) or _refused(data)
    return _refused(data)


def _refused(data: object) -> Parts:
    if hasattr(data, "dataset") and hasattr(data, "batch_size"):
        raise DataError("the data are a DataLoader, which decides on batches; give its dataset: loader.dataset.")
    count = f" of {len(data)}" if isinstance(data, tuple | list) else ""
    raise DataError(f"data is of type {type(data).__name__}{count}: {_TAKEN}.")


def _parts_of_mapping(data: Mapping[Any, Any], label: Hashable | None) -> Parts:
    given = {str(key).lower(): value for key, value in data.items()}
    if {"data", "target"} <= given.keys():  # a Bunch of scikit-learn
        return {None: _joined((given["data"], given["target"]))}
    if given and given.keys() <= PARTS.keys():
        parts = {key: _parts(value, label) for key, value in given.items()}
        if any(len(of) > 1 for of in parts.values()):
            raise DataError(f"the parts {listed(given)} are themselves split into parts; give each as one.")
        return {("valid" if PARTS[key] == 1 else key): next(iter(of.values())) for key, of in parts.items()}
    beside = {key: value for key, value in given.items() if key in BESIDE}
    names = {f"{letter}_{split}": split for split in SPLITS for letter in "xy"} | {"x": None, "y": None}
    unknown = [key for key in given if key not in names and key not in beside]
    if unknown or len(beside) == len(given):
        raise DataError(
            f"the dict has the keys {listed(data)}; give x_train and y_train, with x_valid, y_valid, x_test, y_test"
            " where they exist, or x and y; columns make a table: pandas.DataFrame(data)."
        )
    found: dict[str | None, Any] = {}
    for split in dict.fromkeys(names[key] for key in given if key in names):
        pair = [key if split is None else f"{key}_{split}" for key in "xy"]
        for key, other in (pair, pair[::-1]):
            if key not in given:
                raise DataError(f"the dict has {other} but no {key}; add {key}.")
        of = (given[pair[0]], given[pair[1]])
        found["valid" if split == "val" else split] = (*of, beside) if beside else _joined(of)
    return found


def _converted(data: object) -> object:
    """Tables of polars, Arrow and Hugging Face as DataFrames; everything else as it is."""
    return data.to_pandas() if hasattr(data, "to_pandas") and not isinstance(data, type) else data


def _joined(item: Any) -> Any:
    """Inputs in a DataFrame with their labels beside them; everything else as it is."""
    return joined_frame(*item) if isinstance(item, tuple) and is_frame(item[0]) else item


def _store_frames(parts: Parts, folder: Path, label: Hashable | None, name: str) -> Stored:
    first = next(iter(parts.values()))
    asked = first.attrs.get(LABEL) if label is None else label
    tables = {part: read_frame(frame) for part, frame in parts.items()}
    chosen = None if asked is None else checked_label(first, str(asked))
    writers = {_suffix(part): write_table(table) for part, table in tables.items()}
    source, written = _write(folder, name, ".parquet", writers)
    notes = dict.fromkeys(note for frame in parts.values() for note in frame.attrs.get(NOTES, ()))
    return Stored(source, chosen, label_task(first, chosen), (*notes_on_index(first), *notes), written)


def _store_datasets(parts: Parts, folder: Path, name: str) -> Stored:
    read = {part: read_items(dataset, part) for part, dataset in parts.items()}
    notes = tuple(dict.fromkeys(note for items in read.values() for note in items.notes))
    pairs: dict[str | None, Any] = {part: (items.inputs, items.labels) for part, items in read.items()}
    classes = class_names(next(iter(parts.values())), [items.labels for items in read.values()])
    stored = _store_pairs(pairs, folder, name, {} if classes is None else {"class_names": np.array(classes)})
    return Stored(stored.source, stored.label, stored.task, notes, stored.written)


def _store_pairs(parts: Parts, folder: Path, name: str, beside: Mapping[str, Any] | None = None) -> Stored:
    named = {part: (f" of the {part} part" if part else "") for part in parts}
    texts = {part: as_texts(pair[0]) for part, pair in parts.items()}
    if all(found is not None for found in texts.values()):
        writers = {
            _suffix(part): write_table({_TEXT: texts[part], _LABEL: as_labels(pair[1])}) for part, pair in parts.items()
        }
        source, written = _write(folder, name, ".parquet", writers)
        return Stored(source, _LABEL, written=written)
    arrays: dict[str, Any] = {key: np.asarray(value) for key, value in (beside or {}).items()}
    for part, pair in parts.items():
        arrays[f"x{_suffix(part)}"] = as_array(pair[0], f"X{named[part]}")
        arrays[f"y{_suffix(part)}"] = as_labels(pair[1])
        arrays |= {key: np.asarray(value) for of in pair[2:] for key, value in of.items()}

    def write(file: Path) -> None:
        with file.open("wb") as handle:
            np.savez(handle, **arrays)

    source, written = _write(folder, name, ".npz", {"": write})
    return Stored(source, written=written)


def _suffix(part: str | None) -> str:
    return "" if part is None else f"_{part}"


def _write(
    folder: Path, name: str, extension: str, writers: Mapping[str, Callable[[Path], None]]
) -> tuple[str, tuple[Path, ...]]:
    """Write the files of a set under a name that their content decides; returns what finds them, and the new ones."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "data"
    total, partial, new = hashlib.sha256(), dict[str, Path](), []
    try:
        for suffix, write in writers.items():
            with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as made:
                partial[suffix] = Path(made.name)
            write(partial[suffix])
            with partial[suffix].open("rb") as handle:
                content = hashlib.file_digest(handle, "sha256").hexdigest()
            total.update(f"{suffix} {content}\n".encode())
        stem = f"{plain}-{total.hexdigest()[:_DIGITS]}"
        for suffix, place in partial.items():
            file = folder / f"{stem}{suffix}{extension}"
            if not file.exists():
                place.replace(file)
                new.append(file)
    finally:
        for place in partial.values():
            place.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # where nothing was written
    return str((folder / f"{stem}{extension}").resolve()), tuple(new)
