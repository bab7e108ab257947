from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lossmith.comparison.speed import Speed, paired_log_ratio, steps_to_reach


def test_steps_to_reach_needs_three_evaluations_that_average_tau() -> None:
    steps = [10, 20, 30, 40, 50]
    assert steps_to_reach([0.0, 0.95, 0.5, 0.9, 0.9], steps, 0.9) == math.inf
    assert steps_to_reach([0.0, 0.95, 0.9, 0.85, 0.9], steps, 0.9) == 40
    assert steps_to_reach([1.0, 1.0, 1.0, 0.0, 0.0], steps, 0.9) == 30
    assert steps_to_reach([0.9, 0.9], [10, 20], 0.5) == math.inf
    assert steps_to_reach([0.9, math.nan, 0.9, 0.9, 0.9], steps, 0.9) == 50


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_a_flat_curve_reaches_its_own_level(a: int, b: int) -> None:
    """Whatever the rounding of the mean of three equal fractions."""
    level = min(a, b) / max(a, b)
    assert steps_to_reach([level] * 4, [1, 2, 3, 4], level) == 3


def test_a_flat_curve_of_single_precision_reaches_its_own_level() -> None:
    """The sum of three float32 is off by more than the allowance for rounding."""
    for k in range(1, 200):
        level = np.float32(k / 200)
        assert steps_to_reach(np.full(4, level), [1, 2, 3, 4], float(level)) == 3


def test_steps_to_reach_refuses_mismatched_or_disordered_steps() -> None:
    with pytest.raises(ValueError, match="one step count per evaluation"):
        steps_to_reach([0.1, 0.2, 0.3], [1, 2], 0.5)
    with pytest.raises(ValueError, match="increasing"):
        steps_to_reach([0.1, 0.2, 0.3], [1, 3, 2], 0.5)
    with pytest.raises(ValueError, match="increasing"):
        steps_to_reach([0.1, 0.2, 0.3], [1, 2, 2], 0.5)


def test_uncensored_speed_is_the_paired_t_test_on_logs() -> None:
    t_loss, t_reference = [70.0, 90.0, 60.0, 100.0], [100.0, 110.0, 105.0, 120.0]
    ratio = paired_log_ratio(t_loss, t_reference)
    oracle = stats.ttest_1samp(np.log(t_loss) - np.log(t_reference), 0.0)
    assert ratio.method == "log-t"
    assert ratio.ratio == pytest.approx(np.median([0.7, 90 / 110, 60 / 105, 100 / 120]))
    assert ratio.p_value == pytest.approx(oracle.pvalue)
    assert ratio.interval == pytest.approx(tuple(np.exp(oracle.confidence_interval(0.95))))


def test_three_pairs_are_enough_and_quotients_are_those_of_doubles() -> None:
    found = paired_log_ratio(np.float32([70, 90, 70]), np.float32([90, 110, 30]))
    assert found.ratio == pytest.approx(90 / 110, rel=1e-12)
    oracle = stats.ttest_1samp(np.log([7 / 9, 9 / 11, 7 / 3]), 0.0)
    assert found.p_value == pytest.approx(oracle.pvalue)
    assert found.interval == pytest.approx(tuple(np.exp(oracle.confidence_interval(0.95))))


def test_a_fraction_of_a_step_is_a_time() -> None:
    assert paired_log_ratio([0.5, 0.5], [0.25, 0.5]).ratio == 1.5


def test_one_pair_has_no_spread_to_lack() -> None:
    assert paired_log_ratio([50.0], [80.0]).method == "log-t"
    assert paired_log_ratio([50.0, 50.0], [80.0, 80.0]).method == "sign test"


def test_what_was_not_asked_is_none() -> None:
    speed = Speed((0.1,), (50.0,), paired_log_ratio([50.0], [80.0]))
    assert (speed.holm_p, speed.shortened_reference_missed, speed.shortened_steps) == (None, None, None)


def test_a_little_slower_is_slower() -> None:
    never = math.inf
    found = paired_log_ratio([never, 90, 90, 90], [80.0, 80, 80, 80])
    assert found.p_value == pytest.approx(2 * 0.5**4)


def test_censored_speed_is_the_sign_test() -> None:
    never = math.inf
    #        faster x 6                    slower            ties: equal, both censored
    t_loss = [50, 50, 50, 50, 50, 50, never, 50, never]
    t_reference = [80, 90, 70, 60, never, 99, 80.0, 50, never]
    ratio = paired_log_ratio(t_loss, t_reference)
    assert (ratio.method, ratio.interval) == ("sign test", None)
    assert ratio.p_value == pytest.approx(stats.binomtest(6, 7).pvalue)
    assert (ratio.censored_loss, ratio.censored_reference, ratio.pairs) == (2, 2, 9)
    assert ratio.ratio == pytest.approx(np.median([50 / 80, 50 / 90, 50 / 70, 50 / 60, 0, 50 / 99, never, 1]))


def test_speed_where_nothing_arrives() -> None:
    never = [math.inf] * 3
    assert paired_log_ratio(never, [10.0, 20.0, 30.0]).ratio == math.inf
    nothing = paired_log_ratio(never, never)
    assert math.isnan(nothing.ratio)
    assert nothing.p_value == 1.0


def test_ratios_without_spread_are_left_to_the_sign_test() -> None:
    """Cross-entropy against itself is as fast as itself, and three equal ratios are not a certainty."""
    assert paired_log_ratio([10, 20, 30], [10, 20, 30]).p_value == 1.0
    same = paired_log_ratio([9, 18, 27], [10, 20, 30])
    assert (same.method, same.interval) == ("sign test", None)
    assert same.p_value == pytest.approx(2 * 0.5**3)


def test_times_that_differ_by_rounding_are_equal() -> None:
    """The geometric mean of 210 and 210 is 209.99999999999994 or so; as fast as itself is not slower ten times."""
    mean = np.exp(np.log([[210.0] * 10] * 2).mean(0))
    found = paired_log_ratio([210.0] * 10, mean)
    assert (found.ratio, found.p_value) == (1.0, 1.0)
    assert paired_log_ratio([*[210.0] * 9, math.inf], [*mean[:9], 300.0]).p_value == 1.0


def test_two_pairs_are_too_few_for_an_interval() -> None:
    for pair in ([50.0, 60.0], [50.0, math.inf]):
        ratio = paired_log_ratio(pair, [80.0, 70.0])
        assert (ratio.interval, ratio.p_value) == (None, None)


@pytest.mark.parametrize(
    ("a", "b"), [([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([1.0], [0.0]), ([math.nan], [1.0]), ([], [])]
)
def test_speed_refuses_times_that_are_none(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="positive step counts"):
        paired_log_ratio(a, b)
