"""Labels as the data hold them, turned into class indices; whatever is no class label is refused."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossmith.data.dataset import TRAIN, VALID, TaskName
from lossmith.data.errors import DataError, listed, quoted

MOST_CLASSES = 1000
MANY_CLASSES: Final = 20
REGRESSION: Final = "give the task 'regression' (--task regression)"
MISSING = frozenset({"", "?", "na", "nan", "null", "none"})
_PERHAPS_CLASSES: Final = frozenset({"null", "none"})
"""Missing among numbers, but a good name of a class beside other words."""

_MONTH: Final = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_WRITTEN: Final = {
    "numbers with a space": (
        re.compile(r"[+-]?\d{1,3}(\s\d{3})*([.,]\d+)?"),
        re.compile(r"\s"),
        "write 1 234 as 1234",
    ),
    "numbers with a comma": (
        re.compile(r"[+-]?\d[\d.]*(,\d+)*"),
        re.compile(","),
        "write 0,36 as 0.36 and 1,234 as 1234",
    ),
    "amounts with a unit": (
        re.compile(r"[+-]?[$€£¥]?\s?[+-]?\d[\d.,]*\s?[%$€£¥]?"),
        re.compile(r"[%$€£¥]"),
        "write the number alone, such as 12.5",
    ),
    "dates": (
        re.compile(
            r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2}))([T ][\d:.+Z-]*( ?[ap]m)?)?"
            r"|(\w+,? )?(\d{1,2}\.? MONTH|MONTH \d{1,2}),? \d{4}( [\d:.+Z-]*( ?[ap]m)?)?".replace("MONTH", _MONTH),
            re.IGNORECASE,
        ),
        re.compile(r""),
        "write each as a number, such as the days since the first",
    ),
    "times": (
        re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[ap]m)?", re.IGNORECASE),
        re.compile(r""),
        "write each as a number, such as the seconds since midnight",
    ),
}
"""Quantities that are not written as numbers: how all labels look, what one of them has, and what to write instead."""

Encoded = tuple[NDArray[np.int64], tuple[str, ...]]


class QuantityError(DataError):
    """The labels are numbers, but they do not look like those of classes."""


def encode_texts(
    texts: Sequence[str], what: str, where: Callable[[int], str], *, decimals: bool = False
) -> tuple[*Encoded, tuple[str, ...]]:
    """Number the classes: in numerical order where every label is a number, else alphabetically.

    Spellings of one number, such as 1 and 01, are one class, named by the most frequent of them.

    Args:
        texts: The labels (n,).
        what: Names the labels in errors, as "the label column 'target'".
        where: Names the place of example i, as "data row 3 of 'a.csv'".
        decimals: Whether numbers that are not whole may be classes.

    Returns:
        The class indices (n,), the classes' names, and a note on spellings that were taken for one class.
    """
    check_labelled(texts, what, where)
    stripped = [text.strip() for text in texts]
    counts = Counter(stripped)
    numbers = {text: number for text in counts if (number := _number(text)) is not None}
    if len(numbers) < len(counts):
        distinct = sorted(counts)
        _check_number_of_classes(len(distinct), len(stripped), what, numbers=False)
        index = {text: code for code, text in enumerate(distinct)}
        return np.array([index[text] for text in stripped], np.int64), tuple(distinct), ()
    for text in sorted(numbers):
        if not (decimals and math.isfinite(numbers[text])) and not isinstance(numbers[text], int):
            raise QuantityError(_no_classes(what, f"such numbers as {quoted(text)}", numbers=True))
    spellings: dict[int | float, list[str]] = {number: [] for number in sorted(set(numbers.values()))}
    for text, number in numbers.items():
        spellings[number].append(text)
    _check_number_of_classes(len(spellings), len(stripped), what, numbers=True)
    rank = {number: code for code, number in enumerate(spellings)}
    names = tuple(max(same, key=counts.__getitem__) for same in spellings.values())
    codes = np.array([rank[numbers[text]] for text in stripped], np.int64)
    return codes, names, _note_of_spellings(names, spellings.values(), what)


def encode_array(values: NDArray[Any], what: str, where: Callable[[int], str], *, decimals: bool = False) -> Encoded:
    """Number the classes of labels (n,) that are integers, booleans or floats, as `encode_texts` does."""
    check_numbers(values, what, where)
    if values.dtype.kind == "f" and not decimals:
        broken = values != np.floor(values)
        if broken.any():
            raise QuantityError(_no_classes(what, f"such numbers as {quoted(values[broken.argmax()])}", numbers=True))
    classes, labels = np.unique(values, return_inverse=True)
    _check_number_of_classes(len(classes), len(values), what, numbers=True)
    return labels.astype(np.int64), tuple(str(int(each) if each == int(each) else each) for each in classes)


def check_labelled(texts: Sequence[str], what: str, where: Callable[[int], str]) -> None:
    """Refuse labels (n,) of which one is missing; arguments as `encode_texts`.

    `none` and `null` are missing where all other labels are numbers, else they name a class.
    """
    others = {text.strip() for text in texts if text.strip().lower() not in MISSING}
    among_numbers = bool(others) and all(_number(text) is not None for text in others)
    missing = MISSING if among_numbers else MISSING - _PERHAPS_CLASSES
    for row, text in enumerate(texts):
        if text.strip().lower() in missing:
            raise DataError(f"{what} is empty in {where(row)} ({quoted(text)}); label every example or remove it.")


def check_written(texts: Sequence[str], task: TaskName | None, what: str, where: Callable[[int], str]) -> None:
    """Refuse labels that are all dates, or numbers with a comma or a unit, unless they are said to be classes."""
    found = written_as(texts)
    if found is None or task == "classification":
        return
    name, row, fix = found
    also = "" if task else f", then {REGRESSION}, or give the task 'classification' if each is a class"
    raise DataError(f"{what} holds {name} ({quoted(texts[row])} in {where(row)}), not plain numbers; {fix}{also}.")


def written_as(texts: Sequence[str]) -> tuple[str, int, str] | None:
    """What cells (n,) all hold if it is a quantity not written as a number, the row of one, and what to write instead.

    Missing cells do not count.
    """
    distinct = {text.strip() for text in texts if text.strip().lower() not in MISSING}
    for name, (pattern, mark, fix) in _WRITTEN.items():
        marked = {text for text in distinct if mark.search(text)}
        if marked and all(map(pattern.fullmatch, distinct)):
            return name, next(row for row, text in enumerate(texts) if text.strip() in marked), fix
    return None


def check_numbers(values: NDArray[Any], what: str, where: Callable[[int], str]) -> None:
    """Refuse an array of labels (n,) that are not finite numbers; arguments as `encode_array`."""
    if values.dtype.kind not in "biuf":
        raise DataError(f"{what} is of the type {values.dtype}; labels are numbers or texts.")
    finite = np.isfinite(values)
    if not finite.all():
        raise DataError(
            f"{what} is not a finite number in {where(int(finite.argmin()))}; label every example or remove it."
        )


def check_classes(
    labels: NDArray[np.int64], part: NDArray[np.int8] | None, class_names: Sequence[str], what: str
) -> None:
    """Refuse a class with fewer than 2 training examples, or met outside the training part only."""
    training = labels if part is None else labels[part == TRAIN]
    counts = np.bincount(training, minlength=len(class_names))
    if part is not None and (counts == 0).any():
        unseen = int((counts == 0).argmax())
        place = "validation" if (labels[part == VALID] == unseen).any() else "test"
        raise DataError(
            f"the class {quoted(class_names[unseen])} of {what} is in the {place} part but not in the training part;"
            " add training examples of it or remove it."
        )
    if (counts < 2).any():
        rare = [name for name, count in zip(class_names, counts, strict=True) if count < 2]
        hint = ""
        numbers = [_number(text) for text in class_names]
        if None not in numbers and (len(numbers) > MANY_CLASSES or any(isinstance(each, float) for each in numbers)):
            hint = f"; or, if the label is a quantity and not a class, {REGRESSION}"
        raise DataError(
            f"{what} has fewer than 2 training examples of the class {listed(rare, limit=3)}; add examples, merge or"
            f" remove rare classes{hint}."
        )


def _check_number_of_classes(classes: int, examples: int, what: str, *, numbers: bool) -> None:
    if classes < 2:
        raise DataError(f"{what} holds a single class in all {examples:,} examples; at least 2 are needed.")
    if classes > MOST_CLASSES or 2 * classes > max(examples, 40):
        sentence = _no_classes(what, f"{classes:,} distinct values in {examples:,} examples", numbers=numbers)
        raise (QuantityError if numbers else DataError)(sentence)


def _note_of_spellings(names: Sequence[str], spellings: Iterable[Sequence[str]], what: str) -> tuple[str, ...]:
    """Name the numbers that the labels write in several ways."""
    merged = [
        f"{listed(text for text in same if text != name)} as {quoted(name)}"
        for name, same in zip(names, spellings, strict=True)
        if len(same) > 1
    ]
    if not merged:
        return ()
    more = f" and {len(merged) - 3} more" if len(merged) > 3 else ""
    return (f"{what} writes one number in several ways, which are one class: it reads {', '.join(merged[:3])}{more}",)


def _no_classes(what: str, found: str, *, numbers: bool) -> str:
    fix = "choose a column or array that holds class labels" + (f", or {REGRESSION}" if numbers else "")
    return f"{what} holds {found}, which look like no classes; {fix}."


def _number(text: str) -> int | float | None:
    """Return the number a text stands for, an int where it is whole; None for other texts."""
    if "_" in text:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return None
    if math.isnan(value):
        return None
    return int(value) if value.is_integer() else value
