"""The stages of a comparison on made-up trainings: what is tuned, opened and timed follows by hand."""

from __future__ import annotations

import math
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import AGAIN, ARMS, CROSS_ENTROPY, LABEL_SMOOTHING, PLAN, MadeUp, Outcome, Run, carry_out, peaked
from scipy import stats

from lossmith.comparison.outputs import write_summary
from lossmith.comparison.plan import Plan
from lossmith.comparison.protocol import run_protocol
from lossmith.comparison.summary import summarise
from lossmith.comparison.tuning import Setting
from lossmith.report.highlights import failed_trainings
from lossmith.trials.runner import TrainingFailedError


def alike(run: Run) -> Outcome:
    """A world without differences, best in the middle of the grid."""
    return Outcome(peaked(run.lr, 2))


# --- tuning --------------------------------------------------------------------------------------------------

NO_MORE = replace(PLAN, budget=3)  # a training for each learning rate and none besides


def test_the_grid_grows_until_the_best_lies_inside_or_four_rounds_are_over(tmp_path: Path) -> None:
    """Each repeat of each fold by itself."""
    peaks = {("brier", 0, 0): 16.0, ("mae", 0, 0): 2.0**12, ("mae", 0, 1): 2.0**12, ("ngl", 1, 0): 0.5}

    def world(run: Run) -> Outcome:
        best = 2.0**-12 if (run.arm, run.fold) == ("mae", 1) else 2.0
        return Outcome(peaked(run.lr, peaks.get((run.arm, run.fold, run.repeat), best)))

    findings, made_up = carry_out(world, tmp_path, NO_MORE)
    found = {(name, of.fold, of.repeat): of for name, pipelines in findings.chosen.items() for of in pipelines}
    assert [key[1:] for key in found if key[0] == "brier"] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    tried = {key: [point.setting.lr for point in of.points] for key, of in found.items()}
    assert tried["brier", 0, 0] == [1, 2, 4, 8, 16, 32]
    assert tried["brier", 0, 1] == tried["brier", 1, 0] == tried[CROSS_ENTROPY, 0, 0] == [1, 2, 4]
    assert tried["mae", 0, 0] == tried["mae", 0, 1] == [1, 2, 4, 8, 16, 32, 64]
    assert tried["mae", 1, 0] == tried["mae", 1, 1] == [1, 2, 4, 0.5, 0.25, 0.125, 0.0625]
    assert tried["ngl", 1, 0] == [1, 2, 4, 0.5, 0.25]
    chosen = {name: [(of.setting.lr, of.on_edge) for of in pipelines] for name, pipelines in findings.chosen.items()}
    assert chosen["brier"] == [(16, False), (2, False), (2, False), (2, False)]
    assert chosen["mae"] == [(64, True), (64, True), (0.0625, True), (0.0625, True)]
    assert chosen["ngl"] == [(2, False), (2, False), (0.5, False), (2, False)]
    assert findings.untrained.keys() == {"mae"}
    assert made_up.labels[:5] == ["learning rates", *(f"learning rates, extension {n}" for n in (1, 2, 3, 4))]


def bracket_of(name: str, budget: int) -> list[Setting]:
    return replace(PLAN, lrs=tuple(2.0**k for k in range(8)), budget=budget).bracket(PLAN.arm(name))


def test_the_bracket_is_the_grid_or_every_second_rate_where_values_are_tuned_for_the_same_money() -> None:
    whole = [Setting(2.0**k) for k in range(8)]
    assert bracket_of("brier", 8) == bracket_of("brier", 9) == whole
    assert bracket_of(LABEL_SMOOTHING, 16) == whole
    assert bracket_of(LABEL_SMOOTHING, 8) == bracket_of(LABEL_SMOOTHING, 15) == whole[::2]
    assert PLAN.bracket(replace(PLAN.arm("brier"), lr_scale=1 / 3)) == [
        Setting(0.333333), Setting(0.666667), Setting(1.33333)
    ]  # fmt: skip


@pytest.mark.parametrize("budget", [3, 4, 6])
def test_every_arm_gets_the_same_number_of_trainings(tmp_path: Path, budget: int) -> None:
    """What the rates leave goes near the best of them, to values where an arm has some, and to more rates elsewhere."""
    findings, made_up = carry_out(alike, tmp_path, replace(PLAN, budget=budget))
    tuning = [run for run in made_up.trained if run.use == "tuning"]
    extra = dict.fromkeys(findings.chosen, 0)
    for name, pipelines in findings.chosen.items():
        bracket = [1, 2, 4] if name != LABEL_SMOOTHING or budget == 6 else [1, 4]
        for of in pipelines:
            lrs = [point.setting.lr for point in of.points]
            grid = [point.setting.lr for point in of.points if point.setting.lr in {0.25, 0.5, 1, 2, 4, 8}]
            extra[name] += len(grid) - len(bracket)
            assert lrs[: len(grid)] == grid
            assert grid[: len(bracket)] == bracket
            assert len(lrs) - len(grid) == budget - len(bracket)
            best = max(of.points[: len(grid)], key=lambda point: point.score).setting.lr
            assert all(best / 2 <= lr <= 2 * best for lr in lrs[len(grid) :])
            values = [point.setting.values for point in of.points]
            assert set(values[: len(grid)]) == {None}
            for value in values[len(grid) :]:
                assert (value is None) is (name != LABEL_SMOOTHING)
                assert value is None or value[0] in {0.05, 0.1, 0.2}
    assert {name for name, more in extra.items() if more} == ({LABEL_SMOOTHING} if budget < 6 else set())
    assert len(tuning) == len(set(tuning)) == budget * 2 * 2 * len(ARMS) + sum(extra.values())
    assert "hyperparameters" in made_up.labels
    if budget == 6:
        near = {tuple(point.setting for point in of.points[3:]) for of in findings.chosen["brier"]}
        assert len(near) == 4  # other rates in every repeat
        same = [[point.setting for point in findings.chosen[name][0].points] for name in ("brier", "mae")]
        assert same[0] == same[1]


def test_each_repeat_chooses_for_itself_and_its_final_training_has_that_rate(tmp_path: Path) -> None:
    best = {(0, 0): 1.0, (0, 1): 2.0, (1, 0): 4.0, (1, 1): 2.0}

    def world(run: Run) -> Outcome:
        """Of brier two repeats would choose alike, had they one choice between them; extensions find nothing."""
        return Outcome(peaked(run.lr, best[run.fold, run.repeat]) if run.arm == "brier" else peaked(run.lr, 2))

    findings, made_up = carry_out(world, tmp_path, NO_MORE)
    assert {(of.fold, of.repeat): of.setting.lr for of in findings.chosen["brier"]} == best
    finals = {(run.fold, run.repeat): run.lr for run in made_up.trained if run.arm == "brier" and run.final}
    assert finals == best
    assert {(run.fold, run.repeat): run.setting.lr for run in findings.runs if run.arm == "brier"} == best


def test_ties_go_to_the_lower_cross_entropy(tmp_path: Path) -> None:
    def world(run: Run) -> Outcome:
        return Outcome(0.75 if run.lr in {1, 2, 4} else 0.7, nll={1.0: 0.2, 2.0: 0.1, 4.0: 0.3}.get(run.lr, 1.0))

    findings, _ = carry_out(world, tmp_path, NO_MORE)
    assert [of.setting.lr for of in findings.chosen["mae"]] == [2] * 4
    assert [point.tie_break for point in findings.chosen["mae"][0].points[:3]] == [0.2, 0.1, 0.3]


def test_a_diverged_training_scores_chance_and_loses_ties(tmp_path: Path) -> None:
    def world(run: Run) -> Outcome:
        return Outcome(0.9, diverged=run.arm == "brier" and run.lr == 4 and run.repeat == 0)

    findings, _ = carry_out(world, tmp_path, NO_MORE)
    scored = [{point.setting.lr: point for point in of.points} for of in findings.chosen["brier"]]
    assert [of[4.0].score for of in scored] == [0.25, 0.9, 0.25, 0.9]
    assert [of[4.0].tie_break for of in scored] == [math.inf, 1.0, math.inf, 1.0]
    assert {of[2.0].score for of in scored} == {0.9}


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
    finals = [Run(arm.name, *pipeline, "final", 2.0, 300, True) for arm in ARMS for pipeline in PLAN.pipelines]
    assert [replace(run, lr=2.0) for run in made_up.opened] == finals
    assert findings.times_scored == len(finals) / 2
    assert all(run.result.test is not None for run in findings.runs)
    brier = [(run.fold, run.repeat) for run in findings.runs if run.arm == "brier"]
    assert brier == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_the_recommendation_is_that_of_validation_and_is_kept_as_toml(tmp_path: Path) -> None:
    """12 of 200 examples, each validating in one repeat: the standard error is that of the mean of 200 0/1 numbers."""
    findings, _ = carry_out(better_brier, tmp_path)
    read = tomllib.loads((tmp_path / "recommendation.toml").read_text())
    assert read.keys() == {"loss", "reason", "gain", "standard_error"}
    assert (read["loss"], read["reason"]) == ("brier", findings.recommendation.reason)
    assert read["gain"] == pytest.approx(0.06)
    assert read["standard_error"] == pytest.approx(math.sqrt(0.06 * 0.94 / 199))
    p = stats.ttest_1samp([1.0] * 12 + [0.0] * 188, 0.0).pvalue  # the least of three candidates and label smoothing
    assert read["reason"].endswith(f"Holm-adjusted p = {4 * p:.2g}")


def test_an_official_validation_part_is_the_same_examples_in_every_repeat(tmp_path: Path) -> None:
    """Six of 100 examples differ instead of 12 of 200: too few to say anything."""
    found = carry_out(better_brier, tmp_path, official=True)[0].recommendation
    assert (found.arm, found.se) == (CROSS_ENTROPY, None)
    assert "fewer than 10 examples differ" in found.reason
    assert "standard_error" not in tomllib.loads((tmp_path / "recommendation.toml").read_text())

    def world(run: Run) -> Outcome:
        return Outcome(peaked(run.lr, 2, 0.94 if run.arm == "brier" else 0.74))

    found = carry_out(world, tmp_path, official=True)[0].recommendation
    assert found.arm == "brier"
    assert found.se == pytest.approx(math.sqrt(0.2 * 0.8 / 99))


def test_the_reference_of_the_recommendation_is_the_mean_of_its_two_arms(tmp_path: Path) -> None:
    def world(run: Run) -> Outcome:
        return Outcome(peaked(run.lr, 2, {"brier": 0.86, AGAIN: 0.66}.get(run.arm, 0.76)))

    assert carry_out(world, tmp_path)[0].recommendation.gain == pytest.approx(0.86 - (0.76 + 0.66) / 2)


def test_what_could_not_be_trained_is_not_recommended_and_not_timed(tmp_path: Path) -> None:
    def world(run: Run) -> Outcome:
        lost = run.arm == "brier" and run.final and run.repeat == 0
        return replace(better_brier(run), diverged=lost)

    findings, _ = carry_out(world, tmp_path)
    assert findings.untrained == {"brier": "2 of its 4 final trainings diverged or fell back to guessing"}
    assert findings.recommendation.arm == CROSS_ENTROPY
    assert "brier" in {run.arm for run in findings.runs}
    assert findings.speed.keys() == {arm.name for arm in ARMS} - {"brier"}


def test_a_cross_entropy_that_could_not_be_trained_stays_the_reference_and_is_named(tmp_path: Path) -> None:
    def world(run: Run) -> Outcome:
        return replace(alike(run), diverged=run.arm == CROSS_ENTROPY and run.final and (run.fold, run.repeat) == (0, 0))

    findings, _ = carry_out(world, tmp_path)
    assert findings.untrained == {}
    assert findings.weak_reference == "1 of its 4 final trainings diverged or fell back to guessing"
    assert carry_out(alike, tmp_path)[0].weak_reference is None


def test_the_metric_of_the_plan_decides(tmp_path: Path) -> None:
    """Made-up balanced accuracies are half the accuracies: at .375, a loss is a quarter of the way from .25 to .75."""
    balanced, _ = carry_out(alike, tmp_path, replace(PLAN, task=replace(PLAN.task, metric="balanced accuracy")))
    assert balanced.chosen["brier"][0].points[1].score == pytest.approx(0.375)
    plain, _ = carry_out(alike, tmp_path)
    assert plain.chosen["brier"][0].points[1].score == pytest.approx(0.75)


# --- trainings that fail ---------------------------------------------------------------------------------------


def test_an_arm_whose_final_training_fails_is_left_out_with_the_reason(tmp_path: Path) -> None:
    def world(run: Run) -> Outcome:
        lost = run.arm == "brier" and run.final and (run.fold, run.repeat) == (1, 0)
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
    assert findings.chosen["mae"][0].points[2].score == PLAN.task.guess
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
    """Cross-entropy is there at evaluation 4, again at 6; brier at 5, at twice its best rate at 1 or 2; mae never."""
    if run.arm == CROSS_ENTROPY and run.use == "final" and run.steps == 300:
        return Outcome(CE_FINALS[run.fold, run.repeat])
    if run.arm == AGAIN:
        return replace(alike(run), reached=6)
    if run.arm == "brier" and run.lr == 4:
        return Outcome(0.745, reached=1 + (run.use == "final" and run.repeat))
    if run.arm == "brier":
        return Outcome(peaked(run.lr, 2, 0.77), reached=5)
    if run.arm == "mae":
        return Outcome(peaked(run.lr, 2, 0.69))
    return alike(run)


def test_speed_is_to_the_lowest_level_cross_entropy_ends_at(tmp_path: Path) -> None:
    """These are .74 and .70. A level is reached at the third evaluation in a row that has it: number 6, 210 steps."""
    findings, made_up = carry_out(racing, tmp_path, NO_MORE)
    assert findings.speed[CROSS_ENTROPY].steps == (210,) * 4
    assert findings.speed[AGAIN].steps == (270,) * 4
    assert findings.speed["mae"].steps == (math.inf,) * 4
    assert findings.speed["mae"].ratio.censored_loss == 4
    assert findings.speed["mae"].lrs == (2,) * 4
    brier = findings.speed["brier"]
    assert brier.lrs == (4,) * 4
    assert brier.steps == (120, 150, 120, 150)
    timed = {run for run in made_up.trained if run.arm == "brier" and run.use == "final" and run.lr == 4}
    assert timed == {Run("brier", *pipeline, "final", 4.0, 300, False) for pipeline in PLAN.pipelines}
    assert not timed & set(made_up.opened)
    assert [of.setting.lr for of in findings.chosen["brier"]] == [2] * 4


def test_the_level_is_the_lower_of_both_references(tmp_path: Path) -> None:
    """Where the second ends at .68 in fold 1, that is the level there, which mae reaches; in fold 0 it stays at .74."""

    def world(run: Run) -> Outcome:
        return Outcome(0.68, reached=6) if run.arm == AGAIN and run.final and run.fold == 1 else racing(run)

    findings, _ = carry_out(world, tmp_path, NO_MORE)
    assert findings.speed["mae"].steps == (math.inf, math.inf, 210, 210)


def test_steps_are_divided_by_the_geometric_mean_of_both_references(tmp_path: Path) -> None:
    speed = carry_out(racing, tmp_path, NO_MORE)[0].speed
    both = math.sqrt(210 * 270)
    t_test = stats.ttest_1samp(np.log([120 / both, 150 / both] * 2), 0.0)
    assert speed["brier"].ratio.ratio == pytest.approx((120 / both + 150 / both) / 2)
    assert speed["brier"].ratio.p_value == pytest.approx(t_test.pvalue)
    assert speed["brier"].holm_p == pytest.approx(3 * t_test.pvalue)
    assert speed[CROSS_ENTROPY].ratio.ratio == pytest.approx(210 / both)
    assert speed[LABEL_SMOOTHING].holm_p == speed[LABEL_SMOOTHING].ratio.p_value

    def alone(run: Run) -> Outcome:
        return replace(racing(run), diverged=run.arm == AGAIN and run.final)

    assert carry_out(alone, tmp_path, NO_MORE)[0].speed["brier"].ratio.ratio == pytest.approx((120 + 150) / 2 / 210)


@pytest.mark.parametrize(("accuracy", "missed"), [((0.5, 0.5), True), ((0.74, 0.5), False), ((0.74, 0.74), False)])
def test_a_faster_loss_is_held_against_cross_entropy_in_as_few_steps(
    tmp_path: Path, accuracy: tuple[float, float], missed: bool
) -> None:
    """The median of 120, 120, 150 and 150 steps is 135; missed means that fewer than half of the runs get there."""

    def world(run: Run) -> Outcome:
        short = run.arm == CROSS_ENTROPY and run.steps < 300
        return Outcome(accuracy[run.repeat]) if short and run.use == "final" else racing(run)

    findings, made_up = carry_out(world, tmp_path, NO_MORE)
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
    assert carry_out(world, tmp_path, NO_MORE)[0].speed["brier"].shortened_reference_missed is True
    ends = 7
    assert carry_out(world, tmp_path, NO_MORE)[0].speed["brier"].shortened_reference_missed is False


def test_a_shortened_cross_entropy_that_fails_has_not_got_there(tmp_path: Path) -> None:
    def world(run: Run) -> Outcome:
        lost = run.arm == CROSS_ENTROPY and run.steps < 300 and run.use == use
        return replace(racing(run), failed="it took too long" if lost else "")

    use = "final"
    assert carry_out(world, tmp_path, NO_MORE)[0].speed["brier"].shortened_reference_missed is True
    use = "tuning"
    speed = carry_out(world, tmp_path, NO_MORE)[0].speed["brier"]
    assert (speed.shortened_reference_missed, speed.shortened_steps) == (None, None)


def test_a_loss_that_only_seems_faster_is_not_asked_about(tmp_path: Path) -> None:
    """Four pairs at one ratio: the sign test's p is 1/8. Nor is a loss that is slower, however surely."""

    def world(run: Run) -> Outcome:
        if run.arm == "brier" and run.lr == 4:
            return Outcome(0.75, reached=1)
        if run.arm == "ngl":
            return Outcome(peaked(run.lr, 2), reached=6 + run.repeat % 2)
        return racing(run)

    findings, made_up = carry_out(world, tmp_path, NO_MORE)
    assert findings.speed["brier"].ratio.p_value == pytest.approx(1 / 8)
    slower = findings.speed["ngl"]
    assert slower.ratio.ratio > 1
    assert slower.holm_p is not None
    assert slower.holm_p < 0.05
    assert not any(run.steps < 300 for run in made_up.trained)


def test_of_many_losses_one_has_to_be_faster_by_more(tmp_path: Path) -> None:
    """Steps of 120, 180, 120 and 180 where the references take 238: p = .026, which is too much for one of three."""
    at = {0: 1, 1: 3}

    def world(run: Run) -> Outcome:
        return Outcome(peaked(run.lr, 2), reached=at[run.repeat]) if run.arm == "brier" else racing(run)

    def asked(plan: Plan) -> bool:
        findings, made_up = carry_out(world, tmp_path, plan)
        p = findings.speed["brier"].ratio.p_value
        assert p is not None
        assert 0.05 / 3 < p < 0.05
        return any(run.steps < 300 for run in made_up.trained)

    assert not asked(NO_MORE)
    assert asked(replace(NO_MORE, arms=tuple(arm for arm in ARMS if arm.name not in {"mae", "ngl"})))
