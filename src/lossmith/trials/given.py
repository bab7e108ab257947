"""What a Python program gives in place of texts: data in memory, functions and classes."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from lossmith.data.in_memory import Stored, is_in_memory, store
from lossmith.trials.by_value import code_text
from lossmith.trials.options import RequestError
from lossmith.trials.seeding import seeded
from lossmith.trials.wording import in_python, worded

IN_MEMORY: Final = "in_memory"
"""The folder, beside the run folders, of data and functions that a program held."""
_FUNCTIONS: Final = ("model", "metric", "trainer")


@dataclass(frozen=True)
class Given:
    """Options as texts.

    Args:
        options: by name, for a subclass of `Request`.
        stored: the data, if they were in memory.
    """

    options: dict[str, Any]
    stored: Stored | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how data in memory were read."""
        return () if self.stored is None else self.stored.notes

    def said(self, lines: Iterable[str]) -> tuple[str, ...]:
        """Lines as a Python program is told them."""
        return tuple(in_python(line, self.stored) for line in lines)

    def discard(self) -> None:
        """Remove the file of the data, because they cannot be used."""
        if self.stored is not None:
            self.stored.discard()


@worded()
def given(kind: type, data: object, options: Mapping[str, Any], runs: Path, name: str | None = None) -> Given:
    """Write what is in memory to files, and name it by them.

    Args:
        kind: the subclass of `Request` that the options are for.
        data: a name or path, data in memory, or a training function.
        options: the other options, by name; ``None`` leaves one out.
        runs: where run folders lie.
        name: what data in memory are called.

    Returns:
        The options.

    Raises:
        TypeError: if there is no such option.
        ValueError: if data or a function cannot be kept; one sentence.
    """
    known, folder = {field.name for field in fields(kind)}, runs / IN_MEMORY
    chosen: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    chosen = {key: value for key, value in chosen.items() if value is not None}
    for key in chosen:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise TypeError(f"there is no option {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    stored = None
    if isinstance(data, str | os.PathLike):
        chosen["data"] = os.fspath(data)
    elif is_in_memory(data):
        with seeded(0):  # a Dataset that draws random numbers draws the same ones in the next session
            stored = store(data, folder, label=chosen.get("label"), name=name)
        chosen |= {"data": stored.source, "label": stored.label}
        if stored.task is not None:
            chosen.setdefault("task", stored.task)
    elif "trainer" in known:
        chosen["trainer"] = data
    else:
        raise RequestError("data is a function: give a data set; `lossmith.compare` takes training functions")
    if name is not None and stored is None:
        raise RequestError(f"name {name!r} is for data in memory: leave it out")
    found = Given(chosen, stored)
    try:
        for key in _FUNCTIONS:
            if callable(chosen.get(key)) and key in known:
                chosen[key] = code_text(chosen[key], key, folder)
    except ValueError:
        found.discard()
        raise
    return found
