"""What a number of a comparison looks like in a report, and what each cell of the leaderboard says of a loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from report_example import RATIO, as_run, changed, gap, plan, row, summary, untrained, usual

from lossmith.comparison.rows import LearnedRow, Row, Summary
from lossmith.comparison.speed import Speed
from lossmith.comparison.verdict import RULES, VerdictKind
from lossmith.report import numbers
from lossmith.report.columns import Column, page_columns
from lossmith.report.highlights import far_off, highlighted, tone, without_interval
from lossmith.report.method import how_it_was_done, times_scored
from lossmith.report.reading import read
from lossmith.report.run import Design

NAN, INF = math.nan, math.inf
UNKNOWN = [None, NAN, INF, -INF]
DESIGN = read(Design, plan(["cross_entropy"]))


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "errors, expected",
    [
        ([0.0005], 2),  # .05 points: two digits would be .050, and no more than two decimals are shown
        ([0.005], 2),  # .50
        ([0.00995], 2),  # .995
        ([0.011], 1),  # 1.1
        ([0.2], 1),  # 20
        ([0.001, 0.011, 0.012], 1),
        ([0.001, 0.002, 0.012], 2),
        ([0.0, NAN, 0.011], 1),
        ([], 2),
        ([NAN], 2),
    ],
)
def test_a_score_has_the_decimals_that_show_its_standard_error_in_two_digits(
    errors: list[float], expected: int
) -> None:
    rows = [replace(row("m", 0.9), against_reference=replace(gap(0.1), se=error)) for error in errors]
    assert numbers.decimals([row("cross_entropy", 0.9), *rows]) == expected


@pytest.mark.parametrize("value", UNKNOWN)
def test_what_is_not_known_is_a_dash(value: float | None) -> None:
    unknown: Any = value
    assert {
        numbers.percent(value, 1),
        numbers.points(value, 1),
        numbers.p_value(value),
        numbers.significant(value),
        numbers.bounds((0.1, unknown), 1),
        numbers.bounds((unknown, 0.1), 1),
        numbers.bounds(None, 1),
        numbers.gap(None, 1),
        numbers.steps_ratio(None),
        numbers.learning_rate(NAN if value is None else value),
        numbers.learning_rates([] if value is None else [value]),
        numbers.median_rate([] if value is None else [value]),
    } == {"–"}


def test_percent_and_points() -> None:
    assert [numbers.percent(v, 1) for v in (0.98764, 1.0, 0.0, -0.0001, 0.5)] == ["98.8", "100.0", "0.0", "0.0", "50.0"]
    assert numbers.percent(0.98764, 2) == "98.76"
    assert [numbers.points(v, 2) for v in (0.006, -0.0025, 0.0, -0.00001)] == ["+0.60", "-0.25", "+0.00", "+0.00"]
    assert numbers.bounds((-0.0021, 0.01), 1) == "[-0.2, +1.0]"
    assert numbers.gap(gap(0.006), 2) == "+0.60 [+0.20, +1.00]"
    assert numbers.gap(replace(gap(0.006), interval=None), 1) == "+0.6 (no interval)"


@pytest.mark.parametrize(
    "p, shown",
    [
        *((0.0, "<0.001"), (0.00099, "<0.001"), (0.001, "0.001"), (0.0123, "0.012"), (0.0994, "0.099")),
        *((0.0995, "0.10"), (0.456, "0.46"), (1.0, "1.00")),
    ],
)
def test_p_values(p: float, shown: str) -> None:
    assert numbers.p_value(p) == shown


def test_learning_rates() -> None:
    assert numbers.learning_rate(0.0041234) == "0.0041"
    assert numbers.learning_rates([0.004, NAN, 0.002, 0.008]) == "0.004 (0.002 to 0.008)"
    assert numbers.learning_rates([0.004, 0.004001]) == "0.004"
    assert numbers.median_rate([0.004, INF, 0.001, 0.002]) == "0.002"


def test_significant_digits_without_powers_of_ten_unless_tiny_or_huge() -> None:
    shown = [numbers.significant(v) for v in (1.234, 0.01234, 123.4, 123456, 999999, 1e6, 1.5e12, 0.000012, -123.4)]
    assert shown == ["1.2", "0.012", "123", "123456", "999999", "1e+06", "1.5e+12", "1.2e-05", "-123"]
    assert numbers.significant(0.012345, 3) == "0.0123"


def test_minus_signs_stand_before_numbers_alone() -> None:
    sentence = "-0.12 points [-0.30, +0.1] (-2 to -1), m-full, 2024-11-21, a - b, x -y"
    assert numbers.typeset(sentence) == "−0.12 points [−0.30, +0.1] (−2 to −1), m-full, 2024-11-21, a - b, x -y"


def speed(ratio: float, reached: bool | None = None, **changes: Any) -> Speed:
    return Speed((), (), replace(RATIO, ratio=ratio, **changes), 0.04, reached, 300)


# --- columns ----------------------------------------------------------------------------------------------------------


def columns(results: Summary | None = None) -> dict[tuple[str, str], Column]:
    """By the first word of the group and the heading."""
    of = page_columns(DESIGN, usual() if results is None else results)
    return {(column.group.split()[0] + ("smoothing" in column.group) * " LS", column.head): column for column in of}


def cells(head: tuple[str, str], rows: Sequence[Row], results: Summary | None = None) -> list[tuple[Any, Any]]:
    column = columns(results)[head]
    return [(column.text(each), column.key(each)) for each in rows]


CE, LS, M = row("cross_entropy", 0.98), row("label_smoothing (tuned)", 0.985), row("m", 0.9712)
BARE = changed(M, against_reference=None, against_rival=None, share_won=None, speed=None, runs=(), lrs=(), values=())


def test_scores_and_their_range() -> None:
    assert cells(("Test", "mean"), [M]) == [("97.12", 0.9712)]
    odd = replace(M, runs=(0.95, 0.981, 0.97))
    assert cells(("Single", "lowest to highest"), [odd, BARE]) == [("95.0 to 98.1", 0.95), ("–", None)]


def test_the_difference_to_cross_entropy() -> None:
    mean = ("Minus", "mean [95 % interval]")
    assert cells(mean, [CE, M, BARE]) == [
        ("reference", 0.0),
        ("-0.88 [-1.28, -0.48]", pytest.approx(-0.0088)),
        ("–", None),
    ]
    alone = replace(M, against_reference=replace(gap(0), simultaneous=None))
    at_once = cells(("Minus", "[all at once]"), [M, BARE, alone])
    assert at_once == [("[-1.48, -0.28]", pytest.approx(-0.0148)), ("–", None), ("–", None)]
    assert cells(("Minus", "Holm p"), [M, BARE]) == [("0.046", 0.0456), ("–", None)]
    assert cells(("Minus", "MDE"), [M, BARE]) == [("0.57", 0.0057), ("–", None)]
    parts = replace(M, against_reference=replace(gap(0), v_seed=0.0625, v_test=None))
    none = replace(M, against_reference=replace(gap(0), v_seed=0.0, v_test=NAN))
    assert cells(("Minus", "SE: repeats, examples"), [M, parts, none, BARE]) == [
        ("0.10, 0.17", 0.00204),
        ("25.00, –", 0.00204),
        ("0.00, –", 0.00204),
        ("–", None),
    ]
    assert cells(("Minus", "repeats won, %"), [M, BARE]) == [("75", 0.75), ("–", None)]


def test_the_difference_to_the_best_label_smoothing() -> None:
    mean = ("Minus LS", "mean [95 % interval]")
    assert cells(mean, [LS, M, BARE]) == [
        ("reference", 0.0),
        ("-1.38 [-1.78, -0.98]", pytest.approx(-0.0138)),
        ("–", None),
    ]
    assert cells(("Minus LS", "p"), [M, BARE]) == [("0.012", 0.0123), ("–", None)]
    without = summary([CE, M])
    assert without.rival is None
    assert cells(mean, [BARE], without) == [("–", None)]


def test_a_verdict_is_sorted_by_the_order_of_the_rules() -> None:
    kinds = [rule.kind.value for rule in RULES]
    of = [replace(M, kind=kind) for kind in (kinds[0], kinds[3], "reference")]
    assert cells(("Verdict", "kind"), of) == [(kinds[0], 0.0), (kinds[3], 3.0), ("reference", None)]


@pytest.mark.parametrize(
    "of, shown, key",
    [
        (None, "–", None),
        (speed(0.87), "0.87 [0.71, 1.06]", 0.87),
        (speed(0.87, interval=None), "0.87, p 0.21", 0.87),
        (speed(0.87, interval=(NAN, 1.0)), "0.87, p 0.21", 0.87),
        (speed(0.87, interval=None, p_value=None), "0.87", 0.87),
        (speed(0.87, interval=None, censored_loss=1), "0.87, p 0.21 (1 of 3 never)", 0.87),
        (
            speed(NAN, interval=None, p_value=None, censored_loss=3),
            "never (3 of 3 never)",
            pytest.approx(NAN, nan_ok=True),
        ),
        (
            speed(NAN, interval=None, p_value=0.25, censored_loss=3),
            "never, p 0.25 (3 of 3 never)",
            pytest.approx(NAN, nan_ok=True),
        ),
        (speed(NAN), "–", pytest.approx(NAN, nan_ok=True)),
        (speed(NAN, censored_loss=3), "never [0.71, 1.06] (3 of 3 never)", pytest.approx(NAN, nan_ok=True)),
        (
            speed(0.5, reached=False),
            "0.50 [0.71, 1.06]; cross-entropy re-tuned for 300 steps gets there too",
            0.5,
        ),
        (speed(0.5, reached=True), "0.50 [0.71, 1.06]", 0.5),
    ],
)
def test_steps_to_cross_entropys_level(of: Speed | None, shown: str, key: float | None) -> None:
    assert cells(("Steps", "ratio"), [replace(M, speed=of)]) == [(shown, key)]


def test_calibration() -> None:
    poor = replace(M, columns={"nll": NAN, "nll_scaled": 0.5, "ece": 0.25, "ece_scaled": NAN, "temperature": 0.666})
    nats, error = (
        cells(("Calibration", "cross-entropy, nats"), [M, poor]),
        cells(("Calibration", "error, %"), [M, poor]),
    )
    assert nats == [("0.093 → 0.074", 0.0742), ("– → 0.500", 0.5)]
    assert error == [("3.1 → 1.3", 0.0127), ("25.0 → –", pytest.approx(NAN, nan_ok=True))]
    assert cells(("Calibration", "temperature"), [M, poor]) == [("1.2", 1.234), ("0.67", 0.666)]


def test_tuning() -> None:
    assert cells(("Tuning", "trainings"), [changed(M, trainings=1234)]) == [("1,234", 1234.0)]
    rates = changed(M, lrs=(0.001, 0.004, 0.002))
    assert cells(("Tuning", "learning rate"), [rates, BARE]) == [("0.002 (0.001 to 0.004)", 0.002), ("–", None)]
    assert cells(("Tuning", "first gradient"), [M]) == [("2.3", 2.34)]
    tuned = [
        changed(M, values=of)
        for of in (
            ({"k": 3.0}, {"k": 2.0, "q": 0.5}, {"k": 9.0, "q": 0.5}),
            ({"k": 3.14159}, {}, {}),
            ({}, {}, {}),
        )
    ]
    assert cells(("Tuning", "own values"), tuned) == [
        ("k 3 (2 to 9), q 0.5", None),
        ("k 3.14, default in 2 of 3 folds", None),
        ("–", None),
    ]


def test_the_columns_that_bear_the_colour_of_the_verdict() -> None:
    assert [key for key, column in columns().items() if column.told] == [
        ("Minus", "mean [95 % interval]"),
        ("Verdict", "kind"),
    ]


# --- words ------------------------------------------------------------------------------------------------------------


def test_every_kind_of_verdict_has_its_colour() -> None:
    of = {kind.value: tone(replace(M, kind=kind.value)) for kind in VerdictKind}
    assert of == {
        "could not be trained": "out",
        "too little data": "open",
        "not distinguishable": "open",
        "better than both": "better",
        "rival better than reference": "open",
        "better, rival missing": "better",
        "better, but worse than rival": "better",
        "better than reference only": "better",
        "equivalent": "even",
        "not worse": "even",
        "worse": "worse",
        "undecided": "open",
    }
    assert tone(CE) == "reference"


@pytest.mark.parametrize(
    "reference, chance, least",
    [
        (0.98, 0.1, 0.92),  # 6 % errors for 2 %, less two points
        (0.9, 0.1, 0.68),  # 30 % errors for 10 %, less two points
        (0.6, 0.1, 0.35),  # half the way from chance
        (0.6, 0.5, 0.55),
    ],
)
def test_far_off_begins_at(reference: float, chance: float, least: float) -> None:
    scores = {"above": least + 1e-6, "below": least - 1e-6}
    rows = [row("cross_entropy", reference), *(row(name, score) for name, score in scores.items())]
    assert far_off(summary(rows), chance) == {"below"}
    assert far_off(summary([*rows, untrained(row("mae", 1.0), "it diverged")]), chance) == {"below", "mae"}


def test_cross_entropy_is_drawn_where_it_was_compared() -> None:
    assert list(highlighted(summary([CE, M]), frozenset())) == ["cross_entropy", "m"]
    assert list(highlighted(summary([M]), frozenset())) == ["m"]


def test_losses_without_an_interval_are_listed_by_the_reason() -> None:
    def without(name: str, why: str) -> Row:
        return replace(row(name, 0.9), against_reference=replace(gap(0.0), interval=None, reason=why))

    of = summary([CE, without("a", "few runs"), without("b", "few examples"), without("c", "few runs"), row("d", 0.9)])
    assert without_interval(of) == {"few runs": ["a", "c"], "few examples": ["b"]}


def method(results: Summary | None = None, **changes: Any) -> dict[str, str]:
    """How a comparison with another plan was done."""
    results = usual() if results is None else results
    given = plan([each.name for each in results.rows])
    for name, value in changes.items():
        given[name] = given[name] | value if isinstance(value, dict) else value
    return dict(how_it_was_done(read(Design, given), results))


def test_how_the_data_were_split() -> None:
    assert method()["Splits"] == (
        "5 test folds, tuned afresh inside each; the first has 1,150 examples to train on, 287 to validate, 360 to "
        "test. Every example is tested once in each repeat. On purpose, 10 % of the labels are wrong in "
        "training and validation; the test part was left as it was."
    )
    clean = method(data={"folds": 0, "label_noise": 0.0, "train_size": 1000})["Splits"]
    assert clean == (
        "One split: 1,150 examples to train on, 287 to validate, 360 to test. The training part was cut to that size "
        "on purpose."
    )
    imbalanced = method(data={"imbalance": 10.0})["Splits"]
    assert "10 % of the labels are wrong and the largest class is 10 times the smallest in" in imbalanced


def test_how_the_models_were_trained() -> None:
    said = method()["Training"]
    assert said.startswith("mlp, Adam, 50 steps of 64 examples, cosine decay of learning rate, on cpu. ")
    assert "The weights of the last step count." in said
    other = {"name": "sgd", "momentum": 0.9, "nesterov": True, "schedule": "none"}
    said = method(optimizer=other, select="best-val")["Training"]
    assert said.startswith("mlp, SGD with Nesterov momentum 0.9, 50 steps of 64 examples, a constant learning rate")
    assert "The weights that did best on validation count" in said
    assert "SGD with momentum 0.9, " in method(optimizer=other | {"nesterov": False})["Training"]


def test_how_the_budget_was_shared() -> None:
    said = method()["Equal budget"]
    assert "16 trainings for tuning in each repeat in each fold, one for each of 4 learning rates" in said
    assert "first gradient" not in said
    assert "first gradient" in method(optimizer={"name": "sgd"})["Equal budget"]
    assert "16 trainings for tuning in each repeat, one" in method(data={"folds": 0})["Equal budget"]
    repeats = "Tuning, choice and one final training were done 3 times"
    assert method()["Repeats"].startswith(f"{repeats} in each fold, each time with")
    assert method(data={"folds": 0})["Repeats"].startswith(f"{repeats}, each time with")


def test_which_controls_ran_along() -> None:
    said = method()["Controls"].partition(". ")[0]
    assert said == (
        "label_smoothing (tuned), cross_entropy, cross_entropy (again) and cross_entropy + weight decay"
    )  # in the order of the table
    assert "replay" not in method()["Controls"]
    replayed = summary([CE, replace(M, name="rate replay of adaptive", role="control")])
    assert "A replay multiplies" in method(replayed)["Controls"]
    assert method(summary([CE]))["Controls"].startswith("cross_entropy. ")
    assert method(summary([M]))["Controls"] == "None."


def test_losses_that_learn_are_explained_where_there_are_any() -> None:
    assert "Losses that learn" not in method()
    path = LearnedRow((0,), *[(1.0,)] * 3, (0,), (0.5,), ((1.0,),), 0.0, None, None)
    assert "50 steps are the same number" in method(summary([CE, changed(M, learned=path)]))["Losses that learn"]


def test_how_many_losses_were_tested() -> None:
    said = method()["Many losses at once"]
    assert said.startswith("5 losses were tested")
    assert "hold for all 5 together" in said
    assert "delta = 0.5 points" in said


@pytest.mark.parametrize(
    "times, folds, said",
    [
        (1, 0, "1 trained model has been scored on this test split"),
        (2, 0, "2 trained models have been scored on this test split"),
        (1234, 5, "1,234 trained models have been scored on each of these test folds"),
    ],
)
def test_how_often_the_test_part_was_scored(times: int, folds: int, said: str) -> None:
    of = replace(usual(), times_scored=times)
    given = plan([each.name for each in of.rows])
    given["data"]["folds"] = folds
    assert times_scored(as_run(of, given)).startswith(said)
