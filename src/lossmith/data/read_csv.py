"""Tables from `.csv`, plain or packed."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lossmith.data.cells import Table
from lossmith.data.errors import DataError, listed
from lossmith.data.files import read_bytes

DELIMITERS = (",", ";", "\t")


def read_csv(path: Path) -> Table:
    """Read one file in UTF-8 with a header row, its cells separated by commas, semicolons or tabs, as texts."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"the file {str(path)!r} is not UTF-8 text (byte {error.start:,}); save it as CSV in UTF-8."
        ) from error
    rows: list[list[str]] = []
    with _cells_up_to(len(text)):
        delimiter = _delimiter(text)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
        try:
            for row in reader:
                if not row:
                    continue
                if rows and len(row) != len(rows[0]):
                    raise DataError(
                        f"line {reader.line_num} of {str(path)!r} has {len(row)} cells where the header has"
                        f" {len(rows[0])}; correct that line, or quote cells that hold the separator."
                    )
                rows.append(row)
        except csv.Error as error:
            raise DataError(
                f"line {reader.line_num} of {str(path)!r} is not valid CSV ({error}); correct its quotes."
            ) from error
    if len(rows) < 2:
        raise DataError(f"the file {str(path)!r} holds no examples; it needs a header row and data rows.")
    header = tuple(name.strip() for name in rows.pop(0))
    _check_header(header, path)
    return Table(dict(zip(header, zip(*rows, strict=True), strict=True)), (path.name,), (len(rows),))


def is_number(text: str) -> bool:
    """Whether Python reads a text as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def no_header(name: str) -> DataError:
    """The error for a file whose first row holds data."""
    return DataError(f"the first row of {name!r} holds data and not the columns' names; add a header row.")


@contextmanager
def _cells_up_to(size: int) -> Iterator[None]:
    """Allow cells of so many characters, where Python's csv module stops at 131,072; afterwards its limit is back."""
    before = csv.field_size_limit()
    csv.field_size_limit(min(max(before, size), 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _delimiter(text: str) -> str:
    first_line = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    return max(DELIMITERS, key=lambda each: len(next(csv.reader([first_line], delimiter=each), [])))


def _check_header(header: Sequence[str], path: Path) -> None:
    if "" in header:
        raise DataError(
            f"column {header.index('') + 1} of {str(path)!r} has no name; name it,"
            " or remove it if it merely numbers the rows."
        )
    if (
        len(header) > 1
        and all(map(is_number, header))
        and list(header) not in (_counted(header, 0), _counted(header, 1))
    ):
        raise no_header(str(path))
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise DataError(f"the file {str(path)!r} has several columns named {listed(repeated)}; rename all but one.")


def _counted(header: Sequence[str], start: int) -> list[str]:
    return [str(number) for number in range(start, start + len(header))]
