"""The choice of one winner on examples that the search has not seen, and an audit of those that were dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.stats import rankdata

from lossmith.evolution.archive import Entry, Mark, standard_error
from lossmith.evolution.problem import CHOICE, LADDER
from lossmith.evolution.search import Evaluator, Search, mark_of, trainings, trials_of
from lossmith.trials.runner import Runner

FINALISTS: Final = 10
AUDITED: Final = 30


@dataclass(frozen=True, eq=False)
class Finalist:
    """A candidate with what it achieved on the choice part, and whether it won."""

    entry: Entry
    mark: Mark
    chosen: bool

    def error(self, winner: Finalist) -> float:
        """The standard error of its difference from the winner on the first problem."""
        return float(standard_error(self.mark.units, winner.mark.units)[0])


def choose(searches: Sequence[Search], evaluator: Evaluator, runner: Runner) -> dict[Search, list[Finalist]]:
    """Train the best of each search anew, judge them on the choice part, and choose one winner of each.

    Args:
        searches: the searches.
        evaluator: knows the problems and the learning rates.
        runner: what runs the trainings.

    Returns:
        The finalists of each search, the best first; none of a search in which nothing could be trained.
    """
    plans = {
        (search, entry): [
            trainings(problem, entry.formula, CHOICE, rates[-1], CHOICE.factors, "choice")
            for problem, rates in zip(evaluator.problems, evaluator.rates, strict=True)
        ]
        for search in searches
        for entry in search.archive.best(FINALISTS)
    }
    results = runner.run([trial for plan in plans.values() for trial in trials_of(plan)], "choosing")
    marks = {key: mark_of(plan, results) for key, plan in plans.items()}
    return {search: _ranked({entry: marks[s, entry] for s, entry in marks if s is search}) for search in searches}


def _ranked(marks: Mapping[Entry, Mark]) -> list[Finalist]:
    usable = [entry for entry, mark in marks.items() if np.isfinite(mark.scores).all()]
    if not usable:
        return []
    ranks = rankdata([marks[entry].scores for entry in usable], axis=0).mean(1)
    order = sorted(range(len(usable)), key=lambda i: (ranks[i], usable[i].complexity, usable[i].number))
    return [Finalist(usable[i], marks[usable[i]], place == 0) for place, i in enumerate(order)]


def audit(search: Search, evaluator: Evaluator, stream: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Train some candidates that were dropped in full all the same.

    Args:
        search: whose candidates.
        evaluator: trains them.
        stream: what the random choice is drawn from.

    Returns:
        For each rung but the last how many of those that were dropped there were trained on the last one, and how many
        of these were at most one standard error worse than the last of the finalists.
    """
    archive, top = search.archive, len(LADDER) - 1
    dropped = [e for e in archive.entries if e.marks and e.rung < top and np.isfinite(e.marks[e.rung].scores).all()]
    places = np.random.default_rng(list(stream)).permutation(len(dropped))[:AUDITED]
    chosen = [(dropped[place], dropped[place].rung) for place in sorted(places)]
    finalists = [e for e in archive.best(FINALISTS) if top in e.marks and np.isfinite(e.marks[top].scores).all()]
    if not finalists or not chosen:
        return {}
    last = finalists[-1].marks[top]
    copies = [replace(entry, marks={rung: entry.marks[rung]}) for entry, rung in chosen]
    for rung in (1, top):  # on rung 1 they find their learning rate, as those do that are not dropped
        jobs = [(copy, rung) for copy in copies if rung not in copy.marks]
        evaluator.evaluate(jobs, "auditing those that were dropped")
    found = {}
    for rung in range(top):
        of_rung = [copy for copy, (_, of) in zip(copies, chosen, strict=True) if of == rung]
        found[rung] = len(of_rung), sum(copy.marks[top].is_as_good_as(last) for copy in of_rung)
    return found
