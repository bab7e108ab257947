"""Strategies: who survives, and that nothing but the random numbers decides what they propose."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from lossmith.evolution.archive import Archive, Entry, Mark
from lossmith.evolution.grammar import Grammar, ramped
from lossmith.evolution.strategies import Ageing, Pareto, Random, Tournament, make_strategy
from lossmith.formulas import apply, parse

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


def test_within_a_front_the_most_isolated_come_first():
    """By the crowding distance of Deb et al., section III.B, written out one by one."""
    archive, strategy = Archive(2), Pareto(GRAMMAR, 500)
    strategy.learn(archive, generation(archive, np.random.default_rng(3), 400))
    ordered = archive.ordered()
    points = [(place, entry.complexity) for place, entry in enumerate(ordered)]
    start = 0
    for front in fronts_of(points):
        members = sorted(front)
        crowding = {members[0]: np.inf, members[-1]: np.inf}
        for before, of, after in zip(members, members[1:], members[2:], strict=False):
            crowding[of] = sum(
                (max(points[before][k], points[after][k]) - min(points[before][k], points[after][k]))
                / (max(points[i][k] for i in members) - min(points[i][k] for i in members))
                for k in range(2)
            )
        found = [crowding[ordered.index(entry)] for entry in strategy.population[start : start + len(front)]]
        assert found == pytest.approx(sorted(crowding.values(), reverse=True))
        start += len(front)


def test_of_equally_isolated_ones_the_better_score_comes_first():
    archive, strategy = Archive(2), Pareto(GRAMMAR, 100)
    tree = parse("p*y")
    entries = [archive.add(tree := apply("exp", tree), "made up", ()) for _ in range(40)]
    for entry in entries:  # the larger, the better
        entry.marks[0] = Mark((-float(entry.number),), (np.zeros(2, np.float32),), (1.0,))
    strategy.learn(archive, entries)
    assert strategy.population == [entries[-1], entries[0], *entries[-2:0:-1]]


def test_random_search_is_blind():
    archive, strategy = Archive(2), Random(GRAMMAR)
    before = strategy.propose(np.random.default_rng(5), 50)
    strategy.learn(archive, generation(archive, np.random.default_rng(0), 30))
    assert strategy.propose(np.random.default_rng(5), 50) == before
    assert strategy.is_blind
    assert {proposal.operator for proposal in before} == {"random"}
    assert [make_strategy(name, GRAMMAR, 10).is_blind for name in NAMES[:3]] == [False] * 3


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
    assert len(made[0]) == 200
    numbers = {entry.number for entry in newest}
    parents = {proposal.operator: set[int]() for proposal in made[0]}
    for proposal in made[0]:
        assert GRAMMAR.holds(proposal.formula)
        assert set(proposal.parents) <= numbers
        parents[proposal.operator].add(len(proposal.parents))
    assert parents.pop("random") == {0}
    assert (name == "random") == (not parents)
    for operator, counts in parents.items():  # both parents of a crossover may be the same
        assert 2 in counts <= {1, 2} if operator.endswith("crossover") else counts == {1}
    of_random = [proposal.formula.depth for proposal in made[0] if proposal.operator == "random"]
    assert max(of_random) == 6
    if name != "random":
        assert len(of_random) / 200 == pytest.approx(0.2, abs=0.05)


def of_best(size: int, drawn: int) -> list[float]:
    """The chance of each place to be the smallest of some drawn with replacement."""
    return [((size - i) ** drawn - (size - i - 1) ** drawn) / size**drawn for i in range(size)]


def chances(name: str, sizes: list[int]) -> list[float]:
    """The chance of each of a population to become a parent, the best first."""
    if name != "tournament":
        return of_best(len(sizes), {"ageing": 12, "pareto": 2}[name])
    found = [0.0] * len(
        sizes
    )  # of two winners of tournaments of four the smaller in 7 of 10 cases; of equals the better
    for (i, a), (j, b) in product(enumerate(of_best(len(sizes), 4)), repeat=2):
        smaller, larger = sorted((i, j), key=lambda place: (sizes[place], place))
        found[smaller] += 0.7 * a * b
        found[larger] += 0.3 * a * b
    return found


@pytest.mark.parametrize("name", NAMES[:3])
def test_parents_are_drawn_by_tournaments(name):
    archive = Archive(2)
    strategy = make_strategy(name, GRAMMAR, 30)
    strategy.learn(archive, generation(archive, np.random.default_rng(0), 12))
    place = {entry.number: i for i, entry in enumerate(strategy.population)}
    rng = np.random.default_rng(1)
    drawn = np.bincount([place[strategy.draw(rng).number] for _ in range(10_000)], minlength=12) / 10_000
    sizes = [entry.complexity for entry in strategy.population]
    assert len(set(sizes)) < 12
    np.testing.assert_allclose(drawn, chances(name, sizes), atol=0.012)


def test_small_populations_keep_one_of_the_best_of_all():
    archive, strategy = Archive(2), Tournament(GRAMMAR, 10)
    old, new = (generation(archive, np.random.default_rng(0), 10) for _ in range(2))
    for entry in archive.entries:
        entry.marks = {0: Mark((float(entry.number),), (np.zeros(2, np.float32),), (1.0,))}
    strategy.learn(archive, new)
    assert strategy.population == [old[0], *new[:9]]


def test_two_are_enough_to_breed_and_one_is_not():
    for count in (1, 2):
        archive, strategy = Archive(2), make_strategy("tournament", GRAMMAR, 10)
        strategy.learn(archive, generation(archive, np.random.default_rng(0), count))
        made = strategy.propose(np.random.default_rng(0), 30)
        assert any(proposal.parents for proposal in made) == (count == 2)


@pytest.mark.parametrize("name", NAMES)
def test_what_has_learned_nothing_proposes_random_trees(name):
    strategy = make_strategy(name, GRAMMAR, 30)
    strategy.learn(Archive(2), [])
    assert {proposal.operator for proposal in strategy.propose(np.random.default_rng(0), 20)} == {"random"}
