"""Targets of any task, as the data hold them: classes, numbers or masks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossmith.data.columns import LARGEST, as_float, as_floats
from lossmith.data.dataset import IGNORE, TaskName
from lossmith.data.errors import DataError, quoted
from lossmith.data.labels import (
    MANY_CLASSES,
    REGRESSION,
    QuantityError,
    check_labelled,
    check_numbers,
    check_written,
    encode_array,
    encode_texts,
)

NO_MASKS: Final = "segmentation needs an .npz file with masks (n, height, width)"


@dataclass(frozen=True, eq=False)
class Targets:
    """What is to be predicted: the task, and values and class names as in `Dataset`."""

    task: TaskName
    values: NDArray[Any]
    class_names: tuple[str, ...] = ()


def read_texts(texts: Sequence[str], task: TaskName | None, what: str, where: Callable[[int], str]) -> Targets:
    """Read one label per example, given as text; `what` and `where` name it in errors, as in `encode_texts`."""
    if task == "segmentation":
        raise DataError(f"{what} holds one label per example, while {NO_MASKS}.")
    check_written(texts, task, what, where)
    if task != "regression":
        try:
            found = Targets("classification", *encode_texts(texts, what, where))
            if task is None:
                _warn_of_many(found, what, whole=not any("." in text for text in texts))
            return found
        except QuantityError:
            if task is not None:
                raise
    check_labelled(texts, what, where)
    values = as_floats(texts)
    if values is None:
        row = next(row for row, text in enumerate(texts) if as_float(text) is None)
        raise DataError(
            f"{what} is no number in {where(row)} ({quoted(texts[row])}), while regression needs numbers; correct it or"
            " choose another label."
        )
    return _numbers(values, what, where)


def read_array(values: NDArray[Any], task: TaskName | None, what: str, where: Callable[[int], str]) -> Targets:
    """Read one label per example, given as an array (n,)."""
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind == "U":
        return read_texts(values.tolist(), task, what, where)
    if task == "segmentation":
        raise DataError(f"{what} holds one label per example, while {NO_MASKS}.")
    if task != "regression":
        try:
            found = Targets("classification", *encode_array(values, what, where))
            if task is None:
                _warn_of_many(found, what, whole=values.dtype.kind != "f")
            return found
        except QuantityError:
            if task is not None:
                raise
    check_numbers(values, what, where)
    return _numbers(values.astype(np.float64), what, where)


def read_mask(values: NDArray[Any], ignore: int | None, what: str) -> NDArray[np.uint8]:
    """Check masks (n, h, w) of whole numbers, and mark by 255 the pixels of the value `ignore`, too."""
    if values.dtype.kind not in "biu":
        raise DataError(f"{what} holds masks of the type {values.dtype}; give the classes of the pixels as integers.")
    ignored = values == IGNORE
    if ignore is not None:
        ignored |= values == ignore
    wrong = ~ignored & ((values < 0) | (values > IGNORE))
    if wrong.any():
        raise DataError(
            f"{what} holds the class {values[wrong][0]}, while the classes of masks are 0 to {IGNORE - 1}, and {IGNORE}"
            " where a pixel is ignored; number them so, or say in an array ignore_index which value is ignored."
        )
    empty = ignored.all(axis=(1, 2))
    if empty.any():
        raise DataError(f"{what} ignores every pixel of image {int(empty.argmax())}; remove that image.")
    return np.where(ignored, np.uint8(IGNORE), values.astype(np.uint8))


def name_mask_classes(
    masks: NDArray[np.uint8], names: NDArray[Any] | None, ignore: int | None, what: str
) -> tuple[str, ...]:
    """Name the classes of masks, by their numbers if the file gives no names.

    Every class met in a mask needs a name; a last name may be that of the ignored value, and is left out.
    """
    counts = np.bincount(masks.ravel(), minlength=IGNORE + 1)[:IGNORE]
    if np.count_nonzero(counts) < 2:
        raise DataError(
            f"the masks of {what} hold a single class, {int(counts.argmax())} (a pixel of {IGNORE} is ignored); at"
            f" least 2 are needed, numbered 0, 1, and so on; write 1 for {IGNORE} if that is a class."
        )
    largest = int(np.flatnonzero(counts)[-1])
    if names is None:
        return tuple(str(code) for code in range(largest + 1))
    if names.ndim == 1 and ignore == len(names) - 1:
        names = names[:-1]
    if names.ndim != 1 or not largest < len(names) < IGNORE + 1:
        raise DataError(
            f"class_names of {what} has the shape {names.shape}, but the masks hold classes up to {largest}; give one"
            f" name for each of 0 to {largest}, or say in an array ignore_index which value is ignored."
        )
    return tuple(str(name) for name in names)


def _warn_of_many(targets: Targets, what: str, *, whole: bool) -> None:
    """Warn of numbers that were taken for classes but may be a quantity: many, and not simply counted from 0 or 1."""
    names = targets.class_names
    values = [value for name in names if (value := as_float(name)) is not None]
    if len(values) < len(names) or len(names) <= MANY_CLASSES:
        return
    if not whole or values[0] not in {0, 1} or values[-1] - values[0] >= len(values):
        message = f"{what} holds {len(names)} different numbers, read as classes; if it is a quantity, {REGRESSION}"
        warnings.warn(message, UserWarning, stacklevel=5)


def _numbers(values: NDArray[np.float64], what: str, where: Callable[[int], str]) -> Targets:
    too_large = np.abs(values) > LARGEST
    if too_large.any():
        row = int(too_large.argmax())
        raise DataError(f"{what} is infinite or too large for float32 in {where(row)} ({values[row]:g}); correct it.")
    if values.min() == values.max():
        raise DataError(f"{what} is {values[0]:g} in all {len(values):,} examples; choose a label that varies.")
    return Targets("regression", values)
