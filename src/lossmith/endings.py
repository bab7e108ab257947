"""How a command ends: stopped by a signal, or with one sentence about what went wrong."""

from __future__ import annotations

import contextlib
import errno
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Final

INTERRUPTED: Final = 130
TERMINATED: Final = 143
"""Exit codes of a shell's convention, 128 plus the number of the signal."""
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN: Final = {errno.EACCES, errno.EPERM, errno.EROFS}


class Stopped(BaseException):
    """The process was asked to end (SIGTERM); no `Exception`, so that nobody's code takes it for a failure."""


class FolderError(ValueError):
    """A file or folder that cannot be written to; the message is one sentence."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Turn SIGTERM into `Stopped`, where this is the main thread; afterwards the handler is the caller's again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def saying(say: Callable[[str], None], kept: Callable[[], str]) -> Iterator[None]:
    """Where the work is stopped by Ctrl-C or SIGTERM, say what is kept.

    Args:
        say: prints a line.
        kept: what is kept, in a sentence or two.
    """
    try:
        yield
    except KeyboardInterrupt:
        say(f"\nStopped. {kept()}")
        raise SystemExit(INTERRUPTED) from None
    except Stopped:
        say(f"\nStopped by SIGTERM. {kept()}")
        raise SystemExit(TERMINATED) from None


def sentence_of(error: Exception) -> str:
    """What a user is told of an error."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    file = f" ({error.filename})" if error.filename else ""
    if error.errno in _FULL:
        return f"the disk is full{file}: free some space and run the same command again"
    if error.errno in _FORBIDDEN:
        return f"there is no permission{file}: choose another file or folder, or change what it allows"
    return f"{error.strerror}{file}"


def check_file(file: Path, option: str, *, force: bool) -> None:
    """Try whether a file can be written.

    Args:
        file: need not exist, nor its folder.
        option: what it was named by.
        force: whether a file that exists may be overwritten.

    Raises:
        FolderError: if it cannot, or may not.
    """
    if file.is_dir():
        raise FolderError(f"{file} is a folder: name a file by {option}")
    if not file.exists():
        check_folder(file.parent, option)
    elif not force:
        raise FolderError(f"{file} exists already: give --force to overwrite it, or another {option}")


def check_folder(folder: Path, option: str = "--out") -> None:
    """Try whether a folder can be written to, and leave nothing behind.

    Args:
        folder: need not exist.
        option: what it was named by.

    Raises:
        FolderError: if it cannot.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FolderError(f"{folder} cannot be written to ({error.strerror}): choose another {option}") from None
    finally:
        for each in missing:
            with contextlib.suppress(OSError):
                each.rmdir()
