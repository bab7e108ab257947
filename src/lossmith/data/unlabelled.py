"""Examples without labels, from files, for a model that was trained on others of their kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossmith.data.cells import Table, as_texts
from lossmith.data.encode import Encoding, ImageEncoding
from lossmith.data.errors import DataError, listed, quoted
from lossmith.data.files import PICTURES, check_exists, pictures_in
from lossmith.data.from_table import read_table
from lossmith.data.pictures import decode
from lossmith.data.read_idx import read_idx_array
from lossmith.data.read_npz import read_arrays
from lossmith.data.table import TableEncoding
from lossmith.data.text import TextEncoding


@dataclass(frozen=True, eq=False)
class Unlabelled:
    """Examples as `Encoding.read` takes them.

    Args:
        examples: n of them.
        files: The name of each example's file, for images; empty where one file holds all.
        unused: Columns that the model was not trained with.
    """

    examples: Any
    files: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def read_unlabelled(path: Path, encoding: Encoding, image_size: int | None = None) -> Unlabelled:
    """Read examples of the kind that a model was trained on.

    Args:
        path: For tables and texts, a `.csv` file (plain, `.gz` or `.xz`) or a `.parquet` file with the columns of
            training, in any order. For images, an image, a folder of images (or of folders of images), or an idx file.
            For any, an `.npz` file with an array `x`.
        encoding: That of the model.
        image_size: To what the images of training were brought; None for their own size.

    Returns:
        The examples.

    Raises:
        DataError: If the file is missing, unreadable, or of another kind.
    """
    check_exists(path)
    if path.suffix.lower() == ".npz":
        arrays = read_arrays(path)
        if "x" not in arrays:
            raise DataError(
                f"the file {str(path)!r} has no array x with examples (it has {listed(arrays)}); name it x."
            )
        x = arrays["x"]
        return Unlabelled(x.tolist() if encoding.kind == "text" else x)
    if isinstance(encoding, ImageEncoding):
        return _images(path, encoding, image_size)
    if path.is_dir():
        raise DataError(f"{str(path)!r} is a folder, while the model was trained on {encoding.kind} data; give a file.")
    table = read_table(path)
    return _texts(table, encoding) if isinstance(encoding, TextEncoding) else _rows(table, encoding)


def _rows(table: Table, encoding: Encoding) -> Unlabelled:
    assert isinstance(encoding, TableEncoding)
    known = [column.name for column in encoding.columns]
    return Unlabelled(table.columns, unused=tuple(name for name in table.columns if name not in known))


def _texts(table: Table, encoding: TextEncoding) -> Unlabelled:
    """The column of the training texts; the only one, where these came from no table."""
    header = list(table.columns)
    column = header[0] if encoding.column is None and len(header) == 1 else encoding.column
    if column is None or column not in table.columns:
        wanted = (
            "a single column of texts is needed" if column is None else f"the model was trained on {quoted(column)}"
        )
        raise DataError(
            f"{table.names[0]!r} has the columns {listed(header)}, while {wanted}; rename or remove columns."
        )
    return Unlabelled(list(as_texts(table.columns[column])), unused=tuple(name for name in header if name != column))


def _images(path: Path, encoding: ImageEncoding, image_size: int | None) -> Unlabelled:
    if path.is_file() and path.suffix.lower() not in PICTURES:
        return Unlabelled(read_idx_array(path, rank=3))
    folders = [path, *sorted(each for each in path.iterdir() if each.is_dir())] if path.is_dir() else []
    found = [picture for folder in folders for picture in pictures_in(folder)] if folders else [path]
    if not found:
        raise DataError(f"the folder {str(path)!r} holds no images; give a folder of images, or one image.")
    names = tuple(picture.relative_to(path).as_posix() if folders else picture.name for picture in found)
    if encoding.dtype != "uint8":
        raise DataError(
            f"the model was trained on arrays of {encoding.dtype} pixels, not on image files; give an .npz file."
        )
    pixels = decode(found, names.__getitem__, image_size, channels=encoding.shape[0])
    return Unlabelled(pixels, files=names)
