"""The encoding of tables: numbers standardised, categories one-hot."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from lossmith.data.columns import as_floats, is_missing
from lossmith.data.dataset import Dataset, Kind
from lossmith.data.encode import Encoding, moments, scaled
from lossmith.data.errors import DataError, listed, quoted
from lossmith.data.from_table import read_table


@dataclass(frozen=True)
class NumberColumn:
    """A numeric column: its missing values filled, its mean subtracted, then divided by ``std``; None makes all 0."""

    name: str
    fill: float
    mean: float
    std: float | None

    @property
    def width(self) -> int:
        """How many inputs it makes."""
        return 1

    def read(self, cells: Sequence[Any]) -> NDArray[np.float64]:
        """Read cells (n,), texts or numbers, as numbers, NaN where one is missing."""
        array = np.asarray(cells)
        if array.dtype.kind in "biuf":
            return np.array(array, np.float64)
        texts = _texts(cells)
        values = as_floats(texts)
        if values is None:
            row = next(row for row, text in enumerate(texts) if as_floats([text]) is None)
            raise DataError(
                f"the column {quoted(self.name)} is no number in row {row + 1} ({quoted(texts[row])}), but was one in"
                " training; correct it or leave it empty."
            )
        return values

    def encode(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 1) for numbers (n,)."""
        filled = np.where(np.isnan(values), self.fill, values)
        return scaled(filled, self.mean, self.std)[:, None]


@dataclass(frozen=True)
class CategoryColumn:
    """A categorical column: each code met in training, ascending, gives one 0/1 input; any other value is all zeros."""

    name: str
    values: tuple[str, ...]
    known: tuple[int, ...]

    @property
    def width(self) -> int:
        """How many inputs it makes."""
        return len(self.known)

    def read(self, cells: Sequence[Any]) -> NDArray[np.float64]:
        """Read cells (n,) as codes, NaN where a value is missing or unknown."""
        codes = {value: float(code) for code, value in enumerate(self.values)}
        return np.array([codes.get(str(cell).strip(), np.nan) for cell in cells], np.float64)

    def encode(self, codes: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, len(known)) for codes (n,)."""
        return np.asarray(codes[:, None] == np.array(self.known), np.float64)


@dataclass(frozen=True)
class TableEncoding(Encoding):
    """The columns of a table side by side, float32."""

    columns: tuple[NumberColumn | CategoryColumn, ...]

    kind: ClassVar[Kind] = "tabular"

    @property
    @override
    def input_shape(self) -> tuple[int, ...]:
        return (sum(column.width for column in self.columns),)

    @override
    def read(self, examples: Any) -> NDArray[np.float64]:
        if isinstance(examples, str | os.PathLike):
            examples = read_table(Path(examples)).columns
        elif isinstance(examples, np.ndarray) and examples.ndim == 2 and examples.shape[1] == len(self.columns):
            examples = {column.name: examples[:, j] for j, column in enumerate(self.columns)}
        if not hasattr(examples, "keys"):
            raise DataError(
                "a table is given as the path of a CSV file, a dict or DataFrame of columns, or an array with"
                f" {len(self.columns)} columns, not as {type(examples).__name__}."
            )
        absent = [column.name for column in self.columns if column.name not in examples]
        if absent:
            raise DataError(f"the table has no column {listed(absent)}; the model was trained with it.")
        columns = [column.read(examples[column.name]) for column in self.columns]
        if len({len(values) for values in columns}) > 1:
            raise DataError("the columns of the table differ in length; give each one value for every row.")
        return np.stack(columns, axis=1)

    @override
    def encode(self, inputs: NDArray[np.float64]) -> Tensor:
        values = inputs.astype(np.float64)
        blocks = []
        for j, column in enumerate(self.columns):
            with np.errstate(over="ignore"):
                blocks.append(column.encode(values[:, j]).astype(np.float32))
            if not np.isfinite(blocks[-1]).all():
                raise DataError(
                    f"the column {quoted(column.name)} is not finite once scaled by the training rows; correct its"
                    " extreme values."
                )
        return torch.from_numpy(np.ascontiguousarray(np.concatenate(blocks, axis=1)))

    @classmethod
    @override
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        columns: list[NumberColumn | CategoryColumn] = []
        for column in plain["columns"]:
            if "known" in column:
                columns.append(CategoryColumn(column["name"], tuple(column["values"]), tuple(column["known"])))
            else:
                columns.append(NumberColumn(**column))
        return cls(tuple(columns))


def fit_table(dataset: Dataset, train: NDArray[np.int64]) -> TableEncoding:
    """Learn from the training rows how to encode a table.

    A numeric column is standardised, (x - mean) / std, its missing cells first replaced by its mean; a column that is
    constant over the training rows becomes 0. A categorical column becomes one 0/1 column for each value met in the
    training rows; a missing or unknown value is all zeros.
    """
    inputs = np.asarray(dataset.inputs)
    columns: list[NumberColumn | CategoryColumn] = []
    for j, column in enumerate(dataset.columns):
        values = inputs[train, j].astype(np.float64)
        if column.values is not None:
            known = np.unique(values[~np.isnan(values)])
            columns.append(CategoryColumn(column.name, column.values, tuple(map(int, known))))
        elif dataset.standardize:
            columns.append(_fit_number(column.name, values))
        else:
            columns.append(NumberColumn(column.name, 0.0, 0.0, 1.0))
    encoding = TableEncoding(tuple(columns))
    if encoding.input_shape == (0,):
        raise DataError(f"the training rows of {dataset.name!r} hold no value in any column; give more complete rows.")
    return encoding


def _fit_number(name: str, train: NDArray[np.float64]) -> NumberColumn:
    known = train[~np.isnan(train)]
    if not known.size:
        return NumberColumn(name, 0.0, 0.0, None)
    fill = float(known.mean())
    return NumberColumn(name, fill, *moments(np.where(np.isnan(train), fill, train)))


def _texts(cells: Sequence[Any]) -> list[str]:
    """Cells as stripped text, empty where one is missing."""
    texts = ["" if cell is None else str(cell).strip() for cell in cells]
    return ["" if is_missing(text) else text for text in texts]
