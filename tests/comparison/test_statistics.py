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

from lossmith.comparison.estimator import Estimator
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


def slow_estimator(folds: list[list[list[float]]]) -> tuple[float, float, float, float, float, float]:
    """Mean, V_seed, V_test, V_res, V and nu by loops, from the formulas of the protocol."""
    R = len(folds[0])
    F = len(folds)
    n = sum(len(fold[0]) for fold in folds)

    def average(values: list[float]) -> float:
        return sum(values) / len(values)

    def spread(values: list[float]) -> float:
        return sum((v - average(values)) ** 2 for v in values) / (len(values) - 1)

    v_seed = v_res = 0.0
    column_means = []
    for fold in folds:
        n_f = len(fold[0])
        rows = [average(row) for row in fold]
        columns = [average([fold[s][i] for s in range(R)]) for i in range(n_f)]
        grand = average(rows)
        column_means += columns
        v_seed += (n_f / n) ** 2 * spread(rows) / R
        if n_f > 1:
            squares = 0.0
            for s, i in itertools.product(range(R), range(n_f)):
                squares += (fold[s][i] - rows[s] - columns[i] + grand) ** 2
            v_res += (n_f / n) ** 2 * squares / ((R - 1) * (n_f - 1)) / (R * n_f)
    v_test = spread(column_means) / n
    v = max(v_seed + v_test - v_res, v_seed, v_test)
    nu = v**2 / (v_seed**2 / (F * (R - 1)) + v_test**2 / (n - 1))
    return average(column_means), v_seed, v_test, v_res, v, nu


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


# --- many losses, of which a run is a whole pipeline ----------------------------------------------------------

Bank = dict[str, list[list[np.ndarray]]]
"""For each arm and fold, the scores of each repeat."""


def variance_of_median(n: int) -> float:
    """Of n standard normal numbers, by integrating over the middle one or the two around the middle."""
    x = np.linspace(-7, 7, 701)
    f, cdf = stats.norm.pdf(x), stats.norm.cdf(x)
    k = (n - 1) // 2
    if n % 2:
        density = f * cdf**k * (1 - cdf) ** k
        return float((density * x**2).sum() / density.sum())
    joint = np.outer(cdf**k * f, (1 - cdf) ** k * f) * np.triu(np.ones((x.size, x.size)))
    return float((joint * ((x[:, None] + x) / 2) ** 2).sum() / joint.sum())


def units_of(bank: Bank, shared: bool, apart: int = 17) -> list[list[np.ndarray]] | None:
    """Which units the runs score: all the same in a fold, or of each run its own, some of which others score too."""
    fold_by_fold = next(iter(bank.values()))
    if shared:
        return None
    return [
        [np.arange(len(run)) + apart * (r + f * len(fold)) for r, run in enumerate(fold)]
        for f, fold in enumerate(fold_by_fold)
    ]


def efficiency_of_median(df: int) -> float:
    """By the textbook: a median of A numbers with density f has the variance 1 / (4 A f^2) there."""
    chi2 = stats.chi2(df)
    return float(chi2.var() / chi2.mean() ** 2 * 4 * (chi2.pdf(chi2.median()) * chi2.median()) ** 2)


def by_the_docstring(bank: Bank, alike: list[str], shared: bool, arm: str, others: list[str]) -> tuple[float, ...]:
    """Mean, V, nu and the parts of V that belong to repeats and to examples, in loops."""
    folds, repeats = range(len(bank[arm])), range(len(bank[arm][0]))
    R, df = len(repeats), len(folds) * (len(repeats) - 1)
    y = {a: [[sum(run) / len(run) for run in fold] for fold in of] for a, of in bank.items()}
    units = [sum(len(run) for run in fold) / R for fold in bank[arm]]
    w = [n / sum(units) for n in units]

    A, m = len(alike), 0.0 if len(alike) == 1 else variance_of_median(len(alike))
    g = 1.0 if A == 1 else 1 - 2 / A + m
    center = [[float(np.median([y[a][f][r] for a in alike])) if A > 1 else 0.0 for r in repeats] for f in folds]

    def spread(a: str) -> float:
        return sum(w[f] ** 2 * np.var([y[a][f][r] - center[f][r] for r in repeats], ddof=1) / R for f in folds)

    own = {a: spread(a) / g for a in alike}
    pooled = np.mean(list(own.values())) if A < 3 else np.median(list(own.values())) * df / stats.chi2.median(df)
    s2 = {a: own[a] if a in own else max(0.0, spread(a) - m * pooled) for a in bank}

    theirs, k = np.mean([s2[b] for b in others]), len(others)
    v_a, v_0 = max(s2[arm], pooled), max(theirs, pooled) / k
    more = [v > pooled * (1 + 1e-9) for v in (s2[arm], theirs)]
    from_pooled = (not more[0]) * v_a + (not more[1]) * v_0
    parts = [
        (v_a * more[0], df),
        (v_0 * more[1], k * df),
        (from_pooled, max(1, efficiency_of_median(df) * (A - 1)) * df),
    ]

    gap = [[bank[arm][f][r] - sum(bank[b][f][r] for b in others) / k for r in repeats] for f in folds]
    if shared:
        plain = slow_estimator([[run.tolist() for run in fold] for fold in gap])
        mean, v_test, v_res, n = plain[0], plain[2], plain[3], sum(units)
    else:
        mean = sum(w[f] * np.mean([run.mean() for run in gap[f]]) for f in folds)
        which, of_unit, single, terms = units_of(bank, shared), {}, 0.0, 0
        assert which is not None
        for f in folds:
            for r in repeats:
                for unit, value in zip(which[f][r].tolist(), gap[f][r], strict=True):
                    term = w[f] * (value - mean) / (R * len(gap[f][r]))
                    of_unit[unit] = of_unit.get(unit, 0.0) + term
                    single, terms = single + term**2, terms + 1
        n = len(of_unit)
        v_test, v_res = sum(c**2 for c in of_unit.values()) * n / (n - 1), single * terms / (terms - 1)
    v_units = max(0.0, v_test - v_res)
    v = v_a + v_0 + v_units
    nu = v**2 / (sum(part**2 / of for part, of in parts) + v_units**2 / (n - 1))
    return float(mean), float(v), float(nu), float(v_a + v_0), float(v_units)


def pipelines(
    rng: np.random.Generator, arms: list[str], sizes: list[int], repeats: int, shared: bool = True, **spread: float
) -> Bank:
    """Scores of arms without differences: what all share, what a pipeline adds, what an example adds to a run."""
    bank: Bank = {name: [] for name in arms}
    for size in sizes:
        difficulty, drawn = rng.normal(0, 0.3, size=size), [rng.normal(0, 0.3, size=size) for _ in range(repeats)]
        common = rng.normal(0, 0.05, size=repeats)
        for name in arms:
            runs = rng.normal(0, 0.02 * spread.get(name, 1.0), size=repeats)
            kind = rng.normal(0, 0.1, size=size) if shared else 0.0
            bank[name].append([
                (difficulty if shared else drawn[r]) + kind + common[r] + runs[r] + rng.normal(0, 0.2, size=size)
                for r in range(repeats)
            ])
    return bank


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("sizes", "repeats"), [([40, 25, 60], 2), ([130], 3), ([30, 35, 40, 45, 50], 2)])
@pytest.mark.parametrize(("pooled", "precise"), [(1, 1e-9), (2, 2e-3), (3, 1e-3), (4, 0.02), (5, 5e-3), (8, 0.01)])
def test_the_estimator_is_its_docstring(
    pooled: int, precise: float, sizes: list[int], repeats: int, shared: bool
) -> None:
    """Up to the variance of a median, which the estimator knows to 3 % only."""
    alike = [f"p{i}" for i in range(pooled)]
    arms = [*alike, "tuned", "wild"]
    for seed in range(3):
        rng = np.random.default_rng([pooled, len(sizes), seed])
        bank = pipelines(rng, arms, sizes, repeats, shared, wild=5.0, p0=1.0 + seed, tuned=0.1)
        units = units_of(bank, shared)
        estimator = Estimator(bank, alike, units)
        for arm, *others in (["wild", "p0", alike[-1]], ["p0", "wild"], ["tuned", "p0"], [alike[-1], "tuned", "p0"]):
            if arm in others:
                continue
            d = estimator.difference(arm, *others)
            mine = (d.mean, d.variance, d.df, d.v_seed, d.v_test)
            expected = by_the_docstring(bank, alike, shared, arm, others)
            parts = pytest.approx(expected[3:], rel=precise, abs=precise * d.variance)
            assert mine[:3] == pytest.approx(expected[:3], rel=precise), (arm, others)
            assert mine[3:] == parts, (arm, others)
            assert d.runs == len(sizes) * repeats
            assert d.examples == (sum(sizes) if units is None else len({u for of in units for run in of for u in run}))
            assert d.examples / 4 < d.differing < d.examples


def test_the_variance_of_an_arm_is_estimated_without_bias_though_a_median_is_taken_off() -> None:
    """Four arms of independent runs with sd 1: of F R = 10 runs the mean has variance 1/10; V is that of 1 + 1 arms."""
    rng = np.random.default_rng(4)
    found = []
    for _ in range(600):
        scores = {name: list(rng.normal(size=(5, 2, 1))) for name in "abcd"}
        found.append([Estimator(scores, "abcd")._variances[name] for name in "abcd"])
    assert np.mean(found) == pytest.approx(0.1, rel=0.06)


@pytest.mark.parametrize("shared", [True, False])
def test_what_all_arms_share_in_a_repeat_cancels(shared: bool) -> None:
    rng = np.random.default_rng(1)
    bank = pipelines(rng, ["a", "b", "c", "tuned"], [50, 70], 2, shared)
    shift = rng.normal(size=(2, 2))
    moved = {
        name: [[run + shift[f, r] for r, run in enumerate(fold)] for f, fold in enumerate(of)]
        for name, of in bank.items()
    }
    for arm, *others in (["a", "b", "c"], ["tuned", "a"], ["b", "tuned"]):
        before, after = (
            Estimator(each, "abc", units_of(bank, shared)).difference(arm, *others) for each in (bank, moved)
        )
        assert (after.mean, after.variance, after.df) == pytest.approx((before.mean, before.variance, before.df))


def test_the_estimator_sums_scores_of_single_precision_in_double() -> None:
    bank = pipelines(np.random.default_rng(7), ["a", "b", "c"], [60, 80], 2)
    single = {name: [[np.float32(1000 + run) for run in fold] for fold in of] for name, of in bank.items()}
    double = {name: [[run.astype(np.float64) for run in fold] for fold in of] for name, of in single.items()}
    for units in (None, units_of(bank, shared=False)):
        found, expected = (Estimator(each, "abc", units).difference("a", "b", "c") for each in (single, double))
        assert (found.mean, found.variance, found.df) == pytest.approx((expected.mean, expected.variance, expected.df))


def test_losses_that_change_places_change_the_sign_alone() -> None:
    bank = pipelines(np.random.default_rng(2), ["a", "b", "c"], [50, 70], 2, a=3.0)
    estimator = Estimator(bank, "abc")
    there, back = estimator.difference("a", "b"), estimator.difference("b", "a")
    assert (back.mean, back.variance, back.df) == pytest.approx((-there.mean, there.variance, there.df))
    mirrored = Estimator({name: [[-run for run in fold] for fold in of] for name, of in bank.items()}, "abc")
    turned = mirrored.difference("a", "b", "c")
    straight = estimator.difference("a", "b", "c")
    assert (turned.mean, turned.variance, turned.df) == pytest.approx((-straight.mean, straight.variance, straight.df))


def test_two_trainings_of_a_reference_halve_its_share_of_the_variance() -> None:
    """Were all arms alike, V would be s^2 (1 + 1/2) instead of s^2 (1 + 1)."""
    runs = np.random.default_rng(3).normal(size=(9, 5, 2))
    bank = {f"{i}": [[np.full(30, run) for run in fold] for fold in of] for i, of in enumerate(runs)}
    estimator = Estimator(bank, list(bank))
    calm = sorted(bank, key=lambda name: estimator._variances[name])[:3]
    one, two = estimator.difference(calm[0], calm[1]), estimator.difference(calm[0], calm[1], calm[2])
    assert two.v_seed / one.v_seed == pytest.approx(1.5 / 2)


def test_one_wild_arm_leaves_the_others_as_sure_as_they_were() -> None:
    """Ten times the spread, a hundred times the variance: the mean variance of six arms would grow 17 times."""
    arms, found = [f"{i}" for i in range(6)], []
    for seed in range(8):
        calm, wild = (pipelines(np.random.default_rng(seed), arms, [60] * 5, 2, **{"5": k}) for k in (1.0, 10.0))
        before, after = (Estimator(bank, arms).difference("1", "0", "2") for bank in (calm, wild))
        assert 0.6 < after.variance / before.variance < 1.7
        found.append((after, Estimator(wild, arms).difference("5", "0", "2")))
    assert np.mean([own.variance for _, own in found]) > 10 * np.mean([after.variance for after, _ in found])
    assert np.median([own.df for _, own in found]) < 8  # its own five degrees of freedom, hardly more


def test_one_repeat_tells_nothing_of_chance_but_the_mean() -> None:
    for shared in (True, False):
        bank = pipelines(np.random.default_rng(5), ["a", "b"], [40, 40, 40], 1, shared)
        d = Estimator(bank, "ab", units_of(bank, shared)).difference("a", "b")
        assert d.reason is NoInterval.ONE_SEED
        assert (d.interval(), d.p_value, d.mde()) == (None, None, None)
        assert all(map(math.isnan, (d.variance, d.df, d.v_seed)))
        mean = np.mean([a[0].mean() - b[0].mean() for a, b in zip(bank["a"], bank["b"], strict=True)])
        assert d.mean == pytest.approx(mean)
    two = pipelines(np.random.default_rng(5), ["a", "b"], [150], 2)
    assert Estimator(two, "ab").difference("a", "b").reason is NoInterval.FEW_RUNS


@pytest.mark.parametrize("shared", [True, False])
def test_where_no_mean_varies_examples_alone_decide(shared: bool) -> None:
    """Every repeat gets the same examples right: the t-test over examples, over those of all repeats if drawn anew."""
    same, better = np.arange(120) < 80, np.arange(120) < 92
    bank = {"a": [[same] * 3], "b": [[same] * 3], "c": [[better] * 3]}
    units = units_of(bank, shared, apart=1000)
    d = Estimator(bank, "abc", units).difference("c", "a", "b")
    oracle = stats.ttest_1samp(np.tile(better.astype(float) - same, 1 if shared else 3), 0.0)
    assert d.p_value == pytest.approx(oracle.pvalue)
    assert d.interval() == pytest.approx(tuple(oracle.confidence_interval(0.95)))
    nothing = Estimator(bank, "abc", units).difference("b", "a")
    assert (nothing.mean, nothing.variance, nothing.reason) == (0.0, 0.0, NoInterval.FEW_DIFFERING)


@pytest.mark.parametrize("shared", [True, False])
def test_means_that_agree_by_chance_are_no_certainty(shared: bool) -> None:
    """Coarse scores: every run of an arm has the same number right, each time other examples."""
    rng = np.random.default_rng(6)
    for more in range(1, 8):
        bank = {
            name: [[rng.permutation(np.arange(100) < right) for _ in range(3)]]
            for name, right in {"a": 80, "b": 80, "c": 80 + more}.items()
        }
        d = Estimator(bank, "abc", units_of(bank, shared, apart=1000)).difference("c", "a", "b")
        assert d.mean == pytest.approx(more / 100)
        gaps = [2 * c - a.astype(float) - b for a, b, c in zip(bank["a"][0], bank["b"][0], bank["c"][0], strict=True)]
        units = np.mean(gaps, axis=0) if shared else np.concatenate(gaps)
        assert d.p_value == pytest.approx(stats.ttest_1samp(units, 0.0).pvalue)
        assert more > 1 or (d.p_value or 0.0) > 0.3


def test_the_shares_of_folds_are_those_of_their_examples() -> None:
    """10 of 40 against 0 of 160: 5 %, where the mean over folds would be 12.5 %."""
    fold = [np.zeros(40), np.zeros(160)]
    bank = {"a": [[zeros] * 2 for zeros in fold], "b": [[(np.arange(40) < 10).astype(float)] * 2, [fold[1]] * 2]}
    for shared in (True, False):
        assert Estimator(bank, "ab", units_of(bank, shared)).difference("b", "a").mean == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("bank", "alike", "message"),
    [
        ({"a": [[[1.0]] * 2], "b": [[[1.0]] * 2] * 2}, "ab", r"same folds and repeats, got \[\(2,\), \(2, 2\)\]$"),
        ({"a": [[[1.0]] * 2, [[1.0]] * 3]}, "a", r"same folds and repeats, got \[\(2, 3\)\]$"),
        ({"a": [[[1.0]] * 2], "b": [[[1.0], [math.nan]]]}, "ab", "a score is not finite$"),
        ({"a": [[[1.0, math.inf]] * 2]}, "a", "a score is not finite$"),
        ({"a": [[[1.0]] * 2]}, "b", "none of the arms is pooled$"),
    ],
)
def test_what_cannot_be_compared_is_refused(bank: Bank, alike: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^Estimator: .*{message}"):
        Estimator(bank, alike)


def false_alarms(sizes: list[int], repeats: int, candidates: int, wild: bool, times: int) -> tuple[float, float]:
    """How often arms without differences have p < .05 against two of their kind; that of the first, and of the rest."""
    references = ["reference", "again"]
    names = [f"{i}" for i in range(candidates)]
    rng = np.random.default_rng([20261122, len(sizes), candidates, wild])
    hits = []
    for _ in range(times):
        bank = pipelines(rng, [*references, *names], sizes, repeats, **{"0": 10.0 if wild else 1.0})
        estimator = Estimator(bank, list(bank))
        p = [estimator.difference(name, *references).p_value for name in names]
        hits.append([each is not None and each < 0.05 for each in p])
    rates = np.mean(hits, axis=0)
    return float(rates[0]), float(rates[1:].mean()) if candidates > 1 else math.nan


@pytest.mark.parametrize("wild", [False, True])
@pytest.mark.parametrize(("sizes", "repeats"), [([25] * 5, 2), ([120], 3)], ids=["5 x 2", "1 x 3"])
def test_false_alarms_are_no_more_frequent_than_they_may(sizes: list[int], repeats: int, wild: bool) -> None:
    first, rest = false_alarms(sizes, repeats, 3, wild, times=300)
    assert first <= 0.08
    assert 0.01 <= rest <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize("wild", [False, True])
@pytest.mark.parametrize("candidates", [1, 3, 18])
@pytest.mark.parametrize(("sizes", "repeats"), [([40] * 5, 2), ([200], 3)], ids=["5 x 2", "1 x 3"])
def test_false_alarms_of_many_designs(sizes: list[int], repeats: int, candidates: int, wild: bool) -> None:
    first, rest = false_alarms(sizes, repeats, candidates, wild, times=2000)
    assert first <= 0.07
    assert candidates == 1 or 0.015 <= rest <= 0.055


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


def test_examples_that_several_repeats_validate_on_count_once() -> None:
    """Each example helps or harms a loss in every run: redrawing the same examples tells little of others.

    1,000 examples in 5 folds; each of 2 repeats validates on a fifth of the other folds'. Over other examples the
    difference has mean 0, and nothing else is random.
    """
    rng, alarms = np.random.default_rng(8), []
    for _ in range(150):
        taste = rng.normal(0, 0.3, size=1000)
        fold_of = rng.permutation(1000) % 5
        units = [[rng.permutation(np.flatnonzero(fold_of != f))[:160] for _ in range(2)] for f in range(5)]
        same = [[np.zeros(160) for _ in fold] for fold in units]
        bank = {"a": same, "b": same, "c": same, "loss": [[taste[run] for run in fold] for fold in units]}
        alarms.append((Estimator(bank, list(bank), units).difference("loss", "a", "b").p_value or 0.0) < 0.05)
    assert np.mean(alarms) < 0.09


def test_few_heavy_examples_are_few() -> None:
    """Ten ones, or halves among them, are ten; a hundred more that are a hundredth as large add nothing."""
    d = np.zeros((3, 1000))
    d[:, :10], d[:, :4] = 1, 0.5
    assert paired_difference([d]).differing == 10
    d[:, 10:110] = 0.01
    assert paired_difference([d]).differing == pytest.approx(10, abs=0.1)
    d[:, 0] = 100
    assert paired_difference([d]).reason is NoInterval.FEW_DIFFERING
