"""Functions of a user's own, named by their content.

One from a Python file is ``net.py:make#<hash of the file>``, one that was kept by value (see `by_value`)
``make#<hash>``.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
import os
import pickle
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from lossmith.trials.files import written_whole
from lossmith.trials.neighbours import importable, neighbours
from lossmith.trials.trial import Sources

_DIGITS: Final = 16  # hexadecimal digits of the file's SHA-256 in the text
_LONGEST: Final = 300  # characters of what is told of an error
_KEPT: Final = re.compile(r"(?P<name>\w+)-(?P<digest>[0-9a-f]{16})-(?P<content>[0-9a-f]{16})\.pkl")
"""The file of a function kept by value: its name, its hash, and the beginning of the SHA-256 of the file."""


class UserCodeError(ValueError):
    """A function that cannot be had; the message is one sentence that names it and the fix."""


def canonical_function(text: str, what: str, sources: Sources) -> str:
    """The text of a function that a trial carries.

    Args:
        text: ``path/to/file.py:function``, or what `by_value.code_text` returned.
        what: what the function is for, such as ``"model"``.
        sources: where the path behind the hash is noted.

    Returns:
        ``file.py:function#<hash of the file and of the modules beside it that it imports>``, or ``function#<hash>`` of
        one that was kept by value.

    Raises:
        UserCodeError: if there is no such file or function.
    """
    path, _, function = text.rpartition(":")
    if path.endswith(".pkl"):
        digest = _checked(Path(path))
        sources.code[digest] = str(Path(path).resolve())
        canonical = f"{function}#{digest}"
        load_function(canonical, what, sources)
        return canonical
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
    named, _, digest = text.rpartition("#")
    name, path = named.rpartition(":")[2], sources.code.get(digest)
    if path is None:
        raise UserCodeError(f"the file of {what} {named} is not known here: name it with --{what}")
    if path.endswith(".pkl"):
        _checked(Path(path))
        with guarded(f"loading the {what} {named} failed", path):
            return pickle.loads(Path(path).read_bytes())  # type: ignore[no-any-return]
    if file_digest(Path(path)) != digest:
        raise UserCodeError(f"{path} has changed since the run was planned: plan anew, or restore the file")
    _loaded[path] = neighbours(Path(path))
    spec = importlib.util.spec_from_file_location(f"lossmith_user_{digest}", path)
    if spec is None or spec.loader is None:
        raise UserCodeError(f"{path} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look a class's module up there
    try:
        with guarded(f"importing {path} failed", path):
            spec.loader.exec_module(module)
    except UserCodeError:
        del sys.modules[spec.name]
        raise
    function = getattr(module, name, None)
    if not callable(function):
        raise UserCodeError(f"{path} has no function {name!r}: write path/to/file.py:function")
    return function  # type: ignore[no-any-return]


def write_kept(name: str, digest: str, content: bytes, folder: Path) -> str:
    """Keep a function by value.

    Args:
        name: what it is called.
        digest: its hash.
        content: the function as a pickle.
        folder: where it is kept.

    Returns:
        What `canonical_function` takes.
    """
    file = folder / f"{name}-{digest[:_DIGITS]}-{hashlib.sha256(content).hexdigest()[:_DIGITS]}.pkl"
    with written_whole(file) as place:
        place.write_bytes(content)
    return f"{file}:{name}"


def _checked(file: Path) -> str:
    """The hash of a function kept by value, whose file is what its name says: nothing else is unpickled."""
    named = _KEPT.fullmatch(file.name)
    if named is None or not file.is_file():
        raise UserCodeError(f"there is no function kept by value in {str(file)!r}: write path/to/file.py:function")
    if file_digest(file) != named["content"]:
        raise UserCodeError(f"{file} has changed since it was written: call the function's Python anew")
    return named["digest"]


_depth = [0]
"""How many functions of the user's are under way in each other."""


def in_user_code() -> bool:
    """Whether a file or function of the user's is under way, as in a script that is imported for its model."""
    return _depth[0] > 0


@contextlib.contextmanager
def guarded(what: str, path: str, at: str = "", hint: str = "") -> Iterator[None]:
    """Run a user's code; the working directory stays.

    Args:
        what: how the sentence about a failure begins.
        path: the user's file.
        at: where the code stands, from `line_in`, for an error that is raised elsewhere.
        hint: how the sentence ends for a `RuntimeError`, which is what torch raises for shapes that do not fit.

    Raises:
        UserCodeError: whatever the code raises, exits included, and where it changes the working directory; the message
            is one sentence that names the line.
    """
    before = Path.cwd()
    _depth[0] += 1
    try:
        with _noting_chdir(path), _beside(path), _arguments_of(path):
            yield
    except UserCodeError:
        raise
    except (Exception, SystemExit) as error:
        said = next(iter(str(error).splitlines()), "")[:_LONGEST]
        fault = f"{type(error).__name__}: {said}" if said else type(error).__name__
        if isinstance(error, SystemExit):
            fault += "; leave out what ends the program"
        if isinstance(error, RuntimeError):
            fault += hint
        if isinstance(error, FileNotFoundError):
            fault += (
                "; a relative path begins where the command was started, or on a cluster where the worker was: give "
                "the whole path"
            )
        raise UserCodeError(f"{what}{_in_line(_line_of(error, path)) or at}: {fault}") from error
    else:
        if Path.cwd() != before:
            raise UserCodeError(
                f"{what}{_in_line(_chdir_lines.get(path)) or at}: it changes the working directory, leave that out"
            )
    finally:
        _depth[0] -= 1
        os.chdir(before)


@contextlib.contextmanager
def _arguments_of(path: str) -> Iterator[None]:
    """Have a script that parses its arguments find none, rather than those of this program."""
    before = sys.argv
    sys.argv = [path]
    try:
        yield
    finally:
        sys.argv = before


def _beside(path: str) -> contextlib.AbstractContextManager[None]:
    """Have a file import the modules beside it; code kept by value brings its own, and its file need not exist."""
    return importable(Path(path).parent, _loaded[path]) if path in _loaded else contextlib.nullcontext()


_loaded: Final[dict[str, tuple[Path, ...]]] = {}
"""The files that functions were loaded from, and their neighbours."""


def file_of(function: object, path: str) -> str:
    """The file that errors in a function name: the one it was loaded from, or where one kept by value was written."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    if not path.endswith(".pkl"):
        return path
    if code is None:
        code = next((of.__code__ for of in vars(function).values() if inspect.isfunction(of)), None)
    return path if code is None else code.co_filename


def line_in(path: str, *functions: object) -> str:
    """Where the first of some functions that stands in a file begins: ``", line 3"``; else nothing."""
    codes = [getattr(inspect.unwrap(each), "__code__", None) for each in functions if callable(each)]
    return _in_line(next((code.co_firstlineno for code in codes if code and code.co_filename == path), None))


def _in_line(number: int | None) -> str:
    return "" if number is None else f", line {number}"


def _line_of(error: BaseException, path: str) -> int | None:
    """The last line of a file on the way to an error."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == path), None)


_chdir_lines: Final[dict[str, int]] = {}
"""By file, the line that changed the working directory last."""


@contextlib.contextmanager
def _noting_chdir(file: str) -> Iterator[None]:
    """Note the line of a file that calls `os.chdir`, also where the file has imported the function by name."""
    chdir = os.chdir

    def noting(path: int | str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> None:
        for frame in traceback.extract_stack():
            if frame.filename == file and frame.lineno is not None:
                _chdir_lines[file] = frame.lineno
        chdir(path)

    os.chdir = noting
    try:
        yield
    finally:
        os.chdir = chdir


def file_digest(file: Path) -> str:
    """The beginning of the SHA-256 of a file and of the modules beside it that it imports, in hexadecimal."""
    found = hashlib.sha256(file.read_bytes())
    for module in neighbours(file) if file.suffix == ".py" else ():
        content = hashlib.sha256(module.read_bytes()).hexdigest()
        found.update(f"{module.relative_to(file.parent).as_posix()} {content}".encode())
    return found.hexdigest()[:_DIGITS]
