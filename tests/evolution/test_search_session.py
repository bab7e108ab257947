"""Tiny searches from beginning to end: budgets, determinism, interruptions, failures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossmith.evolution import session
from lossmith.evolution.archive import Mark
from lossmith.evolution.grammar import Grammar
from lossmith.evolution.polish import _Start
from lossmith.evolution.search import Search
from lossmith.evolution.session import SearchError
from lossmith.formulas import parse
from lossmith.trials import training
from tiny_search import Quiet, planned, searched, without_seconds

FILES = ("hall_of_fame.csv", "evolution.json", "best.loss")


@pytest.fixture
def no_comparison(monkeypatch):
    """A search that ends with the choice."""
    monkeypatch.setattr(session, "compare_all", lambda *_: [type("Compared", (), {"folder": "comparisons/1"})])
    monkeypatch.setattr(session, "sentence", lambda *_: "It is what it is.")


def files(folder: Path) -> dict[str, Any]:
    found = {name: (folder / name).read_text() for name in FILES}
    return found | {"evolution.json": without_seconds(found["evolution.json"])}


@pytest.mark.usefixtures("no_comparison")
@pytest.mark.parametrize(
    "number", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
def test_the_same_is_found_by_any_number_of_workers(tmp_path, number):
    searched(tmp_path / "0" / "run", workers=0, evaluations=20)
    wanted = files(tmp_path / "0" / "run")
    assert wanted["evolution.json"]["finished"]
    assert wanted["hall_of_fame.csv"].count("\n") > 10
    searched(tmp_path / "n" / "run", workers=number, evaluations=20)
    assert files(tmp_path / "n" / "run") == wanted


class Interrupting(Quiet):
    """Ctrl-C after so many calls."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def advance(self, trainings: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.usefixtures("no_comparison")
def test_interrupted_and_resumed_it_finds_the_same(tmp_path):
    counter = Interrupting(10**9)
    searched(tmp_path / "whole" / "run", watcher=counter, evaluations=20)
    wanted, units = files(tmp_path / "whole" / "run"), 10**9 - counter.left
    folder, rng, stopped = tmp_path / "stopped" / "run", np.random.default_rng(0), 0
    for _ in range(5):
        try:
            searched(folder, watcher=Interrupting(int(rng.integers(1, units / 2))), evaluations=20)
        except KeyboardInterrupt:
            stopped += 1
            if (folder / "evolution.json").is_file():
                found = without_seconds((folder / "evolution.json").read_text())
                assert not found["finished"]
                until = "the winner was compared" if found["winner"] else "a winner was chosen"
                assert found["verdict"] == f"The search was stopped before {until}."
    assert stopped > 1
    searched(folder, evaluations=20)
    assert files(folder) == wanted


def test_stopped_in_the_comparison_it_tells_the_winner(tmp_path, monkeypatch):
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "compare_all", stopped)
    with pytest.raises(KeyboardInterrupt):
        searched(tmp_path / "run")
    found = without_seconds((tmp_path / "run" / "evolution.json").read_text())
    assert not found["finished"]
    assert found["winner"] == (tmp_path / "run" / "best.loss").read_text().strip()
    assert [choice["chosen"] for choice in found["choices"]].count(True) == 2
    assert "before the winner was compared" in found["verdict"]


@pytest.mark.usefixtures("no_comparison")
@pytest.mark.parametrize(
    ("strategy", "evaluations", "more"),
    [("pareto", 25, {"also": ("iris:mlp:width=8",), "optimizer": "sgd"}), ("random", 33, {"time": True})],
)
def test_both_searches_train_as_many_as_were_asked_for(tmp_path, strategy, evaluations, more):
    found = searched(tmp_path / "run", strategy=strategy, evaluations=evaluations, **more)
    assert {len(member.scores) for member in found.searches[0].hall_of_fame} == {1 + ("also" in more)}
    assert [search.strategy for search in found.searches] == list(dict.fromkeys([strategy, "random"]))
    for search in found.searches:
        assert search.trained[0] == evaluations
        judged = search.course[-1].judged
        assert judged >= evaluations + sum(search.filters.values()) - search.filters["duplicate"]
    assert (found.control_winner is None) == (strategy == "random")


def test_a_search_that_finds_nothing_new_does_not_keep_the_other_one_going(monkeypatch):
    """The strategy is stuck after its first generation."""
    plan, _ = planned(evaluations=40, population=20)
    searches = session.make_searches(plan)
    breed = Search.breed

    def stuck(self: Search, generation: int, count: int, most: int | None = None) -> list[Any]:
        return [] if self.name == "tournament" and generation else breed(self, generation, count, most)

    class Perfect:
        def evaluate(self, jobs: Any, label: str) -> None:
            for entry, rung in jobs:
                entry.marks[rung] = Mark((1.0,), (np.zeros(2, np.float32),), (1.0,))

    from lossmith.evolution.clock import Clock
    from lossmith.evolution.search import run_generations

    monkeypatch.setattr(Search, "breed", stuck)
    clock = Clock(Path("/nonexistent/clock.json"), {"search": None})
    monkeypatch.setattr(clock, "_write", lambda: None)
    run_generations(plan, searches, Perfect(), clock, lambda: None)  # type: ignore[arg-type]
    stopped, went_on = (len(search.archive.on(0)) for search in searches)
    assert 20 <= stopped < went_on == 40


@pytest.mark.usefixtures("no_comparison")
def test_candidates_that_fail_are_results(tmp_path, monkeypatch):
    """Every training of a formula with a sine or an exponential raises; whole stacks with one of them do, too."""
    train = training.train_candidates

    def failing(trials: Any, *rest: Any) -> Any:
        if any("exp" in trial.loss or "sin" in trial.loss for trial in trials):
            raise ArithmeticError("too wild")
        return train(trials, *rest)

    monkeypatch.setattr(training, "train_candidates", failing)
    found = searched(tmp_path / "run")
    assert found.finished
    for search in found.searches:
        assert 0 < search.failed < 30
        assert search.trained[0] == 30
        assert not any("exp" in m.formula for m in search.hall_of_fame if math.isfinite(m.scores[0]))
        assert math.isfinite(search.hall_of_fame[0].fitness)
    assert "exp" not in found.winner


def test_a_search_in_which_nothing_can_be_trained_ends_with_a_sentence(tmp_path, monkeypatch):
    train = training.train_candidates

    def failing(trials: Any, *rest: Any) -> Any:
        if any(trial.loss != "formula(-y*log(p))" for trial in trials):
            raise MemoryError
        return train(trials, *rest)

    monkeypatch.setattr(training, "train_candidates", failing)
    with pytest.raises(SearchError, match=r"no loss of \d+ could be trained on iris"):
        searched(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.usefixtures("no_comparison")
def test_a_search_limited_by_time_that_is_done_finds_the_same_again(tmp_path):
    """All trainings are kept, and the clock says where it ended."""
    options = {"also": ("iris:mlp:width=8",), "evaluations": None, "minutes": 0.05, "time": True}
    found = searched(tmp_path / "run", **options)
    assert found.problems == ("iris:linear", "iris:mlp:width=8")
    assert (tmp_path / "run" / "clock.json").is_file()
    assert searched(tmp_path / "run", **options) == found


def test_no_candidate_stops_the_search_by_a_learning_rate_that_is_no_number():
    """Its pull at the uniform prediction may vanish on a problem that the filters do not know."""
    plan, _ = planned(optimizer="sgd")
    problem = plan.problems[0]
    assert problem.scale(parse("3*y*c")) == pytest.approx(3)
    for text in ("y*(n - 3)*c", "y*c/0", "y*c*exp(exp(exp(n)))"):
        assert problem.scale(parse(text)) == 1.0
    adam, _ = planned()
    assert adam.problems[0].scale(parse("3*y*c")) == 1.0


def test_polishing_finds_the_minimum_of_a_bowl_whatever_the_units_of_the_problems():
    """Two problems, one in nats a million times as large; a constant that fails is the worst."""
    archive = session.make_searches(planned()[0])[0].archive
    entry = archive.add(parse("2*y*c + 3*p"), "seed", ())
    start = _Start(entry, np.random.default_rng(0))
    target = np.array([2.6, 2.2])
    best = np.inf
    for _ in range(25):
        scores = []
        for formula in start.ask():
            values = np.array([node.value for node in _constants(formula)])
            far = float(((values - target) ** 2).sum()) if len(values) == 2 else np.inf
            best = min(best, far)
            scores.append((np.inf, np.inf) if values[:1].max(initial=0) > 4 else (1 + far, 1e6 * far))
        start.tell(scores)
    assert best < 0.01


def _constants(formula: Any) -> list[Any]:
    from lossmith.formulas.edit import subtrees

    return [node for node in subtrees(formula) if node.is_constant]


def test_breeding_follows_from_the_seed_alone():
    grammar = Grammar(terminals=("p", "y", "c", "n"))
    made = []
    for _ in range(2):
        search = session.make_searches(planned()[0], grammar)[1]
        made.append([str(entry.formula) for generation in range(3) for entry in search.breed(generation, 15)])
    assert made[0] == made[1]
    assert len(set(made[0])) == len(made[0]) >= 45
