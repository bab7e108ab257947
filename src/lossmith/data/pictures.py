"""Images from files, decoded by Pillow, and folders of images by class."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lossmith.data.dataset import Dataset, TaskName
from lossmith.data.errors import DataError
from lossmith.data.files import FileSet
from lossmith.data.targets import read_texts

_GREY: Final = {"1", "L", "LA"}
_DEEP: Final = {"I", "F"}
_MOST_BYTES: Final = 2**32

Source = Path | bytes


def read_pictures(files: FileSet, task: TaskName | None, image_size: int | None) -> Dataset:
    """Read a folder with one folder of images per class, perhaps in folders train, valid and test."""

    def where(row: int) -> str:
        return f"{files.paths[row].parent.name}/{files.paths[row].name}"

    names = [path.parent.name for path in files.paths]
    targets = read_texts(names, task, f"the set of folders in {str(files.folder)!r}", where)
    return Dataset(
        files.name,
        files.digest(),
        "image",
        decode(files.paths, where, image_size),
        targets.values,
        targets.class_names,
        None if files.parts is None else np.array(files.parts, np.int8),
        task=targets.task,
        image_size=image_size,
        notes=targets.notes,
    )


def decode(
    sources: Sequence[Source], where: Callable[[int], str], size: int | None, channels: int | None = None
) -> NDArray[np.uint8]:
    """Decode images (n, c, h, w), upright.

    Args:
        sources: The files, or what they hold.
        where: Names the place of image i in errors.
        size: Each image is cut to its central square, which is brought to this side; None needs images of one size.
        channels: 1 makes all of them grey, 3 coloured; None: coloured if one of them is.

    Returns:
        The images.

    Raises:
        DataError: If one cannot be read, or they differ in size.
    """
    images: list[NDArray[np.uint8]] = []
    total = 0
    for row, source in enumerate(sources):
        image = _upright(source, where(row), size, channels)
        if images and image.shape[:2] != images[0].shape[:2]:
            (h, w), (height, width) = images[0].shape[:2], image.shape[:2]
            raise DataError(
                f"the images differ in size ({where(0)} has {w} x {h} pixels, {where(row)} {width} x {height}); bring"
                " all of them to squares of one side, such as --image-size 64."
            )
        images.append(image)
        total += image.nbytes
        if total > _MOST_BYTES:
            raise DataError(
                f"{len(sources):,} images of {image.shape[1]} x {image.shape[0]} pixels do not fit into memory; make"
                " them smaller, such as --image-size 64."
            )
    depth = max(image.shape[2] for image in images)
    found = np.stack([np.broadcast_to(image, (*image.shape[:2], depth)) for image in images])
    return np.ascontiguousarray(found.transpose(0, 3, 1, 2))


def _upright(source: Source, where: str, size: int | None, channels: int | None) -> NDArray[np.uint8]:
    """One image (h, w, c), with one channel where it is grey or `channels` says so, else with three."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise DataError("images are read by Pillow, which is not installed; pip install 'lossmith[data]'.") from error
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.mode.partition(";")[0] in _DEEP:
                raise DataError(f"the image {where} has more than 8 bits per channel; save it with 8.")
            grey = channels == 1 or (channels is None and image.mode in _GREY)
            upright = ImageOps.exif_transpose(image).convert("L" if grey else "RGB")
            fitted = upright if size is None else ImageOps.fit(upright, (size, size))
            return np.asarray(fitted, np.uint8).reshape(fitted.height, fitted.width, 1 if grey else 3)
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"the image {where} cannot be read ({type(error).__name__}); replace or remove it.") from error
