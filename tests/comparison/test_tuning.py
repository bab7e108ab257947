from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from made_up import AGAIN, CROSS_ENTROPY, LABEL_SMOOTHING, NAMES, TASK

from lossmith.comparison.arms import Arm, Dimension, default_losses, make_arms
from lossmith.comparison.tuning import (
    MAX_DROP,
    Scored,
    Setting,
    best,
    expected_best,
    extension,
    smoothed,
    sobol_settings,
)
from lossmith.tasks import Classification

PLAIN = Arm("m", "m")
CHANCE = 0.1
HERE, THERE, BEYOND = 0.60, 0.61, 0.595  # so near each other that all count as they are


def grid(*scores: float, tie_break: list[float] | None = None) -> list[Scored]:
    """Scores at learning rates 1, 2, 4, ..."""
    tie_break = tie_break or [1.0] * len(scores)
    return [Scored(Setting(2.0**i), a, n) for i, (a, n) in enumerate(zip(scores, tie_break, strict=True))]


def test_smoothing_is_a_quarter_a_half_a_quarter_and_below_the_lowest_rate_its_own_score() -> None:
    """Neighbours within the allowance; the value beyond the upper end is given, or the end's own."""
    low, middle, high = 0.70, 0.71, 0.72
    lower = [0.25 * low + 0.5 * low + 0.25 * middle, 0.25 * low + 0.5 * middle + 0.25 * high]
    top = 0.25 * middle + 0.5 * high
    assert smoothed(grid(low, middle, high), PLAIN, 0.715) == pytest.approx([*lower, top + 0.25 * 0.715])
    assert smoothed(grid(low, middle, high), PLAIN, 0.9) == pytest.approx([*lower, top + 0.25 * 0.9])
    assert smoothed(grid(low, middle, high), PLAIN, None) == pytest.approx([*lower, top + 0.25 * high])


def test_no_neighbour_counts_as_more_than_the_allowance_worse_nor_does_guessing() -> None:
    """`a~ = [max(a-, a - c) + 2 a + max(a+, a - c)] / 4`: a neighbour far above counts in full."""
    c = MAX_DROP
    assert 0.01 < c < 0.1
    assert smoothed(grid(0.3, 0.9, 0.5), PLAIN, CHANCE) == pytest.approx([
        (0.3 + 2 * 0.3 + 0.9) / 4,
        (2 * (0.9 - c) + 2 * 0.9) / 4,
        (0.9 + 2 * 0.5 + 0.5 - c) / 4,
    ])  # fmt: skip


def test_the_divergence_cliff_is_not_chosen_where_a_plain_maximum_would() -> None:
    """The highest rate before the cliff has the best single score, by less than the cliff costs it."""
    points = grid(0.90, 0.948, 0.95, 0.955, 0.10)
    assert max(points, key=lambda p: p.score).setting.lr == 8
    assert best(points, PLAIN, CHANCE).setting.lr == 4


def test_a_rate_that_is_far_better_is_chosen_though_it_lies_beside_the_cliff() -> None:
    """Averaged without an allowance, .90 .99 .10 would come to .745, less than .91 one rate below."""
    assert best(grid(0.80, 0.85, 0.90, 0.99, 0.10), PLAIN, CHANCE).setting.lr == 8


def test_ties_go_to_the_lower_tie_break_and_then_to_the_lower_learning_rate() -> None:
    points = grid(0.9, 0.9, 0.9, 0.9, 0.5, tie_break=[3.0, 2.0, 1.0, 0.5, 0.1])
    assert best(points, PLAIN, CHANCE).setting.lr == 4
    assert best(grid(0.9, 0.9, 0.9, 0.9, 0.5), PLAIN, CHANCE).setting.lr == 1


def test_the_grid_is_extended_where_its_best_lies_on_the_edge() -> None:
    assert extension(grid(0.5, 0.6, 0.9, 0.95), PLAIN) == 16.0
    assert extension(grid(0.9, 0.8, 0.7), PLAIN) == 0.5
    assert extension(grid(0.7, 0.9, 0.7), PLAIN) is None


def test_a_rising_end_is_extended_though_it_would_never_be_chosen() -> None:
    """What lies beyond counts as worse for the choice; that must not hide that the grid is too short."""
    points = grid(0.5, 0.941, 0.941, 0.9412)
    assert best(points, PLAIN, CHANCE).setting.lr == 4
    assert extension(points, PLAIN) == 16.0


def test_replicates_and_neighbours_in_hyperparameters_count() -> None:
    """Two points an octave apart in one dimension and equal in the other: weights 1 and 1/2."""
    arm = Arm("x", "label_smoothing:epsilon=?", tuned=(Dimension("epsilon", (0.1, 0.2, 0.4)),))
    points = [Scored(Setting(1.0, (0.1,)), HERE, 1.0), Scored(Setting(1.0, (0.2,)), THERE, 1.0)]
    # At the point (1, .1): itself 1, the other 1/2, what lies octave above 1/2, its own score below 1/2.
    expected = (HERE + 0.5 * THERE + 0.5 * BEYOND + 0.5 * HERE) / 2.5
    assert smoothed(points, arm, BEYOND)[0] == pytest.approx(expected)
    # At the point (1, .2) likewise, with the two changed over.
    assert smoothed(points, arm, BEYOND)[1] == pytest.approx((THERE + 0.5 * HERE + 0.5 * BEYOND + 0.5 * THERE) / 2.5)


def test_points_two_octaves_or_two_choices_apart_do_not_meet() -> None:
    arm = Arm("x", "label_smoothing:epsilon=?", tuned=(Dimension("epsilon", (0.1, 0.2, 0.4)),))
    for other in (Setting(4.0, (0.1,)), Setting(2.0, (0.4,))):
        points = [Scored(Setting(1.0, (0.1,)), HERE, 1.0), Scored(other, THERE, 1.0)]
        octaves = math.log2(other.lr)
        top = max(0, 1 - (octaves + 1) / 2)  # how near the point is to an octave above the highest
        assert smoothed(points, arm, BEYOND)[0] == pytest.approx((HERE + top * BEYOND + 0.5 * HERE) / (1.5 + top))


def test_a_point_without_values_stands_at_the_defaults() -> None:
    arm = Arm("x", "label_smoothing:epsilon=?", tuned=(Dimension("epsilon", (0.05, 0.1, 0.2)),))
    assert arm.default_positions == [1.0]
    decay = Arm("x", CROSS_ENTROPY, tuned=(Dimension("weight_decay", (0.01, 0.1)),))
    assert decay.default_positions == [-1.0]
    points = [Scored(Setting(1.0), HERE, 1.0), Scored(Setting(1.0, (0.1,)), THERE, 1.0)]
    # Both stand at the same place: the mean of the two, what lies above half and the point's own score half.
    assert smoothed(points, arm, BEYOND)[0] == pytest.approx((HERE + THERE + 0.5 * BEYOND + 0.5 * HERE) / 3)


@pytest.mark.parametrize("scale", ["choices", "linear", "log"])
def test_sobol_settings_cover_an_octave_to_each_side_and_the_whole_range(scale: str) -> None:
    arm = Arm("x", "gce:q=?", tuned=(Dimension("q", (0.1, 0.9), scale),))  # type: ignore[arg-type]
    settings = sobol_settings(arm, 0.01, 64, seed=1)
    octaves = [math.log2(setting.lr / 0.01) for setting in settings]
    values = [setting.values[0] for setting in settings if setting.values]
    assert len(settings) == len(values) == 64
    assert min(octaves) >= -1
    assert max(octaves) <= 1
    assert max(np.diff(sorted(octaves))) < 0.1
    assert 0.1 <= min(values) < 0.2
    assert 0.8 < max(values) <= 0.9
    assert settings == sobol_settings(arm, 0.01, 64, seed=1)
    assert settings != sobol_settings(arm, 0.01, 64, seed=2)


def test_sobol_settings_fill_the_square_evenly() -> None:
    """The first 64 points of a Sobol sequence put one into each of 8 by 8 equal cells; rounding may move one or two."""
    arm = Arm("x", "gce:q=?", tuned=(Dimension("q", (0.0, 1.0), "linear"),))
    cells = {
        (int(8 * (math.log2(setting.lr) + 1) / 2), int(8 * value))
        for setting in sobol_settings(arm, 1.0, 64, seed=3)
        for value in setting.values or ()
    }
    assert len(cells) >= 62


def test_one_sobol_setting_is_one() -> None:
    arm = Arm("x", "gce:q=?", tuned=(Dimension("q", (0.1, 0.9), "linear"),))
    assert len(sobol_settings(arm, 1.0, 1, seed=0)) == 1
    assert len(sobol_settings(arm, 1.0, 5, seed=0)) == 5


def test_sobol_settings_without_anything_else_to_tune_are_learning_rates() -> None:
    settings = sobol_settings(PLAIN, 3.0, 8, seed=2)
    assert {setting.values for setting in settings} == {None}
    eighths = sorted(int(8 * (math.log2(setting.lr / 3) + 1) / 2) for setting in settings)
    assert eighths == list(range(8))  # one in each eighth of the two octaves


def test_expected_best_is_the_mean_over_all_subsets() -> None:
    scores = [0.3, 0.9, 0.5, 0.7, 0.7]
    brute = [np.mean([max(subset) for subset in itertools.combinations(scores, k)]) for k in range(1, 6)]
    assert expected_best(scores) == pytest.approx(brute)


def test_controls_are_always_there_and_no_loss_is_in_twice() -> None:
    arms = make_arms(TASK, ["m", "rooted:k=3", "cross_entropy", "rooted", "label_smoothing:epsilon=?"], "adam")
    assert [arm.name for arm in arms] == [CROSS_ENTROPY, AGAIN, NAMES.weight_decay, LABEL_SMOOTHING, "m", "rooted"]
    assert [arm.role for arm in arms] == ["control"] * 4 + ["candidate"] * 2
    assert [arm.stream for arm in arms[:2]] == [0, 1]
    assert len({arm.stream for arm in arms}) == len(arms)
    assert arms[3].tuned[0].values == (0.05, 0.1, 0.2, 0.4, 0.65)


def test_imbalance_adds_its_controls() -> None:
    names = [arm.name for arm in make_arms(TASK, ["m"], "adam", [30, 10])]
    assert "cross_entropy (class-weighted)" in names
    assert "logit_adjusted" in names
    weighted = next(
        arm for arm in make_arms(TASK, ["m"], "adam", [30, 10]) if arm.name == "cross_entropy (class-weighted)"
    )
    assert weighted.loss == "cross_entropy:weight=[0.6667,2]"


def test_a_tuned_value_goes_where_the_question_mark_stood() -> None:
    arm = next(arm for arm in make_arms(TASK, ["symmetric:alpha=?,beta=2"], "adam") if arm.role == "candidate")
    assert arm.loss == "symmetric:alpha=?,beta=2"
    assert arm.loss_with() == "symmetric:beta=2"
    assert arm.loss_with([0.5]) == "symmetric:alpha=0.5,beta=2"
    with pytest.raises(ValueError, match="cannot be tuned"):
        make_arms(TASK, ["dynamical:period=?"], "adam")
    with pytest.raises(ValueError, match="nothing of this loss can"):
        make_arms(TASK, ["bi_tempered:t1=?", "brier:weight=?"], "adam")


def test_the_default_dynamical_loss_gives_each_class_its_turn_and_ends_static() -> None:
    for steps, classes in ((340, 10), (70, 3), (1000, 2)):
        text = next(
            loss for loss in default_losses(Classification(("",) * classes), steps) if loss.startswith("dynamical")
        )
        values = dict(part.split("=") for part in text.partition(":")[2].split(","))
        period, tail = int(values["period"]), int(values["static_after"])
        assert tail % period == 0
        assert period * classes <= steps
        assert 0.5 * steps <= tail <= 0.9 * steps
