"""Encodings, from raw examples to the inputs of a model, and that of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from lossmith.data.dataset import Dataset, Kind
from lossmith.data.errors import DataError


class Encoding(ABC):
    """How raw examples become the inputs of a model: learned from the training rows, saved with the model as JSON."""

    kind: ClassVar[Kind]

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one encoded example."""

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """For texts, the token of each number; else None."""
        return None

    @abstractmethod
    def read(self, examples: Any) -> Any:
        """Turn examples as a user has them into n examples as `Dataset.inputs` holds them.

        Args:
            examples: A table: the path of a CSV file, a dict or DataFrame of columns, or an array (n, d) in the order
                of the training columns. Images: an array (n, c, h, w), (n, h, w, c), or (n, h, w) for one channel,
                unscaled. Texts: a sequence of strings.

        Returns:
            What `encode` takes.

        Raises:
            DataError: If the examples are not of the kind that was trained on.
        """

    @abstractmethod
    def encode(self, inputs: Any) -> Tensor:
        """Encode n examples, given as `Dataset.inputs` holds them; returns (n, ...)."""

    def plain(self) -> dict[str, Any]:
        """Everything that it is made of, as JSON holds it."""
        return {"kind": self.kind, **asdict(cast("Any", self))}

    @classmethod
    @abstractmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `plain`."""


@dataclass(frozen=True)
class ImageEncoding(Encoding):
    """Images with every channel standardised, float32 (n, c, h, w).

    Args:
        shape: (c, h, w).
        dtype: Of the raw images, "uint8" or "float32".
        means: Each channel's mean over all pixels of the training images.
        stds: Their standard deviations; None where a channel is constant, which becomes 0.
    """

    shape: tuple[int, int, int]
    dtype: str
    means: tuple[float, ...]
    stds: tuple[float | None, ...]

    kind: ClassVar[Kind] = "image"

    @property
    @override
    def input_shape(self) -> tuple[int, ...]:
        return self.shape

    @override
    def read(self, examples: Any) -> NDArray[Any]:
        images = np.asarray(examples)
        channels, height, width = self.shape
        if images.shape[1:] == (height, width, channels):
            images = np.moveaxis(images, -1, 1)
        elif images.shape[1:] == (height, width) and channels == 1:
            images = images[:, None]
        if images.shape[1:] != self.shape or images.dtype.kind not in "biuf":
            raise DataError(
                f"the images are of the shape {np.shape(examples)} and the type {images.dtype}, while the model was"
                f" trained on numbers (n, {channels}, {height}, {width}); give the same."
            )
        with np.errstate(over="ignore", invalid="ignore"):
            values = images.astype(self.dtype)
        if self.dtype == "uint8" and not np.array_equal(values, images):
            raise DataError("the pixels are not whole numbers from 0 to 255 as in training; give them unscaled.")
        return values

    @override
    def encode(self, inputs: NDArray[Any]) -> Tensor:
        images = np.empty(inputs.shape, np.float32)
        for c, (mean, std) in enumerate(zip(self.means, self.stds, strict=True)):
            with np.errstate(over="ignore"):
                if inputs.dtype == np.uint8:
                    images[:, c] = scaled(np.arange(256.0), mean, std).astype(np.float32)[inputs[:, c]]
                else:
                    images[:, c] = scaled(inputs[:, c], mean, std)
        if not np.isfinite(images).all():
            raise DataError("the images are not finite after scaling; correct their extreme pixels.")
        return torch.from_numpy(images)

    @classmethod
    @override
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        channels, height, width = plain["shape"]
        return cls((channels, height, width), plain["dtype"], tuple(plain["means"]), tuple(plain["stds"]))


def fit_images(dataset: Dataset, train: NDArray[np.int64]) -> ImageEncoding:
    """Learn each channel's mean and standard deviation over all pixels of the training images."""
    inputs = np.asarray(dataset.inputs)
    measure = _moments_of_bytes if inputs.dtype == np.uint8 else moments
    fitted = [measure(inputs[train, c]) for c in range(inputs.shape[1])]
    _, channels, height, width = inputs.shape
    return ImageEncoding(
        (channels, height, width),
        str(inputs.dtype),
        tuple(mean for mean, _ in fitted),
        tuple(std for _, std in fitted),
    )


def moments(train: NDArray[Any]) -> tuple[float, float | None]:
    """Mean and standard deviation; None where the values do not vary, whatever rounding makes of their deviation."""
    values = train.astype(np.float64)
    mean, std = float(values.mean()), float(values.std())
    return mean, None if values.min() == values.max() or std == 0 else std


def scaled(values: NDArray[Any], mean: float, std: float | None) -> NDArray[Any]:
    """(x - mean) / std, or zeros where there is no deviation."""
    return np.zeros(values.shape) if std is None else np.asarray((values - mean) / std)


def _moments_of_bytes(train: NDArray[np.uint8]) -> tuple[float, float | None]:
    """`moments`, from the counts of the 256 pixel values."""
    counts = np.zeros(256)
    for start in range(0, len(train), 1024):  # bincount widens its argument to 64 bits
        counts += np.bincount(train[start : start + 1024].ravel(), minlength=256)
    values = np.arange(256.0)
    mean = float(values @ counts / counts.sum())
    std = float(np.sqrt((values - mean) ** 2 @ counts / counts.sum()))
    return mean, None if np.count_nonzero(counts) < 2 else std
