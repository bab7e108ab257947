"""What is told of a search: counts, the hall of fame, the lineage, the finalists, the verdict."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lossmith.comparison.rows import Gap
from lossmith.comparison.statistics import PairedDifference
from lossmith.evolution.archive import Mark
from lossmith.evolution.choice import Finalist
from lossmith.evolution.filters import FILTERS
from lossmith.evolution.final import Compared, sentence
from lossmith.evolution.findings import Choice
from lossmith.evolution.outcome import choices_of, rung_findings, search_findings, table_error
from lossmith.evolution.problem import LADDER
from lossmith.evolution.search import Search
from lossmith.formulas import Expression, apply, parse
from lossmith.trials.tables import gradient_error
from made_problems import problem

LENGTHS = (200, 500, 1000, 1000)


def mark(score: float, factor: float = 1.0) -> Mark:
    """On two problems, the second of which is in other units."""
    units = None if math.isinf(score) else np.float32([score - 1, score + 1])
    return Mark((score, 10 * score), (units, None if units is None else 10 * units), (factor, 10 * factor))


def nested(depth: int) -> Expression:
    """y*square(...square(p)...), of size 3 + depth."""
    tree = parse("p")
    for _ in range(depth):
        tree = apply("square", tree)
    return apply("mul", parse("y"), tree)


def made_search(scores: list[list[float]]) -> Search:
    """Candidates with these scores on rung 0, 1, ..., each larger than the one before."""
    screen: Any = SimpleNamespace(
        counts=dict.fromkeys(FILTERS, 0) | {"duplicate": 5, "rescued": 3, "passed": 9}, seen=17
    )
    search = Search("tournament", None, screen, [], (0,))  # type: ignore[arg-type]
    for k, of in enumerate(scores):
        entry = search.archive.add(nested(k), "made up", (k - 1,) if k else ())
        entry.marks = {rung: mark(score, 2.0**rung) for rung, score in enumerate(of)}
    return search


def test_trainings_are_counted_over_problems_rungs_rates_and_seeds():
    search = made_search([[3.0, 2.0, 2.5, 2.75], [4.0, 3.0, 3.5], [math.inf, 5.0], [9.0], []])
    search.note(2, 7.5)
    found = search_findings(search, 2)
    assert found.strategy == "tournament"
    assert found.trained == (4, 3, 2, 1)
    assert found.trainings == 2 * (4 * 1 * 1 + 3 * 2 * 1 + 2 * 1 * 2 + 1 * 1 * 2)
    assert found.failed == 1
    assert found.filters == dict.fromkeys(FILTERS, 0) | {"duplicate": 5}
    assert found.rescued == 3
    assert found.course == tuple(search.course)
    assert len(found.course) == 1


def test_a_candidate_is_told_as_it_was_on_its_highest_rung():
    search = made_search([[3.0, 2.0], [9.0], []])
    first, second = search_findings(search, 1).hall_of_fame
    assert (first.number, first.formula, first.complexity, first.operator) == (0, "y*p", 3, "made up")
    assert (first.rung, first.scores, first.lr_factor, first.on_front) == (1, (2.0, 20.0), 2.0, True)
    assert first.fitness == 1.0  # the mean rank of one
    assert first.error == pytest.approx(1.0)  # of 1 and 3
    assert (second.rung, second.parents, second.on_front) == (0, (0,), False)
    (untold, *_) = search_findings(search, 1, search.archive.entries[2]).lineage
    assert (untold.number, untold.rung, untold.fitness, untold.scores, untold.error) == (2, -1, math.inf, (), math.inf)
    assert math.isnan(untold.lr_factor)


def test_the_hall_of_fame_is_the_ten_best_and_then_the_front():
    """The larger, the better: all are on the front, of which the twenty best are shown."""
    search = made_search([[40.0 - k] for k in range(30)])
    found = search_findings(search, 1)
    assert [one.number for one in found.hall_of_fame] == list(range(29, 9, -1))
    assert all(one.on_front for one in found.hall_of_fame)
    best = made_search([[1.0 + k] for k in range(30)])  # the front is the smallest one
    found = search_findings(best, 1)
    assert [one.number for one in found.hall_of_fame] == list(range(10))
    assert [one.on_front for one in found.hall_of_fame] == [True] + [False] * 9


def test_the_lineage_is_that_of_the_winner_and_until_then_of_the_best():
    search = made_search([[4.0], [3.0], [5.0]])
    assert [one.number for one in search_findings(search, 1).lineage] == [1, 0]
    assert [one.number for one in search_findings(search, 1, search.archive.entries[2]).lineage] == [2, 1, 0]
    empty = search_findings(made_search([]), 1)
    assert (empty.lineage, empty.hall_of_fame, empty.failed) == ((), (), 0)


def test_rungs_tell_how_many_went_on_and_how_they_agreed():
    scores = [[1.0, 1.0, 2.0], [2.0, 2.0, 1.0], [3.0, 3.0, 3.0], [4.0, 4.0], [5.0]]
    plan: Any = SimpleNamespace(problems=[problem(), problem(steps=7)])
    found = rung_findings(plan, made_search(scores), {0: (6, 2), 2: (3, 1)})
    assert [(one.steps, one.seeds, one.exact) for one in found] == [
        (steps, rung.seeds, rung.exact) for steps, rung in zip(LENGTHS, LADDER, strict=True)
    ]
    assert [(one.trained, one.promoted) for one in found] == [(5, 4), (4, 3), (3, 0), (0, 0)]
    assert [one.correlation for one in found] == [pytest.approx(1.0), pytest.approx(1 / 3), None, None]
    assert [(one.audited, one.would_have_passed) for one in found] == [(6, 2), (0, 0), (3, 1), (0, 0)]


def test_finalists_are_told_with_their_difference_from_the_winner_of_their_search():
    searches = made_search([[3.0], [2.0]]), made_search([[7.0]])
    searches[1].name = "random"
    chosen = {
        search: [Finalist(entry, entry.marks[0], place == 0) for place, entry in enumerate(search.archive.entries)]
        for search in searches
    }
    units = np.float32([3.0, 3.0])  # 1 and -1 from the winner's
    chosen[searches[0]][1] = replace(chosen[searches[0]][1], mark=Mark((3.0, 99.0), (units, units), (1.0, 1.0)))
    assert choices_of(chosen) == (
        Choice("tournament", 0, "y*p", 3.0, 0.0, True),
        Choice("tournament", 1, "y*square(p)", 3.0, pytest.approx(1.0), False),
        Choice("random", 0, "y*p", 7.0, 0.0, True),
    )


def test_the_error_of_tables_is_over_the_different_ten_best():
    """Both candidates of the other search are among the best of the first, whose eleventh does not count."""
    errors = [gradient_error(nested(k), 4) for k in range(11)]
    assert np.median(errors) != pytest.approx(np.median(errors[:10]))
    first, other = made_search([[1.0 + k] for k in range(11)]), made_search([[9.0], [8.0]])
    assert table_error([first, other], 4) == pytest.approx((np.median(errors[:10]), max(errors[:10])))
    assert np.isnan(table_error([made_search([])], 4)).all()


def told(known: str | None = None, *, learned: bool = True, **changes: Any) -> str:
    def gap(mean: float, *interval: float) -> Gap:
        rest = dict.fromkeys(("simultaneous", "p", "holm_p", "mde", "se", "v_seed", "v_test", "df", "reason"))
        return Gap(mean=mean, interval=interval or None, **rest)  # type: ignore[arg-type]

    fields = {
        "loss": "formula(y*c)",
        "name": "formula(y*c)",
        "score": 0.9123,
        "untrained": None,
        "against_reference": gap(0.0123, 0.001, 0.0236),
        "against_rival": gap(-0.004),
        "verdict": "formula(y*c) is better than cross-entropy: gap +1.23 points. On these data.",
    }
    row = SimpleNamespace(**fields | {name: of for name, of in changes.items() if name in fields})
    rows, guessing = [SimpleNamespace(loss="mae"), row], "Cross-entropy does no better than guessing."
    summary: Any = SimpleNamespace(rows=rows, metric="accuracy", headline=guessing)
    compared = Compared("1", summary, changes.get("control"), learned)
    return sentence(compared, "formula(y*c)", known, "iris", 12345)


def test_the_sentence_names_score_and_gaps_with_their_intervals():
    start = "On the 12,345 examples of iris that the search never saw, the loss found scores 91.2 % accuracy"
    gaps = "+1.23 points [+0.10, +2.36] against cross-entropy, -0.40 points against tuned label smoothing"
    ending = ". It is better than cross-entropy on this data, model, optimiser and budget."
    assert told() == f"{start}: {gaps}{ending}"
    interval = "[+1.80, +2.20]"  # 2 +- 1.96 standard errors of .1
    control = f"{gaps}, +2.00 points {interval} against the best of random search"
    difference = PairedDifference(
        mean=0.02,
        variance=1e-6,
        df=1e9,
        v_seed=1e-7,
        v_test=1e-7,
        v_residual=0.0,
        runs=10,
        examples=500,
        differing=400.0,
    )
    assert told(control=difference) == f"{start}: {control}{ending}"
    assert told(against_reference=None, against_rival=None) == f"{start}{ending}"


def test_a_winner_without_a_row_or_a_training_is_said_so():
    wanted = "In the comparison on iris, the loss found could not be trained"
    assert told(untrained="it diverged") == f"{wanted}: it diverged."
    assert told(loss="formula(y*p)") == f"{wanted}."


def test_a_winner_that_the_search_began_with_is_no_discovery():
    first = "The search found nothing better than poly1, which it began with. "
    assert told("poly1").startswith(
        f"{first}On the 12,345 examples of iris that the search never saw, poly1 scores 91.2 %"
    )
    failed = f"{first}In the comparison on iris, poly1 could not be trained: it diverged."
    assert told("poly1", untrained="it diverged") == failed


def test_where_nothing_learned_no_loss_is_called_better():
    assert told(learned=False) == "Cross-entropy does no better than guessing."
