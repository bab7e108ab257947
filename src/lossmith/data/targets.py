"""Targets of any task, as the data hold them: classes, numbers or masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossmith.data.columns import LARGEST, as_float, as_floats
from lossmith.data.dataset import IGNORE, TaskName
from lossmith.data.errors import DataError, listed, quoted
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
    """What is to be predicted: the task, values and class names as in `Dataset`, and what should be said of them."""

    task: TaskName
    values: NDArray[Any]
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_texts(texts: Sequence[str], task: TaskName | None, what: str, where: Callable[[int], str]) -> Targets:
    """Read one label per example, given as text; `what` and `where` name it in errors, as in `encode_texts`."""
    if task == "segmentation":
        raise DataError(f"{what} holds one label per example, while {NO_MASKS}.")
    check_written(texts, task, what, where)
    if task != "regression":
        try:
            values, names, notes = encode_texts(texts, what, where, decimals=task is not None)
            whole = not any("." in text for text in texts)
            notes += () if task else _note_of_many(names, what, whole=whole)
            return Targets("classification", values, names, notes)
        except QuantityError:
            if task is not None:
                raise
    check_labelled(texts, what, where)
    numbers = as_floats(texts)
    if numbers is None:
        row = next(row for row, text in enumerate(texts) if as_float(text) is None)
        raise DataError(
            f"{what} is no number in {where(row)} ({quoted(texts[row])}), while regression needs numbers; correct it or"
            " choose another label."
        )
    return _numbers(numbers, texts, task, what, where)


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
            codes, names = encode_array(values, what, where, decimals=task is not None)
            whole = values.dtype.kind != "f"
            return Targets("classification", codes, names, () if task else _note_of_many(names, what, whole=whole))
        except QuantityError:
            if task is not None:
                raise
    check_numbers(values, what, where)
    return _numbers(values.astype(np.float64), values, task, what, where)


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


def mask_targets(masks: NDArray[np.uint8], names: NDArray[Any] | None, ignore: int | None, what: str) -> Targets:
    """Masks with the names of their classes: their numbers if the file gives no names.

    Every class met in a mask needs a name; a last name may be that of the ignored value, and is left out. Numbers
    without a name may leave a few classes out, which is noted, but not most of them.
    """
    counts = np.bincount(masks.ravel(), minlength=IGNORE + 1)[:IGNORE]
    if np.count_nonzero(counts) < 2:
        raise DataError(
            f"the masks of {what} hold a single class, {int(counts.argmax())} (a pixel of {IGNORE} is ignored); at"
            f" least 2 are needed, numbered 0, 1, and so on; write 1 for {IGNORE} if that is a class."
        )
    largest = int(np.flatnonzero(counts)[-1])
    if names is None:
        unused = np.flatnonzero(counts[: largest + 1] == 0)
        if 2 * len(unused) > largest + 1:
            raise DataError(
                f"the masks of {what} hold only {listed(np.flatnonzero(counts))} of the classes 0 to {largest}; number"
                " their classes 0, 1, and so on, or give class_names, or say in an array ignore_index which value is"
                " ignored."
            )
        said = f"no pixel of {what} is of the class {listed(unused)}, which counts as a class all the same"
        plain = tuple(str(code) for code in range(largest + 1))
        return Targets("segmentation", masks, plain, (said,) if len(unused) else ())
    if names.ndim == 1 and ignore == len(names) - 1:
        names = names[:-1]
    if names.ndim != 1 or not largest < len(names) < IGNORE + 1:
        raise DataError(
            f"class_names of {what} has the shape {names.shape}, but the masks hold classes up to {largest}; give one"
            f" name for each of 0 to {largest}, or say in an array ignore_index which value is ignored."
        )
    return Targets("segmentation", masks, tuple(str(name) for name in names))


def _note_of_many(names: tuple[str, ...], what: str, *, whole: bool) -> tuple[str, ...]:
    """Name numbers that were taken for classes but may be a quantity: many, and not simply counted from 0 or 1."""
    values = [value for name in names if (value := as_float(name)) is not None]
    if len(values) < len(names) or len(names) <= MANY_CLASSES:
        return ()
    if whole and values[0] in {0, 1} and values[-1] - values[0] < len(values):
        return ()
    return (f"{what} holds {len(names)} different numbers, read as classes; if it is a quantity, {REGRESSION}",)


def _numbers(
    values: NDArray[np.float64],
    cells: Sequence[object] | NDArray[Any],
    task: TaskName | None,
    what: str,
    where: Callable[[int], str],
) -> Targets:
    """Targets that are numbers, read from `cells`; if nobody asked for a regression, few of them may be classes."""
    too_large = np.abs(values) > LARGEST
    if too_large.any():
        row = int(too_large.argmax())
        raise DataError(
            f"{what} is infinite or too large for float32 in {where(row)} ({quoted(cells[row])}); correct it."
        )
    if values.min() == values.max():
        raise DataError(f"{what} is {values[0]:g} in all {len(values):,} examples; choose a label that varies.")
    if task is not None or len(np.unique(values)) > MANY_CLASSES:
        return Targets("regression", values)
    found = quoted(cells[int((values != np.floor(values)).argmax())])
    said = (
        f"{what} holds numbers that are not whole ({found}), which makes the task a regression; if each is a class,"
        " give the task 'classification' (--task classification)"
    )
    return Targets("regression", values, notes=(said,))
