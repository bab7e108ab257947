"""Images from files, decoded by Pillow, and folders of images by class."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossmith.data.dataset import Dataset, TaskName
from lossmith.data.errors import DataError
from lossmith.data.files import FileSet
from lossmith.data.targets import read_texts

_GREY: Final = {"1", "L", "LA"}
_DEEP: Final = {"I", "F"}
_MOST_BYTES: Final = 2**32
_ORIENTATION, _SIDEWAYS = 0x0112, range(5, 9)

Source = Path | bytes


def read_pictures(files: FileSet, task: TaskName | None, image_size: int | None) -> Dataset:
    """Read a folder with one folder of images per class, perhaps in folders train, valid and test."""

    def where(row: int) -> str:
        return f"{files.paths[row].parent.name}/{files.paths[row].name}"

    names = [path.parent.name for path in files.paths]
    targets = read_texts(names, task, f"the set of folders in {files.name!r}", where)
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
    heads = [_head(source, where(row)) for row, source in enumerate(sources)]
    found = sorted({shape for shape, _ in heads})
    if size is None and len(found) > 1:
        raise DataError(
            f"the images have {len(found):,} different sizes, such as {found[0][0]} x {found[0][1]} and {found[-1][0]}"
            f" x {found[-1][1]} pixels; bring all of them to squares of one side, such as --image-size 64."
        )
    width, height = found[0] if size is None else (size, size)
    if channels is None:
        channels = 1 if all(grey for _, grey in heads) else 3
    if len(sources) * channels * height * width > _MOST_BYTES:
        raise DataError(
            f"{len(sources):,} images of {width} x {height} pixels do not fit into memory; make them smaller, such as"
            " --image-size 64."
        )
    images = np.empty((len(sources), height, width, channels), np.uint8)
    for row, source in enumerate(sources):
        images[row] = _pixels(source, where(row), (width, height), channels)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _head(source: Source, where: str) -> tuple[tuple[int, int], bool]:
    """Width and height of an image once upright, and whether it is grey; its pixels are not decoded."""
    with _opened(source, where) as image:
        if image.mode.partition(";")[0] in _DEEP:
            raise DataError(f"the image {where} has more than 8 bits per channel; save it with 8.")
        width, height = image.size
        sideways = image.getexif().get(_ORIENTATION) in _SIDEWAYS
        return (height, width) if sideways else (width, height), image.mode in _GREY


def _pixels(source: Source, where: str, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    from PIL import ImageOps

    try:
        with _opened(source, where) as image:
            upright = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
            fitted = upright if upright.size == size else ImageOps.fit(upright, size)
            return np.asarray(fitted, np.uint8).reshape(size[1], size[0], channels)
    except (OSError, ValueError, SyntaxError) as error:
        if isinstance(error, DataError):
            raise
        raise _broken(where, error) from error


def _opened(source: Source, where: str) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("images are read by Pillow, which is not installed; pip install 'lossmith[data]'.") from error
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _broken(where, error) from error


def _broken(where: str, error: Exception) -> DataError:
    return DataError(f"the image {where} cannot be read ({type(error).__name__}); replace or remove it.")
