from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up import CROSS_ENTROPY, NAMES, TASK

from lossmith.comparison.adaptation import adaptation
from lossmith.comparison.arms import Arm, make_arms
from lossmith.comparison.estimator import Estimator
from lossmith.comparison.plan import Options, make_plan, write_plan
from lossmith.comparison.session import carry_out
from lossmith.comparison.tuning import Setting
from lossmith.report.page import render
from lossmith.report.run import load_run
from lossmith.trials.trial import Sources

ONLINE = "adaptive:meta_data=next"
RATE, LOSS = (f"adaptive:control={control},meta_data=next" for control in ("rate_replay", "loss_replay"))


def arms() -> list[Arm]:
    return make_arms(TASK, [ONLINE, RATE, LOSS, "adaptive:control=scale", "ml3"], "sgd")


def scores(**gains: float) -> dict[str, list[list[np.ndarray]]]:
    """Ten repeats and 2,000 examples, of which so many more are right."""
    draw = np.random.default_rng(0)
    base = (draw.random((10, 2000)) < 0.8).astype(float)
    made = {}
    for name, gain in {ONLINE: gains["online"], RATE: gains["rate"], LOSS: gains["loss"]}.items():
        made[name] = [list(np.maximum(base, (draw.random((10, 2000)) < gain).astype(float)))]
    return made


def said_of(found: dict[str, list[list[np.ndarray]]]) -> tuple[str, ...]:
    return adaptation(arms(), set(found), Estimator(found, list(found)))


def test_a_loss_adapts_only_above_both_of_its_replays() -> None:
    (said,) = said_of(scores(online=0.3, rate=0.1, loss=0.1))
    assert said.startswith(f"{ONLINE} adapts: +")
    for gains in ({"rate": 0.3, "loss": 0.1}, {"rate": 0.1, "loss": 0.3}, {"rate": 0.6, "loss": 0.1}):
        (said,) = said_of(scores(online=0.3, **gains))
        assert said.startswith(f"That {ONLINE} adapts was not shown: ")


def test_nothing_is_said_where_a_replay_is_missing() -> None:
    found = scores(online=0.3, rate=0.1, loss=0.1)
    del found[LOSS]
    assert said_of(found) == ()


def test_controls_that_are_asked_for_are_controls() -> None:
    roles = {arm.name: arm.role for arm in arms()}
    assert {name for name, role in roles.items() if role == "candidate"} == {ONLINE, "ml3"}


@pytest.mark.parametrize(
    ("loss", "wanted"), [(ONLINE, True), ("ml3", False), ("adaptive:offline=9,online=false", False)]
)
def test_a_loss_that_learns_online_is_compared_with_three_times_the_steps(loss: str, wanted: bool) -> None:
    assert (NAMES.equal_time in {arm.name for arm in make_arms(TASK, [loss], "adam")}) is wanted


def test_a_comparison_with_losses_that_learn(tmp_path: Path) -> None:
    """From the plan to the page: equal budgets, one engine each, what was learned is shown."""
    options = Options(
        data="iris",
        model="mlp:width=8",
        losses=(ONLINE, RATE, LOSS, "adaptive:control=scale,meta_lr=?"),
        optimizer="sgd",
        lrs=(0.2, 0.4, 0.8),
        folds=0,
        repeats=1,
        steps=20,
    )
    sources = Sources()
    plan = make_plan(options, sources)
    trials = {arm.name: plan.training(arm, 0, 0, Setting(0.1), "final") for arm in plan.arms}
    assert trials[NAMES.equal_time].steps == 60
    assert trials[CROSS_ENTROPY].is_stacked
    assert not trials[ONLINE].is_stacked
    assert len({trial.ours.data for trial in trials.values()}) == 1
    write_plan(plan, tmp_path / "run")
    carry_out(plan, sources, tmp_path / "run", workers=0)
    run = load_run(tmp_path / "run")
    rows = {row.name: row for row in run.results.rows}
    assert rows[CROSS_ENTROPY].training.learned is None
    learned = rows[ONLINE].training.learned
    assert learned is not None
    assert learned.moments == (0, 5, 10, 15, 20)
    assert learned.pull[0] == pytest.approx([1.0] * len(learned.axis))
    (said,) = run.results.adaptation
    page = render(run)
    assert "What the losses learned" in page
    assert "its own learning rates replayed" in page
    assert said.split(":")[0] in page.replace("<wbr>", "")


def test_a_value_in_brackets_is_not_tuned() -> None:
    with pytest.raises(ValueError, match="in brackets cannot be tuned"):
        make_arms(TASK, ["adaptive(gce:q=?):meta_lr=?"], "sgd")
