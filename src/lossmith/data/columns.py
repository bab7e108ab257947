"""The columns of a table: which are numbers, which are categories, and which one is free text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lossmith.data.cells import Cells, Pictures
from lossmith.data.dataset import Column
from lossmith.data.errors import DataError, quoted
from lossmith.data.labels import MISSING

MOST_CATEGORIES = 50
LARGEST = float(np.finfo(np.float32).max)

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
            f"the column {quoted(name)} is infinite or too large for float32 in {where(row)} ({quoted(values[row])});"
            " correct it or leave the cell empty."
        )
    return values


def read_categories(name: str, cells: Sequence[str], where: Where) -> tuple[Column, NDArray[np.float64]]:
    """Number the values of a categorical column, at most 50, in alphabetical order; codes (n,), NaN where missing."""
    stripped = [cell.strip() for cell in cells]
    values = tuple(sorted({cell for cell in stripped if not is_missing(cell)}))
    if len(values) > MOST_CATEGORIES:
        row = next(row for row, cell in enumerate(stripped) if not is_missing(cell) and as_float(cell) is None)
        raise DataError(
            f"the column {quoted(name)} has {len(values):,} distinct values and is no number in {where(row)}"
            f" ({quoted(cells[row])}), while a category may have at most {MOST_CATEGORIES}; make it numeric (0.36, not"
            f" 0,36), leave it out (--drop {quoted(name)}), or keep it alone for a text task."
        )
    code = {value: float(rank) for rank, value in enumerate(values)}
    return Column(name, values), np.array([code.get(cell, math.nan) for cell in stripped], np.float64)


def is_free_text(cells: Sequence[str]) -> bool:
    """Tell whether a column holds running text: over 50 distinct values, at least half of them of several words."""
    return len(set(cells)) > MOST_CATEGORIES and 2 * sum(len(cell.split()) > 1 for cell in cells) >= len(cells)


def is_missing(cell: str) -> bool:
    """Tell whether a cell stands for a missing value: empty, `?`, NA or NaN."""
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
