"""Data and code by content, for workers that do not share this machine's files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lossmith.data import BUNDLED
from lossmith.data.files import find_files
from lossmith.data.load import is_remote
from lossmith.trials.trial import Sources, Trial

File = tuple[str, bytes]


@dataclass(frozen=True)
class Parcel:
    """The files behind what trials name by content.

    Args:
        data: the name and content of each file of a data set, by `DataSpec.source`; of one that needs no file, what to
            give `load_dataset`.
        code: those of each Python file, by its hash.
    """

    data: dict[str, str | tuple[File, ...]]
    code: dict[str, File]

    def unpack(self, folder: Path) -> Sources:
        """Write the files that are not there yet, each set into a folder of its own.

        Args:
            folder: made if absent.

        Returns:
            Where they lie. `load_dataset` and `load_function` notice files that are not what their hash says.
        """
        sources = Sources()
        for digest, files in self.data.items():
            if isinstance(files, str):
                sources.data[digest] = files
                continue
            own = folder / digest.replace(":", "-")
            paths = [_write(own, file) for file in files]
            sources.data[digest] = str(paths[0] if paths[0].parent == own else own)
        for digest, file in self.code.items():
            sources.code[digest] = str(_write(folder / digest, file))
        return sources


def pack(sources: Sources) -> Parcel:
    """Read all files behind `sources`.

    Args:
        sources: where they lie here.

    Returns:
        The parcel, which can be pickled.

    Raises:
        DataError: if a data set is gone.
    """
    data = {
        digest: source if source in BUNDLED or is_remote(source) else _files(source)
        for digest, source in sources.data.items()
    }
    code = {digest: (Path(path).name, Path(path).read_bytes()) for digest, path in sources.code.items()}
    return Parcel(data, code)


def local_folder(trials: Sequence[Trial]) -> Path:
    """Where a worker keeps the files of some trials: one folder per kind of trainer, shared by its processes."""
    return Path(tempfile.gettempdir()) / f"lossmith-{trials[0].trainer.test_split[:16]}"


def _files(source: str) -> tuple[File, ...]:
    found = find_files(source)
    names = [path.relative_to(found.folder or path.parent).as_posix() for path in found.paths]
    return tuple((name, path.read_bytes()) for name, path in zip(names, found.paths, strict=True))


def _write(folder: Path, file: File) -> Path:
    name, content = file
    path = folder / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as partial:
            partial.write(content)
        Path(partial.name).replace(path)  # whole or not at all, whoever else writes it
    return path
