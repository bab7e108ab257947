"""What all files of a run folder share: how they are written, and how numbers stand in them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lossmith.trials.files import written_whole

if TYPE_CHECKING:
    Number = float
else:

    class Number(float):
        """A number that is ``null`` in JSON, and NaN when read back, where it is not finite."""


def write_file(file: Path, text: str) -> None:
    """Write a file whole or not at all, its folder with it."""
    with written_whole(file) as place:
        place.write_text(text, encoding="utf-8", newline="")


def csv_text(rows: Sequence[dict[str, str]]) -> str:
    """Rows as CSV, with the keys of the first as the header."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
