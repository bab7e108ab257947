"""Map-style datasets of torch, read item by item."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossmith.data.arrays import as_labels
from lossmith.data.errors import DataError, listed

_READ_TWICE: Final = 8
_MOST_BYTES: Final = 2**32
_CHANNELS: Final = (1, 3, 4)


@dataclass(frozen=True, eq=False)
class Items:
    """What a dataset holds.

    Args:
        inputs: an array (n, ...), or texts.
        labels: labels (n,), or masks (n, h, w).
        notes: what a user should know of how it was read.
    """

    inputs: NDArray[Any] | list[str]
    labels: NDArray[Any]
    notes: tuple[str, ...] = ()


def is_dataset(data: object) -> bool:
    """Whether something is a dataset of torch."""
    torch = sys.modules.get("torch.utils.data")
    return torch is not None and isinstance(data, torch.Dataset)


def title(dataset: Any) -> str:
    """What a dataset is called: its class, that of the whole of which it is a part."""
    while hasattr(dataset, "dataset") and is_dataset(dataset.dataset):
        dataset = dataset.dataset
    return type(dataset).__name__.lower()


def class_names(dataset: Any, labels: Sequence[NDArray[Any]]) -> list[str] | None:
    """The names of the classes that a dataset knows, as those of torchvision do; ``None`` if they do not fit."""
    while not hasattr(dataset, "classes") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    fits = all(of.dtype.kind in "iu" and of.min() >= 0 and of.max() < len(names) for of in labels)
    return list(names) if fits else None


def read_items(dataset: Any, part: str | None = None) -> Items:
    """Read a dataset once, and a few of its items again, to notice one that changes from read to read.

    Args:
        dataset: its items are pairs of an input (tensor, array, image of Pillow, text or number) and a label.
        part: what it is called in errors.

    Raises:
        DataError: if it cannot be read so, or does not fit into memory.
    """
    what = f"the {part} dataset" if part else "the dataset"
    try:
        count = len(dataset)
    except (TypeError, NotImplementedError):
        raise DataError(
            f"{what} ({type(dataset).__name__}) has no length, so it cannot be split; give a map-style dataset, with"
            " __len__ and __getitem__."
        ) from None
    if not count:
        raise DataError(f"{what} holds no examples; give one that does.")
    first = _pair(dataset, 0, what)
    size = count * (first[0].nbytes if isinstance(first[0], np.ndarray) else 0)
    if size > _MOST_BYTES:
        raise DataError(
            f"{count:,} items of {what} take {size / 2**30:.0f} GiB, which do not fit into memory; take fewer with"
            " torch.utils.data.Subset, or smaller ones."
        )
    pairs = [_pair(dataset, place, what) for place in range(count)]
    inputs, labels = [x for x, _ in pairs], [y for _, y in pairs]
    notes: tuple[str, ...] = ()
    if any(not _same(_pair(dataset, place, what), pairs[place]) for place in range(0, count, -(-count // _READ_TWICE))):
        notes = (
            f"items of {what} differ from read to read, as those of random augmentation do; each was read once, so"
            " that every loss trains on the same examples",
        )
    if all(isinstance(x, str) for x in inputs):
        return Items(inputs, as_labels(_stacked(labels, f"labels of {what}")), notes)
    return Items(_stacked(inputs, f"inputs of {what}"), as_labels(_stacked(labels, f"labels of {what}")), notes)


def _pair(dataset: Any, place: int, what: str) -> tuple[Any, Any]:
    item = dataset[place]
    if isinstance(item, dict):
        raise DataError(f"items of {what} are dicts ({listed(item)}); give pairs of an input and a label.")
    if not isinstance(item, tuple | list) or len(item) != 2:
        shown = f"of {len(item)}" if isinstance(item, tuple | list) else f"of type {type(item).__name__}"
        raise DataError(f"items of {what} are {shown}; give pairs of an input and a label.")
    return _input(item[0]), _label(item[1])


def _input(x: Any) -> Any:
    """One input: a text, or an array, of which an image has its channels last."""
    if isinstance(x, str):
        return x
    if hasattr(x, "detach"):
        array = x.detach().cpu().float().numpy() if x.is_floating_point() else x.detach().cpu().numpy()
        return array.transpose(1, 2, 0) if array.ndim == 3 and array.shape[0] in _CHANNELS else np.atleast_1d(array)
    return np.atleast_1d(_image(x.convert("RGB") if getattr(x, "mode", None) == "P" else x))


def _label(y: Any) -> Any:
    if isinstance(y, str):
        return y
    array = y.detach().cpu().numpy() if hasattr(y, "detach") else _image(y)
    return array.item() if array.size == 1 else array


def _image(value: Any) -> NDArray[Any]:
    """An image of Pillow, or anything else, as an array."""
    if hasattr(value, "mode") and hasattr(value, "convert"):
        value = value.convert("L" if value.mode == "1" else "RGB") if value.mode in {"1", "CMYK", "LA"} else value
    return np.asarray(value)


def _same(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(one, other, strict=True))


def _stacked(values: Sequence[Any], what: str) -> NDArray[Any]:
    shapes = [np.shape(value) for value in values]
    for place, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise DataError(
                f"{what} differ in shape ({shapes[0]} at 0, {shape} at {place}); bring them to one shape, such as by a"
                " transform of the dataset."
            )
    return np.asarray(values)
