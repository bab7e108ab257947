"""Arrays, tensors and sequences in memory as NumPy arrays that `read_npz` knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lossmith.data.errors import DataError

_CHANNELS = (1, 3, 4)


def as_array(values: Any, what: str) -> NDArray[Any]:
    """Numbers as an array, as they are; images of torch with their channels last, where nothing is unclear.

    Args:
        values: an array, a tensor, a sparse matrix, a Series or nested sequences.
        what: what they are called in errors.

    Raises:
        DataError: if they are no regular array of numbers.
    """
    array = _plain(values, what)
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            first = next(cell for cell in array.flat if not isinstance(cell, int | float))
            raise DataError(
                f"{what} holds objects of type {type(first).__name__}; give numbers, or a DataFrame where the columns "
                "are of different kinds."
            ) from None
    if array.ndim == 4 and hasattr(values, "detach") and array.shape[1] in _CHANNELS:
        array = array.transpose(0, 2, 3, 1)  # torch's channels come first, also of an image 3 pixels wide
    return np.ascontiguousarray(array)


def as_labels(values: Any) -> NDArray[Any]:
    """Labels as an array; those that are texts and something else as texts, as a CSV file would hold them.

    Raises:
        DataError: if they are no regular array, or neither numbers nor texts.
    """
    array = _plain(values, "y")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind in "OUS" and array.size:
        plain = [("" if _is_missing(cell) else cell) for cell in array.ravel().tolist()]
        if all(isinstance(cell, int | float) for cell in plain):
            array = np.array(plain).reshape(array.shape)
        elif all(isinstance(cell, str | bytes | int | float) for cell in plain):
            array = np.array([cell if isinstance(cell, str) else _text(cell) for cell in plain]).reshape(array.shape)
    if array.dtype.kind not in "biufUS":
        raise DataError(f"y holds values of the type {array.dtype}; give class numbers, class names or numbers.")
    return array


def as_texts(values: Any) -> list[str] | None:
    """Texts as a list; ``None`` if the values are something else."""
    if isinstance(values, str):
        raise DataError("X is a single text; give a sequence of texts.")
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    if isinstance(values, np.ndarray):
        if values.ndim != 1 or values.dtype.kind not in "OUS":
            return None
        values = values.tolist()
    if not isinstance(values, Sequence) or not values:
        return None
    if not all(isinstance(value, str | bytes) or _is_missing(value) for value in values):
        return None
    return ["" if _is_missing(value) else _text(value) for value in values]


def _plain(values: Any, what: str) -> NDArray[Any]:
    if hasattr(values, "detach"):  # a tensor
        values = values.detach().cpu()
        values = values.to_dense() if values.layout is not values.new_empty(0).to_dense().layout else values
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
        return np.asarray(values.resolve_conj().resolve_neg().numpy())
    if hasattr(values, "toarray"):  # a sparse matrix of scipy
        return np.asarray(values.toarray())
    if hasattr(values, "to_numpy"):  # a Series or DataFrame
        return np.asarray(values.to_numpy())
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise DataError(f"{what} is a masked array; fill what is missing, by NaN in a table: values.filled(nan).")
    try:
        if isinstance(values, list | tuple) and values and hasattr(values[0], "detach"):
            values = [_plain(value, what) for value in values]
        return np.asarray(values)
    except ValueError:
        raise DataError(f"the examples of {what} differ in shape; give each the same shape.") from None


def _is_missing(value: object) -> bool:
    return value is None or value != value or str(value) == "<NA>"


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
