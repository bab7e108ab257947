"""What validation decides, on made-up scores whose answer can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from made_up import AGAIN, CROSS_ENTROPY, NAMES

from lossmith.comparison.recommendation import Recommendation, recommend, why_untrained

# --- which loss is recommended -------------------------------------------------------------------------------


def seeds(*means: float, examples: int = 6) -> list[np.ndarray]:
    """One fold in which every example scores the same under a seed: only the seeds vary.

    Of k seeds the standard error of a difference is then that of the mean of k numbers, sd / sqrt(k).
    """
    return [np.tile(np.array(means)[:, None], (1, examples))]


CE = seeds(0.5, 0.5, 0.5, 0.5)


def gaining(gain: float, spread: float) -> list[np.ndarray]:
    """Scores gain -+ spread above cross-entropy's in four seeds; sd = 2 spread / sqrt(3), so se = spread / sqrt(3)."""
    return seeds(*(0.5 + gain + sign * spread for sign in (-1, 1, -1, 1)))


@pytest.mark.parametrize(("gain", "recommended"), [(0.0180, "x"), (0.0170, CROSS_ENTROPY), (-0.5, CROSS_ENTROPY)])
def test_a_loss_has_to_be_more_than_one_standard_error_better(gain: float, recommended: str) -> None:
    """With a spread of .03 one standard error is .03/sqrt(3) = .01732."""
    found = recommend({CROSS_ENTROPY: CE, "x": gaining(gain, 0.03)}, NAMES)
    assert found.arm == recommended
    assert found.gain == pytest.approx(gain)
    assert found.se == pytest.approx(0.03 / math.sqrt(3))


def test_what_is_as_good_as_cross_entropy_is_not_recommended() -> None:
    reason = "the best, x is +0.00 points from cross-entropy on validation, within one standard error of 0.00"
    assert recommend({CROSS_ENTROPY: CE, "x": CE}, NAMES) == Recommendation(CROSS_ENTROPY, reason, 0.0, 0.0)


def test_cross_entropy_tuned_and_seeded_anew_is_never_recommended() -> None:
    assert recommend({CROSS_ENTROPY: CE, AGAIN: gaining(0.2, 0.01), "x": gaining(0.1, 0.01)}, NAMES).arm == "x"
    assert recommend({AGAIN: gaining(0.2, 0.01), CROSS_ENTROPY: CE}, NAMES).arm == CROSS_ENTROPY


def test_only_the_best_can_be_recommended_however_sure_the_second_is() -> None:
    sure, unsure = gaining(0.02, 0.001), gaining(0.03, 0.1)
    assert recommend({CROSS_ENTROPY: CE, "sure": sure, "unsure": unsure}, NAMES).arm == CROSS_ENTROPY
    assert recommend({CROSS_ENTROPY: CE, "sure": sure}, NAMES).arm == "sure"
    assert recommend({"sure": sure, CROSS_ENTROPY: CE, "better": gaining(0.03, 0.001)}, NAMES).arm == "better"


def test_examples_count_alike_whichever_fold_they_are_in() -> None:
    """Of 10, 30 and 10 examples 1, 3 and 0 gain 1: 4 of 50, where the mean over folds would be 1 in 15."""
    folds = [np.zeros((2, n)) for n in (10, 30, 10)]
    better = [fold.copy() for fold in folds]
    better[0][:, :1] = better[1][:, :3] = 1
    found = recommend({CROSS_ENTROPY: folds, "x": better}, NAMES)
    assert found.gain == pytest.approx(4 / 50)
    # No variation over seeds: the standard error is that of the mean of fifty 0/1 numbers.
    assert found.se == pytest.approx(math.sqrt(0.08 * 0.92 / 49))
    assert found.arm == "x"


def test_without_a_standard_error_cross_entropy_stays() -> None:
    reason = "x is +25.00 points from cross-entropy on validation, of unknown standard error"
    found = recommend({CROSS_ENTROPY: seeds(0.5), "x": seeds(0.75)}, NAMES)
    assert found == Recommendation(CROSS_ENTROPY, reason, 0.25, None)


def test_where_nothing_else_could_be_trained_cross_entropy_stays() -> None:
    nothing = Recommendation(CROSS_ENTROPY, "nothing else could be trained", 0.0, None)
    assert recommend({CROSS_ENTROPY: CE}, NAMES) == nothing
    assert recommend({CROSS_ENTROPY: CE, AGAIN: gaining(0.1, 0.0)}, NAMES) == nothing


def test_the_reason_says_by_how_much_and_how_sure() -> None:
    better = recommend({CROSS_ENTROPY: CE, "x": gaining(0.0412, 0.03)}, NAMES)
    assert better.reason == (
        "x is +4.12 points from cross-entropy on validation, more than one standard error of 1.73"
    )  # fmt: skip
    worse = recommend({CROSS_ENTROPY: CE, "x": gaining(-0.0412, 0.03)}, NAMES)
    assert worse.reason == (
        "the best, x is -4.12 points from cross-entropy on validation, within one standard error of 1.73"
    )


def test_both_losses_must_have_the_same_folds() -> None:
    with pytest.raises(ValueError, match="zip"):
        recommend({CROSS_ENTROPY: CE, "x": CE * 2}, NAMES)


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
def test_the_best_learning_rate_on_the_edge_in_most_folds(edges: int, folds: int) -> None:
    assert reasons(FINE, [True] * edges + [False] * (folds - edges)) == (
        f"its best learning rate still lay on the edge of the extended grid in {edges} of {folds} folds"
    )


@pytest.mark.parametrize(("edges", "folds"), [(2, 5), (2, 4), (1, 2), (0, 1)])
def test_half_of_the_folds_are_not_most(edges: int, folds: int) -> None:
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


def test_the_first_reason_is_the_one_given() -> None:
    assert "edge" in (reasons([None] * 20, [True] * 5) or "")
    assert "guessing" in (reasons([None] * 20) or "")


def test_cross_entropy_is_judged_like_the_others() -> None:
    edges = {CROSS_ENTROPY: [True], "x": [False]}
    found = why_untrained({CROSS_ENTROPY: [0.75] * 3, "x": [0.75] * 3}, edges, CHANCE, NAMES)
    assert found == {CROSS_ENTROPY: "its best learning rate still lay on the edge of the extended grid in 1 of 1 folds"}
    lost = why_untrained(
        {CROSS_ENTROPY: [0.75, 0.75, None], "x": FINE}, {CROSS_ENTROPY: [False], "x": [False]}, CHANCE, NAMES
    )
    assert lost == {CROSS_ENTROPY: "1 of its 3 final trainings diverged or fell back to guessing"}
