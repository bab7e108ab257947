"""The modules beside a user's file that it imports, which belong to it as much as its own lines do."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

_imported_as: Final[dict[str, str]] = {}
"""By name of a module, the content of the files that it was imported from."""


def neighbours(file: Path) -> tuple[Path, ...]:
    """The Python files beside a file that it imports, directly or through each other; of a package, all its files.

    Imports are read, not run, also those inside functions. What is computed, as by `importlib`, is not found.

    Args:
        file: a Python file.

    Returns:
        Their paths, in the order of their names.
    """
    return tuple(each for each in files_of(_imported(file, file.parent), file.parent) if each != file)


def files_of(modules: Iterable[str], folder: Path) -> tuple[Path, ...]:
    """The files of modules that lie in a folder, and of those that they import from there.

    Args:
        modules: their full names, such as ``"models.net"``; those that lie elsewhere are left out.
        folder: where imports are looked up.

    Returns:
        Their paths, in the order of their names.
    """
    found, todo = set[Path](), list(modules)
    while todo:
        new = set(_named(todo.pop(), folder)) - found
        found |= new
        todo += [name for file in new for name in _imported(file, folder)]
    return tuple(sorted(found))


@contextlib.contextmanager
def importable(folder: Path, files: Sequence[Path]) -> Iterator[None]:
    """Have modules of a folder found first, as Python does for a script.

    They are imported once in a process, and again when one of their files has changed. Modules of the same names from
    other folders are forgotten.

    Args:
        folder: where a user's file lies.
        files: the modules beside it that it imports.
    """
    for name in {file.relative_to(folder).parts[0].removesuffix(".py") for file in files}:
        content = hashlib.sha256(str(folder.resolve()).encode())
        for file in files:
            content.update(file.read_bytes())
        if _imported_as.get(name) != content.hexdigest():
            _forget(name)
            _imported_as[name] = content.hexdigest()
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))


def _forget(name: str) -> None:
    """Have a module, and those inside it, imported anew."""
    for each in [known for known in sys.modules if known == name or known.startswith(f"{name}.")]:
        del sys.modules[each]


def _named(module: str, folder: Path) -> list[Path]:
    """The files of a module by its full name; none if it does not lie in the folder, or is a folder of modules."""
    for part in module.split("."):
        if (folder / part / "__init__.py").is_file():
            return sorted((folder / part).rglob("*.py"))
        if (folder / f"{part}.py").is_file():
            return [folder / f"{part}.py"]
        folder /= part  # a package need not have an __init__.py
    return []


def _imported(file: Path, folder: Path) -> set[str]:
    """The full names of all that a file imports, modules or what they hold; none if it is not Python."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return set()
    package, names = file.relative_to(folder).parts[:-1], set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level <= len(package):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.partition(".")[0] not in {"lossmith", *sys.stdlib_module_names}}
