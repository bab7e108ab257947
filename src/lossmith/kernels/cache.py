"""Keep a compiled library where only its user can write, and hand out nothing but what was kept. POSIX only."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_log = logging.getLogger("lossmith")


@contextmanager
def cached(key: str, make: Callable[[Path], None], seconds: float) -> Iterator[Path]:
    """Find a library in the cache, or make it and keep it; of several processes only one makes it.

    The file's name begins with ``key``, which says what the library depends on, and holds the SHA-256 of its content,
    so that a damaged file is noticed and made again. ``make`` writes the library to a path in a folder of its own,
    which a child process can have as its working directory. The path that is yielded is valid until the context ends.

    Raises:
        OSError: if there is no private folder, the library cannot be made, or another process does not finish making it
            within ``seconds``.
    """
    with ExitStack() as stack:
        folder = _first_private(stack)
        path = _kept(folder, key)
        if path is None:
            with _locked(folder, seconds):
                path = _kept(folder, key) or _made(folder, key, make)
        yield path


def _first_private(stack: ExitStack) -> Path:
    """The user's cache folder, or, with a warning, a temporary one that is found again until the system deletes it."""
    user = os.geteuid()
    try:
        return stack.enter_context(_private(_cache_folder() / f"kernels-{user}"))
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        instead = Path(tempfile.gettempdir()) / f"lossmith-{user}"
        folder = stack.enter_context(_private(instead))
        _log.warning("%s: compiled kernels are kept in %s instead", error, instead)
        return folder


def _cache_folder() -> Path:
    own = os.environ.get("LOSSMITH_CACHE")
    if own:
        return Path(own).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lossmith"


@contextmanager
def _private(path: Path) -> Iterator[Path]:
    """Open a folder that only this user can write; make it, and its missing parents, with mode 0700.

    On Linux the path that is yielded leads through the open folder itself, so that whoever can write to its parents
    cannot exchange it after the check.
    """
    for part in reversed((path, *path.parents)):
        if not part.exists():
            part.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        objection = _objection(os.fstat(descriptor))
        if objection:
            raise PermissionError(f"{path} {objection}")
        through = Path(f"/proc/self/fd/{descriptor}")
        yield through if through.exists() else path
    finally:
        os.close(descriptor)


def _objection(status: os.stat_result) -> str:
    """Why a file or folder is not private; empty if it is."""
    if status.st_uid != os.geteuid():
        return "belongs to another user"
    return "can be written by other users" if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) else ""


def _kept(folder: Path, key: str) -> Path | None:
    return next((path for path in folder.glob(f"{key}-*.so") if _is_intact(path)), None)


def _is_intact(path: Path) -> bool:
    """Whether a file is private and its content that of its name."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    with open(descriptor, "rb") as file:  # noqa: PTH123 (a descriptor, not a path)
        status = os.fstat(descriptor)
        return stat.S_ISREG(status.st_mode) and not _objection(status) and path.name.endswith(_ending(file.read()))


def _ending(content: bytes) -> str:
    return f"-{hashlib.sha256(content).hexdigest()}.so"


@contextmanager
def _locked(folder: Path, seconds: float) -> Iterator[None]:
    """Hold the folder's lock, which the system takes from a process that is killed."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        _wait_for(descriptor, seconds)
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough where a child was forked meanwhile
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process has been compiling for {seconds:.0f} s") from None
        time.sleep(0.05)


def _made(folder: Path, key: str, make: Callable[[Path], None]) -> Path:
    """Make a library while holding the lock; what a killed process or a damaged file left is removed first."""
    work = folder / "making"
    shutil.rmtree(work, ignore_errors=True)
    for damaged in folder.glob(f"{key}-*.so"):
        damaged.unlink()
    work.mkdir(mode=0o700)
    try:
        made = work / "library.so"
        make(made)
        made.chmod(0o600)
        return made.replace(folder / f"{key}{_ending(made.read_bytes())}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
