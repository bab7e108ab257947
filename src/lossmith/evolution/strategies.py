"""How a search makes new candidates from those it has trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np

from lossmith.evolution.archive import Archive, Entry
from lossmith.evolution.grammar import Grammar, ramped
from lossmith.evolution.options import StrategyName
from lossmith.evolution.variation import offspring
from lossmith.formulas import Expression

_TOURNAMENT: Final = 4
_SMALLER_WINS: Final = 0.7
"""How often the smaller of two tournament winners is taken: 0.5 would be no pressure on size."""
_DEEPEST: Final = 6
"""Depth of random trees: the space of shallower ones is soon exhausted."""
_IMMIGRANTS: Final = 0.2
"""The share of random trees among the proposals. With half, one seed of four never found the known best loss of
`tests/evolution/test_known_answer.py`; with none the search can get stuck."""
_ELITE: Final = 0.05
_SAMPLE: Final = 12


class Proposal(NamedTuple):
    """A new candidate, with how it was made and the numbers of the candidates it was made from."""

    formula: Expression
    operator: str
    parents: tuple[int, ...] = ()


class Strategy(Protocol):
    """Decides which candidates survive, and makes new ones.

    Attributes:
        is_blind: whether it makes them without looking at what was found.
    """

    is_blind: bool

    def propose(self, rng: np.random.Generator, count: int) -> list[Proposal]:
        """Make ``count`` new candidates; some will be rejected by filters."""

    @abstractmethod
    def learn(self, archive: Archive, newest: Sequence[Entry]) -> None:
        """Take in a generation, whose candidates have been trained."""


class Random(Strategy):
    """Random search: every candidate is a random tree."""

    is_blind = True

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar

    def propose(self, rng: np.random.Generator, count: int) -> list[Proposal]:
        """Ramped half-and-half."""
        return [Proposal(tree, "random") for tree in ramped(rng, self.grammar, count, deepest=_DEEPEST)]

    def learn(self, archive: Archive, newest: Sequence[Entry]) -> None:
        """Nothing."""


class _Evolving(Strategy, ABC):
    """A population from which parents are drawn by tournaments; at first random search.

    Attributes:
        population: the candidates that may become parents, the best first.
    """

    is_blind = False

    def __init__(self, grammar: Grammar, size: int) -> None:
        self.grammar, self.size = grammar, size
        self.population: list[Entry] = []

    def propose(self, rng: np.random.Generator, count: int) -> list[Proposal]:
        """Vary parents drawn by tournament; some candidates are random trees, so that the search cannot get stuck."""
        if len(self.population) < 2:
            return Random(self.grammar).propose(rng, count)
        proposals = []
        for immigrant in ramped(rng, self.grammar, count, deepest=_DEEPEST):
            if rng.random() < _IMMIGRANTS:
                proposals.append(Proposal(immigrant, "random"))
                continue
            parents = [self.draw(rng), self.draw(rng)]
            child, operator = offspring(rng, self.grammar, [parent.formula for parent in parents])
            used = parents if operator.endswith("crossover") else parents[:1]
            proposals.append(Proposal(child, operator, tuple(dict.fromkeys(parent.number for parent in used))))
        return proposals

    def draw(self, rng: np.random.Generator) -> Entry:
        """A parent: the best of a few, then the smaller of two of these."""
        places = sorted(_best_of(rng, len(self.population), _TOURNAMENT) for _ in range(2))
        better, worse = (self.population[place] for place in places)
        smaller, larger = (worse, better) if worse.complexity < better.complexity else (better, worse)
        return smaller if rng.random() < _SMALLER_WINS else larger


class Tournament(_Evolving):
    """Generational: the children replace their parents, but for the few best of all."""

    def learn(self, archive: Archive, newest: Sequence[Entry]) -> None:
        """The newest generation and the best so far become the population."""
        ordered = archive.ordered()
        elite = ordered[: max(1, round(_ELITE * self.size))]
        young = {entry.number for entry in newest} | {entry.number for entry in elite}
        self.population = [entry for entry in ordered if entry.number in young][: self.size]


class Ageing(_Evolving):
    """Regularised evolution: the oldest leave the population, however good they are.

    Source: Real et al., "Regularized Evolution for Image Classifier Architecture Search", 2018, arXiv 1802.01548.
    """

    def __init__(self, grammar: Grammar, size: int) -> None:
        super().__init__(grammar, size)
        self.queue: list[int] = []

    def learn(self, archive: Archive, newest: Sequence[Entry]) -> None:
        """The newest join; the oldest leave, half a population at most."""
        self.queue = [*self.queue, *(entry.number for entry in newest)][-2 * self.size :]
        alive = set(self.queue)
        self.population = [entry for entry in archive.ordered() if entry.number in alive]

    def draw(self, rng: np.random.Generator) -> Entry:
        """The best of a sample."""
        return self.population[_best_of(rng, len(self.population), _SAMPLE)]


class Pareto(_Evolving):
    """Multi-objective: score against complexity, by non-dominated sorting and crowding.

    Source: Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", 2002.
    """

    def learn(self, archive: Archive, newest: Sequence[Entry]) -> None:
        """The best fronts of the population and the newest generation survive."""
        alive = {entry.number for entry in (*self.population, *newest)}
        ordered = [entry for entry in archive.ordered() if entry.number in alive]
        place = {entry.number: i for i, entry in enumerate(ordered)}
        survivors: list[Entry] = []
        left = ordered
        while left and len(survivors) < self.size:
            front: list[Entry] = []
            for entry in left:  # the best first: an entry is dominated if one before it is as small
                if not front or entry.complexity < front[-1].complexity:
                    front.append(entry)
            taken = {entry.number for entry in front}
            rest = [entry for entry in left if entry.number not in taken]
            survivors += _uncrowded(front, place)
            left = rest
        self.population = survivors[: self.size]

    def draw(self, rng: np.random.Generator) -> Entry:
        """The better of two, by front, then by crowding."""
        return self.population[_best_of(rng, len(self.population), 2)]


def _best_of(rng: np.random.Generator, size: int, drawn: int) -> int:
    """The smallest of some places, drawn with replacement."""
    return int(rng.integers(size, size=drawn).min())


def _uncrowded(front: list[Entry], place: dict[int, int]) -> list[Entry]:
    """A front, the most isolated first; its ends are infinitely isolated."""
    objectives = np.array([(place[entry.number], entry.complexity) for entry in front])
    crowding = np.full(len(front), np.inf)
    crowding[1:-1] = (np.abs(objectives[2:] - objectives[:-2]) / np.ptp(objectives, 0)).sum(1)
    return [front[i] for i in np.argsort(-crowding, kind="stable")]


def make_strategy(name: StrategyName, grammar: Grammar, size: int) -> Strategy:
    """A strategy by name.

    Args:
        name: as `SearchOptions.strategy`.
        grammar: what formulas are made of.
        size: of the population.

    Returns:
        The strategy.
    """
    if name == "random":
        return Random(grammar)
    kinds: dict[str, Callable[[Grammar, int], Strategy]] = {
        "tournament": Tournament,
        "ageing": Ageing,
        "pareto": Pareto,
    }
    return kinds[name](grammar, size)
