"""Strategies: who survives, and that nothing but the random numbers decides what they propose."""

from __future__ import annotations

import numpy as np
import pytest

from lossmith.evolution.archive import Archive, Entry, Mark
from lossmith.evolution.grammar import Grammar, ramped
from lossmith.evolution.strategies import Ageing, Pareto, Random, Tournament, make_strategy

GRAMMAR = Grammar(terminals=("p", "y", "c", "n"))
NAMES = ("tournament", "ageing", "pareto", "random")


def generation(archive: Archive, rng: np.random.Generator, count: int) -> list[Entry]:
    """Candidates with scores on the first rung, a few of them on the second."""
    made = [archive.add(formula, "random", ()) for formula in ramped(rng, GRAMMAR, count)]
    for entry in made:
        for rung in range(1 + (rng.random() < 0.1)):
            entry.marks[rung] = Mark((float(rng.random()),), (np.zeros(2, np.float32),), (1.0,))
    return made


def test_ageing_forgets_the_oldest_however_good_they_are():
    rng, archive, strategy = np.random.default_rng(0), Archive(2), Ageing(GRAMMAR, 10)
    made: list[Entry] = []
    for _ in range(6):
        newest = generation(archive, rng, 10)
        if not made:
            newest[0].marks[1] = Mark((0.0,), (np.zeros(2, np.float32),), (1.0,))  # the best of all times
        made += newest
        strategy.learn(archive, newest)
        assert {entry.number for entry in strategy.population} == {entry.number for entry in made[-20:]}
    assert made[0] not in strategy.population


def test_tournament_keeps_the_few_best_of_all_and_the_newest():
    rng, archive, strategy = np.random.default_rng(1), Archive(2), Tournament(GRAMMAR, 40)
    for _ in range(5):
        newest = generation(archive, rng, 40)
        strategy.learn(archive, newest)
        elite = archive.ordered()[:2]
        assert strategy.population[:2] == elite
        assert len(strategy.population) == 40
        assert {entry.number for entry in strategy.population} <= {e.number for e in (*newest, *elite)}
    assert min(entry.number for entry in strategy.population) < newest[0].number


def fronts_of(points: list[tuple[int, int]]) -> list[set[int]]:
    """Non-dominated sorting by comparing every pair."""
    left, fronts = set(range(len(points))), []
    while left:
        front = {
            i for i in left
            if not any(points[j][0] <= points[i][0] and points[j][1] <= points[i][1] for j in left if j != i)
        }  # fmt: skip
        fronts.append(front)
        left -= front
    return fronts


@pytest.mark.parametrize("seed", range(4))
def test_the_best_fronts_survive_under_pareto(seed):
    rng, archive, strategy = np.random.default_rng(seed), Archive(2), Pareto(GRAMMAR, 30)
    for _ in range(3):
        before, newest = list(strategy.population), generation(archive, rng, 30)
        strategy.learn(archive, newest)
        alive = [entry for entry in archive.ordered() if entry in before or entry in newest]
        points = [(place, entry.complexity) for place, entry in enumerate(alive)]
        survivors = [alive.index(entry) for entry in strategy.population]
        assert len(survivors) == len(set(survivors)) == 30
        for front in fronts_of(points):
            taken, survivors = set(survivors[: len(front)]), survivors[len(front) :]
            assert taken <= front
            if not survivors:
                break
            assert taken == front


def test_the_ends_of_a_front_come_first():
    archive, strategy = Archive(2), Pareto(GRAMMAR, 10)
    entries = generation(archive, np.random.default_rng(0), 60)
    strategy.learn(archive, entries)
    first = fronts_of([(place, e.complexity) for place, e in enumerate(archive.ordered())])[0]
    ends = {archive.ordered()[min(first)].number, archive.ordered()[max(first)].number}
    assert {entry.number for entry in strategy.population[:2]} == ends


def test_random_search_is_blind():
    archive, strategy = Archive(2), Random(GRAMMAR)
    before = strategy.propose(np.random.default_rng(5), 50)
    strategy.learn(archive, generation(archive, np.random.default_rng(0), 30))
    assert strategy.propose(np.random.default_rng(5), 50) == before
    assert strategy.is_blind
    assert {proposal.operator for proposal in before} == {"random"}
    assert not any(make_strategy(name, GRAMMAR, 10).is_blind for name in NAMES[:3])


@pytest.mark.parametrize("name", NAMES)
def test_proposals_follow_from_the_random_numbers_and_stay_within_the_grammar(name):
    archive = Archive(2)
    newest = generation(archive, np.random.default_rng(0), 30)
    strategies = [make_strategy(name, GRAMMAR, 30) for _ in range(2)]
    made = []
    for strategy in strategies:
        strategy.learn(archive, newest)
        made.append(strategy.propose(np.random.default_rng(7), 200))
    assert made[0] == made[1]
    assert made[0] != strategies[0].propose(np.random.default_rng(8), 200)
    numbers = {entry.number for entry in newest}
    for proposal in made[0]:
        assert GRAMMAR.holds(proposal.formula)
        assert set(proposal.parents) <= numbers
        assert len(proposal.parents) <= (2 if proposal.operator.endswith("crossover") else name != "random")


@pytest.mark.parametrize("name", NAMES[:3])
def test_parents_are_drawn_from_the_better_ones(name):
    archive = Archive(2)
    newest = generation(archive, np.random.default_rng(0), 30)
    strategy = make_strategy(name, GRAMMAR, 30)
    strategy.learn(archive, newest)
    place = {entry.number: i for i, entry in enumerate(strategy.population)}
    rng = np.random.default_rng(1)
    drawn = [place[strategy.draw(rng).number] for _ in range(400)]
    assert np.mean(drawn) < 0.75 * np.mean(list(place.values()))


@pytest.mark.parametrize("name", NAMES)
def test_what_has_learned_nothing_proposes_random_trees(name):
    strategy = make_strategy(name, GRAMMAR, 30)
    strategy.learn(Archive(2), [])
    assert {proposal.operator for proposal in strategy.propose(np.random.default_rng(0), 20)} == {"random"}
