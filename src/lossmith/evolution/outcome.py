"""From searches to findings: the hall of fame, the lineage, how the rungs agreed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from lossmith.evolution.archive import Entry
from lossmith.evolution.choice import Finalist
from lossmith.evolution.filters import FILTERS
from lossmith.evolution.findings import Candidate, Choice, RungFindings, SearchFindings
from lossmith.evolution.plan import SearchPlan
from lossmith.evolution.problem import LADDER
from lossmith.evolution.search import Search
from lossmith.trials.tables import gradient_error

SHOWN: Final = 10
_MOST_ON_FRONT: Final = 20


def search_findings(search: Search, problems: int, winner: Entry | None = None) -> SearchFindings:
    """What a search has found by now.

    Args:
        search: the search.
        problems: how many each candidate is trained on.
        winner: what was chosen; its lineage is told. ``None``: that of the first of the hall of fame.
    """
    archive, screen = search.archive, search.screen
    front = archive.front()
    fitness = [archive.fitness(rung) for rung in range(len(LADDER))]
    on_front = {entry.number for entry in front}

    def candidate(entry: Entry) -> Candidate:
        mark = entry.marks[entry.rung] if entry.marks else None
        return Candidate(
            number=entry.number,
            formula=str(entry.formula),
            complexity=entry.complexity,
            operator=entry.operator,
            parents=entry.parents,
            rung=entry.rung if mark else -1,
            fitness=fitness[entry.rung][entry.number] if mark else np.inf,
            scores=mark.scores if mark else (),
            error=mark.spreads[0] if mark else np.inf,
            lr_factor=mark.factors[0] if mark else np.nan,
            on_front=entry.number in on_front,
        )

    best = archive.best(SHOWN)
    origin = winner or (best[0] if best else None)
    shown = front[-_MOST_ON_FRONT:]
    hall = best + [entry for entry in archive.ordered() if entry in shown and entry not in best]
    return SearchFindings(
        strategy=search.name,
        filters={name: screen.counts[name] for name in FILTERS},
        rescued=screen.counts["rescued"],
        trained=tuple(len(archive.on(rung)) for rung in range(len(LADDER))),
        trainings=problems
        * sum(len(archive.on(k)) * max(1, len(rung.factors)) * rung.seeds for k, rung in enumerate(LADDER)),
        failed=sum(not np.isfinite(value) for value in fitness[0].values()),
        course=tuple(search.course),
        hall_of_fame=tuple(map(candidate, hall)),
        lineage=tuple(map(candidate, archive.lineage(origin))) if origin else (),
    )


def rung_findings(plan: SearchPlan, search: Search, audited: Mapping[int, tuple[int, int]]) -> tuple[RungFindings, ...]:
    """How many candidates of a search went through each rung, and how the rungs agreed."""
    archive, problem = search.archive, plan.problems[0]
    return tuple(
        RungFindings(
            steps=problem.steps(rung),
            seeds=rung.seeds,
            exact=rung.exact,
            trained=len(archive.on(k)),
            promoted=sum(k + 1 in entry.marks for entry in archive.on(k)),
            correlation=archive.correlation(k),
            audited=audited.get(k, (0, 0))[0],
            would_have_passed=audited.get(k, (0, 0))[1],
        )
        for k, rung in enumerate(LADDER)
    )


def choices_of(chosen: Mapping[Search, Sequence[Finalist]]) -> tuple[Choice, ...]:
    """The finalists of all searches."""
    return tuple(
        Choice(
            strategy=search.name,
            number=finalist.entry.number,
            formula=str(finalist.entry.formula),
            score=finalist.mark.scores[0],
            error=finalist.error(finalists[0]),
            chosen=finalist.chosen,
        )
        for search, finalists in chosen.items()
        for finalist in finalists
    )


def table_error(searches: Sequence[Search], classes: int) -> tuple[float, float]:
    """The median and the largest relative error of the gradients by table over the best of the searches."""
    best = {entry.formula: None for search in searches for entry in search.archive.best(SHOWN)}
    errors = [gradient_error(formula, classes) for formula in best]
    return (float(np.median(errors)), max(errors)) if errors else (np.nan, np.nan)
