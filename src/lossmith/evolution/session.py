"""Carries out a search, from the plan to a finished run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec

from lossmith.comparison.files import write_file
from lossmith.comparison.plan import derive_seed
from lossmith.comparison.session import running
from lossmith.endings import Stopped
from lossmith.evolution.archive import Entry
from lossmith.evolution.choice import Finalist, audit, choose
from lossmith.evolution.clock import Clock
from lossmith.evolution.filters import Screen
from lossmith.evolution.final import Compared, compare_all, comparison_options, sentence
from lossmith.evolution.findings import FILE, Found
from lossmith.evolution.grammar import Grammar
from lossmith.evolution.hall_csv import write_hall_of_fame
from lossmith.evolution.outcome import choices_of, rung_findings, search_findings, table_error
from lossmith.evolution.plan import SearchPlan
from lossmith.evolution.polish import polish
from lossmith.evolution.problem import LADDER, tuned_rates
from lossmith.evolution.search import Evaluator, Search, promote_all, run_generations
from lossmith.evolution.strategies import make_strategy
from lossmith.evolution.watching import Watcher
from lossmith.losses.text import LossText
from lossmith.trials.executors import MakeExecutor
from lossmith.trials.runner import Runner
from lossmith.trials.trial import Sources

_FOR_POLISHING: Final = 0.1
"""The share of the time that polishes constants."""
_POLISHING_ROUNDS: Final = 4
"""Rounds of polishing of a search that is limited by evaluations."""


class SearchError(RuntimeError):
    """A search that found nothing; the message is one sentence."""


@dataclass(frozen=True)
class _Session:
    """What the stages of a search share."""

    plan: SearchPlan
    searches: tuple[Search, ...]
    reference_score: tuple[float, ...]
    chosen: dict[Search, list[Finalist]] = field(default_factory=dict)

    def winner_of(self, search: Search) -> Entry | None:
        """The candidate of a search that was chosen; ``None`` before the choice, or where none could be trained."""
        finalists = self.chosen.get(search)
        return finalists[0].entry if finalists else None

    @property
    def winners(self) -> tuple[str, str | None]:
        """The text forms of the winner, "" before the choice, and of random search's, ``None`` where there is none."""
        texts = [None if entry is None else _text(entry.formula) for entry in map(self.winner_of, self.searches)]
        return texts[0] or "", texts[1] if len(texts) > 1 else None

    @property
    def known(self) -> str | None:
        """The name of the winner, if the search began with it."""
        winner = self.winner_of(self.searches[0])
        if winner is None or winner.operator != "seed":
            return None
        return next((name for name, seed in self.plan.seeds.items() if seed == str(winner.formula)), None)

    def found(self) -> Found:
        """The findings of a search that is stopped now."""
        plan, (winner, control) = self.plan, self.winners
        until = "the winner was compared" if winner else "a winner was chosen"
        return Found(
            name=plan.name,
            problems=tuple(problem.name for problem in plan.problems),
            examples=plan.examples,
            classes=plan.problems[0].classes,
            steps=plan.problems[0].trial.steps,
            reference_score=self.reference_score,
            searches=tuple(
                search_findings(search, len(plan.problems), self.winner_of(search)) for search in self.searches
            ),
            rungs=rung_findings(plan, self.searches[0], {}),
            table_error=table_error(self.searches, plan.problems[0].classes),
            choices=choices_of(self.chosen),
            winner=winner,
            known=self.known,
            control_winner=control,
            finished=False,
            comparisons=(),
            verdict=f"The search was stopped before {until}.",
        )


def carry_out_search(
    plan: SearchPlan,
    sources: Sources,
    folder: Path,
    *,
    workers: int = 1,
    time_limit: float | None = None,
    watcher: Watcher | None = None,
    make_executor: MakeExecutor | None = None,
) -> Found:
    """Carry out a search, or what is left of it, and write its results.

    Trainings are kept in ``ledger.sqlite`` beside the run folder. ``hall_of_fame.csv`` is replaced after each
    generation. A search limited by evaluations finds the same for any number of workers, resumed or not.

    Args:
        plan: the plan.
        sources: where data and models lie.
        folder: the run folder.
        workers: number of workers.
        time_limit: seconds that a training may take before it counts as failed.
        watcher: told how far it has come.
        make_executor: makes the executor that trains; ``None``: processes of this machine.

    Returns:
        The findings, as written to the folder.

    Raises:
        KeyboardInterrupt: on Ctrl-C; what was found so far has been written.
        SearchError: if no loss could be trained.
        TrainingFailedError: if trainings of the reference fail.
    """
    with running(
        plan,
        sources,
        folder,
        workers=workers,
        time_limit=time_limit,
        progress=watcher,
        make_executor=make_executor,
    ) as runner:
        return _carried_out(plan, sources, folder, runner, watcher)


def _carried_out(plan: SearchPlan, sources: Sources, folder: Path, runner: Runner, watcher: Watcher | None) -> Found:
    rates, scores = tuned_rates(plan.problems, LADDER, runner)
    session = _Session(plan, make_searches(plan), tuple(scores[0]))
    evaluator = Evaluator(plan.problems, rates, runner)
    try:
        _search(session, evaluator, folder, watcher)
        found = _concluded(session, evaluator, sources, folder, runner)
    except (KeyboardInterrupt, Stopped, ValueError, RuntimeError) as error:  # what was found until then is shown
        if not isinstance(error, SearchError) and any(search.archive.on(0) for search in session.searches):
            _write(session.found(), folder)
        raise
    _write(found, folder)
    return found


def make_searches(plan: SearchPlan, grammar: Grammar | None = None) -> tuple[Search, ...]:
    """The strategy's search and random search, its control, each with filters of its own.

    Args:
        plan: the plan.
        grammar: what formulas are made of; ``None``: what the plan says.

    Returns:
        The searches; one where the strategy is random search.
    """
    options = plan.options
    terminals = ("p", "y", "c", "n", *(("t",) if options.time else ()))
    grammar = grammar or Grammar(terminals=terminals, max_depth=options.max_depth, max_size=options.max_size)
    names = dict.fromkeys([options.strategy, "random"])
    return tuple(
        Search(
            name,
            make_strategy(name, grammar, options.population),
            Screen(plan.problems[0].classes, grammar),
            plan.formulas,
            (options.seed, derive_seed(0, name)),
        )
        for name in names
    )


def _search(session: _Session, evaluator: Evaluator, folder: Path, watcher: Watcher | None) -> None:
    plan, searches = session.plan, session.searches
    seconds = None if plan.minutes is None else 60 * plan.minutes
    limits = {
        "search": None if seconds is None else (1 - _FOR_POLISHING) * seconds,
        "polish": seconds,
    }
    clock = Clock(folder / "clock.json", limits)
    if watcher is not None:
        watcher.begin(seconds, plan.options.evaluations)

    def told() -> None:
        found = tuple(search_findings(search, len(plan.problems)) for search in searches)
        write_hall_of_fame(found, folder)
        if watcher is not None:
            watcher.generation(found, clock.seconds)

    generations = run_generations(plan, searches, evaluator, clock, told)
    rounds = _POLISHING_ROUNDS if seconds is None else None
    polish(searches, evaluator, clock, generations, rounds, told)
    promote_all(searches, evaluator)
    for search in searches:
        search.note(len(clock.marks), clock.seconds)
    told()


def _concluded(session: _Session, evaluator: Evaluator, sources: Sources, folder: Path, runner: Runner) -> Found:
    plan, searches = session.plan, session.searches
    audited = audit(searches[0], evaluator, (plan.options.seed, derive_seed(0, "audit")))
    session.chosen.update(choose(searches, evaluator, runner))
    winner, control = session.winners
    if not winner:
        reason = next(iter(runner.failures.values()), "all of them diverged")
        count = len(searches[0].archive.entries)
        raise SearchError(f"no loss of {count:,} could be trained on {plan.name}; the first failed: {reason}")
    write_file(folder / "best.loss", winner + "\n")
    options = comparison_options(plan.options, [winner, *([control] if control else [])])
    compared: Sequence[Compared] = compare_all(options, winner, control, sources, runner, folder)
    return replace(
        session.found(),
        rungs=rung_findings(plan, searches[0], audited),
        finished=True,
        comparisons=tuple(each.folder for each in compared),
        verdict=sentence(compared[0], winner, session.known, plan.name, plan.examples[2]),
    )


def _text(formula: object) -> str:
    return str(LossText("formula", str(formula)))


def _write(found: Found, folder: Path) -> None:
    write_file(folder / FILE, msgspec.json.format(msgspec.json.encode(found), indent=1).decode() + "\n")
