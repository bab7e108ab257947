"""Searches that take a second, for tests: a linear model on iris."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lossmith.evolution import session
from lossmith.evolution.findings import Found, SearchFindings
from lossmith.evolution.options import SearchOptions
from lossmith.evolution.plan import SearchPlan, make_search_plan
from lossmith.trials.trial import Sources

TINY = {"data": "iris", "model": "linear", "steps": 20, "evaluations": 30, "population": 20}


def planned(**options: Any) -> tuple[SearchPlan, Sources]:
    """The plan of a tiny search."""
    sources = Sources()
    return make_search_plan(SearchOptions(**TINY | options), sources), sources


def searched(folder: Path, workers: int = 0, watcher: Any = None, **options: Any) -> Found:
    """What a tiny search finds."""
    plan, sources = planned(**options)
    return session.carry_out_search(plan, sources, folder, workers=workers, watcher=watcher)


def without_seconds(text: str) -> dict[str, Any]:
    """``evolution.json`` but for how long it took."""
    found: dict[str, Any] = json.loads(text)
    for search in found["searches"]:
        for point in search["course"]:
            del point["seconds"]
    return found


class Quiet:
    """A watcher that does nothing."""

    def begin(self, seconds: float | None, evaluations: int | None) -> None:
        """See `Watcher`."""

    def generation(self, searches: tuple[SearchFindings, ...], seconds: float) -> None:
        """See `Watcher`."""

    def start(self, label: str, total: int, done: int) -> None:
        """See `Watcher`."""

    def advance(self, trainings: int) -> None:
        """See `Watcher`."""
