"""Images, tables and texts, with labels or masks, from Keras-style `.npz`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lossmith.data.dataset import TEST, TRAIN, VALID, Column, Dataset, TaskName
from lossmith.data.errors import DataError, listed
from lossmith.data.files import FileSet, unreadable
from lossmith.data.targets import Targets, mask_targets, read_array, read_mask

SPLITS = {"train": TRAIN, "val": VALID, "valid": VALID, "test": TEST}
CHANNELS = (1, 3, 4)
BESIDE = {"class_names", "ignore_index"}


def read_npz(files: FileSet, task: TaskName | None = None) -> Dataset:
    """Read `x_train, y_train`, and where they exist `x_val` or `x_valid` and `x_test` with their labels; or `x, y`.

    Images are (n, h, w), (n, h, w, c) or (n, c, h, w). Channels are last where the last size is 1, 3 or 4 (as Keras has
    them, so this goes first), else first where the second size is. Tables are (n, d), texts (n,). Labels are (n,) or
    (n, 1), masks (n, h, w) or (n, h, w, 1). Names of arrays are the same in capitals. An array `class_names` names the
    classes 0, 1, ...; an integer `ignore_index` is the value of a mask's pixels that are ignored, beside 255.
    """
    pieces: list[_Piece] = []
    names: NDArray[Any] | None = None
    for path, part in zip(files.paths, files.parts or (None,), strict=True):
        arrays = read_arrays(path)
        pieces += _pieces(arrays, path, part, task)
        names = arrays.get("class_names", names)
    _check_pieces(pieces)
    targets = _masks(pieces, names) if pieces[0].y.ndim == 3 else _labels(pieces, names, task)
    part_of = np.repeat(
        np.array([piece.part or TRAIN for piece in pieces], np.int8), [len(piece.y) for piece in pieces]
    )
    inputs = np.concatenate([piece.x for piece in pieces])
    what = f"{pieces[0].x_name!r} of {files.paths[0].name!r}"
    common: dict[str, Any] = {
        "name": files.name,
        "digest": files.digest(),
        "targets": targets.values,
        "class_names": targets.class_names,
        "part": part_of if len(pieces) > 1 else None,
        "task": targets.task,
        "notes": targets.notes,
    }
    if inputs.dtype.kind in "US":
        texts = np.char.decode(inputs, "utf-8", "replace") if inputs.dtype.kind == "S" else inputs
        return Dataset(kind="text", inputs=[str(text) for text in texts], **common)
    if inputs.ndim == 2:
        columns = tuple(Column(str(i)) for i in range(inputs.shape[1]))
        return Dataset(kind="tabular", inputs=_as_table(inputs, what), columns=columns, **common)
    images = _as_images(inputs, what)
    if targets.values.ndim == 3 and targets.values.shape[1:] != images.shape[2:]:
        raise DataError(
            f"the images of {what} are of the size {images.shape[2:]}, but their masks of {targets.values.shape[1:]};"
            " give masks of the images' height and width."
        )
    return Dataset(kind="image", inputs=images, **common)


@dataclass(frozen=True, eq=False)
class _Piece:
    """One part's inputs and labels, with the value of ignored pixels where the labels are masks."""

    part: int | None
    x_name: str
    x: NDArray[Any]
    y_name: str
    y: NDArray[Any]
    path: Path
    ignore: int | None


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of a file that have the names `read_npz` knows, by their names in lower case."""
    arrays: dict[str, NDArray[Any]] = {}
    wanted = {f"{letter}_{split}" for letter in "xy" for split in SPLITS} | {"x", "y"} | BESIDE
    try:
        with path.open("rb") as handle, _open_archive(handle, path) as archive:
            found = list(archive.files)
            for key in found:
                if key.lower() in wanted:
                    if key.lower() in arrays:
                        raise DataError(f"the file {str(path)!r} has two arrays named {key.lower()!r}; rename one.")
                    arrays[key.lower()] = np.asarray(archive[key])
    except DataError:
        raise
    except Exception as error:  # a damaged archive makes zipfile, zlib and numpy raise nearly anything
        if "allow_pickle" in str(error):
            raise DataError(
                f"the file {str(path)!r} is no archive of plain arrays, and pickled objects are not loaded;"
                " save arrays of numbers or texts by numpy.savez."
            ) from error
        raise unreadable(path, error) from error
    if not arrays.keys() - BESIDE:
        raise DataError(
            f"the file {str(path)!r} has no arrays x_train and y_train, or x and y (it has {listed(found)});"
            " rename its arrays."
        )
    return arrays


def _open_archive(handle: BinaryIO, path: Path) -> np.lib.npyio.NpzFile:
    archive = np.load(handle, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError(f"the file {str(path)!r} holds one array without labels; save x and y by numpy.savez.")
    return archive


def _pieces(arrays: Mapping[str, NDArray[Any]], path: Path, part: int | None, task: TaskName | None) -> list[_Piece]:
    split = [key for key in SPLITS if f"x_{key}" in arrays or f"y_{key}" in arrays]
    plain = "x" in arrays or "y" in arrays
    if plain and split:
        raise DataError(
            f"the file {str(path)!r} has both x, y and {listed(f'x_{key}' for key in split)}; keep one kind."
        )
    if split and part is not None:
        raise DataError(f"the file {str(path)!r} is one part of a set, so it needs arrays x and y, not x_{split[0]}.")
    pieces = [] if split else [_piece(arrays, ("x", "y"), part, path, task)]
    pieces += [_piece(arrays, (f"x_{key}", f"y_{key}"), SPLITS[key], path, task) for key in split]
    parts = [piece.part for piece in pieces]
    if len(set(parts)) < len(parts):
        raise DataError(f"the file {str(path)!r} has both x_val and x_valid; keep one of them.")
    if split and TRAIN not in parts:
        raise DataError(f"the file {str(path)!r} has no x_train beside x_{split[0]}; add x_train and y_train.")
    return sorted(pieces, key=lambda piece: piece.part or TRAIN)


def _piece(
    arrays: Mapping[str, NDArray[Any]], names: tuple[str, str], part: int | None, path: Path, task: TaskName | None
) -> _Piece:
    x_name, y_name = names
    for name, other in (names, names[::-1]):
        if name not in arrays:
            raise DataError(f"the file {str(path)!r} has {other} but no {name}; add the array {name}.")
    x, y = arrays[x_name], arrays[y_name]
    for name, array in ((x_name, x), (y_name, y)):
        if array.ndim == 0:
            raise DataError(
                f"{name} of {str(path)!r} is a single value, not an array of examples; give x one row and y one label"
                " for each example."
            )
    if len(x) != len(y):
        raise DataError(
            f"{x_name} of {str(path)!r} has {len(x):,} examples but {y_name} has {len(y):,}; they must agree."
        )
    if x.size == 0:
        raise DataError(
            f"{x_name} of {str(path)!r} is empty (shape {x.shape}); it needs at least one example and feature."
        )
    texts = x.dtype.kind in "US" and x.ndim == 1
    if not texts and (x.dtype.kind not in "biuf" or x.ndim not in {2, 3, 4}):
        raise DataError(
            f"{x_name} of {str(path)!r} has the shape {x.shape} and type {x.dtype}; give numbers (n, features),"
            " (n, height, width) or (n, height, width, channels), or texts (n,)."
        )
    if y.ndim in {2, 4} and y.shape[-1] == 1:
        y = y[..., 0]
    _check_shape(f"{y_name} of {str(path)!r}", y, x, task)
    ignore = _ignore_index(arrays, path) if y.ndim == 3 else None
    return _Piece(part, x_name, x, y_name, y, path, ignore)


def _check_shape(what: str, y: NDArray[Any], x: NDArray[Any], task: TaskName | None) -> None:
    """Refuse targets that are neither one label per example nor a mask per image, or not what the task needs."""
    if y.ndim not in {1, 3} or (y.ndim == 3 and x.ndim < 3):
        raise DataError(
            f"{what} has the shape {y.shape}; give one label per example, shape ({len(y)},), or to images masks of"
            " class indices, (n, height, width), for one-hot rows are not read."
        )
    if y.ndim == 3 and task not in {None, "segmentation"}:
        raise DataError(
            f"{what} holds masks, while {task} needs one label per example; ask for the task 'segmentation', or give"
            f" labels of shape ({len(y)},)."
        )


def _ignore_index(arrays: Mapping[str, NDArray[Any]], path: Path) -> int | None:
    value = arrays.get("ignore_index")
    if value is not None and (value.size != 1 or value.dtype.kind not in "iu"):
        raise DataError(f"ignore_index of {str(path)!r} is no integer; give the value of the pixels to ignore.")
    return None if value is None else int(value.item())


def _check_pieces(pieces: list[_Piece]) -> None:
    first = pieces[0]
    for piece in pieces[1:]:
        for name, a, other, b in (
            (first.x_name, first.x, piece.x_name, piece.x),
            (first.y_name, first.y, piece.y_name, piece.y),
        ):
            texts = (a.dtype.kind in "US", b.dtype.kind in "US")
            if a.shape[1:] != b.shape[1:] or texts[0] != texts[1]:
                raise DataError(
                    f"{name} of {first.path.name!r} and {other} of {piece.path.name!r} do not match"
                    f" (one example is {a.shape[1:]} {a.dtype} and {b.shape[1:]} {b.dtype});"
                    " give them one shape and type."
                )


def _labels(pieces: list[_Piece], names: NDArray[Any] | None, task: TaskName | None) -> Targets:
    def where(row: int) -> str:
        for piece in pieces:
            if row < len(piece.y):
                return f"example {row} of {piece.y_name}"
            row -= len(piece.y)
        raise IndexError(row)

    what = f"the label array {pieces[0].y_name!r}"
    targets = read_array(np.concatenate([piece.y for piece in pieces]), task, what, where)
    if names is None or targets.task != "classification" or pieces[0].y.dtype.kind in "US":
        return targets
    first, last = targets.class_names[0], targets.class_names[-1]
    if names.ndim != 1 or any(float(text) not in range(len(names)) for text in targets.class_names):
        raise DataError(
            f"class_names of {pieces[0].path.name!r} has the shape {names.shape}, but the labels run from"
            f" {first} to {last}; give one name for each whole number from 0 to {last}."
        )
    return replace(targets, class_names=tuple(str(names[int(text)]) for text in targets.class_names), notes=())


def _masks(pieces: list[_Piece], names: NDArray[Any] | None) -> Targets:
    parts = [read_mask(piece.y, piece.ignore, f"{piece.y_name} of {piece.path.name!r}") for piece in pieces]
    return mask_targets(np.concatenate(parts), names, pieces[0].ignore, repr(pieces[0].path.name))


def _as_table(inputs: NDArray[Any], what: str) -> NDArray[Any]:
    small = inputs.dtype.itemsize < 4 or inputs.dtype == np.float32
    with np.errstate(over="ignore"):
        table = inputs.astype(np.float32 if small else np.float64, copy=False)
    too_large = np.abs(table) > np.finfo(np.float32).max
    if too_large.any():
        row, column = np.argwhere(too_large)[0]
        raise DataError(f"{what} is infinite or too large for float32 at example {row}, column {column}; correct it.")
    empty = np.isnan(table).all(axis=0)
    if empty.any():
        raise DataError(f"{what} holds no value at all in column {int(empty.argmax())}; remove that column.")
    return table


def _as_images(inputs: NDArray[Any], what: str) -> NDArray[Any]:
    if inputs.ndim == 3:
        images = inputs[:, None]
    elif inputs.shape[3] in CHANNELS:
        images = inputs.transpose(0, 3, 1, 2)
    elif inputs.shape[1] in CHANNELS:
        images = inputs
    else:
        raise DataError(
            f"{what} has the shape {inputs.shape}, where neither the last nor the second size is 1, 3 or 4 channels;"
            " give images as (n, height, width, channels) or (n, channels, height, width)."
        )
    if inputs.dtype.kind in "biu" and inputs.min() >= 0 and inputs.max() <= 255:
        return np.ascontiguousarray(images, dtype=np.uint8)
    with np.errstate(over="ignore"):
        images = np.ascontiguousarray(images, dtype=np.float32)
    bad = ~np.isfinite(images).all(axis=(1, 2, 3))
    if bad.any():
        raise DataError(f"{what} has a pixel that is not a finite number in image {int(bad.argmax())}; correct it.")
    return images
