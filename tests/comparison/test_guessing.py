"""What is said where the reference learned nothing, and where a control alone is better."""

from __future__ import annotations

import numpy as np
import pytest

from lossmith.comparison.arms import Baselines
from lossmith.comparison.guessing import beats_guessing
from lossmith.comparison.headlines import BETTER_CONTROL, GUESSING, better_control, no_better_than_guessing
from lossmith.comparison.recommendation import why_untrained
from lossmith.comparison.statistics import paired_difference
from lossmith.comparison.verdict import SCOPE
from lossmith.tasks import Classification, Judged, Regression

TASK = Classification(("a", "b"))
NAMES = Baselines.of(TASK)
CE, AGAIN = NAMES.reference, NAMES.again


def runs(
    rng: np.random.Generator, chance: float, count: int, units: int, *, shared: bool
) -> list[tuple[Judged, np.ndarray]]:
    """Trainings that are right on each unit by chance: each on units of its own, or all on the same."""
    right = np.tile(rng.random(units) < chance, (count, 1)) if shared else rng.random((count, units)) < chance
    index = [np.arange(units) + (0 if shared else units * i) for i in range(count)]
    return [(Judged(of, row.astype(float)), row.astype(float)) for of, row in zip(index, right, strict=True)]


@pytest.mark.parametrize("shared", [False, True])
def test_a_coin_rarely_beats_guessing_and_half_a_standard_deviation_more_does(shared: bool) -> None:
    """1,000 references each: models that toss a coin, and models right in 65 %, on 4 times 50 units or on 50."""
    rng = np.random.default_rng(0)
    coins = [beats_guessing(runs(rng, 0.5, 4, 50, shared=shared), 0.5) for _ in range(1000)]
    models = [beats_guessing(runs(rng, 0.65, 4, 50, shared=shared), 0.5) for _ in range(1000)]
    assert np.mean(coins) < 0.07
    assert np.mean(models) > (0.6 if shared else 0.9)


def test_one_training_is_judged_by_its_units() -> None:
    right = np.ones(100)
    right[:30] = 0
    assert beats_guessing([(Judged(np.arange(100), right), right)], 0.5)
    assert not beats_guessing([(Judged(np.arange(100), right), right)], 0.65)  # 1.645 sqrt(.21 / 100) = .075
    assert not beats_guessing([(Judged(np.arange(100), right), right)], 0.7)


def test_trainings_that_differ_widely_show_little() -> None:
    """Two at .9 and two at .3 on many units: the mean is .6, its standard error .17."""
    scores = [np.full(1000, mean) for mean in (0.9, 0.9, 0.3, 0.3)]
    assert not beats_guessing([(Judged(np.arange(1000), of), of) for of in scores], 0.5)


def test_nothing_is_held_against_a_reference_that_learned_nothing() -> None:
    """Only divergence and the edge count then: no loss could be trained less than one that guesses."""
    scores = {CE: [0.52, 0.48, 0.51], AGAIN: [0.5] * 3, "x": [0.49, 0.47, 0.5], "y": [0.5, None, 0.5]}
    edges = dict.fromkeys(scores, [False] * 3)
    assert {"x", AGAIN} <= why_untrained(scores, edges, 0.5, NAMES).keys()
    assert why_untrained(scores, edges, 0.5, NAMES, learned_something=False) == {
        "y": "1 of its 3 final trainings diverged"
    }


def test_the_sentence_on_guessing_names_the_metric_and_both_scores() -> None:
    said = no_better_than_guessing("balanced accuracy", 0.4981, 0.5)
    assert said.startswith(
        "Cross-entropy does no better than guessing: 49.8 % balanced accuracy on validation, where guessing has 50.0 %."
    )
    assert GUESSING.worded(Regression.words).sentence.startswith("Squared error does no better")


def test_a_control_that_is_better_than_the_reference_is_named() -> None:
    def gap(mean: float) -> object:
        rng = np.random.default_rng(3)
        return paired_difference([mean + 0.01 * rng.normal(size=(3, 150))])

    gaps = {"weight decay": gap(0.0), "weighted": gap(0.02), "logit_adjusted": gap(0.05), "worse": gap(-0.1)}
    said = better_control(gaps)
    assert said is not None
    assert said.startswith("But logit_adjusted, a control, is better than cross-entropy: +5.")
    assert said.endswith(SCOPE)
    assert better_control({"weight decay": gaps["weight decay"], "worse": gaps["worse"]}) is None
    assert better_control({}) is None
    assert BETTER_CONTROL.condition
