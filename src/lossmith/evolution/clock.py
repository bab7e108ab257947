"""How long a search has taken, kept in a file so that a search that is resumed ends where it would have."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from lossmith.comparison.files import write_file


class ClockError(ValueError):
    """A file of a clock that cannot be read; the message is one sentence."""


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    """What the file holds."""

    seconds: list[float] = []
    ends: dict[str, int] = {}


class Clock:
    """The seconds at which generations ended.

    Generations that ended before an interruption keep their seconds when they are gone through again, and once the time
    of a phase was up after some generation it is up after that generation for ever.

    Args:
        file: where the seconds are kept.
        limits: seconds after which a phase begins no generation, by its name; ``None`` for no limit.

    Raises:
        ClockError: if the file is damaged.
    """

    def __init__(self, file: Path, limits: Mapping[str, float | None]) -> None:
        self.file, self.limits = file, limits
        kept = _read(file) if file.is_file() else _Kept()
        self.marks, self.ends = kept.seconds, kept.ends
        self.seconds = 0.0
        self._begun = time.monotonic()

    @property
    def now(self) -> float:
        """Seconds of search so far."""
        return self.seconds + time.monotonic() - self._begun

    def is_over(self, phase: str, generation: int) -> bool:
        """Whether the time of a phase is up before a generation begins; there is always a first one."""
        if phase in self.ends:
            return generation >= self.ends[phase]
        limit = self.limits[phase]
        if generation < max(1, len(self.marks)) or limit is None or self.now < limit:
            return False
        self.ends[phase] = generation
        self._write()
        return True

    def mark(self, generation: int) -> None:
        """Note that a generation has ended."""
        if generation < len(self.marks):
            self.seconds = self.marks[generation]
        else:
            self.seconds = self.now
            self.marks.append(self.seconds)
            self._write()
        self._begun = time.monotonic()

    def _write(self) -> None:
        write_file(self.file, msgspec.json.encode(_Kept(self.marks, self.ends)).decode())


def _read(file: Path) -> _Kept:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Kept)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ClockError(
            f"{file} is damaged ({error}): delete it and run the same command again; the search has its whole time "
            "again, and no training is lost"
        ) from None
