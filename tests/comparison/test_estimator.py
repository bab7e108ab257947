"""The estimator of a comparison against its docstring in loops, scipy, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from slow_layout import slow_estimator

from lossmith.comparison.estimator import Estimator
from lossmith.comparison.statistics import NoInterval

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
    for seed in range(2):
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
    for _ in range(250):
        scores = {name: list(rng.normal(size=(5, 2, 1))) for name in "abcd"}
        found.append([Estimator(scores, "abcd")._variances[name] for name in "abcd"])
    assert np.mean(found) == pytest.approx(0.1, rel=0.08)


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
    first, rest = false_alarms(sizes, repeats, 3, wild, times=200)
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
