"""The verdict's rules, held against the protocol's text written out a second time here."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lossmith.comparison.adaptation import ADAPTS, NOT_SHOWN
from lossmith.comparison.headlines import (
    BETTER_CONTROL,
    FEWER_STEPS,
    GUESSING,
    HEADLINES,
    STRONGER_CONTROL,
    TOO_FEW_PAIRS,
    fewer_steps,
    overall,
    stronger_control,
    too_few_pairs,
)
from lossmith.comparison.speed import Speed, SpeedRatio, paired_log_ratio
from lossmith.comparison.statistics import PairedDifference
from lossmith.comparison.verdict import (
    BETTER,
    BETTER_THAN_REFERENCE_ONLY,
    CLASSIFICATION,
    RULES,
    Evidence,
    Rule,
    Verdict,
    VerdictKind,
    points_with_interval,
    verdict,
    without_numbers,
)
from lossmith.tasks import Regression

SCOPE = "on this data, model, optimiser and budget."
DELTA = 0.005


def difference(
    mean: float, se: float = 0.002, df: float = 1e6, runs: int = 5, examples: int = 400, differing: int = 50
) -> PairedDifference:
    """A difference of known mean and standard error; with many degrees of freedom, a z interval."""
    return PairedDifference(
        mean=mean,
        variance=se**2,
        df=df,
        v_seed=se**2 / 2,
        v_test=se**2 / 2,
        v_residual=0.0,
        runs=runs,
        examples=examples,
        differing=differing,
    )


# --- one case per rule ---------------------------------------------------------------------------------------

CASES = {
    VerdictKind.UNTRAINABLE: (
        verdict("x", None, None, None, DELTA, trained=False),
        "x could not be trained under this budget, on this data, model and optimiser.",
    ),
    VerdictKind.TOO_LITTLE_DATA: (
        verdict("x", difference(0.5, examples=99), difference(0.5), None, DELTA),
        f"x has too little data for a verdict (fewer than 100 examples) {SCOPE}",
    ),
    VerdictKind.NOT_DISTINGUISHABLE: (
        verdict("x", difference(0.5, differing=9), difference(0.5), None, DELTA),
        f"x is not distinguishable from cross-entropy (fewer than 10 examples differ) {SCOPE}",
    ),
    VerdictKind.BETTER_THAN_BOTH: (
        verdict("x", difference(0.0092, 0.0026), difference(0.0070), 0.01, DELTA),
        f"x is better than tuned cross-entropy and label smoothing: +0.92 points [+0.41, +1.43] {SCOPE}",
    ),
    VerdictKind.BETTER_RIVAL: (
        verdict("x", difference(0.01), None, 0.01, DELTA, is_rival=True),
        f"x is better than cross-entropy: +1.00 points [+0.61, +1.39] {SCOPE}",
    ),
    VerdictKind.BETTER_WITHOUT_RIVAL: (
        verdict("x", difference(0.01), None, 0.01, DELTA),
        f"x is better than cross-entropy, not compared with label smoothing: +1.00 points [+0.61, +1.39] {SCOPE}",
    ),
    VerdictKind.BETTER_BUT_WORSE_THAN_RIVAL: (
        verdict("x", difference(0.01), difference(-0.01), 0.01, DELTA),
        "x is better than cross-entropy, worse than label smoothing: +1.00 points [+0.61, +1.39] against "
        f"cross-entropy, -1.00 points [-1.39, -0.61] against label smoothing, {SCOPE}",
    ),
    VerdictKind.BETTER_THAN_REFERENCE: (
        verdict("x", difference(0.009), difference(0.0006), 0.01, DELTA),
        "x is better than cross-entropy, not distinguishable from label smoothing: +0.90 points [+0.51, +1.29] "
        f"against cross-entropy, +0.06 points [-0.33, +0.45] against label smoothing, {SCOPE}",
    ),
    VerdictKind.EQUIVALENT: (
        verdict("x", difference(-0.00001), difference(0.01), 1.0, DELTA),
        f"x is equivalent to cross-entropy within 0.5 points: +0.00 points [-0.33, +0.33] (90 % interval) {SCOPE}",
    ),
    VerdictKind.NOT_WORSE: (
        verdict("x", difference(0.003), difference(0.0), 0.2, DELTA),
        f"x is not worse than cross-entropy by more than 0.5 points: +0.30 points [-0.09, +0.69] {SCOPE}",
    ),
    VerdictKind.WORSE: (
        verdict("x", difference(-0.0082), difference(-0.01), 0.01, DELTA),
        f"x is worse than cross-entropy: -0.82 points [-1.21, -0.43] {SCOPE}",
    ),
    VerdictKind.UNDECIDED: (
        verdict("x", difference(0.002, 0.005), difference(0.0), 1.0, DELTA),
        f"x is undecided against cross-entropy: between -0.78 and +1.18 points; could only have detected 1.40 "
        f"points {SCOPE}",
    ),
}


def test_the_table_has_one_row_per_kind_and_no_row_is_dead() -> None:
    assert [rule.kind for rule in RULES] == list(VerdictKind) == list(CASES)


@pytest.mark.parametrize("kind", CASES)
def test_each_row_says_its_sentence(kind: VerdictKind) -> None:
    given, sentence = CASES[kind]
    assert given == Verdict(kind, sentence)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind.name)
def test_a_verdict_without_its_numbers_keeps_its_words_and_scope(rule: Rule) -> None:
    short = without_numbers(rule.sentence.replace("{scope}", SCOPE))
    assert not any(gap in short for gap in ("gap", "{lower}", "{upper}", "{mde}", ":"))
    assert rule.sentence.startswith(short.removesuffix(SCOPE).rstrip().partition(":")[0])
    assert short.endswith(SCOPE) or rule.kind is VerdictKind.UNTRAINABLE


def test_kinds_keep_the_words_that_results_are_written_with() -> None:
    assert [kind.value for kind in VerdictKind] == [
        "could not be trained",
        "too little data",
        "not distinguishable",
        "better than both",
        "rival better than reference",
        "better, rival missing",
        "better, but worse than rival",
        "better than reference only",
        "equivalent",
        "not worse",
        "worse",
        "undecided",
    ]


def test_better_are_the_losses_of_which_a_headline_may_speak() -> None:
    """Not the tuned label smoothing, which is a control."""
    assert {kind for kind in VerdictKind if kind.value.startswith("better")} == BETTER
    assert {VerdictKind.BETTER_THAN_BOTH} == BETTER - BETTER_THAN_REFERENCE_ONLY


def test_label_smoothing_itself_has_to_be_significantly_better_too() -> None:
    said = verdict("x", difference(0.003), None, 0.2, DELTA, is_rival=True)
    assert said.kind is VerdictKind.NOT_WORSE


def test_a_p_value_of_five_percent_is_not_below_five_percent() -> None:
    assert verdict("x", difference(0.01), None, 0.05, DELTA).kind is VerdictKind.NOT_WORSE
    assert verdict("x", difference(0.01), None, 0.0499, DELTA).kind is VerdictKind.BETTER_WITHOUT_RIVAL
    assert verdict("x", difference(-0.01), None, 0.05, DELTA).kind is VerdictKind.UNDECIDED
    assert verdict("x", difference(-0.01), None, 0.0499, DELTA).kind is VerdictKind.WORSE


@pytest.mark.parametrize(
    ("mean", "kind"),
    [
        (0.99, VerdictKind.EQUIVALENT),
        (1.0, VerdictKind.NOT_WORSE),
        (-0.99, VerdictKind.EQUIVALENT),
        (-1.0, VerdictKind.UNDECIDED),
    ],
)
def test_a_difference_of_just_delta_is_not_inside(mean: float, kind: VerdictKind) -> None:
    """Intervals without width, which no test called significant."""
    assert verdict("x", difference(mean * DELTA, 0.0), None, 1.0, DELTA).kind is kind


def test_without_an_interval_anything_is_possible() -> None:
    everything = (-math.inf, math.inf)
    assert Evidence(None, None, None, DELTA, trained=False, is_rival=False).bounds(0.95) == everything
    few = difference(0.5, differing=3)
    assert Evidence(few, None, None, DELTA, trained=True, is_rival=False).bounds(0.95) == everything


def test_what_was_not_compared_takes_no_words() -> None:
    assert points_with_interval(None, 0.95) == ""


def test_label_smoothing_without_an_interval_is_named_as_such() -> None:
    said = verdict("x", difference(0.01), difference(0.0001, differing=3), 0.01, DELTA)
    assert said.kind is VerdictKind.BETTER_THAN_REFERENCE
    assert "+0.01 points (no interval) against label smoothing" in said.sentence


def test_a_small_but_significant_loss_of_accuracy_is_equivalent_first() -> None:
    """The order of the protocol: what differs by less than delta does not matter, however surely it differs."""
    said = verdict("x", difference(-0.002, 0.0005), difference(-0.002, 0.0005), 0.001, DELTA)
    assert said.kind is VerdictKind.EQUIVALENT
    assert "-0.20 points [-0.28, -0.12]" in said.sentence


@pytest.mark.parametrize(
    ("mean", "se", "kind"),
    [
        # In units of delta: 90 % is mean +- 1.645 se, 95 % is mean +- 1.960 se.
        (0.0, 0.60, VerdictKind.EQUIVALENT),  # 90 %: +- 0.987
        (0.0, 0.62, VerdictKind.UNDECIDED),  # 90 %: +- 1.020
        (0.3, 0.65, VerdictKind.NOT_WORSE),  # 95 %: from -0.974; 90 %: to 1.369
        (0.3, 0.70, VerdictKind.UNDECIDED),  # 95 %: from -1.072; 90 %: from -0.852
    ],
)
def test_equivalence_is_judged_at_90_percent_and_not_worse_at_95(mean: float, se: float, kind: VerdictKind) -> None:
    assert verdict("x", difference(mean * DELTA, se * DELTA), None, 1.0, DELTA).kind is kind


# --- any evidence --------------------------------------------------------------------------------------------

differences = st.builds(
    difference,
    mean=st.one_of(st.just(0.0), st.floats(-0.03, 0.03)),
    se=st.floats(1e-5, 0.02),
    df=st.floats(2, 500),
    runs=st.sampled_from([2, 3, 10]),
    examples=st.sampled_from([99, 100, 1000]),
    differing=st.sampled_from([0, 9, 10, 99]),
)


def kind_by_the_text(
    ce: PairedDifference, ls: PairedDifference | None, holm_p: float, delta: float, trained: bool
) -> str:
    """Section D, output 2, of the protocol, with scipy's t."""

    def enough(d: PairedDifference) -> bool:
        return d.runs >= 3 and d.examples >= 100

    if not trained:
        return "could not be trained"
    if not enough(ce):
        return "too little data"
    if ce.differing < 10:
        return "not distinguishable"
    se = math.sqrt(ce.variance)
    if holm_p < 0.05 and ce.mean > 0:
        if ls is None:
            return "better, rival missing"
        t = ls.mean / math.sqrt(ls.variance)
        if enough(ls) and ls.differing >= 10 and 2 * stats.t.sf(abs(t), ls.df) < 0.05:
            return "better than both" if ls.mean > 0 else "better, but worse than rival"
        return "better than reference only"
    lower90, upper90 = stats.t.interval(0.90, ce.df, ce.mean, se)
    if lower90 > -delta and upper90 < delta:
        return "equivalent"
    if stats.t.interval(0.95, ce.df, ce.mean, se)[0] > -delta:
        return "not worse"
    return "worse" if holm_p < 0.05 and ce.mean < 0 else "undecided"


@settings(deadline=None, max_examples=500)
@given(
    ce=differences,
    ls=st.none() | differences,
    holm_p=st.one_of(st.sampled_from([0.0, 0.05, 1.0]), st.floats(0, 0.1)),
    delta=st.floats(0.001, 0.02),
    trained=st.sampled_from([True, True, True, False]),
)
def test_any_evidence_gives_the_one_verdict_of_the_text(
    ce: PairedDifference, ls: PairedDifference | None, holm_p: float, delta: float, trained: bool
) -> None:
    said = verdict("rooted:k=3", ce, ls, holm_p, delta, trained=trained)
    assert said.kind.value == kind_by_the_text(ce, ls, holm_p, delta, trained)
    assert said.sentence.startswith("rooted:k=3 ")
    assert said.sentence.endswith(SCOPE if trained else "on this data, model and optimiser.")
    assert not set("{}") & set(said.sentence)
    assert not {"nan", "inf", "None"} & set(said.sentence.replace(",", "").split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((difference(0.1), None, 0.1, 0.0), "delta must be a positive fraction"),
        ((difference(0.1), None, 0.1, math.nan), "delta must be a positive fraction"),
        ((difference(0.1), None, 0.1, math.inf), "delta must be a positive fraction"),
        ((difference(0.1), None, -0.1, DELTA), "holm_p must lie in"),
        ((difference(0.1), None, 1.01, DELTA), "holm_p must lie in"),
        ((difference(0.1), None, math.nan, DELTA), "holm_p must lie in"),
        ((difference(0.1), None, None, DELTA), "holm_p is needed"),
        ((None, None, 0.1, DELTA), "difference from the reference is needed"),
    ],
)
def test_missing_or_impossible_evidence_is_refused(
    arguments: tuple[PairedDifference | None, PairedDifference | None, float | None, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        verdict("x", *arguments)


# --- the headline --------------------------------------------------------------------------------------------


def of(kind: VerdictKind) -> Verdict:
    return Verdict(kind, "")


UNDECIDED, EQUIVALENT = of(VerdictKind.UNDECIDED), of(VerdictKind.EQUIVALENT)
UNTRAINABLE, BOTH, CE_ONLY = (
    of(VerdictKind.UNTRAINABLE),
    of(VerdictKind.BETTER_THAN_BOTH),
    of(VerdictKind.BETTER_THAN_REFERENCE),
)


@pytest.mark.parametrize(
    ("verdicts", "bounds", "headline"),
    [
        (
            {"a": BOTH, "b": CE_ONLY, "c": UNDECIDED, "d": BOTH, "e": BOTH},
            {},
            "a, d and e are better than tuned cross-entropy and label smoothing",
        ),
        (
            {"a": UNDECIDED, "b": CE_ONLY},
            {"a": 0.001, "b": 0.02},
            "b is better than tuned cross-entropy, but not shown to beat label smoothing,",
        ),
        (
            {"a": EQUIVALENT, "b": UNDECIDED},
            {"a": 0.001, "b": 0.0049},
            "No loss is better than tuned cross-entropy by 0.5 points or more",
        ),
        (
            {"a": EQUIVALENT, "b": UNDECIDED},
            {"a": 0.001, "b": 0.005},
            "No loss was shown to be better than tuned cross-entropy",
        ),
        (
            {"a": EQUIVALENT, "b": of(VerdictKind.TOO_LITTLE_DATA)},
            {"a": 0.001, "b": None},
            "No loss was shown to be better than tuned cross-entropy",
        ),
        (
            {"a": EQUIVALENT, "b": UNTRAINABLE},
            {"a": 0.001},
            "No loss that could be trained is better than tuned cross-entropy by 0.5 points or more",
        ),
        ({"a": UNTRAINABLE}, {}, "No loss that could be trained was shown to be better than tuned cross-entropy"),
        ({}, {}, "No loss was shown to be better than tuned cross-entropy"),
    ],
)
def test_headline(verdicts: dict[str, Verdict], bounds: dict[str, float | None], headline: str) -> None:
    assert overall(verdicts, bounds, DELTA) == f"{headline} {SCOPE}"


# --- fewer steps ---------------------------------------------------------------------------------------------


def log_t(ratio: float, interval: tuple[float, float] | None) -> SpeedRatio:
    return SpeedRatio(
        ratio=ratio,
        interval=interval,
        p_value=None,
        censored_loss=0,
        censored_reference=0,
        pairs=5,
        method="log-t",
    )


def fewer(ratio: SpeedRatio, holm_p: float | None, missed: bool | None = True) -> str | None:
    return fewer_steps("x", Speed((), (), ratio, holm_p, missed, 300))


def test_fewer_steps_needs_a_ratio_below_one_a_small_p_and_the_shortened_control() -> None:
    sure = log_t(0.62, (0.5, 0.78))
    assert fewer(sure, 0.012) == (
        "x needs fewer steps than cross-entropy to reach its final score: 0.62 of them ([0.50, 0.78], Holm-adjusted "
        f"p = 0.012), and cross-entropy re-tuned for that many steps does not reach it, {SCOPE}"
    )
    assert fewer(sure, 0.0499) is not None
    assert fewer(sure, 0.05) is None
    assert fewer(sure, None) is None
    assert fewer(sure, 0.012, missed=False) is None
    assert fewer(sure, 0.012, missed=None) is None
    assert fewer(log_t(math.nan, None), 0.012) is None
    # Half of the runs are no faster, though on geometric average they are.
    assert fewer(log_t(1.0, (0.5, 0.9)), 0.012) is None


def test_fewer_steps_by_the_sign_test() -> None:
    faster = paired_log_ratio([50.0] * 6, [80.0, 90, 70, 60, 85, math.inf])
    assert "0.61 of them (sign test, Holm-adjusted p = 0.031)" in (fewer(faster, faster.p_value) or "")


@pytest.mark.parametrize("tested", [1, 2, 3, 16, 20, 40])
def test_too_few_pairs_are_those_with_which_no_loss_could_be_faster(tested: int) -> None:
    """Of so many losses one is faster in every pair: the sign test's p, Holm-adjusted for the least of them."""
    possible = []
    for pairs in range(1, 15):
        reference = [*[80.0] * (pairs - 1), math.inf]
        ratio = paired_log_ratio([50.0] * pairs, reference)
        speed = {"slow": Speed((), (), log_t(1.0, None)), "x": Speed((), (), ratio)}
        p = stats.binomtest(pairs, pairs).pvalue * tested
        possible.append(p < 0.05)
        needed = next((k for k in range(1, 15) if stats.binomtest(k, k).pvalue * tested < 0.05), None)
        losses = "1 loss" if tested == 1 else f"{tested} losses"
        assert too_few_pairs(speed, tested) == (() if possible[-1] else (
            "No claim on speed is possible: some runs never reach the level, so a sign test decides, and with "
            f"{losses} it needs at least {needed} repeats; there are {pairs}.",
        ))  # fmt: skip
    assert True in possible
    assert False in possible


def test_where_every_run_gets_there_pairs_are_not_counted() -> None:
    """Also where all ratios are alike and the sign test decides for that reason: cross-entropy against itself."""
    assert too_few_pairs({"x": Speed((), (), log_t(0.5, None))}, 20) == ()
    alike = paired_log_ratio([80.0, 90.0, 70.0], [80.0, 90.0, 70.0])
    assert alike.method == "sign test"
    assert too_few_pairs({"cross_entropy": Speed((), (), alike)}, 20) == ()
    assert too_few_pairs({}, 20) == ()


def test_every_sentence_that_can_be_said_names_its_scope() -> None:
    for row in (*RULES[1:], *HEADLINES, FEWER_STEPS, ADAPTS, NOT_SHOWN):
        assert row.worded(CLASSIFICATION).sentence.endswith(SCOPE)
        assert row.condition


def test_the_docs_print_these_very_rules() -> None:
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    verdicts = text[text.index("## Verdicts") :]
    printed = [line for line in verdicts.splitlines() if line.startswith("| ") and not line.startswith("| if ")]
    claims = (
        *(*RULES, *HEADLINES, GUESSING, BETTER_CONTROL, STRONGER_CONTROL),
        *(FEWER_STEPS, TOO_FEW_PAIRS, ADAPTS, NOT_SHOWN),
    )
    worded = [claim.worded(CLASSIFICATION) for claim in claims]
    assert printed == [f"| {claim.condition} | {claim.sentence} |" for claim in worded]


def test_verdicts_of_another_task_name_its_own_reference_and_rival() -> None:
    words = Regression.words
    found = verdict("x", difference(0.01), difference(0.008), 0.001, DELTA, words=words)
    assert found.sentence.startswith("x is better than tuned squared error and Huber loss: +1.00 points")
    for claim in (*RULES, *HEADLINES, FEWER_STEPS):
        assert "cross-entropy" not in claim.worded(words).sentence
        assert "smoothing" not in claim.worded(words).sentence


def test_a_control_that_beats_the_best_loss_is_named() -> None:
    said = stronger_control("m", {"wd": difference(0.011), "weighted": difference(0.003)})
    assert said == f"But wd, a control, is better still than m: +1.10 points [+0.71, +1.49] {SCOPE}"
    for controls in ({"a": difference(0.02), "z": difference(0.01)}, {"z": difference(0.01), "a": difference(0.02)}):
        assert (stronger_control("m", controls) or "").startswith("But a, a control")
    assert stronger_control("m", {"wd": difference(0.003), "weighted": difference(-0.02)}) is None
    assert stronger_control("m", {}) is None
