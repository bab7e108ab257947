"""The search: generations of candidates are made, sifted, trained, and promoted to longer trainings."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final

import numpy as np

from lossmith.data.spec import Stage
from lossmith.evolution.archive import Archive, Entry, Mark
from lossmith.evolution.clock import Clock
from lossmith.evolution.filters import Screen
from lossmith.evolution.findings import CoursePoint
from lossmith.evolution.plan import SearchPlan
from lossmith.evolution.problem import LADDER, Problem, Rung, mean_units
from lossmith.evolution.strategies import Proposal, Strategy
from lossmith.formulas import Expression
from lossmith.trials.result import TrialResult
from lossmith.trials.runner import Runner
from lossmith.trials.trial import Trial

_TRIES: Final = 40
"""Candidates that are made at most for each that passes the filters."""
_BATCH: Final = 64
"""Candidates that are sifted at a time, at least."""

POLISHED: Final = "constants"
"""How candidates are made that differ from others in polished constants; no filter saw them."""

Results = Mapping[Trial, TrialResult]
Plan = list[dict[float, list[Trial]]]
"""The trainings of a candidate: for each problem those with each learning-rate factor."""
Job = tuple[Entry, int]
"""A candidate with a rung to train it on."""


class Evaluator:
    """Plans the trainings of candidates and reads their results.

    Args:
        problems: what they are trained on.
        rates: the reference's learning rate for each problem on each rung.
        runner: what runs the trainings.
    """

    def __init__(self, problems: Sequence[Problem], rates: Sequence[Sequence[float]], runner: Runner) -> None:
        self.problems, self.rates, self.runner = problems, rates, runner

    def evaluate(self, jobs: Sequence[Job], label: str) -> None:
        """Train candidates on rungs and write down what they achieve.

        Args:
            jobs: the candidates.
            label: what this is called in the progress display.
        """
        plans = [(entry, rung, self.planned(entry, rung)) for entry, rung in jobs]
        results = self.runner.run([trial for *_, plan in plans for trial in trials_of(plan)], label)
        for entry, rung, plan in plans:
            entry.marks[rung] = mark_of(plan, results)

    def planned(self, entry: Entry, rung: int) -> Plan:
        """The trainings of a candidate on a rung, by learning-rate factor, for each problem."""
        of, below = LADDER[rung], [entry.marks[k] for k in sorted(entry.marks) if k < rung]
        factors = below[-1].factors if below else (1.0,) * len(self.problems)
        return [
            trainings(problem, entry.formula, of, self.rates[i][rung], of.factors or (factors[i],))
            for i, problem in enumerate(self.problems)
        ]


def trainings(
    problem: Problem,
    formula: Expression,
    rung: Rung,
    rate: float,
    factors: Sequence[float],
    stage: Stage = "search",
) -> dict[float, list[Trial]]:
    """The trainings of a candidate on one problem, by learning-rate factor."""
    text, scale = str(formula), problem.scale(formula)
    return {
        factor: [problem.training(text, rate * factor / scale, rung, repeat, stage) for repeat in range(rung.seeds)]
        for factor in factors
    }


def trials_of(plan: Plan) -> list[Trial]:
    """All trainings of a candidate."""
    return [trial for of_problem in plan for trials in of_problem.values() for trial in trials]


def mark_of(plan: Plan, results: Results) -> Mark:
    """What a candidate achieved: its best learning rate on each problem."""
    best = []
    for of_problem in plan:
        tried = {factor: mean_units(trials, results) for factor, trials in of_problem.items()}
        means = {
            factor: np.inf if tried[factor] is None else float(np.mean([results[t].scores["nll"] for t in trials]))
            for factor, trials in of_problem.items()
        }
        factor = min(means, key=lambda f: (means[f], f))
        best.append((means[factor], tried[factor], factor))
    scores, units, factors = zip(*best, strict=True)
    return Mark(scores, units, factors)


class Search:
    """One search: a strategy with the filters that its candidates pass and the archive that they enter.

    Args:
        name: of the strategy.
        strategy: makes candidates.
        screen: the filters.
        seeds: formulas of the first generation.
        stream: what its random numbers are drawn from.

    Attributes:
        archive: the candidates.
        course: how far it had come after each generation.
    """

    def __init__(
        self, name: str, strategy: Strategy, screen: Screen, seeds: Sequence[Expression], stream: tuple[int, ...]
    ) -> None:
        self.name, self.strategy, self.screen, self.seeds, self.stream = name, strategy, screen, seeds, stream
        self.archive = Archive(len(LADDER))
        self.course: list[CoursePoint] = []

    @property
    def judged(self) -> int:
        """Distinct canonical forms that a filter rejected or that passed all of them, and polished ones."""
        counts = self.screen.counts
        polished = sum(entry.operator == POLISHED for entry in self.archive.entries)
        return self.screen.seen - counts["duplicate"] - counts["too large"] + polished

    def breed(self, generation: int, count: int, most: int | None = None) -> list[Entry]:
        """Make the candidates of a generation that pass the filters.

        Args:
            generation: its number.
            count: how many are wanted; there are fewer where few are found, and more where a batch holds more.
            most: how many there may be; ``None`` for no limit.

        Returns:
            The candidates.
        """
        rng = np.random.default_rng([*self.stream, generation])
        count = count if most is None else min(count, most)
        proposals = [Proposal(formula, "seed") for formula in self.seeds] if generation == 0 else []
        entries, tried = self._sifted(proposals, most), 0
        while len(entries) < count and tried < _TRIES * count:
            made = self.strategy.propose(rng, max(_BATCH, count - len(entries)))
            tried += len(made)
            entries += self._sifted(made, None if most is None else most - len(entries))
        return entries

    def learn(self, generation: int, newest: Sequence[Entry], seconds: float) -> None:
        """Take in a generation that has been trained."""
        self.strategy.learn(self.archive, newest)
        self.note(generation, seconds)

    def note(self, generation: int, seconds: float) -> None:
        """Note how far the search has come."""
        highest = self.archive.highest
        scores = [entry.marks[highest].scores[0] for entry in self.archive.on(highest)]
        best = min(scores, default=np.inf)
        trained = sum(bool(entry.marks) for entry in self.archive.entries)
        self.course.append(CoursePoint(generation, seconds, self.judged, trained, best, highest))

    def promotions(self) -> list[Job]:
        """The candidates to train on a higher rung, each with the rung."""
        return [(entry, k + 1) for k in range(len(LADDER) - 1) for entry in self.archive.promotable(k)]

    def take(self, formulas: Sequence[Expression], parent: Entry) -> list[Entry]:
        """The candidates that formulas with other constants become.

        No filter is applied: *same gradient* compares three digits and would reject them.
        """
        return [self.archive.add(formula, POLISHED, (parent.number,)) for formula in formulas]

    def _sifted(self, proposals: Sequence[Proposal], most: int | None) -> list[Entry]:
        sifted = self.screen.sift([proposal.formula for proposal in proposals])
        pairs = zip(proposals, sifted, strict=True)
        passed = [(found.expression, proposal) for proposal, found in pairs if found.rejected is None]
        return [self.archive.add(formula, of.operator, of.parents) for formula, of in passed[:most]]


def run_generations(
    plan: SearchPlan, searches: Sequence[Search], evaluator: Evaluator, clock: Clock, told: Callable[[], None]
) -> int:
    """Search until the time or the evaluations are used up.

    All searches train a generation together, with those that the generation before promoted. Where time is the limit,
    random search is bred while the others train, and ends with one generation more than they.

    Args:
        plan: the plan.
        searches: the strategy's and its control.
        evaluator: trains the candidates.
        clock: knows how long it took before, where a search is resumed.
        told: called after each generation.

    Returns:
        The number of generations.
    """
    size, limit = plan.options.population, plan.options.evaluations
    with ThreadPoolExecutor(1) as ahead:
        bred: dict[Search, Future[list[Entry]]] = {}
        for generation in itertools.count():
            if limit is None and clock.is_over("search", generation):
                break
            left = {search: None if limit is None else limit - len(search.archive.on(0)) for search in searches}
            newest = {
                search: bred.pop(search).result() if search in bred else search.breed(generation, size, left[search])
                for search in searches
            }
            if not any(newest.values()):
                break
            jobs = [job for search, of in newest.items() for job in (*_first(of), *search.promotions())]
            if limit is None:  # what does not look at results is bred while the others train
                blind = [search for search in searches if search.strategy.is_blind]
                bred = {search: ahead.submit(search.breed, generation + 1, size) for search in blind}
            evaluator.evaluate(jobs, f"generation {generation}")
            wait(bred.values())
            clock.mark(generation)
            for search, of in newest.items():
                search.learn(generation, of, clock.seconds)
            told()
        evaluator.evaluate([job for of in bred.values() for job in _first(of.result())], "bred ahead")
    promote_all(searches, evaluator)
    for search in searches:
        search.note(generation, clock.seconds)
    return generation


def promote_all(searches: Sequence[Search], evaluator: Evaluator) -> None:
    """Train on higher rungs whatever deserves it, until nothing does."""
    while jobs := [job for search in searches for job in search.promotions()]:
        evaluator.evaluate(jobs, "longer trainings")


def _first(entries: Sequence[Entry]) -> list[Job]:
    """New candidates, to be trained on the first rung."""
    return [(entry, 0) for entry in entries]
