"""The self-test on made-up copies: what it counts is what a comparison would say of the same runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from made_up import AGAIN, CROSS_ENTROPY, PLAN, MadeUp, Outcome, Run, outcomes, peaked
from rich.console import Console
from scipy import optimize, stats

from lossmith.comparison.protocol import Findings, run_protocol, validation_differences
from lossmith.comparison.results import FinalRun
from lossmith.comparison.selftest import SelfTest, _evaluate, _relabelled, plan_copies, self_test, share_interval
from lossmith.comparison.statistics import holm
from lossmith.comparison.summary import summarise
from lossmith.report.selftest import SelfTestTable
from lossmith.tasks import Judged
from lossmith.trials.runner import Runner

COPIES = plan_copies(replace(PLAN, budget=3, repeats=3), 4)
NAMES = [arm.name for arm in COPIES.arms]
SEED = 1  # one with which there are false alarms among the first relabellings


def chance(run: Run) -> Outcome:
    """Which examples a run gets right is chance, and more so how many of them: false alarms are frequent."""
    draw = np.random.default_rng([SEED, run.fold, run.repeat, *map(ord, run.arm), run.use == "final"])
    right, first = int(draw.integers(60, 80)), int(draw.integers(0, 6))
    return Outcome(peaked(run.lr, 2, float(draw.choice([0.7, 0.74, 0.78]))), right=right, first=first)


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return run_protocol(COPIES, cast(Runner, MadeUp(COPIES, chance)), tmp_path_factory.mktemp("run"))


class Unchanged:
    """Deals every run to the arm whose it was."""

    def permutation(self, n: int) -> np.ndarray:
        return np.arange(n)


def p_of_a_comparison(findings: Findings, runs: Sequence[FinalRun]) -> list[float]:
    """What `compare` says of each copy."""
    rows = {row.name: row for row in summarise(COPIES, replace(findings, runs=tuple(runs))).rows}
    gaps = [rows[name].against_reference for name in NAMES[2:]]
    return [1.0 if gap is None or gap.p is None else gap.p for gap in gaps]


def test_copies_are_the_reference_with_seeds_of_their_own() -> None:
    assert NAMES == [CROSS_ENTROPY, AGAIN, "copy 1", "copy 2", "copy 3", "copy 4"]
    assert {arm.loss for arm in COPIES.arms} == {"cross_entropy"}
    assert len({arm.stream for arm in COPIES.arms}) == 6
    assert [arm.role for arm in COPIES.arms] == ["control"] * 2 + ["candidate"] * 4
    assert not any(arm.tuned for arm in COPIES.arms)


def test_runs_under_their_own_names_give_the_comparison_itself(findings: Findings) -> None:
    runs, dealt = _relabelled(COPIES, findings.runs, cast(Any, Unchanged()))
    assert runs == list(findings.runs)
    outcome = _evaluate(COPIES, runs, dealt)
    assert outcome.p_values.tolist() == p_of_a_comparison(findings, findings.runs)
    assert outcome.recommended is (findings.recommendation.arm != CROSS_ENTROPY)
    for place, used in enumerate(outcome.used, start=2):
        assert used.shape == (6, 6)
        assert [np.flatnonzero(row).tolist() for row in used] == [[0, 1, place]] * 6


def test_runs_are_dealt_anew_within_each_fold_and_repeat(findings: Findings) -> None:
    runs, dealt = _relabelled(COPIES, findings.runs, np.random.default_rng(1))
    assert [(run.arm, run.fold, run.repeat) for run in runs] == [(n, *p) for n in NAMES for p in COPIES.pipelines]
    assert {run.trial for run in runs} == {run.trial for run in findings.runs}
    whose = {run.trial: run.arm for run in findings.runs}
    for run in runs:
        row = dealt[COPIES.pipelines.index((run.fold, run.repeat))]
        assert whose[run.trial] == NAMES[row[NAMES.index(run.arm)]]
        assert (run.trial.ours.data.fold, run.trial.ours.data.repeat) == (run.fold, run.repeat)
    assert len({tuple(row) for row in dealt.tolist()}) > 1


def test_rates_count_what_a_comparison_would_say_of_each_relabelling(findings: Findings, tmp_path: Path) -> None:
    found = self_test(COPIES, cast(Runner, MadeUp(COPIES, chance)), tmp_path, relabellings=12)
    rng = np.random.default_rng(COPIES.trial.seed)
    p = np.array([p_of_a_comparison(findings, _relabelled(COPIES, findings.runs, rng)[0]) for _ in range(12)])
    assert found.copies == 4
    assert found.per_comparison == np.mean(p < 0.05)
    assert found.per_family == np.mean([(holm(row) < 0.05).any() for row in p])
    assert found.per_family > 0
    assert found.interval[0] < found.per_comparison < found.interval[1]
    assert found.faster == 0


def test_a_gain_is_found_as_often_as_a_shifted_difference_would_be(findings: Findings) -> None:
    """Delta is added to what was measured; a loss is not found where the sum is negative."""
    plan = replace(COPIES, delta=0.06)
    runs, dealt = _relabelled(plan, findings.runs, cast(Any, Unchanged()))
    outcome = _evaluate(plan, runs, dealt)
    rows = {row.name: row.against_reference for row in summarise(plan, findings).rows}
    for name, shifted, se in zip(NAMES[2:], outcome.shifted, outcome.se, strict=True):
        gap = rows[name]
        assert gap is not None
        if gap.p is None:
            assert math.isnan(se)
            assert shifted == 1.0
            continue
        assert gap.se == pytest.approx(se)
        p = 2 * stats.t.sf(abs(gap.mean + 0.06) / se, gap.df)
        assert shifted == pytest.approx(p if gap.mean + 0.06 > 0 else 1.0)
    assert any(outcome.shifted < 0.05)
    differences = validation_differences(plan, runs)
    for name, p in zip(NAMES[2:], outcome.recommendable, strict=True):
        gap = replace(differences[name], mean=differences[name].mean + 0.06)
        assert p == (gap.p_value if gap.mean > 0 and gap.p_value is not None else 1.0)
    worse = _evaluate(replace(COPIES, delta=-0.3), runs, dealt)
    assert (worse.shifted == 1.0).all()
    assert (worse.recommendable == 1.0).all()


def test_a_gain_is_held_against_all_copies_by_bonferroni(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only examples vary, and they alike for all copies, p is that of scipy's t-test."""

    def world(run: Run) -> Outcome:
        return Outcome(peaked(run.lr, 2), right=70, first=6 * (run.arm in NAMES[:2]))

    d = np.tile((np.arange(100) < 70).astype(float) - (np.arange(100) >= 6) * (np.arange(100) < 76), 2)
    for delta, alone, adjusted in ((0.05, True, False), (0.07, True, True), (0.03, False, False)):
        t = stats.ttest_1samp(d + delta, 0.0)
        assert bool(t.pvalue < 0.05) is alone
        assert bool(4 * t.pvalue < 0.05) is adjusted
        runner = MadeUp(replace(COPIES, delta=delta), world)
        findings = run_protocol(runner.plan, cast(Runner, runner), tmp_path)
        outcome = _evaluate(runner.plan, *_relabelled(runner.plan, findings.runs, cast(Any, Unchanged())))
        assert outcome.shifted == pytest.approx([t.pvalue] * 4)
        assert outcome.p_values == pytest.approx([1.0] * 4)
        with monkeypatch.context() as patch:
            patch.setattr("lossmith.comparison.selftest.np.random.default_rng", lambda seed: Unchanged())
            patch.setattr("lossmith.comparison.selftest.share_interval", lambda hits, used: (0.0, 1.0))
            found = self_test(runner.plan, cast(Runner, runner), tmp_path, 1)
        assert (found.found, found.found_adjusted) == (float(alone), float(adjusted))


@pytest.mark.parametrize(("delta", "recommendable"), [(0.09, 0.0), (0.12, 1.0)])
def test_a_recommendation_is_held_against_all_copies_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delta: float, recommendable: float
) -> None:
    """Of 50 validating examples 36 are right with the reference, other 36 with the copies: 14 each way of a hundred.

    Without a gain p is 1; with one of delta it is that of a t-test on the 300 examples of all repeats.
    """

    def valid(self: MadeUp, run: Run, given: Outcome) -> Judged:
        return outcomes(50, 36, first=14 * (run.arm in NAMES[:2]), start=50 * (run.repeat + 10 * run.fold))

    gap = (np.arange(50) < 36).astype(float) - (np.arange(50) >= 14)
    p = stats.ttest_1samp(np.tile(gap, 6) + delta, 0.0).pvalue
    assert p < 0.05
    assert bool(4 * p < 0.05) is bool(recommendable)
    monkeypatch.setattr(MadeUp, "_validation", valid)
    runner = MadeUp(replace(COPIES, delta=delta), lambda run: Outcome(peaked(run.lr, 2)))
    with monkeypatch.context() as patch:
        patch.setattr("lossmith.comparison.selftest.np.random.default_rng", lambda seed: Unchanged())
        patch.setattr("lossmith.comparison.selftest.share_interval", lambda hits, used: (0.0, 1.0))
        found = self_test(runner.plan, cast(Runner, runner), tmp_path, 1)
    assert found.recommendable == recommendable


def test_copies_without_any_difference_raise_no_alarm(tmp_path: Path) -> None:
    found = self_test(COPIES, cast(Runner, MadeUp(COPIES, lambda run: Outcome(peaked(run.lr, 2)))), tmp_path, 12)
    rates = ("per_comparison", "per_family", "recommended", "recommendable", "found", "found_adjusted")
    assert {name: getattr(found, name) for name in rates} == dict.fromkeys(rates, 0.0)
    assert found.interval == pytest.approx((0.0, wilson(0.0, 6)[1]))
    assert (found.se, found.faster, found.judged) == (None, 0, 0.0)  # nothing differs, so nothing can be said


def test_a_copy_that_seems_faster_and_better_is_counted(tmp_path: Path) -> None:
    """One copy has all the luck: it is recommended whenever its runs stay together, and is said to be faster."""

    def world(run: Run) -> Outcome:
        lucky = run.arm == "copy 1"
        short = run.steps < 300 and run.use == "final"
        level = 0.3 if short else 0.94 if lucky and run.use == "final" else 0.74
        return Outcome(peaked(run.lr, 2, level), reached=1 + run.repeat if lucky else 5)

    runner = MadeUp(COPIES, world)
    found = self_test(COPIES, cast(Runner, runner), tmp_path, 12)
    assert found.faster == 1
    findings = run_protocol(COPIES, cast(Runner, runner), tmp_path)
    assert _evaluate(COPIES, *_relabelled(COPIES, findings.runs, cast(Any, Unchanged()))).recommended
    assert 0 <= found.recommended <= 1


def test_a_copy_that_could_not_be_trained_is_no_alarm_and_no_reference(tmp_path: Path) -> None:
    def world(run: Run) -> Outcome:
        lost = run.final and run.arm in {AGAIN, "copy 2"}
        return replace(chance(run), diverged=lost)

    findings = run_protocol(COPIES, cast(Runner, MadeUp(COPIES, world)), tmp_path)
    assert findings.untrained.keys() == {AGAIN, "copy 2"}
    runs, dealt = _relabelled(COPIES, findings.runs, cast(Any, Unchanged()))
    outcome = _evaluate(COPIES, runs, dealt)
    assert outcome.p_values.tolist() == p_of_a_comparison(findings, findings.runs)
    assert outcome.p_values[1] == outcome.shifted[1] == 1.0
    assert np.isnan(outcome.se).tolist() == [False, True, False, False]


def test_a_reference_that_could_hardly_be_trained_stays_the_reference(tmp_path: Path) -> None:
    def world(run: Run) -> Outcome:
        return replace(chance(run), diverged=run.final and run.arm == CROSS_ENTROPY and run.repeat == 0)

    findings = run_protocol(COPIES, cast(Runner, MadeUp(COPIES, world)), tmp_path)
    assert findings.weak_reference is not None
    outcome = _evaluate(COPIES, *_relabelled(COPIES, findings.runs, cast(Any, Unchanged())))
    assert outcome.p_values.tolist() == p_of_a_comparison(findings, findings.runs)


# --- how precise a share is ----------------------------------------------------------------------------------


def wilson(share: float, n: float) -> tuple[float, float]:
    """Where |share - p| = z sqrt(p (1 - p) / n), by bisection."""
    z = stats.norm.ppf(0.975)

    def excess(p: float) -> float:
        return abs(share - p) - z * math.sqrt(p * (1 - p) / n)

    tiny = 1e-12
    low = 0.0 if share == 0 else optimize.brentq(excess, tiny, min(share, 1 - tiny))
    return low, 1.0 if share == 1 else optimize.brentq(excess, max(share, tiny), 1 - tiny)


def test_the_interval_of_a_share_is_wilsons_with_the_variance_of_a_jackknife() -> None:
    rng = np.random.default_rng(0)
    used = np.zeros((60, 3, 5), dtype=bool)
    for comparison in used:
        for block in comparison:
            block[rng.permutation(5)[:3]] = True
    hits = rng.random(60) < 0.3
    share, variance = hits.mean(), 0.0
    for block in range(3):
        without = [hits[~used[:, block, pipeline]].mean() for pipeline in range(5)]
        variance += 4 / 5 * sum((each - np.mean(without)) ** 2 for each in without)
    assert share_interval(hits, used) == pytest.approx(wilson(share, share * (1 - share) / variance), rel=1e-5)


def test_a_share_lies_between_0_and_1() -> None:
    for pipelines in range(3, 60):
        for share in (0.0, 1.0):
            low, high = share_interval([share] * 9, np.zeros((9, 2, pipelines)))
            assert 0.0 <= low < high <= 1.0


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_without_any_variance_a_share_is_as_sure_as_a_block_of_pipelines(share: float) -> None:
    """0 of 12 is no proof of 0: up to 24 % it might be."""
    used = np.random.default_rng(1).random((200, 10, 12)) < 0.3
    low, high = share_interval(np.full(200, share), used)
    assert (low, high) == pytest.approx(wilson(share, 12))
    assert high - low == pytest.approx(0.2425, abs=1e-4)


def test_intervals_of_shares_cover_what_other_trainings_give() -> None:
    """Banks of pipelines; a comparison is one of eight copies against two references, summed over five blocks."""
    rng = np.random.default_rng(2)
    shares, intervals = [], []
    for _ in range(60):
        bank = rng.normal(size=(5, 10))
        hits, used = [], []
        for _ in range(80):
            dealt = np.array([rng.permutation(10) for _ in range(5)])
            value = np.take_along_axis(bank, dealt, 1)
            gaps = (value[:, 2:] - value[:, :2].mean(1, keepdims=True)).sum(0)
            hits.append(np.abs(gaps) > stats.norm.ppf(0.95) * math.sqrt(5 * 1.5))  # in 10 % of comparisons
            mine = np.zeros((8, 5, 10), dtype=bool)
            for copy in range(8):
                mine[copy, np.arange(5)[:, None], dealt[:, [0, 1, copy + 2]]] = True
            used.append(mine)
        shares.append(np.mean(hits))
        intervals.append(share_interval(np.concatenate(hits), np.concatenate(used)))
    assert np.mean(shares) == pytest.approx(0.1, abs=0.02)
    assert np.mean([low <= 0.1 <= high for low, high in intervals]) >= 0.93
    assert np.median([high - low for low, high in intervals]) < 0.35


# --- what is printed -----------------------------------------------------------------------------------------


def printed(**changes: Any) -> str:
    rates = {"per_comparison": 0.031, "per_family": 0.042, "recommended": 0.01, "found": 0.4, "found_adjusted": 0.1}
    rest = {"copies": 4, "judged": 1.0, "interval": (0.012, 0.08), "recommendable": 0.25, "se": 0.0123, "faster": 1}
    found = SelfTest(**rest | rates | changes)
    console = Console(width=80, no_color=True)
    with console.capture() as said:
        console.print(SelfTestTable(COPIES, found))
    return said.get()


def test_a_self_test_is_a_table_with_a_conclusion() -> None:
    lines = printed().splitlines()
    rows = [" ".join(line.split()) for line in lines]
    assert max(map(len, lines)) <= 80
    assert "false alarms per comparison, p < .05 3.1 % [1.2, 8.0]" in rows
    assert "comparisons with any false finding, Holm p < .05 4.2 %" in rows
    assert "false recommendations 1.0 %" in rows
    assert "a gain of 0.5 points would be found, p < .05 40.0 %" in rows
    assert "the same among 4 losses, Holm p < .05 10.0 %" in rows
    assert "a gain of 0.5 points on validation would be recommended 25.0 %" in rows
    assert "median standard error of a difference 1.23 points" in rows
    assert "copies said to need fewer steps 1 of 4" in rows
    assert "No sign of too many" in printed()


@pytest.mark.parametrize("rate", ["per_comparison", "per_family", "recommended"])
def test_more_than_7_percent_of_false_alarms_are_too_many(rate: str) -> None:
    assert "No sign of too many" in printed(**{rate: 0.07})
    assert "Too many false alarms" in printed(**{rate: 0.0701})
