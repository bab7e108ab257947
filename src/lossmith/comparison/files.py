"""What all files of a run folder share: how they are written, and how numbers stand in them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import tomli_w

from lossmith.trials.files import written_whole

RUNS: Final = Path("runs")
"""Where run folders lie, if the user names none."""

if TYPE_CHECKING:
    Number = float
else:

    class Number(float):
        """A number that is ``null`` in JSON, and NaN when read back, where it is not finite."""


def write_file(file: Path, text: str) -> None:
    """Write a file whole or not at all, its folder with it."""
    with written_whole(file) as place:
        place.write_text(text, encoding="utf-8", newline="")


def toml_text(values: dict[str, Any]) -> str:
    """Values as TOML; those that are ``None`` are left out."""
    return tomli_w.dumps(_without_none(values))


def csv_text(rows: Sequence[dict[str, str]]) -> str:
    """Rows as CSV, with the keys of the first as the header."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(item) for item in value]
    return value
