"""The run folder of a search for losses, read back and checked."""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import msgspec

from lossmith.comparison.rows import Summary
from lossmith.evolution.findings import Candidate, Found, SearchFindings
from lossmith.report.folder import SEARCH, find_run, refusing
from lossmith.report.reading import ReadError, clean_lines, read
from lossmith.report.run import Run, load_run

WINNER: Final = "the winner"
CONTROL_WINNER: Final = "random search's winner"
_COMPARISON: Final = re.compile(r"comparisons/[^/\\]+")


@dataclass(frozen=True)
class Asked:
    """What a report says of the options of a search; see `evolution.options.SearchOptions`."""

    population: int = 0
    fitness: str = "nll_scaled"
    time: bool = False
    label_noise: float = 0.0
    imbalance: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class SearchDesign:
    """The part of a plan that a report talks about; see `evolution.plan.SearchPlan`."""

    options: Asked = Asked()
    seeds: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchRun:
    """A search: folder, text of ``plan.toml``, its design, what was found, and the final comparisons.

    In the comparisons the losses that were found are called `WINNER` and `CONTROL_WINNER`.
    """

    folder: Path
    plan: str
    design: SearchDesign
    found: Found
    comparisons: tuple[Run, ...]

    @property
    def report(self) -> Path:
        """Where the HTML page lies."""
        return self.folder / "report.html"

    @cached_property
    def top(self) -> int:
        """The highest rung that any candidate reached, from 0."""
        reached = [member.rung for search in self.found.searches for member in search.hall_of_fame]
        return max(reached, default=0)

    @cached_property
    def names(self) -> dict[str, str]:
        """The losses that the search began with, by formula; of two with one formula, the first."""
        return {formula: name for name, formula in reversed(self.design.seeds.items())}

    @property
    def reference(self) -> float:
        """Cross-entropy's score on that rung."""
        return self.found.reference_score[self.top] if self.found.reference_score else math.nan


def load_search(folder: Path) -> SearchRun:
    """Read the run folder of a search; nothing in it is executed, and whatever is wrong with it is a `RunError`."""
    plan, results = find_run(folder, SEARCH)
    with refusing(plan):
        text = plan.read_text(encoding="utf-8")
        design = read(SearchDesign, tomllib.loads(text))
    with refusing(results):
        found = read(Found, msgspec.json.decode(results.read_bytes()))
        _check(found)
    comparisons = tuple(_named(load_run(folder / each), found) for each in found.comparisons)
    return SearchRun(folder, clean_lines(text), design, found, comparisons)


def score_of(candidate: Candidate) -> float:
    """Nats per validation example on the first problem."""
    return candidate.scores[0] if candidate.scores else math.nan


def judged(search: SearchFindings) -> int:
    """How many distinct candidates a filter rejected or training scored."""
    return search.course[-1].judged if search.course else 0


def trained(search: SearchFindings) -> int:
    """How many of them were trained."""
    return search.course[-1].trained if search.course else 0


def _check(found: Found) -> None:
    """Refuse what is well typed but does not fit together."""
    if not found.searches:
        raise ReadError("it holds no search")
    if len(found.reference_score) not in (0, len(found.rungs)):
        raise ReadError("reference_score and rungs differ in length")
    for search in found.searches:
        places = [each.rung for each in (*search.hall_of_fame, *search.lineage)]
        places += [point.rung for point in search.course]
        if not all(-1 <= rung < max(1, len(found.rungs)) for rung in places):
            raise ReadError(f"a rung of the {search.strategy} search does not exist")
    for name in found.comparisons:
        if not _COMPARISON.fullmatch(name) or name.endswith(("/.", "/..")):
            raise ReadError(f"{name} is no folder under comparisons/")
    for text in (found.winner, found.control_winner or ""):
        if "@" in text:  # what a file from elsewhere says must not make us read another
            raise ReadError("a winner is named by a file")


def _named(run: Run, found: Found) -> Run:
    """A comparison in which the losses that were found have short names."""
    found_names = {found.control_winner: CONTROL_WINNER, found.winner: WINNER}
    results: Summary = run.results
    losses = [row for row in results.rows if row.role == "candidate" and row.loss in found_names]
    names = {row.name: found_names[row.loss] for row in losses}
    rows = tuple(replace(row, name=names.get(row.name, row.name)) for row in results.rows)
    recommended, headline = names.get(results.recommended, results.recommended), results.headline
    for name in sorted(names, key=len, reverse=True):  # one formula may stand in another
        headline = headline.replace(name, names[name])
    return replace(run, results=replace(results, rows=rows, recommended=recommended, headline=headline))
