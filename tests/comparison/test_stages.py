"""The stages of a comparison on made-up trainings: what is tuned, opened and timed follows by hand."""

from __future__ import annotations

import math
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from made_up import AGAIN, ARMS, CROSS_ENTROPY, LABEL_SMOOTHING, PLAN, MadeUp, Outcome, Run, carry_out, peaked

from lossmith.comparison.outputs import write_summary
from lossmith.comparison.protocol import run_protocol
from lossmith.comparison.summary import summarise
from lossmith.report.highlights import failed_trainings
from lossmith.trials.runner import TrainingFailedError


def alike(run: Run) -> Outcome:
    """A world without differences, best in the middle of the grid."""
    return Outcome(peaked(run.lr, 2))


# --- tuning --------------------------------------------------------------------------------------------------


def test_the_grid_grows_until_the_best_lies_inside_or_four_rounds_are_over(tmp_path: Path) -> None:
    peaks = {("brier", 0): 16.0, ("mae", 0): 2.0**12, ("mae", 1): 2.0**-12, ("ngl", 1): 0.5}

    def world(run: Run) -> Outcome:
        return Outcome(peaked(run.lr, peaks.get((run.arm, run.fold), 2.0)))

    findings, made_up = carry_out(world, tmp_path)
    tried = {
        (name, fold): [point.setting.lr for point in of.points]
        for name, folds in findings.chosen.items()
        for fold, of in enumerate(folds)
    }
    assert tried["brier", 0] == [1, 2, 4, 8, 16, 32]
    assert tried["brier", 1] == tried[CROSS_ENTROPY, 0] == [1, 2, 4]
    assert tried["mae", 0] == [1, 2, 4, 8, 16, 32, 64]
    assert tried["mae", 1] == [1, 2, 4, 0.5, 0.25, 0.125, 0.0625]
    assert tried["ngl", 1] == [1, 2, 4, 0.5, 0.25]
    chosen = {name: [(of.setting.lr, of.on_edge) for of in folds] for name, folds in findings.chosen.items()}
    assert chosen["brier"] == [(16, False), (2, False)]
    assert chosen["mae"] == [(32, True), (0.0625, True)]  # 64 itself lies at the upper end, beyond which is chance
    assert chosen["ngl"] == [(2, False), (0.5, False)]
    assert findings.untrained.keys() == {"mae"}
    assert [label for label in made_up.labels if "rates" in label] == [
        "learning rates",
        *(f"learning rates, extension {n}" for n in (1, 2, 3, 4)),
    ]


def test_every_arm_gets_the_same_number_of_trainings(tmp_path: Path) -> None:
    """Six in each fold: three learning rates with two seeds, or with one and three settings of what else is tuned."""
    findings, made_up = carry_out(alike, tmp_path)
    tuning = [run for run in made_up.trained if run.use == "tuning"]
    assert len(tuning) == len(set(tuning)) == 6 * 2 * len(ARMS)
    for name, folds in findings.chosen.items():
        assert [of.trainings for of in folds] == [6, 6]
        assert sum(run.arm == name for run in tuning) == 12
    for fold in findings.chosen[LABEL_SMOOTHING]:
        assert [point.setting.values is None for point in fold.points] == [True] * 3 + [False] * 3
        assert all(1 <= point.setting.lr <= 4 for point in fold.points)
        assert {v for point in fold.points for v in point.setting.values or ()} <= {0.05, 0.1, 0.2}
    first, second = findings.chosen[LABEL_SMOOTHING]
    assert first.points[3:] != second.points[3:]
    assert "hyperparameters" in made_up.labels


def test_the_choice_is_by_the_mean_over_tuning_seeds_and_ties_go_to_the_lower_cross_entropy(tmp_path: Path) -> None:
    def world(run: Run) -> Outcome:
        if run.arm == "brier":
            """One seed has it the other way round, by less."""
            return Outcome(peaked(run.lr, 2) if run.number else peaked(run.lr, 4, 0.7) / 2, nll=run.lr)
        return Outcome(0.75, nll={1.0: 0.2, 2.0: 0.1, 4.0: 0.3}.get(run.lr, 1.0))

    findings, _ = carry_out(world, tmp_path)
    assert findings.chosen["brier"][0].points[0].accuracy == pytest.approx((0.73 + (0.7 - 0.04) / 2) / 2)
    assert findings.chosen["brier"][0].points[2].nll == 4.0
    assert findings.chosen["mae"][0].setting.lr == 2


def test_a_diverged_training_scores_chance_and_loses_ties(tmp_path: Path) -> None:
    def world(run: Run) -> Outcome:
        return Outcome(0.9, diverged=run.arm == "brier" and run.lr == 4 and run.number == 0)

    findings, _ = carry_out(world, tmp_path)
    scored = {point.setting.lr: point for point in findings.chosen["brier"][0].points}
    assert scored[4.0].accuracy == pytest.approx((0.25 + 0.9) / 2)
    assert scored[4.0].nll == math.inf
    assert scored[2.0].accuracy == pytest.approx(0.9)


# --- final trainings and recommendation ----------------------------------------------------------------------


def better_brier(run: Run) -> Outcome:
    """Three of fifty validation examples more are right with brier, under every seed."""
    return Outcome(peaked(run.lr, 2, 0.82 if run.arm == "brier" else 0.76))


def test_the_recommendation_is_written_before_any_test_outcome_is_opened(tmp_path: Path) -> None:
    made_up = MadeUp(PLAN, better_brier)
    seen: list[bool] = []
    made_up.on_open = lambda: seen.append((tmp_path / "recommendation.toml").exists())
    findings = run_protocol(PLAN, made_up, tmp_path)  # type: ignore[arg-type]
    assert all(seen)
    finals = [Run(arm.name, fold, "final", n, 2.0, 300, True) for arm in ARMS for fold in (0, 1) for n in (0, 1)]
    assert [replace(run, lr=2.0) for run in made_up.opened] == finals
    assert findings.times_scored == len(finals) / 2
    assert all(run.result.test is not None for run in findings.runs)
    brier = [(run.fold, run.seed) for run in findings.runs if run.arm == "brier"]
    assert brier == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_the_recommendation_is_that_of_validation_and_is_kept_as_toml(tmp_path: Path) -> None:
    """6 of 100 examples, whatever the seed: the standard error is that of the mean of a hundred 0/1 numbers."""
    findings, _ = carry_out(better_brier, tmp_path)
    read = tomllib.loads((tmp_path / "recommendation.toml").read_text())
    assert read.keys() == {"loss", "reason", "gain", "standard_error"}
    assert (read["loss"], read["reason"]) == ("brier", findings.recommendation.reason)
    assert read["gain"] == pytest.approx(0.06)
    assert read["standard_error"] == pytest.approx(math.sqrt(0.06 * 0.94 / 99))
    single = replace(PLAN, final_seeds=1)
    carry_out(better_brier, tmp_path, single)
    assert "standard_error" not in tomllib.loads((tmp_path / "recommendation.toml").read_text())


def test_what_could_not_be_trained_is_not_recommended_and_not_timed(tmp_path: Path) -> None:
    def world(run: Run) -> Outcome:
        lost = run.arm == "brier" and run.final and run.number == 0
        return replace(better_brier(run), diverged=lost)

    findings, _ = carry_out(world, tmp_path)
    assert findings.untrained == {"brier": "2 of its 4 final trainings diverged or fell back to guessing"}
    assert findings.recommendation.arm == CROSS_ENTROPY
    assert "brier" in {run.arm for run in findings.runs}
    assert findings.speed.keys() == {arm.name for arm in ARMS} - {"brier"}


def test_a_cross_entropy_that_could_not_be_trained_stays_the_reference_and_is_named(tmp_path: Path) -> None:
    def world(run: Run) -> Outcome:
        return replace(alike(run), diverged=run.arm == CROSS_ENTROPY and run.final and (run.fold, run.number) == (0, 0))

    findings, _ = carry_out(world, tmp_path)
    assert findings.untrained == {}
    assert findings.weak_reference == "1 of its 4 final trainings diverged or fell back to guessing"
    assert carry_out(alike, tmp_path)[0].weak_reference is None


def test_the_metric_of_the_plan_decides(tmp_path: Path) -> None:
    """Made-up balanced accuracies are half the accuracies: at .375, a loss is a quarter of the way from .25 to .75."""
    balanced, _ = carry_out(alike, tmp_path, replace(PLAN, task=replace(PLAN.task, metric="balanced accuracy")))
    assert balanced.chosen["brier"][0].points[1].accuracy == pytest.approx(0.375)
    plain, _ = carry_out(alike, tmp_path)
    assert plain.chosen["brier"][0].points[1].accuracy == pytest.approx(0.75)


# --- trainings that fail ---------------------------------------------------------------------------------------


def test_an_arm_whose_final_training_fails_is_left_out_with_the_reason(tmp_path: Path) -> None:
    def world(run: Run) -> Outcome:
        lost = run.arm == "brier" and run.final and (run.fold, run.number) == (1, 0)
        return replace(alike(run), failed="it ran out of memory" if lost else "")

    findings, made_up = carry_out(world, tmp_path)
    assert findings.untrained["brier"] == "1 of its 4 final trainings failed: it ran out of memory"
    assert "brier" not in {run.arm for run in findings.runs}
    assert "brier" not in findings.speed
    assert not any(run.arm == "brier" for run in made_up.opened)
    summary = summarise(PLAN, findings)
    (row,) = [row for row in summary.rows if row.name == "brier"]
    assert (row.rank, row.runs, row.untrained) == (None, (), findings.untrained["brier"])
    assert math.isnan(row.score)
    write_summary(summary, tmp_path)
    assert "1 of its 4 final trainings failed" in (tmp_path / "results.csv").read_text()


def test_an_arm_that_always_fails_is_tried_no_further_than_its_first_trainings(tmp_path: Path) -> None:
    def world(run: Run) -> Outcome:
        return replace(alike(run), failed="IndexError: no such class" if run.arm == "mae" else "")

    findings, made_up = carry_out(world, tmp_path)
    assert findings.untrained["mae"] == "all of its first trainings failed: IndexError: no such class"
    assert {run.lr for run in made_up.trained if run.arm == "mae"} == {1.0, 2.0, 4.0}
    assert not any(run.final for run in made_up.trained if run.arm == "mae")
    assert next(row for row in summarise(PLAN, findings).rows if row.name == "mae").tuning.lrs == ()


def test_one_learning_rate_that_fails_counts_as_guessing(tmp_path: Path) -> None:
    def world(run: Run) -> Outcome:
        return replace(alike(run), failed="it took too long" if run.arm == "mae" and run.lr == 4 else "")

    findings, _ = carry_out(world, tmp_path)
    assert "mae" not in findings.untrained
    assert findings.chosen["mae"][0].points[2].accuracy == PLAN.task.guess
    assert findings.chosen["mae"][0].setting.lr < 4
    assert set(findings.chosen["mae"][0].failures) == {"it took too long"}
    row = next(row for row in summarise(PLAN, findings).rows if row.name == "mae")
    assert failed_trainings(row) == ["4 of its tuning trainings failed and counted as guessing: it took too long."]


def test_without_the_reference_there_is_no_comparison(tmp_path: Path) -> None:
    def world(run: Run) -> Outcome:
        return replace(alike(run), failed="it took too long" if run.arm == CROSS_ENTROPY and run.final else "")

    with pytest.raises(
        TrainingFailedError, match=r"cross_entropy.*: 4 of its 4 final trainings failed: it took too long"
    ):
        carry_out(world, tmp_path)
    assert not (tmp_path / "recommendation.toml").exists()


# --- speed ---------------------------------------------------------------------------------------------------

CE_FINALS = {(0, 0): 0.74, (0, 1): 0.75, (1, 0): 0.72, (1, 1): 0.70}


def racing(run: Run) -> Outcome:
    """Cross-entropy is there at evaluation 4; brier at 5, at twice its best learning rate at 1 or 2; mae never."""
    if run.arm == CROSS_ENTROPY and run.use == "final" and run.steps == 300:
        return Outcome(CE_FINALS[run.fold, run.number])
    if run.arm == "brier" and run.lr == 4:
        return Outcome(0.745, reached=1 + (run.use == "final" and run.number))
    if run.arm == "brier":
        return Outcome(peaked(run.lr, 2, 0.77), reached=5)
    if run.arm == "mae":
        return Outcome(peaked(run.lr, 2, 0.69))
    return alike(run)


def test_speed_is_to_the_lowest_level_cross_entropy_ends_at(tmp_path: Path) -> None:
    """These are .74 and .70. A level is reached at the third evaluation in a row that has it: number 6, 210 steps."""
    findings, made_up = carry_out(racing, tmp_path)
    assert findings.speed[CROSS_ENTROPY].steps == (210,) * 4
    assert findings.speed["mae"].steps == (math.inf,) * 4
    assert findings.speed["mae"].ratio.censored_loss == 4
    assert findings.speed["mae"].lrs == (2, 2)
    brier = findings.speed["brier"]
    assert brier.lrs == (4, 4)
    assert brier.steps == (120, 150, 120, 150)
    assert brier.ratio.ratio == pytest.approx((120 / 210 + 150 / 210) / 2)
    timed = {run for run in made_up.trained if run.arm == "brier" and run.use == "final" and run.lr == 4}
    assert timed == {Run("brier", fold, "final", n, 4.0, 300, False) for fold in (0, 1) for n in (0, 1)}
    assert not timed & set(made_up.opened)
    assert findings.chosen["brier"][0].setting.lr == 2


@pytest.mark.parametrize(("accuracy", "missed"), [((0.5, 0.5), True), ((0.74, 0.5), False), ((0.74, 0.74), False)])
def test_a_faster_loss_is_held_against_cross_entropy_in_as_few_steps(
    tmp_path: Path, accuracy: tuple[float, float], missed: bool
) -> None:
    """The median of 120, 120, 150 and 150 steps is 135; missed means that fewer than half of the runs get there."""

    def world(run: Run) -> Outcome:
        short = run.arm == CROSS_ENTROPY and run.steps < 300
        return Outcome(accuracy[run.number]) if short and run.use == "final" else racing(run)

    findings, made_up = carry_out(world, tmp_path)
    brier = findings.speed["brier"]
    assert (brier.shortened_reference_missed, brier.shortened_steps) == (missed, 135)
    short = [run for run in made_up.trained if run.steps == 135]
    assert {run.arm for run in short} == {CROSS_ENTROPY}
    assert not any(run.final for run in short)
    assert sum(run.use == "tuning" for run in short) == 2 * 2 * 3
    assert sum(run.use == "final" for run in short) == 4
    assert made_up.labels[-2:] == ["cross_entropy in 135 steps, learning rates", "cross_entropy in 135 steps, final"]
    for name in (CROSS_ENTROPY, AGAIN, "mae", "ngl"):
        assert (findings.speed[name].shortened_reference_missed, findings.speed[name].shortened_steps) == (None, None)


def test_the_end_of_a_shortened_training_is_its_last_three_evaluations(tmp_path: Path) -> None:
    def world(run: Run) -> Outcome:
        late = run.arm == CROSS_ENTROPY and run.steps < 300 and run.use == "final"
        return Outcome(0.9, reached=ends) if late else racing(run)

    ends = 8  # two of the three last at .9 and one at .25: .683 on average
    assert carry_out(world, tmp_path)[0].speed["brier"].shortened_reference_missed is True
    ends = 7
    assert carry_out(world, tmp_path)[0].speed["brier"].shortened_reference_missed is False


def test_a_loss_that_only_seems_faster_is_not_asked_about(tmp_path: Path) -> None:
    """Four pairs at one ratio: the sign test's p is 1/8. Nor is a loss that is slower, however surely."""

    def world(run: Run) -> Outcome:
        if run.arm == "brier" and run.lr == 4:
            return Outcome(0.75, reached=1)
        if run.arm == "ngl":
            return Outcome(peaked(run.lr, 2), reached=5 + run.number % 2)
        return racing(run)

    findings, made_up = carry_out(world, tmp_path)
    assert findings.speed["brier"].ratio.p_value == pytest.approx(1 / 8)
    slower = findings.speed["ngl"].ratio
    assert slower.ratio > 1
    assert slower.p_value is not None
    assert slower.p_value < 0.05
    assert not any(run.steps < 300 for run in made_up.trained)
