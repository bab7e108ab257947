"""All candidates that a search has trained, and which of them are trained further: successive halving."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata

from lossmith.evolution.problem import Units
from lossmith.evolution.variation import constants_of, with_constants
from lossmith.formulas import Expression

REDUCTION: Final = 32
"""One in so many goes on to the next rung, besides those that are as good as the last of them."""
LARGEST_SHARE: Final = 0.5
"""What goes on at most: where validation cannot tell losses apart, all are as good as the last."""

_LEAST_ERROR: Final = 1e-12  # nats; without it, two losses that agree on all examples would divide by zero


@dataclass(frozen=True, eq=False)
class Mark:
    """What a candidate achieved on a rung.

    Args:
        scores: mean nats on each problem; infinite where it could not be trained.
        units: nats of each validation example on each problem; ``None`` where it could not be trained.
        factor: the learning rate that this was achieved with, over the reference's, on each problem.
    """

    scores: tuple[float, ...]
    units: tuple[Units | None, ...]
    factors: tuple[float, ...]

    @functools.cached_property
    def spreads(self) -> tuple[float, ...]:
        """Standard errors of the scores over the validation examples."""
        return tuple(math.inf if of is None else float(of.std(ddof=1)) / math.sqrt(len(of)) for of in self.units)

    def is_as_good_as(self, last: Mark) -> bool:
        """Whether a candidate is at most one standard error worse than another, on average over the problems."""
        worse = np.subtract(self.scores, last.scores)
        if not np.isfinite(worse).all():
            return False
        largest = np.add(self.spreads, last.spreads)  # the errors cannot be larger
        if (worse > 0).all() and np.mean(worse / np.maximum(largest, _LEAST_ERROR)) > 1:
            return False
        return bool(np.mean(worse / np.maximum(standard_error(self.units, last.units), _LEAST_ERROR)) <= 1)


@dataclass(eq=False)
class Entry:
    """A candidate.

    Args:
        number: counts the candidates, in the order in which they were made.
        formula: the loss of one class.
        operator: how it was made.
        parents: from which candidates.
        marks: what it achieved, by rung.
    """

    number: int
    formula: Expression
    operator: str
    parents: tuple[int, ...]
    marks: dict[int, Mark] = field(default_factory=dict)

    @property
    def complexity(self) -> int:
        """The number of nodes of the formula."""
        return self.formula.size

    @property
    def rung(self) -> int:
        """The highest rung it was trained on."""
        return max(self.marks)


class Archive:
    """The candidates of one search.

    Args:
        rungs: number of rungs.
    """

    def __init__(self, rungs: int) -> None:
        self.rungs = rungs
        self.entries: list[Entry] = []

    def add(self, formula: Expression, operator: str, parents: tuple[int, ...]) -> Entry:
        """A new candidate, not trained yet."""
        self.entries.append(Entry(len(self.entries), formula, operator, parents))
        return self.entries[-1]

    @property
    def highest(self) -> int:
        """The highest rung that a candidate was trained on; 0 where none was trained."""
        return max((entry.rung for entry in self.entries if entry.marks), default=0)

    def on(self, rung: int) -> list[Entry]:
        """The candidates that were trained on a rung."""
        return [entry for entry in self.entries if rung in entry.marks]

    def fitness(self, rung: int) -> dict[int, float]:
        """The fitness of the candidates on a rung by number, lower is better.

        It is the score in nats; with several problems the mean over the problems of the ranks among all that were
        trained on the rung. A candidate that could not be trained has an infinite one.
        """
        entries = self.on(rung)
        if not entries:
            return {}
        scores = np.array([entry.marks[rung].scores for entry in entries])
        values = scores[:, 0] if scores.shape[1] == 1 else rankdata(scores, axis=0).mean(1)
        values = np.where(np.isfinite(scores).all(1), values, np.inf)
        return {entry.number: float(value) for entry, value in zip(entries, values, strict=True)}

    def ordered(self) -> list[Entry]:
        """All trained candidates, the best first: by the highest rung reached, the fitness there, the size.

        Those that failed on the highest rung they reached are last.
        """
        fitness = [self.fitness(rung) for rung in range(self.rungs)]

        def place(entry: Entry) -> tuple[bool, int, float, int, int]:
            value = fitness[entry.rung][entry.number]
            return value == math.inf, -entry.rung, value, entry.complexity, entry.number

        return sorted((entry for entry in self.entries if entry.marks), key=place)

    def best(self, count: int) -> list[Entry]:
        """The best candidates, no two of which differ in their constants alone."""
        found: dict[Expression, Entry] = {}
        for entry in self.ordered():
            found.setdefault(_without_constants(entry.formula), entry)
            if len(found) == count:
                break
        return list(found.values())

    def promotable(self, rung: int) -> list[Entry]:
        """The candidates to train on the next rung: the best of a rung, and all within one standard error of the last.

        They are at most half of those trained on the rung so far.

        Args:
            rung: the rung they were trained on, not the highest.

        Returns:
            Those not yet trained on the next rung.
        """
        fitness = self.fitness(rung)
        usable = sorted((value, number) for number, value in fitness.items() if math.isfinite(value))
        if not usable:
            return []
        kept = usable[: math.ceil(len(usable) / REDUCTION)]
        last = self.entries[kept[-1][1]].marks[rung]
        most = usable[: max(len(kept), math.ceil(LARGEST_SHARE * len(usable)))]
        passed = {number for _, number in kept}
        passed |= {number for _, number in most if self.entries[number].marks[rung].is_as_good_as(last)}
        return [self.entries[n] for n in sorted(passed) if rung + 1 not in self.entries[n].marks]

    def correlation(self, rung: int) -> float | None:
        """Kendall's tau between the fitness on a rung and on the next; ``None`` where there is no telling."""
        lower, upper = self.fitness(rung), self.fitness(rung + 1)
        both = [n for n in upper if n in lower and math.isfinite(lower[n]) and math.isfinite(upper[n])]
        if len(both) < 3:
            return None
        tau = float(kendalltau([lower[n] for n in both], [upper[n] for n in both]).statistic)
        return tau if math.isfinite(tau) else None

    def front(self) -> list[Entry]:
        """The candidates of the highest rung reached than which none is both better and smaller, the smallest first."""
        best: list[Entry] = []
        fitness = self.fitness(self.highest)
        lowest = math.inf
        for entry in sorted(self.on(self.highest), key=lambda e: (e.complexity, fitness[e.number], e.number)):
            if fitness[entry.number] < lowest:
                best.append(entry)
                lowest = fitness[entry.number]
        return best

    def lineage(self, entry: Entry) -> list[Entry]:
        """A candidate and its ancestors, the youngest first."""
        found, waiting = {entry.number}, [entry.number]
        while waiting:
            for parent in self.entries[waiting.pop()].parents:
                if parent not in found:
                    found.add(parent)
                    waiting.append(parent)
        return [self.entries[number] for number in sorted(found, reverse=True)]


def standard_error(units: Sequence[Units | None], others: Sequence[Units | None]) -> NDArray[np.float64]:
    """The standard error of the mean paired difference on each problem."""
    return np.array([
        np.inf if a is None or b is None else np.std(a - b, ddof=1, dtype=np.float64) / math.sqrt(len(a))
        for a, b in zip(units, others, strict=True)
    ])


@functools.lru_cache(maxsize=100_000)
def _without_constants(formula: Expression) -> Expression:
    return with_constants(formula, [0.0] * len(constants_of(formula)))
