"""Data and code by content, for workers that do not share this machine's files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lossmith.data import BUNDLED
from lossmith.data.files import find_files
from lossmith.trials.trial import Sources, Trial

File = tuple[str, bytes]


@dataclass(frozen=True)
class Parcel:
    """The files behind what trials name by content.

    Args:
        data: the name and content of each file of a data set, by `DataSpec.source`; nothing for a bundled one.
        code: those of each Python file, by its hash.
    """

    data: dict[str, tuple[File, ...]]
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
            paths = [_write(folder / digest.replace(":", "-"), file) for file in files]
            sources.data[digest] = str(paths[0]) if paths else digest
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
        digest: () if source in BUNDLED else tuple(_read(path) for path in find_files(source).paths)
        for digest, source in sources.data.items()
    }
    return Parcel(data, {digest: _read(Path(path)) for digest, path in sources.code.items()})


def local_folder(trials: Sequence[Trial]) -> Path:
    """Where a worker keeps the files of some trials: one folder per kind of trainer, shared by its processes."""
    return Path(tempfile.gettempdir()) / f"lossmith-{trials[0].trainer.test_split[:16]}"


def _read(path: Path) -> File:
    return path.name, path.read_bytes()


def _write(folder: Path, file: File) -> Path:
    name, content = file
    path = folder / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as partial:
            partial.write(content)
        Path(partial.name).replace(path)  # whole or not at all, whoever else writes it
    return path
