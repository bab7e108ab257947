"""Run folders of searches, made up for the tests of what is shown of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from report_example import CONTROLS, row, summary, write_run

from lossmith.comparison.rows import Summary
from lossmith.evolution.findings import Found
from lossmith.report.evolution.search_run import SearchRun, load_search
from made_search import CONTROL_WINNER, WINNER, found, write_found

SCORES = {WINNER: 0.9862, CONTROL_WINNER: 0.9811, "ngl": 0.9777, "focal:gamma=2": 0.9796}


def final(winners: tuple[str, str] = (WINNER, CONTROL_WINNER)) -> Summary:
    """The comparison of two winners with the controls and two named losses."""
    names = [*CONTROLS, "ngl", "focal:gamma=2", *winners]
    scores = [0.98, 0.979, 0.978, 0.985, 0.9777, 0.9796, 0.9862, 0.9811]
    return summary([row(name, score) for name, score in zip(names, scores, strict=True)], recommended=winners[0])


def write_search(folder: Path, of: Found | None = None) -> Path:
    """The run folder of a search with its comparisons."""
    of = found() if of is None else of
    write_found(folder, of)
    for name in of.comparisons:
        write_run(folder / name, final((of.winner, of.control_winner or "mae")))
    return folder


def make_search(folder: Path, of: Found | None = None) -> SearchRun:
    return load_search(write_search(folder, of))


def renamed(of: Found, text: str) -> Found:
    """A search whose every word is a given one."""
    return replace(of, name=text, problems=(text,), verdict=text)
