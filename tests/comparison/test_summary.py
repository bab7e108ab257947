"""From findings to a summary, on made-up outcomes.

Every repeat of a loss gets the same examples right, so that only examples vary: the interval and p-value of a
difference are those of scipy's one-sample t-test on the 200 differences of single examples. A loss is compared with the
mean of cross-entropy and cross-entropy again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import AGAIN, ARMS, CROSS_ENTROPY, LABEL_SMOOTHING, PLAN, Outcome, Run, carry_out, peaked
from scipy import stats

from lossmith.comparison.arms import Arm
from lossmith.comparison.rows import Row, Summary
from lossmith.comparison.summary import summarise

WEIGHTED = "weighted"
WITH_CONTROL = replace(PLAN, arms=(*ARMS, Arm(WEIGHTED, "focal", "control")))
CE_RIGHT = (0, 70)
Right = dict[str, tuple[int, int]]

# Which test examples of each fold a loss gets right, from and up to. Three candidates, one of which diverges.
RIGHT: Right = {
    CROSS_ENTROPY: CE_RIGHT,
    AGAIN: (6, 75),
    LABEL_SMOOTHING: (0, 72),
    WEIGHTED: (0, 95),
    "brier": (0, 82),
    "mae": (9, 85),
    "ngl": (0, 99),
}
SCOPE = "on this data, model, optimiser and budget."
BOTH = "both"  # trainings of cross-entropy, averaged


def world(right: Right, untrained: str = "ngl", edges: str = "") -> Callable[[Run], Outcome]:
    def outcome(run: Run) -> Outcome:
        start, stop = right.get(run.arm, CE_RIGHT)
        accuracy = peaked(run.lr, 2.0**9 if run.arm == edges else 2, 0.82 if run.arm == "brier" else 0.76)
        lost = run.arm == untrained and run.use == "final"
        if run.steps < 300:
            accuracy /= 2  # cross-entropy cut short
        reached = 1 + run.repeat if run.arm == "brier" and run.lr == 2 else 4
        return Outcome(accuracy, right=stop - start, first=start, diverged=lost, reached=reached)

    return outcome


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return summarise(WITH_CONTROL, carry_out(world(RIGHT), tmp_path_factory.mktemp("run"), WITH_CONTROL)[0])


@pytest.fixture
def rows(summary: Summary) -> dict[str, Row]:
    return {row.name: row for row in summary.rows}


def examples(a: str, b: str = BOTH, right: Right = RIGHT) -> np.ndarray:
    """The differences of single examples, in both folds."""

    def score(name: str) -> np.ndarray:
        if name == BOTH:
            return (score(CROSS_ENTROPY) + score(AGAIN)) / 2
        of = np.zeros(100)
        of[slice(*right[name])] = 1
        return of

    return np.tile(score(a) - score(b), 2)


def test_differences_are_those_to_both_cross_entropies_and_to_label_smoothing(rows: dict[str, Row]) -> None:
    for name, reference in (("brier", BOTH), ("mae", BOTH), (WEIGHTED, BOTH), (AGAIN, CROSS_ENTROPY)):
        against_reference, against_rival = rows[name].against_reference, rows[name].against_rival
        assert against_reference is not None
        assert against_rival is not None
        for gap, other in ((against_reference, reference), (against_rival, LABEL_SMOOTHING)):
            t_test = stats.ttest_1samp(examples(name, other), 0.0)
            assert gap.mean == pytest.approx(examples(name, other).mean())
            assert gap.p == pytest.approx(t_test.pvalue)
            assert gap.interval == pytest.approx(tuple(t_test.confidence_interval(0.95)))
            assert gap.se == pytest.approx(stats.sem(examples(name, other)))
            assert (gap.v_seed, gap.df, gap.reason) == (0.0, pytest.approx(199), None)
            assert gap.v_test == pytest.approx(gap.se**2)
            assert gap.mde == pytest.approx((stats.t.ppf(0.975, 199) + stats.t.ppf(0.8, 199)) * gap.se)
    assert rows[CROSS_ENTROPY].against_reference is None
    against_rival = rows[CROSS_ENTROPY].against_rival
    assert against_rival is not None
    assert (against_rival.interval, against_rival.reason) == (None, "fewer than 10 examples differ")
    assert rows[LABEL_SMOOTHING].against_rival is None
    gap = rows[LABEL_SMOOTHING].against_reference
    assert gap is not None
    assert gap.p == pytest.approx(stats.ttest_1samp(examples(LABEL_SMOOTHING), 0.0).pvalue)


def test_holm_counts_every_planned_candidate_also_what_could_not_be_trained(rows: dict[str, Row]) -> None:
    """That of brier is the least of three, that of mae the second; that of ngl counts as 1; controls keep their own."""
    others = ("brier", "mae", WEIGHTED, LABEL_SMOOTHING)
    p = {name: float(stats.ttest_1samp(examples(name), 0.0).pvalue) for name in others}
    holm = {name: gap.holm_p for name, row in rows.items() if (gap := row.against_reference) is not None}
    assert p["brier"] < p["mae"]
    assert 0.02 < p["mae"] < 0.025
    assert holm["brier"] == pytest.approx(3 * p["brier"])
    assert holm["mae"] == pytest.approx(2 * p["mae"])
    assert holm[AGAIN] == pytest.approx(stats.ttest_1samp(examples(AGAIN, CROSS_ENTROPY), 0.0).pvalue)
    assert holm[WEIGHTED] == pytest.approx(p[WEIGHTED])
    assert holm[LABEL_SMOOTHING] == pytest.approx(p[LABEL_SMOOTHING])
    assert "ngl" not in holm


def test_simultaneous_intervals_share_the_error_among_all_planned_candidates(rows: dict[str, Row]) -> None:
    for name in ("brier", "mae"):
        gap = rows[name].against_reference
        assert gap is not None
        wide = stats.ttest_1samp(examples(name), 0.0).confidence_interval(1 - 0.05 / 3)
        assert gap.simultaneous == pytest.approx(tuple(wide))
    for row in rows.values():
        assert row.role == "candidate" or row.against_reference is None or row.against_reference.simultaneous is None
        assert row.against_rival is None or (row.against_rival.simultaneous, row.against_rival.holm_p) == (None, None)


def test_rows_stand_by_test_score_and_what_could_not_be_trained_has_no_rank(summary: Summary) -> None:
    assert [(row.name, row.rank) for row in summary.rows] == [
        (WEIGHTED, 1), ("brier", 2), ("mae", 3), (LABEL_SMOOTHING, 4), (CROSS_ENTROPY, 5), (AGAIN, 6), ("ngl", None)
    ]  # fmt: skip
    assert [row.score for row in summary.rows] == pytest.approx([0.95, 0.82, 0.76, 0.72, 0.70, 0.69, 0.99])
    assert [row.untrained for row in summary.rows] == [None] * 6 + [
        "4 of its 4 final trainings diverged or fell back to guessing"
    ]


def test_each_loss_has_the_verdict_its_evidence_gives(rows: dict[str, Row]) -> None:
    """mae: Holm's p against cross-entropy is .040, p against label smoothing .23."""
    assert {name: row.kind for name, row in rows.items()} == {
        CROSS_ENTROPY: "reference",
        AGAIN: "undecided",
        LABEL_SMOOTHING: "rival better than reference",
        WEIGHTED: "better than both",
        "brier": "better than both",
        "mae": "better than reference only",
        "ngl": "could not be trained",
    }
    assert rows[CROSS_ENTROPY].verdict == "The reference."
    assert rows["ngl"].verdict.startswith("ngl could not be trained")


def points(a: str, b: str = BOTH, level: float = 0.95) -> str:
    low, high = stats.ttest_1samp(examples(a, b), 0.0).confidence_interval(level)
    return f"{100 * examples(a, b).mean():+.2f} points [{100 * low:+.2f}, {100 * high:+.2f}]"


def test_the_headline_names_candidates_only_and_a_control_that_beats_them(summary: Summary) -> None:
    assert summary.headline == (
        f"brier is better than tuned cross-entropy and label smoothing {SCOPE} "
        f"But weighted, a control, is better still than brier: {points(WEIGHTED, 'brier')} {SCOPE}"
    )


def test_the_planned_test_and_the_size_of_noise_are_said(summary: Summary) -> None:
    p = float(stats.ttest_1samp(examples("brier"), 0.0).pvalue)
    difference = points("brier").replace("points", "points from cross-entropy")
    assert summary.recommended == "brier"
    assert summary.recommendation.startswith(
        "Recommended from validation, before the test part was opened: brier (+6.00 points from cross-entropy"
    )
    assert summary.recommendation.endswith(f"). On test, the one planned comparison: {difference}, p = {p:.2g}.")
    again = points(AGAIN, CROSS_ENTROPY)
    assert summary.noise == (
        f"Size of noise: cross-entropy, tuned and seeded anew, differs from itself by {again}. "
        "Losses are compared with the mean of both."
    )


def test_what_was_found_of_the_whole_is_handed_on(summary: Summary) -> None:
    assert summary.rival == LABEL_SMOOTHING
    assert (summary.metric, summary.times_scored, summary.adaptation) == ("accuracy", 14, ())


def test_speed_is_said_of_what_is_faster_and_cross_entropy_cut_short_is_not(
    summary: Summary, rows: dict[str, Row]
) -> None:
    """It is brier, which takes 120 and 150 steps where cross-entropy takes 210."""
    assert len(summary.speed_sentences) == 1
    assert summary.speed_sentences[0].startswith("brier needs fewer steps than cross-entropy")
    speed = rows["brier"].speed
    assert speed is not None
    ratio = speed.ratio
    assert ratio.ratio == pytest.approx((120 + 150) / 2 / 210)
    assert (ratio.censored_loss, ratio.censored_reference, ratio.pairs, ratio.method) == (0, 0, 4, "log-t")
    assert (speed.shortened_steps, speed.shortened_reference_missed, speed.lrs) == (135, True, (2.0,) * 4)
    t_test = stats.ttest_1samp(np.log([120 / 210, 150 / 210] * 2), 0.0)
    assert ratio.p_value == pytest.approx(t_test.pvalue)
    assert ratio.interval == pytest.approx(tuple(np.exp(t_test.confidence_interval(0.95))))
    assert rows[CROSS_ENTROPY].speed is None
    assert rows["ngl"].speed is None
    other = rows["mae"].speed
    assert other is not None
    assert (other.ratio.ratio, other.ratio.p_value) == (1.0, 1.0)


def test_shares_of_pairs_are_of_runs_in_the_same_repeat(rows: dict[str, Row]) -> None:
    assert {name: row.share_won for name, row in rows.items()} == {
        CROSS_ENTROPY: None,
        AGAIN: None,
        LABEL_SMOOTHING: 1.0,
        WEIGHTED: 1.0,
        "brier": 1.0,
        "mae": 1.0,
        "ngl": None,
    }
    assert rows["brier"].runs == pytest.approx((0.82,) * 4)


# --- other worlds --------------------------------------------------------------------------------------------


def summary_of(
    right: Right, folder: Path, *, delta: float = 0.005, untrained: str = "", edges: str = "", control: bool = False
) -> Summary:
    plan = replace(WITH_CONTROL if control else PLAN, delta=delta)
    return summarise(plan, carry_out(world(right, untrained, edges), folder, plan)[0])


def test_only_a_control_that_is_surely_better_is_named_and_not_what_the_verdict_has_looked_at(tmp_path: Path) -> None:
    """Three examples in a hundred are too few to be sure; noise and label smoothing are spoken of already."""
    right = RIGHT | {"brier": (0, 90), WEIGHTED: (0, 93), AGAIN: (0, 95)}
    headline = summary_of(right, tmp_path, untrained="ngl", control=True).headline
    assert headline == f"brier is better than tuned cross-entropy and label smoothing {SCOPE}"
    smoothing = summary_of(right | {LABEL_SMOOTHING: (0, 99)}, tmp_path, untrained="ngl", control=True).headline
    said = "brier is better than tuned cross-entropy, but not shown to beat label smoothing,"
    assert smoothing == f"{said} {SCOPE}"


@pytest.mark.parametrize(("delta", "headline"), [
    (0.060, "No loss is better than tuned cross-entropy by 6 points or more"),
    (0.048, "No loss was shown to be better than tuned cross-entropy"),
])  # fmt: skip
def test_no_better_by_delta_is_judged_by_the_simultaneous_intervals(
    tmp_path: Path, delta: float, headline: str
) -> None:
    """As good as cross-entropy: the 95 % interval ends at 4.4 points, that at 98.3 % at 5.3."""
    right = dict.fromkeys(("brier", "mae", "ngl"), (8, 78))
    ends = [
        stats.ttest_1samp(examples("brier", BOTH, RIGHT | right), 0.0).confidence_interval(level).high
        for level in (0.95, 1 - 0.05 / 3)
    ]
    assert ends == pytest.approx([0.044, 0.053], abs=0.0005)
    found = summary_of(RIGHT | right, tmp_path, delta=delta).headline
    assert found.startswith(f"{headline} {SCOPE} But label_smoothing (tuned), a control, is better")


def test_without_label_smoothing_or_a_second_cross_entropy_it_is_said(tmp_path: Path) -> None:
    found = summary_of(RIGHT, tmp_path, untrained=LABEL_SMOOTHING, edges=AGAIN)
    rows = {row.name: row for row in found.rows}
    assert found.rival is None
    assert all(row.against_rival is None for row in found.rows)
    assert rows["brier"].kind == "better, rival missing"
    assert found.noise == (
        "Cross-entropy, tuned and seeded anew, could not be trained: do not trust any difference in this table."
    )  # fmt: skip


def test_a_cross_entropy_that_could_hardly_be_trained_is_warned_of(tmp_path: Path) -> None:
    found = summary_of({AGAIN: (0, 66), "brier": (0, 76)}, tmp_path, edges=CROSS_ENTROPY)
    assert found.noise.startswith(
        "Take care: of cross-entropy itself, its best learning rate still lay on the edge of the extended grid in 4 of "
        "4 repeats. Size of noise:"
    )
    assert "-4.00 points (no interval: fewer than 10 examples differ). Losses are" in found.noise


def test_where_nothing_is_recommended_nothing_was_to_be_tested(tmp_path: Path) -> None:
    found = summary_of({}, tmp_path, untrained="brier")
    assert found.recommended == CROSS_ENTROPY
    assert found.recommendation.endswith(" No loss was recommended, so none was tested.")
