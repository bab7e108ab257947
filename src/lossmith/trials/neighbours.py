"""The modules beside a user's file that it imports, which belong to it as much as its own lines do."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import sys
from collections.abc import Iterator, Sequence
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
    folder, found, todo = file.parent, dict[Path, None](), [file]
    while todo:
        for name in _imported(todo.pop()):
            module, package = folder / f"{name}.py", folder / name
            members = sorted(package.rglob("*.py")) if (package / "__init__.py").is_file() else []
            for each in members or ([module] if module.is_file() else []):
                if each not in found and each != file:
                    found[each] = None
                    todo.append(each)
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


def _imported(file: Path) -> set[str]:
    """The first parts of the names of all modules that a file imports; none if it is not Python."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names - {"lossmith", *sys.stdlib_module_names}
