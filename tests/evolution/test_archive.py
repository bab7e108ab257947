"""The archive: who is promoted, what fitness is, the front, the lineage."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import kendalltau, rankdata, sem

from lossmith.evolution.archive import REDUCTION, Archive, Entry, Mark, standard_error
from lossmith.formulas import apply, parse

SHAPES = ("y*c", "y*c*p", "y*(c + p)", "y*sin(c)*p", "exp(p)*y - c", "y*c*c*p*n", "p - y", "y*c - p*n + c*sqrt(p)")


def mark(*units, factor: float = 1.0) -> Mark:
    arrays = tuple(None if of is None else np.asarray(of, np.float32) for of in units)
    return Mark(
        tuple(math.inf if of is None else float(of.mean(dtype=np.float64)) for of in arrays),
        arrays,
        (factor,) * len(arrays),
    )


def filled(rng: np.random.Generator, count: int, problems: int = 1, rungs: int = 3, examples: int = 40) -> Archive:
    """Candidates whose scores scatter little and share much of their noise, some of which could not be trained."""
    archive = Archive(rungs)
    common = [rng.gamma(2.0, 0.5, examples) for _ in range(problems)]
    for number in range(count):
        entry = archive.add(parse(SHAPES[number % len(SHAPES)]), "random", ())
        for rung in range(rungs):
            if rung and rng.random() < 0.6:
                break
            units = [of + rng.normal(0.3 * rng.random(), 0.2, examples) for of in common]
            entry.marks[rung] = mark(*(None if rng.random() < 0.1 else of for of in units))
    return archive


def oracle_fitness(archive: Archive, rung: int) -> dict[int, float]:
    entries = [entry for entry in archive.entries if rung in entry.marks]
    columns = list(zip(*(entry.marks[rung].scores for entry in entries), strict=True))
    ranks = [rankdata(column) for column in columns]
    fitness = {}
    for i, entry in enumerate(entries):
        scores = entry.marks[rung].scores
        value = scores[0] if len(scores) == 1 else sum(rank[i] for rank in ranks) / len(ranks)
        fitness[entry.number] = value if all(map(math.isfinite, scores)) else math.inf
    return fitness


def oracle_promoted(archive: Archive, rung: int) -> set[int]:
    """The best of the rung one by one, and of its better half all at most one paired standard error from the last."""
    fitness = {n: f for n, f in oracle_fitness(archive, rung).items() if f < math.inf}
    ordered = sorted(fitness, key=lambda n: (fitness[n], n))
    best = ordered[: math.ceil(len(ordered) / REDUCTION)]
    if not best:
        return set()
    last = archive.entries[best[-1]].marks[rung]
    passed = set(best)
    for number in ordered[: math.ceil(len(ordered) / 2)]:
        of = archive.entries[number].marks[rung]
        z = []
        for mine, theirs in zip(of.units, last.units, strict=True):
            paired = mine.astype(np.float64) - theirs.astype(np.float64)
            error = np.sqrt(paired.var(ddof=1) / len(paired))
            z.append(0.0 if number == best[-1] else paired.mean() / error)
        if np.mean(z) <= 1:
            passed.add(number)
    return {n for n in passed if rung + 1 not in archive.entries[n].marks}


def spaced(count: int, apart: float) -> Archive:
    """Candidates so far apart, with a standard error of about .1."""
    rng, archive = np.random.default_rng(0), Archive(2)
    for k in rng.permutation(count):
        noise = rng.standard_normal(50)
        archive.add(parse("y*c"), "made up", ()).marks[0] = mark(5 + apart * k + 0.5 * (noise - noise.mean()))
    return archive


def test_half_of_a_rung_goes_on_where_nothing_can_be_told_apart():
    archive = spaced(101, 1e-4)
    promoted = {entry.number for entry in archive.promotable(0)}
    assert promoted == {entry.number for entry in archive.ordered()[:51]}


def test_one_in_32_goes_on_where_all_can_be_told_apart():
    for count, passed in ((1, 1), (32, 1), (33, 2), (65, 3)):
        archive = spaced(count, 2.0)
        promoted = {entry.number for entry in archive.promotable(0)}
        assert promoted == {entry.number for entry in archive.ordered()[:passed]}


def test_the_best_go_on_however_far_behind_the_last_of_them_they_are_in_nats():
    """By rank the first is better than the second, which is nearly as good on one problem and far better on another."""
    rng, archive = np.random.default_rng(0), Archive(2)
    places = [(1.0, 3.0), (1.003, 1.0), (1.001, 4.0), (1.002, 5.0), *((10.0 + k, 20.0 + k) for k in range(40))]
    places[5] = (places[5][0], 2.0)
    for of in places:
        noise = rng.normal(0, 0.1, (2, 50))
        units = (mean + each - each.mean() for mean, each in zip(of, noise, strict=True))
        archive.add(parse("y*c"), "made up", ()).marks[0] = mark(*units)
    first, second = archive.ordered()[:2]
    assert (first.number, second.number) == (0, 1)
    assert not first.marks[0].is_as_good_as(second.marks[0])
    assert {0, 1} <= {entry.number for entry in archive.promotable(0)}


@pytest.mark.parametrize("nats", [1e-3, 1.0, 1e3])
def test_one_standard_error_is_as_good_and_more_is_not(nats):
    """Differences of 0, 0, 0 and 4 have mean 1 and standard error 1."""
    assert mark([0.0, 0.0, 0.0, 4.0]).is_as_good_as(mark([0.0] * 4))
    noise = np.array([-3.0, 3.0] * 10)
    common = 50 + 10 * noise
    last = mark(nats * common)  # the error of the pairs is a tenth of that of each
    error = 3 / math.sqrt(19)
    for worse in (0.9, 1.1, 30.0):
        assert mark(nats * (common + noise + worse * error)).is_as_good_as(last) == (worse <= 1)


def test_what_failed_is_as_good_as_nothing():
    assert not mark(None).is_as_good_as(mark([5.0, 6.0]))
    assert not mark([0.0, 1.0], None).is_as_good_as(mark([5.0, 6.0], [5.0, 6.0]))


def test_spreads_are_standard_errors():
    units = np.array([1.0, 2.0, 4.0, 9.0])
    assert mark(units, None, units + 3).spreads == pytest.approx((sem(units), math.inf, sem(units)))


@pytest.mark.parametrize("problems", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_the_best_and_all_within_a_standard_error_of_the_last_of_them_are_promoted(seed, problems):
    archive = filled(np.random.default_rng(seed), 150, problems)
    for rung in (0, 1):
        promoted = [entry.number for entry in archive.promotable(rung)]
        assert set(promoted) == oracle_promoted(archive, rung)
        assert len(promoted) == len(set(promoted))
        assert all(np.isfinite(archive.entries[n].marks[rung].scores).all() for n in promoted)


def test_nobody_is_promoted_twice():
    archive = filled(np.random.default_rng(0), 100, rungs=1)
    archive.rungs = 2
    first = archive.promotable(0)
    assert first
    for entry in first:
        entry.marks[1] = mark(None)  # one that fails there has been there all the same
    assert archive.promotable(0) == []


def test_nothing_is_promoted_where_nothing_could_be_trained():
    archive = Archive(2)
    assert archive.promotable(0) == []
    entry = archive.add(parse("y*c"), "seed", ())
    entry.marks[0] = mark(None)
    assert entry.operator == "seed"
    assert archive.promotable(0) == []
    assert archive.fitness(0) == {0: math.inf}
    assert archive.best(3) == archive.entries


@pytest.mark.parametrize("problems", [1, 2])
def test_fitness_is_the_score_or_the_mean_rank(problems):
    archive = filled(np.random.default_rng(1), 60, problems)
    for rung in range(3):
        assert archive.fitness(rung) == pytest.approx(oracle_fitness(archive, rung))


def test_two_that_are_best_and_worst_in_turn_have_the_same_fitness_whatever_the_units():
    archive = Archive(1)
    for scores in ((1.0, 900.0), (2.0, 100.0)):
        archive.add(parse("y*c"), "random", ()).marks[0] = mark(*([score, score] for score in scores))
    assert set(archive.fitness(0).values()) == {1.5}


def test_the_order_is_by_rung_then_fitness_then_size_and_failures_come_last():
    archive = filled(np.random.default_rng(2), 80)
    ordered = archive.ordered()
    assert len(ordered) == sum(bool(entry.marks) for entry in archive.entries)
    failed = [not np.isfinite(entry.marks[entry.rung].scores).all() for entry in ordered]
    assert failed == sorted(failed)
    assert any(failed)
    usable = ordered[: failed.index(True)]
    for better, worse in pairwise(usable):
        assert better.rung >= worse.rung
        if better.rung == worse.rung:
            scores = [e.marks[e.rung].scores[0] for e in (better, worse)]
            assert (scores[0], better.complexity) <= (scores[1], worse.complexity)


def test_the_best_differ_in_more_than_constants():
    archive = Archive(1)
    texts = ("y*c*2", "y*c*3", "y*c", "(y + 0.5)*c", "(y + 7)*c", "y*c*5")
    for k, text in enumerate(texts):
        archive.add(parse(text), "random", ()).marks[0] = mark([k, k + 0.5])
    assert [str(entry.formula) for entry in archive.best(10)] == ["y*c*2", "y*c", "(y + 0.5)*c"]
    assert [str(entry.formula) for entry in archive.best(2)] == ["y*c*2", "y*c"]


def test_an_empty_archive_has_an_empty_front():
    archive = Archive(3)
    archive.add(parse("y*c"), "seed", ())
    assert archive.front() == archive.ordered() == archive.best(3) == []
    assert archive.highest == 0


@pytest.mark.parametrize("seed", range(4))
def test_nothing_on_the_front_is_dominated_and_all_that_is_not_is_on_it(seed):
    archive = filled(np.random.default_rng(seed), 60, rungs=2)
    for text in ("y*c + 0.001*p", "y"):  # one that is as good and larger, and one that is smaller and failed
        entry = archive.add(parse(text), "made up", ())
        entry.marks = {0: mark(None), 1: mark(None)}
    same = archive.front()[-1]
    archive.add(apply("exp", same.formula), "made up", ()).marks = dict(same.marks)
    highest = [entry for entry in archive.entries if 1 in entry.marks]
    points = [(entry.marks[1].scores[0], entry.complexity) for entry in highest]
    wanted = {
        entry.number
        for entry, (score, size) in zip(highest, points, strict=True)
        if score < math.inf and not any(s <= score and c <= size and (s, c) != (score, size) for s, c in points)
    }
    assert archive.highest == 1
    front = archive.front()
    assert {entry.number for entry in front} == wanted
    assert [entry.complexity for entry in front] == sorted(entry.complexity for entry in front)


def test_the_lineage_holds_every_ancestor_once_the_youngest_first():
    archive = Archive(1)
    parents = ((), (), (0,), (1, 2), (), (3, 2), (5, 0))
    for of in parents:
        archive.add(parse("y*c"), "random", of)
    assert [entry.number for entry in archive.lineage(archive.entries[6])] == [6, 5, 3, 2, 1, 0]
    assert [entry.number for entry in archive.lineage(archive.entries[4])] == [4]


def test_rungs_are_correlated_over_those_that_were_on_both():
    rng = np.random.default_rng(3)
    lower, upper = rng.random(30), rng.random(30)
    archive = Archive(2)
    for k in range(30):
        entry = archive.add(parse("y*c"), "random", ())
        entry.marks[0] = mark([lower[k], lower[k]])
        if k % 2:
            entry.marks[1] = mark([upper[k], upper[k]])
    for _ in range(2):
        assert archive.correlation(0) == pytest.approx(kendalltau(lower[1::2], upper[1::2]).statistic)
        failed = archive.add(parse("y*c"), "random", ())  # says nothing of how the rungs agree
        failed.marks = {0: mark([0.1, 0.2]), 1: mark(None)}
    assert Archive(2).correlation(0) is None


def test_three_rungs_can_be_correlated_and_two_or_all_equal_cannot():
    def correlation(*pairs: tuple[float, float]) -> float | None:
        archive = Archive(2)
        for lower, upper in pairs:
            archive.add(parse("y*c"), "random", ()).marks = {0: mark([lower, lower]), 1: mark([upper, upper])}
        return archive.correlation(0)

    assert correlation((1, 5), (2, 6), (3, 7)) == pytest.approx(1)
    assert correlation((1, 5), (2, 6)) is None
    assert correlation((1, 5), (2, 5), (3, 5)) is None


def test_the_standard_error_is_that_of_paired_differences():
    rng = np.random.default_rng(4)
    a, b = rng.gamma(2, 1, (2, 500)).astype(np.float32)
    differences = a.astype(np.float64) - b
    wanted = math.sqrt(np.var(differences, ddof=1) / 500)
    assert standard_error([a, None], [b, b]) == pytest.approx([wanted, np.inf], rel=1e-8)
    assert Entry(0, parse("y*c"), "seed", ()).complexity == 3
