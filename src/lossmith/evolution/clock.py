"""How long a search has taken, kept in a file so that a search that is resumed ends where it would have."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lossmith.comparison.files import write_file


class Clock:
    """The seconds at which generations ended.

    Generations that ended before an interruption keep their seconds when they are gone through again, and once the time
    of a phase was up after some generation it is up after that generation for ever.

    Args:
        file: where the seconds are kept.
        limits: seconds after which a phase begins no generation, by its name; ``None`` for no limit.
    """

    def __init__(self, file: Path, limits: Mapping[str, float | None]) -> None:
        self.file, self.limits = file, limits
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        self.marks: list[float] = kept.get("seconds", [])
        self.ends: dict[str, int] = kept.get("ends", {})
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
        write_file(self.file, json.dumps({"seconds": self.marks, "ends": self.ends}))
