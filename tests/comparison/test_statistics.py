"""The statistics of a comparison against slow definitions, scipy, scikit-learn, and simulation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from slow_layout import slow_estimator

from lossmith.comparison.statistics import (
    NoInterval,
    PairedDifference,
    holm,
    paired_difference,
    share_of_pairs_won,
    simultaneous_level,
)

Simulator = Callable[[np.random.Generator, int, int, int], list[np.ndarray]]


# --- two losses alone -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[150], [40, 41, 39], [100, 1, 7, 30], [2], [1, 1], [2, 1]])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_estimator_is_the_protocols_formula(sizes: list[int], seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    folds = [rng.normal(size=(seeds, 1)) + rng.normal(size=k) + rng.normal(size=(seeds, k)) for k in sizes]
    d = paired_difference(folds)
    mine = (d.mean, d.v_seed, d.v_test, d.v_residual, d.variance, d.df)
    assert mine == pytest.approx(slow_estimator([fold.tolist() for fold in folds]), rel=1e-10)
    assert (d.runs, d.examples) == (seeds * len(sizes), sum(sizes))
    sizes = [max(abs(float(run[i])) for run in fold) for fold in folds for i in range(fold.shape[1])]
    largest = [min(1.0, 2 * size / max(sizes)) for size in sizes]
    assert d.differing == pytest.approx(sum(x**2 for x in largest) ** 2 / sum(x**4 for x in largest), abs=1e-6)


def test_scores_of_single_precision_are_summed_in_double() -> None:
    """Around 1000 a float32 has steps of 6e-5: averages and squares of such numbers need the double."""
    d = 1000 + np.random.default_rng(8).normal(size=(3, 150)).astype(np.float32)
    assert d.dtype == np.float32
    found = paired_difference([d])
    mine = (found.mean, found.v_seed, found.v_test, found.v_residual, found.variance, found.df)
    assert mine == pytest.approx(slow_estimator([d.astype(float).tolist()]), rel=1e-9)


def test_without_variation_over_examples_it_is_the_t_test_over_seeds() -> None:
    seed_effects = np.array([0.3, -0.1, 0.25, 0.4])
    d = paired_difference([np.tile(seed_effects[:, None], (1, 120))])
    oracle = stats.ttest_1samp(seed_effects, 0.0)
    assert d.df == pytest.approx(3)
    assert d.p_value == pytest.approx(oracle.pvalue)
    assert d.interval(0.9) == pytest.approx(tuple(oracle.confidence_interval(0.9)))


def test_without_variation_over_seeds_it_is_the_t_test_over_examples() -> None:
    example_effects = np.random.default_rng(0).normal(0.05, 1, size=150)
    d = paired_difference([np.tile(example_effects, (3, 1))])
    oracle = stats.ttest_1samp(example_effects, 0.0)
    assert d.df == pytest.approx(149)
    assert d.p_value == pytest.approx(oracle.pvalue)
    assert d.interval() == pytest.approx(tuple(oracle.confidence_interval(0.95)))


def test_additive_effects_leave_no_residual_and_their_variances_add() -> None:
    rng = np.random.default_rng(1)
    d = paired_difference([rng.normal(size=(4, 1)) + rng.normal(size=(1, 130))])
    assert d.v_residual == pytest.approx(0, abs=1e-30)
    assert d.variance == pytest.approx(d.v_seed + d.v_test)


def test_pure_noise_is_not_counted_twice() -> None:
    """Cells that share nothing: seed and test variance are both the residual's, and V is about one of them."""
    d = paired_difference([np.random.default_rng(2).normal(size=(200, 200))])
    assert d.v_seed == pytest.approx(1 / 200**2, rel=0.3)
    assert d.v_test == pytest.approx(1 / 200**2, rel=0.3)
    assert d.variance == pytest.approx(1 / 200**2, rel=0.3)


def test_seeds_or_examples_that_happen_to_agree_do_not_shrink_the_variance() -> None:
    """Where noise alone made the rows (or columns) average out alike, the other direction still counts in full."""
    noise = np.random.default_rng(5).normal(size=(120, 120))
    equal_rows = paired_difference([noise - noise.mean(axis=1, keepdims=True)])
    equal_columns = paired_difference([noise - noise.mean(axis=0)])
    assert equal_rows.v_seed == pytest.approx(0, abs=1e-20)
    assert equal_rows.variance == equal_rows.v_test > 0
    assert equal_columns.v_test == pytest.approx(0, abs=1e-20)
    assert equal_columns.variance == equal_columns.v_seed > 0


def test_swapping_the_losses_mirrors_the_interval_and_order_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    folds = [rng.normal(size=(3, 60)) for _ in range(2)]
    d = paired_difference(folds)
    mirrored = paired_difference([-fold for fold in folds])
    shuffled = paired_difference([fold[::-1, rng.permutation(60)] for fold in reversed(folds)])
    lower, upper = d.interval() or (0, 0)
    assert mirrored.interval() == pytest.approx((-upper, -lower))
    assert shuffled.interval() == pytest.approx((lower, upper))
    assert mirrored.p_value == pytest.approx(d.p_value)


def known(mean: float, se: float, df: float) -> PairedDifference:
    """A difference of known mean, standard error and degrees of freedom, on data that suffice."""
    return PairedDifference(
        mean=mean, variance=se**2, df=df, v_seed=0.0, v_test=se**2, v_residual=0.0, runs=3, examples=100, differing=10
    )


@pytest.mark.parametrize("df", [1.5, 4, 199])
def test_interval_p_and_mde_are_those_of_students_t(df: float) -> None:
    d = known(0.02, 0.01, df)
    assert d.se == pytest.approx(0.01)
    assert d.interval(0.8) == pytest.approx(stats.t.interval(0.8, df, 0.02, 0.01))
    assert d.interval() == pytest.approx(stats.t.interval(0.95, df, 0.02, 0.01))
    assert d.p_value == pytest.approx(2 * stats.t.sf(2, df))
    assert known(-0.02, 0.01, df).p_value == pytest.approx(d.p_value)
    assert d.mde() == pytest.approx(0.01 * (stats.t.ppf(0.975, df) + stats.t.ppf(0.8, df)))
    assert d.mde(0.2, 0.6) == pytest.approx(0.01 * (stats.t.ppf(0.9, df) + stats.t.ppf(0.6, df)))


def test_the_mde_of_many_examples_is_the_textbooks_2_8_standard_errors() -> None:
    """1.960 + 0.842 for a power of 80 %, 1.960 + 1.282 for 90 % (Cohen 1988)."""
    assert known(0.0, 1.0, 1e9).mde() == pytest.approx(2.802, abs=1e-3)
    assert known(0.0, 1.0, 1e9).mde(power=0.9) == pytest.approx(3.242, abs=1e-3)


def test_without_spread_zero_is_surely_no_difference_and_anything_else_one() -> None:
    assert known(0.0, 0.0, 5).p_value == 1.0
    assert known(0.1, 0.0, 5).p_value == 0.0
    assert known(1.0, 0.0, 5).p_value == 0.0


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10**6), level=st.floats(0.5, 0.999))
def test_p_is_below_alpha_just_where_the_interval_leaves_out_zero(seed: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    d = paired_difference([rng.normal(0.1, 1, size=(3, 110)) + 0.1 * rng.normal(size=(3, 1))])
    lower, upper = d.interval(level) or (0, 0)
    assert d.p_value is not None
    assert (d.p_value < 1 - level) == (lower > 0 or upper < 0)


# --- too little data and degenerate layouts ------------------------------------------------------------------


def sparse(seeds: int, examples: int, differing: int) -> np.ndarray:
    d = np.zeros((seeds, examples))
    d[0, :differing] = 1
    return d


@pytest.mark.parametrize(
    ("folds", "reason"),
    [
        ([sparse(2, 200, 50)], NoInterval.FEW_RUNS),
        ([sparse(1, 200, 50)] * 5, NoInterval.ONE_SEED),
        ([sparse(3, 99, 50)], NoInterval.FEW_EXAMPLES),
        ([sparse(3, 1, 1)], NoInterval.FEW_EXAMPLES),
        ([sparse(3, 200, 9)], NoInterval.FEW_DIFFERING),
        ([sparse(3, 200, 0)], NoInterval.FEW_DIFFERING),
        ([np.tile([[1, 0], [0, 1], [1, 0], [0, 1]], (1, 60))], NoInterval.NO_SPREAD),
        ([sparse(3, 100, 10)], None),
        ([sparse(2, 25, 5)] * 4, None),
    ],
)
def test_too_little_data_gives_a_reason_and_nothing_else(folds: list[np.ndarray], reason: NoInterval | None) -> None:
    d = paired_difference(folds)
    assert d.reason is reason
    assert [x is None for x in (d.interval(), d.p_value, d.mde())] == [reason is not None] * 3


def test_each_reason_ends_the_sentence_there_is_no_interval() -> None:
    assert {reason: reason.value for reason in NoInterval} == {
        NoInterval.FEW_RUNS: "fewer than 3 final runs",
        NoInterval.ONE_SEED: "only one repeat per fold, so the chance of seeds and tuning cannot be measured",
        NoInterval.FEW_EXAMPLES: "fewer than 100 examples",
        NoInterval.FEW_DIFFERING: "fewer than 10 examples differ",
        NoInterval.NO_SPREAD: "runs differ on single examples, yet every average came out the same",
    }


def test_what_cannot_be_estimated_is_nan() -> None:
    """With one seed nothing is known of seeds, with one example nothing of examples; the mean is known all the same."""
    one_seed = paired_difference([np.array([[1.0, 0.0, 1.0, 0.0]])])
    assert one_seed.mean == 0.5
    assert one_seed.v_test == pytest.approx(1 / 3 / 4)
    assert all(map(math.isnan, (one_seed.variance, one_seed.se, one_seed.df, one_seed.v_seed, one_seed.v_residual)))
    one_example = paired_difference([np.array([[1.0], [0.0], [1.0], [0.0]])])
    assert one_example.mean == 0.5
    assert (one_example.v_seed, one_example.v_residual) == (pytest.approx(1 / 3 / 4), 0.0)
    assert all(map(math.isnan, (one_example.variance, one_example.se, one_example.df, one_example.v_test)))


def test_degrees_of_freedom_survive_scores_on_a_tiny_scale() -> None:
    """Squares of variances of 1e-90 underflow; nu does not depend on the unit."""
    d = np.random.default_rng(6).normal(size=(4, 50))
    assert paired_difference([1e-90 * d]).df == pytest.approx(paired_difference([d]).df)


def test_without_any_variance_nu_is_the_most_that_a_part_could_give() -> None:
    """Examples give n - 1 = 4, seeds F(R - 1) = 2 (R - 1)."""
    assert paired_difference([np.full((3, 2), 0.5), np.full((3, 3), 0.5)]).df == 4
    assert paired_difference([np.full((9, 2), 0.5), np.full((9, 3), 0.5)]).df == 16


def test_an_example_differs_if_it_does_under_any_seed() -> None:
    d = np.zeros((3, 6))
    d[0, 0] = d[2, 0] = 1
    d[1, 3], d[2, 4] = -1, 0.01
    assert paired_difference([d, np.ones((3, 2))]).differing == pytest.approx(4, abs=0.001)  # and hardly that of .01


def test_a_constant_difference_is_certain() -> None:
    d = paired_difference([np.full((3, 100), 0.25)])
    assert (d.se, d.interval(), d.p_value, d.mde()) == (0.0, (0.25, 0.25), 0.0, 0.0)


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([], "at least one fold"),
        ([np.zeros((2, 3)), np.zeros((3, 3))], r"same number of final seeds, got \[2, 3\]"),
        ([np.zeros(3)], r"fold 0 must have shape"),
        ([np.zeros((2, 0))], r"fold 0 must have shape"),
        ([np.zeros((2, 3)), np.zeros(3)], r"fold 1 must have shape \(seeds, examples\), got \(3,\)"),
        ([np.array([[0.0, math.nan]])], "fold 0 holds a score that is not finite"),
        ([np.zeros((1, 2)), np.array([[0.0, math.inf]])], "fold 1 holds a score that is not finite"),
    ],
)
def test_malformed_folds_are_refused(folds: list[np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_difference(folds)


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, math.nan])
def test_a_level_is_a_probability(level: float) -> None:
    d = paired_difference([np.ones((3, 100))])
    with pytest.raises(ValueError, match=f"^level must lie strictly between 0 and 1, got {level}"):
        d.interval(level)
    with pytest.raises(ValueError, match=r"^level must lie strictly between 0 and 1"):
        simultaneous_level(3, level)
    with pytest.raises(ValueError, match=r"^alpha must lie strictly between 0 and 1"):
        d.mde(alpha=level)
    with pytest.raises(ValueError, match=r"^power must lie strictly between 0 and 1"):
        d.mde(power=level)


# --- does it hold what it promises? --------------------------------------------------------------------------

DESIGNS = {"3 seeds": (1, 3, 360), "5 seeds": (1, 5, 360), "10 seeds": (1, 10, 360), "5 folds x 2": (5, 2, 100)}
REPLICATES = 1000


def gaussian(seed: float, example: float, residual: float) -> Simulator:
    """Differences with independent seed effects, example effects and residuals of these standard deviations."""

    def simulate(rng: np.random.Generator, F: int, R: int, n: int) -> list[np.ndarray]:
        shape = (F, R, n)
        effects = seed * rng.normal(size=(F, R, 1)) + example * rng.normal(size=(F, 1, n))
        return list(effects + residual * rng.normal(size=shape))

    return simulate


def classifiers(rng: np.random.Generator, F: int, R: int, n: int) -> list[np.ndarray]:
    """0/1 outcomes of two classifiers of about 95 % accuracy, exchangeable, that find the same examples hard."""
    difficulty = rng.normal(3, 1.2, size=(F, 1, n))

    def outcome() -> np.ndarray:
        own = rng.normal(0, 0.5, size=(F, 1, n)) + rng.normal(0, 0.08, size=(F, R, 1))
        return (difficulty + own + rng.normal(size=(F, R, n)) > 0).astype(float)

    return list(outcome() - outcome())


def rejection_rates(
    simulate: Simulator, design: tuple[int, int, int], shift: float = 0.0, replicates: int = REPLICATES
) -> tuple[float, float]:
    """How often "no difference" is rejected at .05 by the estimator and by a t-test over the runs' means."""
    rng = np.random.default_rng(20261120)
    found, runs = [], []
    for _ in range(replicates):
        folds = [fold + shift for fold in simulate(rng, *design)]
        p = paired_difference(folds).p_value
        found.append(p is not None and p < 0.05)
        runs.append(np.concatenate([fold.mean(axis=1) for fold in folds]))
    means = np.array(runs)
    k = means.shape[1]
    # Multiplied out, for runs that all have the same mean.
    naive = np.abs(means.mean(axis=1)) > stats.t.ppf(0.975, k - 1) * means.std(axis=1, ddof=1) / math.sqrt(k)
    return float(np.mean(found)), float(np.mean(naive))


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("simulate", [gaussian(0.015, 0.3, 0.3), classifiers], ids=["gaussian", "0/1"])
def test_size_of_the_test_is_nominal(simulate: Simulator, design: str) -> None:
    size, _ = rejection_rates(simulate, DESIGNS[design])
    assert 0.01 <= size <= 0.065


@pytest.mark.parametrize("simulate", [gaussian(0.015, 0.3, 0.3), classifiers], ids=["gaussian", "0/1"])
def test_t_over_seeds_finds_differences_that_are_not_there(simulate: Simulator) -> None:
    """Ten seeds on one test split know the split by heart and the world not at all."""
    size, naive = rejection_rates(simulate, DESIGNS["10 seeds"])
    assert naive > 0.10 > size


def test_size_at_its_worst_is_what_the_docstring_says() -> None:
    """Three seeds that matter far more than the examples: the approximate degrees of freedom are too many."""
    size, _ = rejection_rates(gaussian(0.05, 0.3, 0.0), DESIGNS["3 seeds"])
    assert 0.05 < size < 0.09


@pytest.mark.parametrize("design", ["10 seeds", "5 folds x 2"])
def test_a_difference_of_the_mde_is_found_four_times_in_five(design: str) -> None:
    F, R, n = DESIGNS[design]
    seed, example, residual = 0.015, 0.3, 0.3
    v_residual = residual**2 / (F * R * n)
    v_seed = seed**2 / (F * R) + v_residual
    v_test = example**2 / (F * n) + v_residual
    v = v_seed + v_test - v_residual
    truth = PairedDifference(
        mean=0.0,
        variance=v,
        df=v**2 / (v_seed**2 / (F * (R - 1)) + v_test**2 / (F * n - 1)),
        v_seed=v_seed,
        v_test=v_test,
        v_residual=v_residual,
        runs=F * R,
        examples=F * n,
        differing=F * n,
    )
    power, _ = rejection_rates(gaussian(seed, example, residual), DESIGNS[design], truth.mde() or 0.0, 2 * REPLICATES)
    assert power == pytest.approx(0.8, abs=0.04)


# --- several losses at once ----------------------------------------------------------------------------------


def closed_testing(p: list[float]) -> list[float]:
    """Adjusted p of hypothesis i: the largest Bonferroni p, |S| min p, over all sets S that contain i."""
    m = len(p)
    subsets = [s for k in range(1, m + 1) for s in itertools.combinations(range(m), k)]
    local = {s: min(1.0, len(s) * min(p[i] for i in s)) for s in subsets}
    return [max(value for s, value in local.items() if i in s) for i in range(m)]


@given(st.lists(st.floats(0, 1), max_size=7))
def test_holm_is_closed_testing_with_bonferroni(p: list[float]) -> None:
    assert holm(p).tolist() == pytest.approx(closed_testing(p))


def test_holm_on_a_table_worked_by_hand() -> None:
    # Sorted: .005*4 = .02; .01*3 = .03; .03*2 = .06; .04*1 = .04, raised to .06 by the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize("p", [[-0.1], [1.1], [0.5, math.nan]])
def test_holm_refuses_what_is_no_p_value(p: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^holm: p-values must lie in \[0, 1\], got \["):
        holm(p)


def test_holm_of_extremes_and_of_none() -> None:
    assert holm([0.0, 1.0]).tolist() == [0.0, 1.0]
    assert holm([]).tolist() == []
    assert holm(np.array([0.01, 0.04], dtype=np.float32)).dtype == np.float64


def test_simultaneous_intervals_share_the_error() -> None:
    assert simultaneous_level(1) == pytest.approx(0.95)
    assert simultaneous_level(20) == pytest.approx(0.9975)
    assert 20 * (1 - simultaneous_level(20, 0.9)) == pytest.approx(0.1)
    assert simultaneous_level(2, 0.9) == pytest.approx(0.95)
    with pytest.raises(ValueError, match=r"^simultaneous_level: m must be at least 1, got 0"):
        simultaneous_level(0)


# --- scores --------------------------------------------------------------------------------------------------


def test_share_of_pairs_won_counts_ties_half() -> None:
    assert share_of_pairs_won([0.9, 0.8, 0.7, 0.6], [0.8, 0.9, 0.7, 0.5]) == (2 + 0.5) / 4
    assert share_of_pairs_won([0.1 + 0.2], [0.3]) == 0.5
    assert share_of_pairs_won([0.3 + 1e-11], [0.3]) == 1.0
    assert share_of_pairs_won([0.3], [0.3 + 1e-11]) == 0.0
    assert share_of_pairs_won([1e-12], [0.0]) == 0.5
    assert share_of_pairs_won(np.array([True, False]), np.array([False, False])) == 0.75
    assert share_of_pairs_won(np.array([1e8, 1e8 + 1]), np.array([1e8, 1e8], dtype=np.float32)) == 0.75


@pytest.mark.parametrize(
    ("a", "b"),
    [([0.1], [0.1, 0.2]), ([[0.1]], [[0.2]]), ([], []), ([math.nan], [0.1]), ([0.1], [math.inf]), ([0.1], [math.nan])],
)
def test_share_of_pairs_won_needs_a_finite_score_of_both_under_every_seed(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^share_of_pairs_won: needs two finite vectors of one length, got"):
        share_of_pairs_won(a, b)


def test_few_heavy_examples_are_few() -> None:
    """Ten ones, or halves among them, are ten; a hundred more that are a hundredth as large add nothing."""
    d = np.zeros((3, 1000))
    d[:, :10], d[:, :4] = 1, 0.5
    assert paired_difference([d]).differing == 10
    d[:, 10:110] = 0.01
    assert paired_difference([d]).differing == pytest.approx(10, abs=0.1)
    d[:, 0] = 100
    assert paired_difference([d]).reason is NoInterval.FEW_DIFFERING
