"""What validation decides, on made-up scores whose answer can be worked out by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import pytest
from made_up import CROSS_ENTROPY, NAMES
from scipy import stats

from lossmith.comparison.recommendation import Recommendation, recommend, why_untrained
from lossmith.comparison.statistics import PairedDifference
from lossmith.tasks import Regression

# --- which loss is recommended -------------------------------------------------------------------------------


def gap(mean: float, z: float = 3.0, **changes: Any) -> PairedDifference:
    """A difference on validation that is z standard errors from 0, normally distributed."""
    se = abs(mean) / z if z else 0.01
    known = {"mean": mean, "variance": se**2, "df": 1e9, "v_seed": se**2, "v_test": 0.0, "v_residual": 0.0}
    return PairedDifference(**known | {"runs": 10, "examples": 500, "differing": 50} | changes)


def p_of(z: float) -> float:
    return float(2 * stats.norm.sf(z))


@pytest.mark.parametrize(
    ("z", "tested", "recommended"),
    [(2.0, 1, "x"), (1.9, 1, CROSS_ENTROPY), (2.0, 2, CROSS_ENTROPY), (2.4, 3, "x"), (2.4, 4, CROSS_ENTROPY)],
)
def test_a_loss_has_to_be_better_with_a_p_that_counts_all_that_were_planned(
    z: float, tested: int, recommended: str
) -> None:
    """P(|Z| > 2) = .0455; of 2.4, .0164, which is .0492 three times. Those that could not be trained count too."""
    found = recommend({"x": gap(0.02, z)}, tested, NAMES)
    assert found.arm == recommended
    assert (found.gain, found.se) == (0.02, pytest.approx(0.02 / z))


@dataclass(frozen=True)
class Exactly(PairedDifference):
    """A difference whose p-value is known to the last digit."""

    p: float

    @property
    def p_value(self) -> float:
        return self.p


def test_a_p_of_exactly_5_percent_is_not_enough() -> None:
    known = {field.name: getattr(gap(0.02), field.name) for field in fields(PairedDifference)}
    assert recommend({"x": Exactly(**known, p=0.05)}, 1, NAMES).arm == CROSS_ENTROPY
    assert recommend({"x": Exactly(**known, p=0.049)}, 1, NAMES).arm == "x"


def test_holm_is_stepwise_over_what_was_planned() -> None:
    """Of three the least p counts three times and the second twice: 2.2 standard errors, .0278, are too few for it."""
    first, second = gap(0.02, 5.0), gap(0.03, 2.2)
    assert recommend({"first": first, "second": second}, 3, NAMES).arm == "first"
    assert recommend({"first": first, "second": gap(0.03, 2.3)}, 3, NAMES).arm == "second"


def test_the_best_of_those_that_are_surely_better_is_recommended() -> None:
    sure, surer, unsure = gap(0.03, 3.0), gap(0.02, 9.0), gap(0.09, 0.5)
    assert recommend({"surer": surer, "unsure": unsure, "sure": sure}, 3, NAMES).arm == "sure"
    assert recommend({"worse": gap(-0.2, 9.0), "surer": surer}, 3, NAMES).arm == "surer"
    assert recommend({"worse": gap(-0.2, 9.0)}, 1, NAMES).arm == CROSS_ENTROPY


def test_no_difference_is_no_reason() -> None:
    for same in (gap(0.0, 0.0), gap(0.0, 0.0, variance=0.0)):
        found = recommend({"x": same}, 1, NAMES)
        reason = "the highest, x, is +0.00 points from cross-entropy on validation, Holm-adjusted p = 1"
        assert found == Recommendation(CROSS_ENTROPY, reason, 0.0, pytest.approx(same.se))


@pytest.mark.parametrize(
    ("lacking", "why"),
    [
        ({"runs": 2}, "fewer than 3 final runs"),
        ({"v_seed": math.nan}, "only one repeat per fold, so the chance of seeds and tuning cannot be measured"),
        ({"examples": 99}, "fewer than 100 examples"),
        ({"differing": 9}, "fewer than 10 examples differ"),
    ],
)
def test_without_a_p_value_cross_entropy_stays_and_it_is_said_why(lacking: dict[str, Any], why: str) -> None:
    found = recommend({"x": gap(0.25, 9.0, **lacking), "y": gap(0.01, 1.0)}, 2, NAMES)
    reason = f"the highest, x, is +25.00 points from cross-entropy on validation, without a p-value ({why})"
    assert found == Recommendation(CROSS_ENTROPY, reason, 0.25, None)


def test_a_loss_without_a_p_value_leaves_the_others_theirs() -> None:
    found = recommend({"x": gap(0.25, 9.0, differing=9), "y": gap(0.01, 3.0)}, 2, NAMES)
    assert (found.arm, found.gain) == ("y", 0.01)


def test_where_nothing_else_could_be_trained_cross_entropy_stays() -> None:
    nothing = Recommendation(CROSS_ENTROPY, "nothing else could be trained", 0.0, None)
    assert recommend({}, 5, NAMES) == nothing


def test_the_reason_says_by_how_much_and_how_sure() -> None:
    better = recommend({"x": gap(0.0412, 3.0), "y": gap(0.001, 0.1)}, 4, NAMES)
    assert better.reason == f"+4.12 points from cross-entropy on validation, Holm-adjusted p = {4 * p_of(3):.2g}"
    unsure = recommend({"x": gap(0.0412, 1.0), "y": gap(0.001, 0.1)}, 2, NAMES)
    assert unsure.reason == (
        f"the highest, x, is +4.12 points from cross-entropy on validation, Holm-adjusted p = {2 * p_of(1):.2g}"
    )
    assert "squared error" in recommend({"x": gap(0.0412)}, 1, NAMES, Regression.words).reason


# --- which losses could not be trained -----------------------------------------------------------------------

CHANCE = 0.25
FINE = [0.75] * 20  # cross-entropy: half a unit above chance, so half the way is .5 and a twentieth of it .275


def reasons(scores: list[float | None], edges: list[bool] | None = None) -> str | None:
    """Why x could not be trained, beside a cross-entropy that could."""
    edges = [False] * 5 if edges is None else edges
    found = why_untrained({CROSS_ENTROPY: FINE, "x": scores}, {CROSS_ENTROPY: [False] * 5, "x": edges}, CHANCE, NAMES)
    assert found.keys() <= {"x"}
    return found.get("x")


@pytest.mark.parametrize(("edges", "folds"), [(3, 5), (3, 4), (1, 1), (2, 2)])
def test_the_best_learning_rate_on_the_edge_in_most_repeats(edges: int, folds: int) -> None:
    assert reasons(FINE, [True] * edges + [False] * (folds - edges)) == (
        f"its best learning rate still lay on the edge of the extended grid in {edges} of {folds} repeats"
    )


@pytest.mark.parametrize(("edges", "folds"), [(2, 5), (2, 4), (1, 2), (0, 1)])
def test_half_of_the_repeats_are_not_most(edges: int, folds: int) -> None:
    assert reasons(FINE, [True] * edges + [False] * (folds - edges)) is None


@pytest.mark.parametrize("lost", [None, 0.0, 0.25, 0.274])
def test_more_than_a_tenth_of_the_trainings_lost(lost: float | None) -> None:
    """Diverged, or less than a twentieth of the way from guessing to cross-entropy."""
    assert reasons([0.75] * 18 + [lost] * 2) is None
    assert reasons([0.75] * 17 + [lost] * 3) == "3 of its 20 final trainings diverged or fell back to guessing"
    assert reasons([0.75] * 17 + [0.276] * 3) is None
    assert reasons([lost]) == "1 of its 1 final trainings diverged or fell back to guessing"


def test_a_twentieth_of_the_way_is_not_lost() -> None:
    """On a scale on which it is a double: guessing 0, cross-entropy 1."""
    scores = {CROSS_ENTROPY: [1.0] * 20, "x": [1.0] * 17 + [0.05] * 3}
    assert why_untrained(scores, {CROSS_ENTROPY: [False], "x": [False]}, 0.0, NAMES) == {}


def test_at_least_half_of_the_way_from_guessing_to_cross_entropy() -> None:
    assert reasons([0.5] * 4) is None
    assert reasons([0.0, 1.0, 0.5, 0.5] + [0.5] * 10) is None
    assert reasons([0.484375] * 4) == (
        "at its best it got to 48 % accuracy on validation, less than half the way from guessing to cross-entropy"
    )


def test_a_diverged_training_counts_as_guessing() -> None:
    """Two of twenty: the others at .5275 make a mean of .49975, just less than half of the way; .5278 makes .50002."""
    assert reasons([0.5275] * 18 + [None] * 2) is not None
    assert reasons([0.5278] * 18 + [None] * 2) is None


def test_where_the_reference_learned_nothing_no_loss_is_held_against_it() -> None:
    """It guesses at .25, another does worse: neither fell back to anything. What diverged still did."""
    scores: dict[str, list[float | None]] = {CROSS_ENTROPY: [0.25] * 4, "x": [0.1] * 4, "y": [0.5, None, 0.5, 0.5]}
    edges = {name: [False] for name in scores}
    found = why_untrained(scores, edges, CHANCE, NAMES, learned_something=False)
    assert found == {"y": "1 of its 4 final trainings diverged"}


def test_the_score_that_is_too_low_is_named() -> None:
    scores = {CROSS_ENTROPY: FINE, "x": [0.4] * 4}
    found = why_untrained(scores, {name: [False] for name in scores}, CHANCE, NAMES, Regression.words, metric="R2")
    assert found["x"].startswith("at its best it got to 40 % R2 on validation, less than half the way from guessing")
    assert found["x"].endswith("to squared error")


def test_the_first_reason_is_the_one_given() -> None:
    assert "edge" in (reasons([None] * 20, [True] * 5) or "")
    assert "guessing" in (reasons([None] * 20) or "")


def test_cross_entropy_is_judged_like_the_others() -> None:
    edges = {CROSS_ENTROPY: [True], "x": [False]}
    found = why_untrained({CROSS_ENTROPY: [0.75] * 3, "x": [0.75] * 3}, edges, CHANCE, NAMES)
    assert found == {
        CROSS_ENTROPY: "its best learning rate still lay on the edge of the extended grid in 1 of 1 repeats"
    }
    lost = why_untrained(
        {CROSS_ENTROPY: [0.75, 0.75, None], "x": FINE}, {CROSS_ENTROPY: [False], "x": [False]}, CHANCE, NAMES
    )
    assert lost == {CROSS_ENTROPY: "1 of its 3 final trainings diverged or fell back to guessing"}
