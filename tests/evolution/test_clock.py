"""A search that is resumed ends after the same generation."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossmith.evolution import clock as module
from lossmith.evolution.clock import Clock, ClockError

LIMITS = {"search": 10.0, "polish": 13.5}
EACH = 1.5  # seconds of a generation


class KilledError(Exception):
    """The process dies."""


class Time:
    """A clock on the wall that tests turn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds, self.left = 1000.0, 10**9
        monkeypatch.setattr(module.time, "monotonic", lambda: self.seconds)

    def pass_by(self, seconds: float) -> None:
        self.left -= 1
        if self.left < 0:
            raise KilledError
        self.seconds += seconds


def sitting(file: Path, time: Time, trained: set[int]) -> tuple[int, int]:
    """Search and polish; generations already trained take no time. Returns where the search and the polishing ended."""
    clock = Clock(file, LIMITS)
    generation = 0
    ends = []
    for phase in ("search", "polish"):
        while not clock.is_over(phase, generation):
            time.pass_by(0.01 if generation in trained else EACH)
            trained.add(generation)
            clock.mark(generation)
            generation += 1
        ends.append(generation)
    return ends[0], ends[1]


def test_a_phase_ends_when_its_time_is_up(tmp_path, monkeypatch):
    ends = sitting(tmp_path / "clock.json", Time(monkeypatch), set())
    assert ends == (7, 9)  # after 10.5 and exactly 13.5 seconds


@pytest.mark.parametrize("wait", [0.0, 1e6])
def test_resumed_anywhere_it_ends_where_it_ended(tmp_path, monkeypatch, wait):
    whole = sitting(tmp_path / "whole.json", Time(monkeypatch), set())
    for first in range(12):
        for second in range(6):
            file, trained, time = tmp_path / f"{first}-{second}.json", set(), Time(monkeypatch)
            for left in (first, second):
                time.left = left
                try:
                    sitting(file, time, trained)
                except KilledError:
                    time.seconds += wait
            time.left = 10**9
            found = sitting(file, time, trained)
            assert found == sitting(file, time, trained)  # for ever
            assert found == whole


def test_the_end_of_a_phase_is_kept_whatever_a_slower_machine_says(tmp_path, monkeypatch):
    file, time, trained = tmp_path / "clock.json", Time(monkeypatch), set()
    ends = sitting(file, time, trained)
    monkeypatch.setattr("test_clock.EACH", 100.0)
    assert sitting(file, time, set()) == ends


def test_there_is_always_a_first_generation(tmp_path, monkeypatch):
    time = Time(monkeypatch)
    clock = Clock(tmp_path / "clock.json", {"search": 0.0})
    time.seconds += 5
    assert not clock.is_over("search", 0)
    clock.mark(0)
    assert clock.is_over("search", 1)


def test_without_a_limit_it_never_ends(tmp_path, monkeypatch):
    clock = Clock(tmp_path / "clock.json", {"search": None})
    Time(monkeypatch).seconds += 1e9
    assert not clock.is_over("search", 10**6)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"second": [1]}', '{"seconds": "1"}', '{"seconds": [1], "ends": {"a": 1.5}}', "é"]
)
def test_a_damaged_file_gives_one_sentence(tmp_path, text):
    file = tmp_path / "clock.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ClockError, match="delete it and run the same command again") as caught:
        Clock(file, LIMITS)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)  # what `main` prints
