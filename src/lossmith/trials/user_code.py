"""Functions from a user's own Python file, named by file, function and content: ``net.py:make#<hash>``."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from lossmith.trials.trial import Sources

_DIGITS: Final = 16  # hexadecimal digits of the file's SHA-256 in the text


class UserCodeError(ValueError):
    """A function that cannot be had; the message is one sentence that names it and the fix."""


def canonical_function(text: str, what: str, sources: Sources) -> str:
    """The text of a function that a trial carries.

    Args:
        text: ``path/to/file.py:function``.
        what: what the function is for, such as ``"model"``.
        sources: where the path behind the hash is noted.

    Returns:
        ``file.py:function#<hash of the file>``.

    Raises:
        UserCodeError: if there is no such file or function.
    """
    path, _, function = text.rpartition(":")
    if not path.endswith(".py"):
        raise UserCodeError(f"a {what} from a file is written path/to/file.py:function, not {text!r}")
    file = Path(path)
    if not file.is_file():
        raise UserCodeError(f"there is no file {path!r} to take the {what} from")
    digest = file_digest(file)
    sources.code[digest] = str(file.resolve())
    canonical = f"{file.name}:{function}#{digest}"
    load_function(canonical, what, sources)
    return canonical


def load_function(text: str, what: str, sources: Sources) -> Callable[..., Any]:
    """Import the file, unless it has changed, and return the function.

    Args:
        text: what `canonical_function` returned.
        what: what the function is for.
        sources: where its file lies.

    Returns:
        The function.

    Raises:
        UserCodeError: if the file is gone or has changed, cannot be imported, or has no such function.
    """
    named, _, digest = text.partition("#")
    name, path = named.rpartition(":")[2], sources.code.get(digest)
    if path is None:
        raise UserCodeError(f"the file of {what} {named} is not known here: name it with --{what}")
    if file_digest(Path(path)) != digest:
        raise UserCodeError(f"{path} has changed since the run was planned: plan anew, or restore the file")
    spec = importlib.util.spec_from_file_location(f"lossmith_user_{digest}", path)
    if spec is None or spec.loader is None:
        raise UserCodeError(f"{path} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserCodeError(f"importing {path} failed: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UserCodeError(f"{path} has no function {name!r}: write path/to/file.py:function")
    return function  # type: ignore[no-any-return]


def file_digest(file: Path) -> str:
    """The beginning of the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:_DIGITS]
