"""The columns of a table: which are numbers, which are categories, and which one is free text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lossmith.data.cells import Cells, Pictures
from lossmith.data.dataset import Column
from lossmith.data.errors import DataError, quoted
from lossmith.data.labels import MISSING, written_as

MOST_CATEGORIES = 50
LARGEST = float(np.finfo(np.float32).max)

_OF_DATES = re.compile(
    r"(mon|tue|wed|thu|fri|sat|sun|jan|feb|mar|apr|jun|jul|aug|sep|oct|nov|dec)(\w*day|uary|ch|il|e|y|ust|\w*ber|s)?"
    r"|may|am|pm|utc|gmt|\W*",
    re.IGNORECASE,
)

Where = Callable[[int], str]


def read_numbers(name: str, cells: Cells, where: Where) -> NDArray[np.float64] | None:
    """Read a column of numbers (n,), NaN where a cell is missing; None if it holds anything but numbers."""
    values = as_floats(cells)
    if values is None:
        return None
    if np.isnan(values).all():
        raise DataError(f"the column {quoted(name)} holds no value at all; remove it.")
    too_large = np.abs(values) > LARGEST
    if too_large.any():
        row = int(too_large.argmax())
        raise DataError(
            f"the column {quoted(name)} is infinite or too large for float32 in {where(row)} ({quoted(cells[row])});"
            " correct it or leave the cell empty."
        )
    return values


def read_categories(name: str, cells: Sequence[str], where: Where) -> tuple[Column, NDArray[np.float64]]:
    """Number the values of a categorical column, at most 50, in alphabetical order; codes (n,), NaN where missing."""
    stripped = [cell.strip() for cell in cells]
    values = tuple(sorted({cell for cell in stripped if not is_missing(cell)}))
    if len(values) > MOST_CATEGORIES:
        odd = odd_cells(cells)
        if odd is not None:
            raise DataError(f"the column {quoted(name)} {said_of_odd(odd, where)}.")
        quantity = written_as(stripped)
        if quantity is not None:
            what, row, fix = quantity
            raise DataError(
                f"the column {quoted(name)} holds {what} ({quoted(cells[row])} in {where(row)}), {len(values):,}"
                f" distinct ones, while a category may have at most {MOST_CATEGORIES}; {fix}, or leave the column out"
                f" (--drop {quoted(name)})."
            )
        row = next(row for row, cell in enumerate(stripped) if not is_missing(cell) and as_float(cell) is None)
        raise DataError(
            f"the column {quoted(name)} has {len(values):,} distinct values and is no number in {where(row)}"
            f" ({quoted(cells[row])}), while a category may have at most {MOST_CATEGORIES}; make it numeric (0.36, not"
            f" 0,36 or 0.36 kg), leave it out (--drop {quoted(name)}), or keep it alone for a text task."
        )
    code = {value: float(rank) for rank, value in enumerate(values)}
    return Column(name, values), np.array([code.get(cell, math.nan) for cell in stripped], np.float64)


def is_free_text(cells: Sequence[str]) -> bool:
    """Tell whether a column holds running text: over 50 distinct values, at least half of them of several words.

    Dates, times, amounts, and numbers with units are no words, wherever they have spaces.
    """
    return len(set(cells)) > MOST_CATEGORIES and 2 * sum(map(_has_words, cells)) >= len(cells)


def odd_cells(cells: Sequence[str]) -> dict[str, int] | None:
    """The cells that are no numbers, each with its first row, of a column where most are; None for other columns."""
    odd: dict[str, int] = {}
    balance = 0
    for row, cell in enumerate(cells):
        if as_float(cell) is not None:
            balance += not is_missing(cell)
        elif not is_missing(cell):
            odd.setdefault(cell.strip(), row)
            balance -= 1
    return odd if odd and balance > 0 else None


def said_of_odd(odd: Mapping[str, int], where: Where) -> str:
    """What is wrong with a column that has `odd_cells`, and what to do."""
    text, row = next(iter(odd.items()))
    more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
    return (
        f"holds numbers except {quoted(text)} in {where(row)}{more}; correct such cells or leave them empty, if they"
        " should be numbers, or leave the column out (--drop)"
    )


def is_missing(cell: str) -> bool:
    """Tell whether a cell stands for a missing value: empty, `?`, NA, NaN, null or none, in upper or lower case."""
    return cell.strip().lower() in MISSING


def as_floats(cells: Cells) -> NDArray[np.float64] | None:
    """The numbers that cells (n,) stand for, NaN where one is missing; None if one holds anything but a number."""
    if isinstance(cells, np.ndarray):
        return cells.astype(np.float64)
    if isinstance(cells, Pictures):
        return None
    if any("_" in cell for cell in cells):  # float("1_000") is a number to Python alone
        return None
    try:
        return np.array([float(cell) for cell in cells], np.float64)
    except ValueError:
        pass
    values = [math.nan if is_missing(cell) else as_float(cell) for cell in cells]
    return None if None in values else np.array(values, np.float64)


def as_float(cell: str) -> float | None:
    """The number that a cell stands for; None if it is none."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _has_words(cell: str) -> bool:
    """Whether a cell has several words, more of letters than with digits; those of dates do not count."""
    words = cell.split()
    if len(words) < 2:
        return False
    numbers = sum(any(map(str.isdigit, word)) for word in words)
    if not numbers:
        return True
    return sum(not _OF_DATES.fullmatch(word.strip(".,;")) for word in words) - numbers > numbers
