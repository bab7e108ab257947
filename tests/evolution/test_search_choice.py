"""The choice is made on examples that the search has not seen, and the final part is read once, at the end."""

from __future__ import annotations

import math
import sqlite3
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossmith.catalog import create
from lossmith.comparison.plan import make_plan
from lossmith.evolution import choice, session
from lossmith.evolution.archive import Archive, Mark
from lossmith.evolution.final import comparison_options
from lossmith.evolution.options import SearchOptions
from lossmith.evolution.problem import LADDER
from lossmith.formulas import parse
from lossmith.trials.ledger import Ledger
from lossmith.trials.runner import Runner
from lossmith.trials.training import splits_of
from lossmith.trials.trial import SearchTrainer, Sources, Trial
from tiny_search import TINY, searched


class Spied:
    """A whole search with all it trained, in order, and what was read of the final part before the comparison."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trials: list[Trial] = []
        self.opened: list[Trial] = []
        self.before: int | None = None
        self.looks = 0
        run, look, compare = Runner.run, Ledger.open_test, session.compare_all
        self.audited: dict[int, tuple[int, int]] = {}
        audit = session.audit

        def watched_run(runner: Runner, trials: Any, label: str = "training") -> Any:
            self.trials += trials
            return run(runner, trials, label)

        def watched_look(ledger: Ledger, trial: Trial) -> Any:
            self.opened.append(trial)
            return look(ledger, trial)

        def watched_compare(*arguments: Any) -> Any:
            self.before, self.searched = len(self.opened), list(self.trials)
            with sqlite3.connect(folder.parent / "ledger.sqlite") as ledger:
                (self.looks,) = ledger.execute("SELECT count(*) FROM test_scores").fetchone()
            ledger.close()
            return compare(*arguments)

        def watched_audit(*arguments: Any) -> Any:
            self.audited = audit(*arguments)
            return self.audited

        monkeypatch.setattr(Runner, "run", watched_run)
        monkeypatch.setattr(Ledger, "open_test", watched_look)
        monkeypatch.setattr(session, "compare_all", watched_compare)
        monkeypatch.setattr(session, "audit", watched_audit)
        self.found = searched(folder, transfer=("iris:mlp:width=8",), label_noise=0.1, evaluations=40)


@pytest.fixture(scope="module")
def spied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spied") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        found = Spied(folder, monkeypatch)
    found.folder = folder
    return found


def rows(trial: Trial, *parts: str) -> set[int]:
    splits = splits_of(trial, Sources({"iris": "iris"}))
    return {row for part in parts for row in getattr(splits, part).index.tolist()}


def test_nothing_is_read_of_the_final_part_before_the_comparison(spied):
    assert spied.before == 0
    assert spied.looks == 0
    assert not any(trial.final for trial in spied.searched)
    assert spied.opened


def test_no_row_of_the_final_part_or_the_choice_is_in_the_search(spied):
    of_stage: dict[str, set[int]] = defaultdict(set)
    for data in {trial.ours.data for trial in spied.searched}:
        trial = next(trial for trial in spied.searched if trial.ours.data == data)
        assert isinstance(trial.trainer, SearchTrainer)
        of_stage[data.stage] |= rows(trial, "valid") | (rows(trial, "train") if data.stage == "search" else set())
        of_stage["trained on"] |= rows(trial, "train")
    final = {row for trial in spied.opened for row in rows(trial, "test")}
    assert set(of_stage) == {"search", "choice", "trained on"}
    assert final.isdisjoint(of_stage["search"] | of_stage["choice"] | of_stage["trained on"])
    assert of_stage["search"].isdisjoint(of_stage["choice"])
    assert of_stage["trained on"] == of_stage["search"]
    assert len(final) == spied.found.examples[2]
    assert (len(of_stage["search"]), len(of_stage["choice"])) == spied.found.examples[:2]
    assert {trial.ours.title for trial in spied.opened} == {"linear", "mlp:width=8"}  # also on another model


def test_seeds_of_the_choice_are_fresh(spied):
    seeds = defaultdict(set)
    for trial in spied.searched:
        seeds[trial.ours.data.stage].add(trial.seed)
    assert seeds["search"].isdisjoint(seeds["choice"])
    assert len(seeds["choice"]) == 3


def test_the_winner_has_the_best_mean_on_the_choice_part(spied):
    means: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    with Ledger(spied.folder.parent / "ledger.sqlite") as ledger:
        for trial in dict.fromkeys(t for t in spied.searched if t.ours.data.stage == "choice"):
            result = ledger.get(trial)
            means[trial.loss][trial.optimizer.lr].append(math.inf if result is None else result.scores["nll"])
    best = {loss: min(np.mean(scores) for scores in of.values()) for loss, of in means.items()}
    assert all(len(scores) == 3 for of in means.values() for scores in of.values())
    assert all(len(of) == 3 for of in means.values())  # learning rates
    for search in spied.found.searches:
        of = [each for each in spied.found.choices if each.strategy == search.strategy]
        assert 1 <= len(of) <= choice.FINALISTS
        for each in of:
            assert each.score == pytest.approx(best[f"formula({each.formula})"], rel=1e-3)
        assert [each.chosen for each in of] == [True] + [False] * (len(of) - 1)
        assert of[0].score == min(each.score for each in of)
        assert of[0].error == 0
    assert spied.found.winner == f"formula({spied.found.choices[0].formula})"
    assert (spied.folder / "best.loss").read_text() == spied.found.winner + "\n"


def test_the_audit_counts_what_was_dropped(spied):
    top = len(LADDER) - 1
    trained = spied.found.searches[0].trained
    assert set(spied.audited) == set(range(top))
    assert sum(count for count, _ in spied.audited.values()) <= choice.AUDITED
    for rung, (count, kept) in spied.audited.items():
        assert 0 <= kept <= count <= trained[rung]
        assert (spied.found.rungs[rung].audited, spied.found.rungs[rung].would_have_passed) == (count, kept)


def test_the_verdict_is_of_the_winner_on_the_final_part(spied):
    said = spied.found.verdict
    known = spied.found.known
    assert (known is None) == (spied.found.searches[0].lineage[0].operator != "seed")
    first = "" if known is None else f"The search found nothing better than {known}, which it began with. "
    subject = known or "the loss found"
    assert said.startswith(f"{first}On the 30 examples of iris that the search never saw, {subject} scores ")
    if known is not None:
        assert spied.found.winner == f"formula({parse(create(known).formula)})"
    assert ": ." not in said
    assert len(spied.found.comparisons) == 2


Audit = tuple[dict[int, tuple[int, int]], list[tuple[int, int]]]


def audited_by(scores: list[float], dropped: list[float]) -> Audit:
    """The audit of a search whose finalists have these scores, where full training gives those dropped these.

    With the numbers and rungs of what it trained.
    """
    from lossmith.evolution.session import make_searches
    from tiny_search import planned

    search, top, rng = make_searches(planned()[0])[0], len(LADDER) - 1, np.random.default_rng(0)
    noise = rng.normal(0, 0.1, 200)

    def mark(mean: float) -> Mark:
        units = (mean + noise - noise.mean() + rng.normal(0, 0.01, 200)).astype(np.float32)
        return Mark((mean,), (units,), (1.0,))

    search.archive = Archive(len(LADDER))
    for k, score in enumerate([*scores, *dropped]):
        entry = search.archive.add(parse("y*c" + "*p" * k), "random", ())
        entry.marks = {0: mark(1.0)}
        if k < len(scores):
            entry.marks |= {rung: mark(score) for rung in range(1, top + 1)}
    full = {str(entry.formula): entry.marks[0] for entry in search.archive.entries}
    full = {text: mark(of) for text, of in zip(list(full)[len(scores) :], dropped, strict=True)}

    class Trained:
        def evaluate(self, jobs: Any, label: str) -> None:
            assert label == "auditing those that were dropped"
            trained.extend(jobs)
            for entry, rung in jobs:
                assert max(entry.marks.items())[1].factors == (1.0,)  # what a learning rate is read from
                assert rung in {1, top}
                entry.marks[rung] = full[str(entry.formula)]

    trained: list[Any] = []
    found = choice.audit(search, Trained(), (0,))  # type: ignore[arg-type]
    assert not {id(entry) for entry, _ in trained} & {id(entry) for entry in search.archive.entries}
    assert sum(top in entry.marks for entry in search.archive.entries) == len(scores)  # the search is left as it was
    return found, [(entry.number, rung) for entry, rung in trained]


def test_the_audit_finds_the_good_ones_among_the_dropped():
    finalists = [0.1 + 0.01 * k for k in range(14)]  # the tenth has .19
    found, trained = audited_by(finalists, [0.05, 0.185, 0.23, 0.5, 2.0])
    assert found == {0: (5, 2), 1: (0, 0), 2: (0, 0)}
    assert trained == [(number, rung) for rung in (1, len(LADDER) - 1) for number in range(14, 19)]
    found, _ = audited_by(finalists[:3], [0.05, 0.115, 0.185, 0.23])  # the third has .12
    assert found[0] == (4, 2)


def test_the_audit_trains_thirty_at_most_which_follow_from_the_seed():
    dropped = [0.05 + k for k in range(40)]
    first, second = (audited_by([0.1, 0.2], dropped) for _ in range(2))
    assert first == second
    assert first[0][0][0] == 30
    assert len(first[1]) == 2 * 30


def test_there_is_no_audit_without_finalists_or_dropped_ones():
    assert audited_by([], [0.1, 0.2]) == ({}, [])
    assert audited_by([0.1, 0.2], []) == ({}, [])


def test_the_final_comparisons_split_searched_data_as_the_search_did():
    options = SearchOptions(
        **TINY
        | {"also": ("wine:mlp",), "seed": 3, "transfer": ("iris:mlp", "wine:linear", "breast_cancer", "digits:mlp")}
    )
    own, iris, wine, *others = comparison_options(options, ["formula(y*c)"])
    assert (own.folds, own.seed, own.steps, own.model) == (0, 3, 20, "linear")
    assert (iris.folds, iris.seed, iris.steps, iris.model) == (0, 3, 20, "mlp")
    assert (wine.folds, wine.seed, wine.steps, wine.model) == (0, 3, None, "linear")
    assert [(each.data, each.model, each.folds) for each in others] == [
        ("breast_cancer", None, None),
        ("digits", "mlp", None),
    ]
    assert {each.losses for each in (own, iris, wine, *others)} == {("formula(y*c)", "ngl", "focal")}
    noisy = comparison_options(replace(options, label_noise=0.2), [])[0]
    assert noisy.label_noise == 0.2
    assert set(noisy.losses or ()) >= {"gce", "symmetric"}


def test_searched_data_are_known_by_their_contents(tmp_path, monkeypatch):
    file = tmp_path / "made.npz"
    rng = np.random.default_rng(0)
    np.savez(file, X=rng.normal(size=(200, 3)), y=rng.integers(2, size=200))
    monkeypatch.chdir(tmp_path)
    options = SearchOptions(**TINY | {"data": "made.npz", "transfer": (f"{file}:mlp",)})
    own, elsewhere = comparison_options(options, [])
    assert elsewhere.folds == 0
    tested = []
    for each in (own, elsewhere):
        trial = make_plan(each, sources := Sources()).trial
        tested.append(splits_of(trial, sources).test.index.tolist())
    assert tested[0] == tested[1]
