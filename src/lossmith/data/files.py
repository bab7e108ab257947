"""Which files make up a data set: from the path a user gives to the set's files and their digest."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import re
import zlib
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

from lossmith.data.dataset import TEST, TRAIN, VALID
from lossmith.data.errors import DataError, did_you_mean, listed

EXTENSIONS = (".csv.gz", ".csv.xz", ".csv", ".parquet", ".npz")
PARTS = {"train": TRAIN, "valid": VALID, "val": VALID, "validation": VALID, "dev": VALID, "test": TEST}
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
PART_NAMES = ("training", "validation", "test")
_SUFFIXES = {f"_{name}": part for name, part in PARTS.items()}
IDX_NAME = re.compile(r"(train|t10k)-(images|labels)[-.]idx[13]-ubyte(\.gz|\.xz)?")

_READ = (
    "a .csv, .csv.gz, .csv.xz, .parquet or .npz file, a folder of idx files, or a folder with one of images per class"
)


@dataclass(frozen=True)
class FileSet:
    """The files of one data set, train before valid before test; of idx files images before labels.

    The name is what they have in common; `parts` says what each holds (0 train, 1 valid, 2 test), None without an
    official split. `folder` is where a folder of images begins; each image lies in one of its class.
    """

    name: str
    format: Literal["table", "npz", "idx", "images"]
    paths: tuple[Path, ...]
    parts: tuple[int, ...] | None
    folder: Path | None = None

    def digest(self) -> str:
        """Return "sha256:<hex>" over all files' roles, lengths and contents."""
        total = hashlib.sha256()
        for path, part in zip(self.paths, self.parts or (TRAIN,) * len(self.paths), strict=True):
            try:
                with path.open("rb") as handle:
                    content = hashlib.file_digest(handle, "sha256")
            except OSError as error:
                raise unreadable(path, error) from error
            role = f"{part} {path.parent.name}" if self.folder else f"{part}"
            total.update(f"{self.format} {role} {content.hexdigest()}\n".encode())
        return f"sha256:{total.hexdigest()}"

    def announced(self) -> tuple[str, ...]:
        """Which files were taken for which part, in one line; nothing for a single file or a folder."""
        if self.parts is None or self.format in {"idx", "images"}:
            return ()
        files: dict[str, list[str]] = {}
        for path, part in zip(self.paths, self.parts, strict=True):
            files.setdefault(PART_NAMES[part], []).append(path.name)
        return ("; ".join(f"the {part} part is {listed(names)}" for part, names in files.items()),)


def find_files(source: str, bundled: tuple[str, ...] = ()) -> FileSet:
    """Find the files of a file, of a folder of idx files or images, or of a set without `_train`, `_valid`, `_test`.

    Where nothing is found, the error suggests the folder's files and `bundled` names.
    """
    try:
        path = Path(source).expanduser()
        if not source or not (path.is_dir() or path.is_file()):
            files = _common_prefix(path)
            if files is None:
                raise _not_found(source, path, bundled)
            return files
        if path.is_dir():
            return _folder(path)
        if IDX_NAME.fullmatch(path.name):
            return _idx_folder(path.parent)
        return _one_or_set(path)
    except DataError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, with a zero byte, or of an unknown ~user
        raise DataError(f"there is no data set {source!r:.200}: {_reason(error)}.") from error


def read_bytes(path: Path) -> bytes:
    """Read a whole file, unpacked if its name ends in .gz or .xz."""
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path) as handle:
                return handle.read()
        if path.name.lower().endswith(".xz"):
            with lzma.open(path) as handle:
                return handle.read()
        return path.read_bytes()
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise unreadable(path, error) from error


def check_exists(path: Path) -> None:
    """Refuse a path where nothing lies."""
    if not path.exists():
        raise DataError(f"there is no file or folder {str(path)!r}; correct the path.")


def unreadable(path: Path, error: BaseException) -> DataError:
    """Return the error for a file that exists but cannot be read."""
    return DataError(f"the file {str(path)!r} cannot be read ({_reason(error)}); it may be truncated or damaged.")


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()).partition(". ")[0].rstrip(".") or type(error).__name__


def _one_or_set(path: Path) -> FileSet:
    stem, extension = _split_extension(path.name)
    if not extension:
        raise DataError(f"the file {str(path)!r} is of no known kind; give {_READ}.")
    for suffix in _SUFFIXES:
        if stem.lower().endswith(suffix) and len(stem) > len(suffix):
            members = _members(path.parent, stem[: -len(suffix)], path.name[len(stem) :])
            if len(members) > 1:
                return _as_set(stem[: -len(suffix)], extension, members)
    return FileSet(stem, _format(extension), (path,), None)


def _common_prefix(path: Path) -> FileSet | None:
    """Find NAME_train and its kin where the user wrote NAME, or NAME with an extension."""
    stem, extension = _split_extension(path.name)
    if not stem:
        return None
    found = {}
    for candidate in (extension,) if extension else EXTENSIONS:
        members = _members(path.parent, stem, candidate)
        if members:
            found[candidate] = members
    if len(found) > 1:
        raise DataError(
            f"{str(path)!r} is found with several extensions ({listed(found)}); write the one that is meant."
        )
    for extension, members in found.items():
        return _as_set(stem, extension, members)
    return None


def _members(folder: Path, prefix: str, extension: str) -> list[tuple[int, Path]]:
    paths = [(part, folder / f"{prefix}{suffix}{extension}") for suffix, part in _SUFFIXES.items()]
    return [(part, path) for part, path in paths if path.is_file()]


def _as_set(name: str, extension: str, members: list[tuple[int, Path]]) -> FileSet:
    parts = tuple(part for part, _ in members)
    paths = tuple(path for _, path in members)
    names = listed(path.name for path in paths)
    if len(set(parts)) < len(parts):
        raise DataError(f"the set {name!r} has two validation files ({names}); keep one of them.")
    if TRAIN not in parts:
        raise DataError(f"the set {name!r} has no training part beside {names}; add {name}_train{extension}.")
    return FileSet(name, _format(extension), paths, parts if len(parts) > 1 else None)


def _folder(folder: Path) -> FileSet:
    """Find the idx files of a folder, or its images by class, perhaps in folders `train`, `valid` and `test`."""
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    if any(IDX_NAME.fullmatch(entry.name) for entry in entries):
        return _idx_folder(folder)
    folders = [entry for entry in entries if entry.is_dir()]
    split = bool(folders) and all(entry.name.lower() in PARTS for entry in folders)
    found = [
        (PARTS[entry.name.lower()] if split else TRAIN, picture)
        for entry in folders
        for of_class in (sorted(entry.iterdir()) if split else [entry])
        if of_class.is_dir()
        for picture in pictures_in(of_class)
    ]
    if not found:
        raise DataError(f"the folder {str(folder)!r} holds neither idx files nor folders of images; give {_READ}.")
    found.sort(key=lambda each: each[0])
    parts, paths = zip(*found, strict=True)
    if TRAIN not in parts:
        raise DataError(f"the folder {str(folder)!r} has no images in a folder 'train'; add it.")
    return FileSet(folder.resolve().name, "images", paths, parts if len(set(parts)) > 1 else None, folder)


def pictures_in(folder: Path) -> list[Path]:
    """The files of a folder that are images by their names."""
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in PICTURES and path.is_file()]


def _idx_folder(folder: Path) -> FileSet:
    """Find MNIST's four files, or the first two, with dashes or dots; plain ones go before .gz and .xz."""
    paths: list[Path] = []
    parts: list[int] = []
    for split, part in (("train", TRAIN), ("t10k", TEST)):
        found = [_idx_file(folder, split, what, rank) for what, rank in (("images", 3), ("labels", 1))]
        if found == [None, None] and part == TEST:
            continue
        for what, path in zip(("images-idx3", "labels-idx1"), found, strict=True):
            if path is None:
                raise DataError(
                    f"the folder {str(folder)!r} holds no file {split}-{what}-ubyte, plain or packed as .gz or .xz;"
                    " give a folder with images and labels of the same part."
                )
            paths.append(path)
            parts.append(part)
    return FileSet(folder.resolve().name, "idx", tuple(paths), tuple(parts) if TEST in parts else None)


def _idx_file(folder: Path, split: str, what: str, rank: int) -> Path | None:
    for packed, separator in product(("", ".gz", ".xz"), "-."):
        path = folder / f"{split}-{what}{separator}idx{rank}-ubyte{packed}"
        if path.is_file():
            return path
    return None


def _not_found(source: str, path: Path, bundled: tuple[str, ...]) -> DataError:
    if source and path.exists():
        return DataError(f"{source!r} is neither a regular file nor a folder; give {_READ}.")
    if not path.parent.is_dir():
        return DataError(f"there is no file {source!r}, for its folder {str(path.parent)!r} does not exist.")
    nearby = {_split_extension(entry.name)[0]: str(path.parent / entry.name) for entry in sorted(path.parent.iterdir())}
    nearby.update({name: name for name in bundled})
    ending = did_you_mean(_split_extension(path.name)[0], nearby)
    return DataError(f"there is no file {source!r}, nor a bundled data set of that name ({', '.join(bundled)}){ending}")


def _split_extension(name: str) -> tuple[str, str]:
    for extension in EXTENSIONS:
        if name.lower().endswith(extension):
            return name[: -len(extension)], name[-len(extension) :]
    return name, ""


def _format(extension: str) -> Literal["table", "npz"]:
    return "npz" if extension.lower() == ".npz" else "table"
