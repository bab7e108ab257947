"""Sentences for a Python program: options as arguments, and data in memory by what the program knows them as."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lossmith.data.in_memory import Stored

_FLAG: Final = re.compile(
    r"`[^`]*`"  # a command, which stays as it is
    r"|(?<![\w-])--(?P<name>[a-z]+(?:-[a-z]+)*)"
    r"(?: (?!(?:and|exclude|is|names|needs|or|out|sets|takes|too)\b|--|path/)"
    r"(?P<value>'[^']*'|\S+?)(?=[:;,.)]*(?:\s|$)))?"
)
_UNLABELLED: Final = re.compile(r"(the label column ('.*?') is .*; label every example or remove it)\.")
_FUNCTION: Final = "trainer"


def in_python(text: str, stored: Stored | None = None) -> str:
    """A sentence about the command line as one about the call in Python.

    Args:
        text: names options as ``--label species`` and data in memory by their file.
        stored: the data, if they were in memory.

    Returns:
        The sentence with ``label='species'``, and with what the user calls the data.
    """
    said = _FLAG.sub(_argument, text)
    if stored is None:
        return said
    stem, _, suffix = Path(stored.source).name.rpartition(".")
    file = rf"(?:the (?:data set|file) )?'(?:[^']*/)?{re.escape(stem)}(?:_(train|valid|test))?(?:\.{suffix})?'"
    said = re.sub(file, lambda found: (f"the {found[1]} part of " if found[1] else "") + stored.called, said)
    if suffix == "parquet":
        said = _UNLABELLED.sub(r"\1: frame.dropna(subset=[\2]).", said)
    return said


@contextlib.contextmanager
def worded(stored: Stored | None = None) -> Iterator[None]:
    """Put errors that say one sentence `in_python`; arguments as there."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if error.args == (str(error),):
            error.args = (in_python(str(error), stored),)
        raise


def _argument(found: re.Match[str]) -> str:
    """An option as an argument, with its value as Python writes it."""
    if found["name"] is None:
        return found[0]
    name, value = found["name"].replace("-", "_"), found["value"]
    if name == _FUNCTION and value is None:
        return "a training function"
    if value is None:
        return name if found.string[found.end() : found.end() + 1] == ":" else f"{name}="
    plain = value.startswith("'") or re.fullmatch(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?|\(.*|\[.*|True|False|nan|inf", value)
    return f"{name}={value if plain else repr(value)}"
