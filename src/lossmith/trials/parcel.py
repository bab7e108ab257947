"""Data and code by content, for workers that do not share this machine's files."""

from __future__ import annotations

import getpass
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from lossmith.data import BUNDLED
from lossmith.data.files import find_files
from lossmith.data.load import is_remote
from lossmith.trials.neighbours import neighbours
from lossmith.trials.trial import Sources

_PRIVATE: Final = 0o700


class Packed(Protocol):
    """Files on their way, or what stands for them."""

    def unpack(self, folder: Path) -> Sources:
        """Write the files that are not there yet, and return where they lie."""


@dataclass(frozen=True)
class Names:
    """The names of files that belong together, in a folder named by their content.

    Args:
        folder: SHA-256 of names and contents, in hexadecimal.
        files: relative paths.
    """

    folder: str
    files: tuple[str, ...]

    def path(self, folder: Path) -> Path:
        """Where they lie: a file, or the folder of files that lie in folders of their own."""
        first = folder / self.folder / self.files[0]
        return first if len(Path(self.files[0]).parts) == 1 else folder / self.folder


@dataclass(frozen=True)
class Manifest:
    """What is in a parcel.

    Args:
        data: the files of each data set, by `DataSpec.source`; of one that needs no file, what to give `load_dataset`.
        code: the Python file behind each hash.
    """

    data: dict[str, str | Names]
    code: dict[str, Names]

    @property
    def bundles(self) -> list[Names]:
        """All files."""
        return [*(names for names in self.data.values() if isinstance(names, Names)), *self.code.values()]

    def sources(self, folder: Path) -> Sources:
        """Where everything lies, once it is unpacked in a folder."""
        data = {
            digest: names if isinstance(names, str) else str(names.path(folder)) for digest, names in self.data.items()
        }
        return Sources(data, {digest: str(names.path(folder)) for digest, names in self.code.items()})

    def is_in(self, folder: Path) -> bool:
        """Whether all files are there."""
        return all((folder / names.folder / file).is_file() for names in self.bundles for file in names.files)


@dataclass(frozen=True)
class Parcel:
    """The files behind what trials name by content.

    Args:
        manifest: what is in it.
        contents: of the files of each folder, in order.
    """

    manifest: Manifest
    contents: dict[str, tuple[bytes, ...]]

    def unpack(self, folder: Path) -> Sources:
        """Write the files that are not there yet.

        Args:
            folder: made if absent.

        Returns:
            Where they lie. `load_dataset` and `load_function` notice files that are not what their hash says.
        """
        for names in self.manifest.bundles:
            for file, content in zip(names.files, self.contents[names.folder], strict=True):
                _write(folder / names.folder / file, content)
        return self.manifest.sources(folder)


def pack(sources: Sources, before: Parcel | None = None) -> Parcel:
    """Read all files behind `sources`.

    Args:
        sources: where they lie here.
        before: a parcel from which to take what it holds already.

    Returns:
        The parcel, which can be pickled; `before` itself if there is nothing new.

    Raises:
        DataError: if a data set is gone.
    """
    known = Manifest({}, {}) if before is None else before.manifest
    if before is not None and known.data.keys() >= sources.data.keys() and known.code.keys() >= sources.code.keys():
        return before
    contents = {} if before is None else dict(before.contents)
    data, code = dict(known.data), dict(known.code)
    for digest, source in sources.data.items():
        if digest in data:
            continue
        if source in BUNDLED or is_remote(source):
            data[digest] = source
            continue
        found = find_files(source)
        names = [path.relative_to(found.folder or path.parent).as_posix() for path in found.paths]
        data[digest] = _bundle(names, found.paths, contents)
    for digest, source in sources.code.items():
        if digest not in code:
            code[digest] = _code(Path(source), contents)
    return Parcel(Manifest(data, code), contents)


def node_folder() -> Path:
    """Where a node keeps the files of parcels: a folder of the user alone, shared by all worker processes.

    Raises:
        PermissionError: if the folder is somebody else's.
    """
    folder = Path(tempfile.gettempdir()) / f"lossmith-{getpass.getuser()}"
    folder.mkdir(_PRIVATE, exist_ok=True)
    if hasattr(os, "getuid") and folder.lstat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user: set TMPDIR to a folder of your own on this node")
    return folder


def _code(file: Path, contents: dict[str, tuple[bytes, ...]]) -> Names:
    """A file of code, and what it imports from files beside it."""
    beside = neighbours(file) if file.suffix == ".py" else ()
    names = [path.relative_to(file.parent).as_posix() for path in beside]
    return _bundle([file.name, *names], (file, *beside), contents)


def _bundle(names: list[str], paths: tuple[Path, ...], contents: dict[str, tuple[bytes, ...]]) -> Names:
    """Read files, and note their contents."""
    read = tuple(path.read_bytes() for path in paths)
    content = hashlib.sha256()
    for name, part in zip(names, read, strict=True):
        content.update(f"{name}\0{len(part)}\0".encode())
        content.update(part)
    folder = content.hexdigest()
    contents[folder] = read
    return Names(folder, tuple(names))


def _write(path: Path, content: bytes) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as partial:
            partial.write(content)
        Path(partial.name).replace(path)  # whole or not at all, whoever else writes it
