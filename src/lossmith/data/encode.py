"""Tables and images as tensors, scaled by what the training rows say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossmith.data.dataset import Dataset
from lossmith.data.errors import DataError, quoted

Encoder = Callable[[NDArray[np.int64]], Tensor]
"""From row numbers (n,) of the data set to the inputs (n, ...) of a model."""


def fit_table(dataset: Dataset, train: NDArray[np.int64]) -> Encoder:
    """Learn from the training rows how to encode a table.

    A numeric column is standardised, (x - mean) / std, its missing cells first replaced by its mean; a column that is
    constant over the training rows becomes 0. A categorical column becomes one 0/1 column for each value met in the
    training rows; a missing or unknown value is all zeros.

    Args:
        dataset: A tabular data set.
        train: The training rows.

    Returns:
        What encodes any rows (n,) as float32 (n, d).

    Raises:
        DataError: If every column is categorical and empty in the training rows.
    """
    inputs = np.asarray(dataset.inputs)
    encoders: list[Callable[[NDArray[np.float64]], NDArray[np.float64]]] = []
    for j, column in enumerate(dataset.columns):
        values = inputs[train, j].astype(np.float64)
        if column.values is not None:
            encoders.append(_one_hot(values))
        elif dataset.standardize:
            encoders.append(_standardised(values))
        else:
            encoders.append(lambda each: each[:, None])

    if not any(encoder(np.zeros(1)).size for encoder in encoders):
        raise DataError(f"the training rows of {dataset.name!r} hold no value in any column; give more complete rows.")

    def encode(rows: NDArray[np.int64]) -> Tensor:
        chosen = inputs[rows].astype(np.float64)
        blocks = []
        for j, (column, encoder) in enumerate(zip(dataset.columns, encoders, strict=True)):
            with np.errstate(over="ignore"):
                blocks.append(encoder(chosen[:, j]).astype(np.float32))
            if not np.isfinite(blocks[-1]).all():
                raise DataError(
                    f"the column {quoted(column.name)} of {dataset.name!r} is not finite once scaled by the training"
                    " rows; correct its extreme values."
                )
        return torch.from_numpy(np.ascontiguousarray(np.concatenate(blocks, axis=1)))

    return encode


def fit_images(dataset: Dataset, train: NDArray[np.int64]) -> Encoder:
    """Learn each channel's mean and standard deviation over all pixels of the training images.

    Args:
        dataset: An image data set.
        train: The training rows.

    Returns:
        What encodes any rows (n,) as float32 (n, c, h, w), (x - mean) / std; a constant channel becomes 0.
    """
    inputs = np.asarray(dataset.inputs)
    channels = inputs.shape[1]
    if inputs.dtype == np.uint8:
        tables = [_pixel_table(inputs[train, c]) for c in range(channels)]
        scale: list[Callable[[NDArray[Any]], NDArray[Any]]] = [table.__getitem__ for table in tables]
    else:
        scale = [_scaler(inputs[train, c].astype(np.float64)) for c in range(channels)]

    def encode(rows: NDArray[np.int64]) -> Tensor:
        images = np.empty((len(rows), *inputs.shape[1:]), np.float32)
        for c in range(channels):
            with np.errstate(over="ignore"):
                images[:, c] = scale[c](inputs[rows, c])
        if not np.isfinite(images).all():
            raise DataError(
                f"the images of {dataset.name!r} are not finite after scaling; correct their extreme pixels."
            )
        return torch.from_numpy(images)

    return encode


def _standardised(train: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    known = train[~np.isnan(train)]
    if not known.size:
        return lambda each: np.zeros((len(each), 1))
    mean = float(known.mean())
    scale = _scaler(np.where(np.isnan(train), mean, train))
    return lambda each: scale(np.where(np.isnan(each), mean, each))[:, None]


def _scaler(train: NDArray[np.float64]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return (x - mean) / std; zeros where the training values do not vary, whatever rounding makes of their std."""
    mean, std = float(train.mean()), float(train.std())
    if train.min() == train.max() or std == 0:
        return lambda each: np.zeros(each.shape)
    return lambda each: np.asarray((each - mean) / std)


def _one_hot(train: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    known = np.unique(train[~np.isnan(train)])
    return lambda each: (each[:, None] == known).astype(np.float64)


def _pixel_table(train: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the scaled value of each of the 256 pixel values."""
    counts = np.zeros(256)
    for start in range(0, len(train), 1024):  # bincount widens its argument to 64 bits
        counts += np.bincount(train[start : start + 1024].ravel(), minlength=256)
    values = np.arange(256.0)
    mean = float(values @ counts / counts.sum())
    std = float(np.sqrt((values - mean) ** 2 @ counts / counts.sum()))
    if np.count_nonzero(counts) < 2:
        return np.zeros(256, np.float32)
    return ((values - mean) / std).astype(np.float32)
