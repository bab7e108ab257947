"""The constants of the best candidates, polished by CMA-ES."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from scipy.stats import rankdata

from lossmith.evolution.archive import Entry
from lossmith.evolution.clock import Clock
from lossmith.evolution.grammar import rounded
from lossmith.evolution.search import Evaluator, Search
from lossmith.evolution.variation import constants_of, with_constants
from lossmith.formulas import Expression, FormulaError

STARTS: Final = 3
"""The best candidates of a search whose constants are polished."""
ROUNDS: Final = 8
_PER_ROUND: Final = 8
_MOST_CONSTANTS: Final = 10
_STEP: Final = 0.2
_LEAST: Final = 0.1  # magnitude that the step of a small constant is taken from
_RUNG: Final = 1
"""The rung on which constants are compared."""


class _Start:
    """CMA-ES around the constants of a candidate, each in units of its size."""

    def __init__(self, entry: Entry, rng: np.random.Generator) -> None:
        with warnings.catch_warnings():  # cma adds filters of warnings to the process
            import cma  # takes a second

        self.entry = entry
        self.values = np.array(constants_of(entry.formula))
        self.units = np.maximum(np.abs(self.values), _LEAST)
        self.strategy: Any = cma.CMAEvolutionStrategy(
            np.zeros(max(2, len(self.values))),  # it needs two dimensions
            _STEP,
            {"popsize": _PER_ROUND, "seed": np.nan, "randn": lambda *shape: rng.standard_normal(shape), "verbose": -9},
        )
        self.asked: list[np.ndarray[Any, Any]] = []

    def ask(self) -> list[Expression]:
        """Formulas to try."""
        self.asked = self.strategy.ask()
        return [self._formula(point) for point in self.asked]

    def tell(self, scores: Sequence[Sequence[float]]) -> None:
        """Their scores on each problem; CMA-ES looks at the order alone."""
        self.strategy.tell(self.asked, rankdata(scores, axis=0).mean(1).tolist())

    def _formula(self, point: np.ndarray[Any, Any]) -> Expression:
        moved = self.values + self.units * point[: len(self.values)]
        try:
            return with_constants(self.entry.formula, [rounded(float(value)) for value in moved])
        except FormulaError:  # infinite
            return self.entry.formula


def polish(
    searches: Sequence[Search],
    evaluator: Evaluator,
    clock: Clock,
    first: int,
    rounds: int | None,
    told: Callable[[], None],
) -> None:
    """Polish the constants of the best candidates of each search.

    Args:
        searches: the searches.
        evaluator: trains the candidates.
        clock: says when the time is up.
        first: the number of the generation that comes next; each round counts as one.
        rounds: the number of rounds; ``None``: until the time is up, 8 at most.
        told: called after each round.
    """
    starts = {search: _starts(search) for search in searches}
    for number in range(ROUNDS if rounds is None else rounds):
        if not any(starts.values()) or (rounds is None and clock.is_over("polish", first + number)):
            break
        tried = {search: [search.take(start.ask(), start.entry) for start in of] for search, of in starts.items()}
        jobs = [(entry, _RUNG) for of in tried.values() for made in of for entry in made]
        evaluator.evaluate(jobs, "polishing constants")
        clock.mark(first + number)
        for search, of in tried.items():
            for start, made in zip(starts[search], of, strict=True):
                start.tell([entry.marks[_RUNG].scores for entry in made])
            search.note(first + number, clock.seconds)
        told()


def _starts(search: Search) -> list[_Start]:
    best = [e for e in search.archive.best(10 * STARTS) if 0 < len(constants_of(e.formula)) <= _MOST_CONSTANTS]
    best = best[:STARTS]
    return [_Start(entry, np.random.default_rng([*search.stream, 1_000_000, entry.number])) for entry in best]
