"""The steps of a search, with made-up strategies, filters and trainings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lossmith.evolution import choice
from lossmith.evolution.archive import Archive, Entry, Mark
from lossmith.evolution.filters import Sifted
from lossmith.evolution.problem import CHOICE, LADDER
from lossmith.evolution.search import Evaluator, Job, Search, mark_of, promote_all, run_generations, trainings
from lossmith.evolution.strategies import Proposal
from lossmith.formulas import Expression, apply, constant, parse
from lossmith.trials.result import TrialResult
from lossmith.trials.trial import Trial
from made_problems import problem, scored

TOP = len(LADDER) - 1


class Counting:
    """Proposes y*1, y*2, ..., each made from candidate 0, and remembers what it is told."""

    def __init__(self, is_blind: bool = False) -> None:
        self.is_blind, self.made = is_blind, 0
        self.asked: list[int] = []
        self.drawn: list[float] = []
        self.learned: list[list[Entry]] = []

    def propose(self, rng: np.random.Generator, count: int) -> list[Proposal]:
        self.asked.append(count)
        self.drawn.append(rng.random())
        self.made += count
        numbers = range(self.made - count + 1, self.made + 1)
        return [Proposal(apply("mul", parse("y"), constant(float(k))), "made up", (0,)) for k in numbers]

    def learn(self, archive: Archive, newest: Sequence[Entry]) -> None:
        assert all(0 in entry.marks and archive.entries[entry.number] is entry for entry in newest)
        self.learned.append(list(newest))


class Every:
    """Filters that let every so manyth candidate pass, as exp of it."""

    def __init__(self, step: int = 1) -> None:
        self.step, self.seen = step, 0
        self.counts = {"duplicate": 0, "too large": 0, "wrong way": 0}

    def sift(self, formulas: Sequence[Expression]) -> list[Sifted]:
        found = []
        for formula in formulas:
            self.seen += 1
            bad = None if self.step and self.seen % self.step == 0 else "wrong way"
            found.append(Sifted(apply("exp", formula), "", bad))
        return found


def made_search(name: str = "tournament", step: int = 1, seeds: Sequence[str] = (), is_blind: bool = False) -> Search:
    return Search(name, Counting(is_blind), Every(step), [parse(text) for text in seeds], (7, 3))  # type: ignore[arg-type]


class Fake:
    """Trains in no time: the score falls with the number of the candidate; remembers jobs by label."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[tuple[int, int]]]] = []

    def evaluate(self, jobs: Sequence[Job], label: str) -> None:
        self.calls += [(label, [(entry.number, rung) for entry, rung in jobs])] if jobs else []
        for entry, rung in jobs:
            assert rung not in entry.marks
            units = np.float32([0.0, 0.0, 0.01, 0.01]) - entry.number
            entry.marks[rung] = Mark((-float(entry.number) + 0.1 * rung,), (units,), (1.0,))


def test_seeds_come_first_and_what_passes_enters_with_its_origin():
    search = made_search(step=2, seeds=("y*c", "y*p", "y", "p"))
    made = search.breed(0, 30)
    assert made == search.archive.entries
    assert [str(entry.formula) for entry in made[:4]] == ["exp(y*p)", "exp(p)", "exp(y*2)", "exp(y*4)"]
    assert [(entry.operator, entry.parents) for entry in made[:3]] == [("seed", ()), ("seed", ()), ("made up", (0,))]
    assert "seed" not in {entry.operator for entry in search.breed(1, 30)}


def test_a_generation_is_as_large_as_asked_for_or_ends_after_forty_tries_each():
    search = made_search(step=10)
    assert 20 <= len(search.breed(0, 20)) <= 20 + 6
    assert set(search.strategy.asked) == {64}
    assert len(made_search().breed(0, 20)) == 64  # a whole batch
    large = made_search(step=2)
    assert len(large.breed(0, 200)) >= 200
    assert large.strategy.asked == [200, 100, 64, 64][: len(large.strategy.asked)]
    barren = made_search(step=0)
    assert barren.breed(0, 64) == []
    assert barren.strategy.made == 40 * 64


def test_no_generation_is_larger_than_what_is_left():
    for step, seeds in ((1, ()), (10, ()), (1, ("y*c",) * 9)):
        for most in (0, 1, 7):
            search = made_search(step=step, seeds=seeds)
            assert len(search.breed(0, 20, most)) == most
            assert search.strategy.made <= 64 * (step if most else 0)  # none is made in vain
    search = made_search()
    assert len(search.breed(0, 3, 500)) == 64
    assert len(search.archive.entries) == 64


def test_random_numbers_follow_from_the_stream_and_the_generation():
    first, second, other = made_search(), made_search(), made_search()
    other.stream = (7, 4)
    for search in (first, second, other):
        for generation in range(3):
            search.breed(generation, 5)
    assert first.strategy.drawn == second.strategy.drawn
    assert len({*first.strategy.drawn, *other.strategy.drawn}) == 6


def test_the_course_tells_how_far_a_search_has_come():
    search = made_search()
    search.note(0, 1.0)
    assert (search.course[0].best, search.course[0].rung, search.course[0].trained) == (math.inf, 0, 0)
    entries = search.breed(0, 3, 3)
    Fake().evaluate([(entry, 0) for entry in entries[:2]], "")
    entries[0].marks[1] = Mark((5.0, 0.0), (None, None), (1.0, 1.0))
    search.screen.counts.update({"duplicate": 20, "too large": 4, "wrong way": 9})
    search.learn(4, entries[:2], 2.5)
    point = search.course[-1]
    assert (point.generation, point.seconds, point.judged, point.trained) == (4, 2.5, 64 - 24, 2)
    assert (point.best, point.rung) == (5.0, 1)
    assert search.strategy.learned == [entries[:2]]


def test_candidates_are_promoted_from_every_rung_but_the_last():
    search = made_search()
    entries = search.breed(0, 4, 4)
    for rung, entry in enumerate(entries):
        entry.marks = {rung: Mark((1.0,), (np.zeros(2, np.float32),), (1.0,))}
    assert search.promotions() == [(entries[0], 1), (entries[1], 2), (entries[2], 3)]


def test_polished_formulas_are_children_of_the_one_that_was_polished():
    search = made_search()
    parent = search.breed(0, 3, 3)[2]
    (child,) = search.take([parse("y*c*2")], parent)
    assert (str(child.formula), child.operator, child.parents, child.number) == ("y*c*2", "constants", (2,), 3)


class Ends:
    """A clock by which the search ends after so many generations."""

    seconds = 0.0

    def __init__(self, generations: int) -> None:
        self.generations = generations

    def is_over(self, phase: str, generation: int) -> bool:
        assert phase == "search"
        return generation >= self.generations

    def mark(self, generation: int) -> None:
        self.seconds = 10.0 * (generation + 1)


def run(evaluations: int | None, *searches: Search, generations: int = 3) -> tuple[Fake, int, int]:
    plan: Any = SimpleNamespace(options=SimpleNamespace(population=20, evaluations=evaluations))
    fake, told = Fake(), []
    clock: Any = Ends(generations)
    count = run_generations(plan, searches, fake, clock, lambda: told.append(clock.seconds))  # type: ignore[arg-type]
    assert told == [10.0 * (k + 1) for k in range(len(told))]
    return fake, count, len(told)


def test_a_search_by_evaluations_trains_exactly_so_many_and_then_whatever_deserves_it():
    both = made_search(), made_search("random", is_blind=True)
    fake, count, told = run(150, *both, generations=0)  # time does not count
    assert count == told == 3
    assert [label for label, _ in fake.calls[:4]] == [
        "generation 0",
        "generation 1",
        "generation 2",
        "longer trainings",
    ]
    for search in both:
        assert len(search.archive.on(0)) == len(search.archive.entries) == 150
        assert [point.trained for point in search.course] == [64, 128, 150, 150]
        assert [point.generation for point in search.course] == [0, 1, 2, 3]
        assert [point.seconds for point in search.course] == [10.0, 20.0, 30.0, 30.0]
        assert [len(newest) for newest in search.strategy.learned] == [64, 64, 22]
        assert search.promotions() == []
        assert search.course[-1].rung == TOP
    assert {rung for _, rung in fake.calls[0][1]} == {0}
    assert {rung for _, rung in fake.calls[1][1]} == {0, 1}  # the best of the generation before
    assert {rung for _, rung in fake.calls[2][1]} == {0, 1, 2}


def test_a_search_by_time_trains_what_random_search_bred_ahead():
    strategy, control = made_search(), made_search("random", is_blind=True)
    fake, count, told = run(None, strategy, control)
    assert count == told == 3
    assert len(strategy.archive.on(0)) == 3 * 64
    assert len(control.archive.on(0)) == len(control.archive.entries) == 4 * 64
    assert [len(newest) for newest in control.strategy.learned] == [64] * 3
    labels = [label for label, _ in fake.calls]
    assert labels[:4] == ["generation 0", "generation 1", "generation 2", "bred ahead"]
    assert set(labels[4:]) == {"longer trainings"}
    assert {rung for _, rung in fake.calls[3][1]} == {0}
    for search in (strategy, control):
        assert search.promotions() == []
        assert search.course[-1].trained == len(search.archive.entries)
        drawn = search.strategy.drawn  # the random numbers of generations 0, 1, ...
        assert drawn == [np.random.default_rng([7, 3, k]).random() for k in range(len(drawn))]


def test_promotion_goes_on_until_nothing_deserves_it():
    search, fake = made_search(), Fake()
    fake.evaluate([(entry, 0) for entry in search.breed(0, 40)], "")
    promote_all([search], fake)  # type: ignore[arg-type]
    assert [rungs for _, of in fake.calls[1:] if (rungs := {rung for _, rung in of})] == [{1}, {2}, {3}]
    assert search.archive.entries[-1].rung == TOP  # the best


class Runs:
    """A runner that scores by a function and fails where that gives nothing."""

    def __init__(self, score: Callable[[Trial], float | None]) -> None:
        self.score, self.labels, self.trained = score, list[str](), list[Trial]()

    def run(self, trials: Sequence[Trial], label: str) -> dict[Trial, TrialResult]:
        self.labels.append(label)
        self.trained += trials
        scores = {trial: self.score(trial) for trial in trials}
        return {t: scored(of, [of - 1, of + 1]) for t, of in scores.items() if of is not None}


def rates_of(evaluator: Evaluator, entry: Entry, rung: int) -> list[list[float]]:
    plan = evaluator.planned(entry, rung)
    return [sorted({trial.optimizer.lr for trials in of.values() for trial in trials}) for of in plan]


@pytest.mark.parametrize("factor", [1, 4])
def test_rates_are_the_references_on_the_rung_times_what_was_best_below(factor):
    """With SGD they are divided by the pull of the loss, which is 4 for 4*y*c."""
    problems = [problem("sgd"), problem("adam", 400)]
    rates = [[0.1, 0.2, 0.3, 0.4], [0.01, 0.02, 0.03, 0.04]]
    evaluator = Evaluator(problems, rates, Runs(lambda trial: 1.0))  # type: ignore[arg-type]
    entry = made_search().archive.add(parse(f"y*c*{factor}"), "seed", ())
    for rung, factors in ((0, (1, 1)), (1, (0.5, 2)), (2, (1, 1)), (3, (1, 1))):
        wanted = [[rates[i][rung] * of / (factor if i == 0 else 1) for of in sorted({*factors})] for i in range(2)]
        assert rates_of(evaluator, entry, rung) == [pytest.approx(of) for of in wanted]

    def mark(*factors: float) -> Mark:
        return Mark((1.0, 1.0), (None, None), factors)

    entry.marks = {0: mark(1.0, 1.0), 1: mark(0.5, 2.0)}
    assert rates_of(evaluator, entry, 2) == [[pytest.approx(0.15 / factor)], [pytest.approx(0.06)]]
    assert rates_of(evaluator, entry, 3) == [[pytest.approx(0.2 / factor)], [pytest.approx(0.08)]]
    entry.marks |= {2: mark(1.0, 0.25), 3: mark(9.0, 9.0)}  # what it achieved there or higher does not count
    assert rates_of(evaluator, entry, 2) == [[pytest.approx(0.15 / factor)], [pytest.approx(0.06)]]
    assert rates_of(evaluator, entry, 3) == [[pytest.approx(0.4 / factor)], [pytest.approx(0.01)]]


def test_a_candidate_is_trained_on_every_problem_with_every_seed():
    problems = [problem(), problem(steps=400)]
    runner = Runs(lambda trial: trial.steps / 100 + trial.optimizer.lr)
    evaluator = Evaluator(problems, [[0.5] * 4] * 2, runner)  # type: ignore[arg-type]
    entries = [made_search().archive.add(parse(text), "seed", ()) for text in ("y*c", "y*p")]
    evaluator.evaluate([(entries[0], 1), (entries[1], 2)], "some label")
    assert runner.labels == ["some label"]
    assert [trial.loss for trial in runner.trained] == ["formula(y*c)"] * 4 + ["formula(y*p)"] * 4
    assert len(set(runner.trained)) == len(runner.trained) == 2 * 2 + 2 * 2
    for problem_, steps in zip(problems, (500, 200), strict=True):
        of = [trial for trial in runner.trained if trial.steps == steps]
        assert len(of) == 2
        assert {trial.seed for trial in of} == {problem_.training("y*c", 1.0, LADDER[1], 0).seed}
    assert list(entries[0].marks) == [1]
    assert entries[0].marks[1].scores == (5.25, 2.25)  # with half the rate
    assert entries[0].marks[1].factors == (0.5, 0.5)
    assert entries[1].marks[2].scores == (10.5, 4.5)
    assert entries[1].marks[2].units[1].tolist() == [3.5, 5.5]


def choice_mark(nats: dict[float, list[float | None]]) -> Mark:
    """The mark of a candidate with these nats by learning-rate factor and seed."""
    plan = trainings(problem(), parse("y*c"), CHOICE, 0.25, (0.5, 1.0, 2.0), "choice")
    results = {
        trial: scored(of, [of, of + 1])
        for factor, trials in plan.items()
        for trial, of in zip(trials, nats[factor], strict=True)
        if of is not None
    }
    assert {trial.ours.data.stage for trials in plan.values() for trial in trials} == {"choice"}
    return mark_of([plan], results)


def test_the_best_rate_by_the_mean_over_seeds_counts():
    mark = choice_mark({0.5: [0.0, 5.0, 7.0], 1.0: [3.0, 3.0, 4.5], 2.0: [9.0, 0.1, 9.0]})
    assert (mark.scores, mark.factors, mark.units[0].tolist()) == ((3.5,), (1.0,), [3.5, 4.5])
    assert choice_mark({0.5: [9.0] * 3, 1.0: [2.0] * 3, 2.0: [2.0] * 3}).factors == (1.0,)  # the smaller of equals


def test_a_rate_with_a_failed_seed_is_out_and_with_none_left_the_candidate_is():
    mark = choice_mark({0.5: [0.0, 0.0, None], 1.0: [0.0, math.inf, 0.0], 2.0: [8.0] * 3})
    assert (mark.scores, mark.factors) == ((8.0,), (2.0,))
    mark = choice_mark({0.5: [0.0, 0.0, None], 1.0: [0.0, math.inf, 0.0], 2.0: [None] * 3})
    assert (mark.scores, mark.units) == ((math.inf,), (None,))
    assert mark.spreads == (math.inf,)


TEXTS = [f"y*c{'*p' * k}" for k in range(13)]


def finals(scores: Sequence[Any], *, problems: int = 1) -> tuple[list[choice.Finalist], Runs, Search]:
    """The finalists among candidates of growing size that score so on the choice part, by problem; None fails.

    In the search each was a little worse than the one before.
    """
    search = made_search()
    for k, text in enumerate(TEXTS[: len(scores)]):
        units = np.full(4, k, np.float32)
        search.archive.add(parse(text), "random", ()).marks[0] = Mark(
            (float(k),) * problems, (units,) * problems, (1.0,)
        )
    of = {f"formula({parse(text)})": score for text, score in zip(TEXTS, scores, strict=False)}
    asked = [problem(steps=100 * (i + 1)) for i in range(problems)]
    runner = Runs(lambda trial: np.atleast_1d(of[trial.loss])[trial.steps // 100 - 1])
    evaluator = Evaluator(asked, [[9.0, 9.0, 9.0, 0.25]] * problems, runner)  # type: ignore[arg-type]
    return choice.choose([search], evaluator, runner)[search], runner, search  # type: ignore[arg-type]


def numbers(finalists: Sequence[choice.Finalist]) -> list[int]:
    return [finalist.entry.number for finalist in finalists]


def test_the_ten_best_are_trained_anew_in_full_with_three_seeds_and_rates():
    found, runner, _ = finals([20.0 - k for k in range(13)])
    assert numbers(found) == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert [finalist.chosen for finalist in found] == [True] + [False] * 9
    assert [finalist.mark.scores[0] for finalist in found] == [11.0 + k for k in range(10)]
    assert runner.labels == ["choosing"]
    assert len(set(runner.trained)) == len(runner.trained) == 10 * 3 * 3
    assert {trial.optimizer.lr for trial in runner.trained} == {0.125, 0.25, 0.5}
    assert {(trial.ours.data.stage, trial.steps, trial.ours.tabulated) for trial in runner.trained} == {  # type: ignore[attr-defined]
        ("choice", 100, False)
    }


def test_finalists_that_fail_are_out_and_the_smaller_of_equals_wins():
    found, *_ = finals([None, 2.0, 1.0, 1.0, math.inf])
    assert numbers(found) == [2, 3, 1]
    assert finals([None, None])[0] == []
    assert finals([])[0] == []


def test_on_several_problems_the_mean_rank_decides():
    """The first is first on one problem and last on the other; in nats it would win."""
    found, *_ = finals([(0.0, 3.2), (50.0, 3.0), (51.0, 3.1)], problems=2)
    assert numbers(found) == [1, 0, 2]
    assert finals([(1.0, None)], problems=2)[0] == []


def test_each_search_has_a_winner_of_its_own():
    searches = [made_search(), made_search("random")]
    for search, text in zip(searches, ("y*c", "y*p"), strict=True):
        search.archive.add(parse(text), "seed", ()).marks[0] = Mark((1.0,), (np.zeros(2, np.float32),), (1.0,))
    runner = Runs(lambda trial: 1.0 if "c" in trial.loss else 2.0)
    evaluator = Evaluator([problem()], [[0.5] * 4], runner)  # type: ignore[arg-type]
    found = choice.choose(searches, evaluator, runner)  # type: ignore[arg-type]
    assert [[str(one.entry.formula) for one in found[search] if one.chosen] for search in searches] == [
        ["y*c"],
        ["y*p"],
    ]


def test_the_error_of_a_finalist_is_that_of_its_difference_from_the_winner():
    def finalist(*units: float) -> choice.Finalist:
        return choice.Finalist(Entry(0, parse("y*c"), "seed", ()), Mark((0.0,), (np.float32(units),), (1.0,)), False)

    winner, other = finalist(5.0, 1.0, 9.0, 2.0), finalist(5.0, 1.0, 9.0, 6.0)
    assert other.error(winner) == pytest.approx(1.0)  # of 0, 0, 0 and 4
    assert winner.error(winner) == 0.0
