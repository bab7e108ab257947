"""What a search shows in a terminal, while it runs and at its end."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType
from search_example import make_search

from lossmith.evolution.watching import Watcher
from lossmith.report.evolution.live import SearchDisplay
from lossmith.report.evolution.terminal import SearchEnd
from made_search import FILTERS, FORMULAS, WINNER, control, found, stopped, strategy

SEARCHES = (strategy(), control())


def printed(what: RenderableType, width: int = 80, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    Console(file=file, width=width, legacy_windows=False).print(what)
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_end_fits_and_says_everything(tmp_path: Path, width: int, encoding: str) -> None:
    text = printed(SearchEnd(make_search(tmp_path)), width, encoding)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert text.startswith("On digits the evolved loss is better")
    flat = " ".join(text.split())
    if width >= 80:
        for row in ("the winner 98.62 +0.62 [+0.22, +1.02] +0.12", "random search's winner 98.11 +0.11 [-0.29, +0.51]"):
            assert row in flat
        for member in strategy().hall_of_fame[:5]:
            assert f"{member.scores[0]:.4f} {member.error:.4f} {member.complexity} {member.formula}" in flat
    assert f"Winner: {WINNER}" in flat
    assert all(f"{name} {count:,}" in flat for name, count in FILTERS.items())
    assert "4,200, 610, 74" in flat


def test_a_stopped_search_says_so(tmp_path: Path) -> None:
    text = printed(SearchEnd(make_search(tmp_path, stopped())))
    assert "Run the same command again to resume" in text
    assert "Winner" not in text
    assert FORMULAS[0] in text


def test_the_display_shows_time_speed_hall_of_fame_and_filters_at_80_columns() -> None:
    display = SearchDisplay(Console(file=io.StringIO(), width=80))
    watcher: Watcher = display
    watcher.begin(3600.0, None)
    watcher.generation(SEARCHES, 120.0)
    watcher.start("rung 1", 96, 20)
    watcher.advance(4)
    text = printed(display)
    assert max(map(cell_len, text.splitlines())) <= 80
    assert "19,600 candidates, 8,302 trained, 9,800 a minute, about 58 min of search left" in text
    assert "rung 1: 24 of 96 trainings" in text
    for member in strategy().hall_of_fame[:5]:
        assert member.formula in text
    assert "duplicate 4,211" in text
    assert "duplicate 2,105" in text


def test_a_long_formula_takes_one_line_while_the_search_runs() -> None:
    long = replace(strategy(), hall_of_fame=(replace(strategy().hall_of_fame[0], formula="-y*log(p)" * 30),))
    display = SearchDisplay(Console(file=io.StringIO(), width=80))
    display.generation((long,), 60.0)
    lines = printed(display).splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert sum("log(p)" in line for line in lines) == 1


def test_time_left_follows_from_evaluations_too() -> None:
    display = SearchDisplay(Console(file=io.StringIO(), width=80))
    display.begin(None, 2 * SEARCHES[0].course[-1].trained)
    display.generation(SEARCHES, 600.0)
    assert "about 10 min of search left" in display.headline


def test_a_pipe_gets_few_lines_and_a_terminal_is_left_clean() -> None:
    pipe = io.StringIO()
    with SearchDisplay(Console(file=pipe, width=80)) as display:
        for _ in range(50):
            display.generation(SEARCHES, 60.0)
            display.advance(1)
    assert len(pipe.getvalue().splitlines()) == 1
    assert f"best 0.0871: {FORMULAS[0]}" in pipe.getvalue()
    terminal = io.StringIO()
    with SearchDisplay(Console(file=terminal, width=80, force_terminal=True)) as display:
        display.generation(SEARCHES, 60.0)
    assert FORMULAS[0] in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")  # the last line it stood on is erased


def test_words_that_look_like_markup_are_printed_as_they_are() -> None:
    display = SearchDisplay(Console(file=io.StringIO(), width=80))
    display.generation((strategy(),), 60.0)
    display.start("[red]rung[/red]", 3, 0)
    assert "[red]rung[/red]: 0 of 3" in printed(display)


def test_found_is_what_the_tables_say() -> None:
    assert found().searches == SEARCHES


def test_a_long_stage_says_what_is_left_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in ten trainings took 30 seconds, so the other nine tenths take 270."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    display = SearchDisplay(Console(file=io.StringIO(), width=80))
    display.start("tuning", 110, 10)
    assert display.stage == "tuning: 10 of 110 trainings"
    now[0] += 30
    display.advance(10)
    assert display.stage == "tuning: 20 of 110 trainings, about 4.5 min left"
