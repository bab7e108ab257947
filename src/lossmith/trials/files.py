"""How files are written: whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(file: Path) -> Iterator[Path]:
    """A place to write to, which becomes the file where all goes well.

    A device such as ``/dev/null`` is written to as it is.

    Args:
        file: its folder is made if absent.

    Raises:
        OSError: if it cannot be written; it names the file.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    as_it_is = file.exists() and not file.is_file()
    partial = file if as_it_is else file.with_name(f"{file.name}.{os.getpid()}.part")  # two processes may write it
    try:
        yield partial
        if not as_it_is:
            partial.replace(file)
    except OSError as error:
        error.filename, error.filename2 = str(file), None
        raise
    finally:
        if not as_it_is:
            partial.unlink(missing_ok=True)
