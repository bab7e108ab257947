from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lossmith.comparison.tuning import Setting
from lossmith.data import DataSpec
from lossmith.learned import OnlineLossLearner
from lossmith.studies.noisy_labels.__main__ import main
from lossmith.studies.noisy_labels.arms import ADAPTIVE, StudyArm, make_arms
from lossmith.studies.noisy_labels.findings import OVERALL, compare, scores_of, sentence
from lossmith.studies.noisy_labels.protocol import Condition, Plan, Run, Study, run_study, scored
from lossmith.trials.batches import batches, trial_batches
from lossmith.trials.ledger import Ledger
from lossmith.trials.runner import Runner
from lossmith.trials.training import splits_of, train, train_model
from lossmith.trials.trial import Sources, Trial
from made_trials import changed

TINY = Study(noises=(("symmetric", 0.4),), sizes=(50,), seeds=2, settings=3, steps=4, model="mlp:width=8")
CONDITION = Condition("symmetric", 0.4, 50)
OPTIONS = "--model mlp:width=8 --seeds 1 --settings 2 --steps 2 --clean 20 --noise asymmetric:0.2"
FILES = ("results.csv", "comparisons.csv", "verdict.md")


@pytest.fixture(name="plan", scope="module")
def _plan() -> Plan:
    return Plan(TINY, "digits", Sources())


def arm_of(name: str) -> StudyArm:
    return next(arm for arm in make_arms() if arm.name == name)


def trial_of(plan: Plan, name: str, half: int | None, *values: float) -> Trial:
    arm = arm_of(name)
    setting = Setting(0.02, values or tuple(d.value(0.5) for d in arm.tuned))
    return plan.trial(arm, setting, 1.0, CONDITION, 0, half)


@pytest.mark.parametrize("half", [0, 1, None])
@pytest.mark.parametrize("name", [arm.name for arm in make_arms()])
def test_no_model_meets_the_examples_it_is_judged_on(name: str, half: int | None, plan: Plan) -> None:
    """Labels of the judging half and the test part may be anything: the same weights come out."""
    trial = trial_of(plan, name, half)
    task = splits_of(trial, plan.sources)
    before = weights(trial, plan)
    parts = [task.test] if half is None else [task.test, task.valid]
    kept = [part.targets.clone() for part in parts]
    try:
        for part in parts:
            part.targets.copy_((part.targets + 1) % 10)
        assert torch.equal(weights(trial, plan), before)
    finally:
        for part, labels in zip(parts, kept, strict=True):
            part.targets.copy_(labels)
    met = set(task.train.index.tolist())
    assert all(not met & set(part.index.tolist()) for part in parts)


def weights(trial: Trial, plan: Plan) -> Tensor:
    return torch.nn.utils.parameters_to_vector(train_model(trial, plan.sources).model.parameters())


def test_who_trains_on_what(plan: Plan) -> None:
    def share_clean(name: str, *values: float) -> list[float]:
        trial, size = trial_of(plan, name, None, *values), 698
        drawn = zip(trial_batches(trial, size + 50, 50), range(4), strict=False)
        return [float((rows < 50).double().mean()) for rows, _ in drawn]

    assert share_clean("CE on noisy") == share_clean("GCE") == [0, 0, 0, 0]
    assert share_clean("CE on clean") == [1, 1, 1, 1]
    assert share_clean("CE on both", 0.25) == [0.25] * 4
    assert share_clean("CE fine-tuned on clean", 0.5) == [0, 0, 1, 1]
    clean_only = trial_batches(trial_of(plan, "CE on clean", None), 748, 50)
    first = torch.cat([next(clean_only) for _ in range(25)])  # 25 batches of 64 are 32 times 50
    assert torch.equal(torch.bincount(first), torch.full((50,), 32))
    noisy = trial_batches(trial_of(plan, "CE on noisy", None), 748, 50)
    plain = batches(698, 64, trial_of(plan, "CE on noisy", None).seed)
    assert torch.equal(next(noisy), 50 + next(plain))


@pytest.mark.parametrize("name", [ADAPTIVE, "rate replay", "loss replay"])
def test_a_loss_that_learns_does_so_from_the_clean_set_alone(
    name: str, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of(plan, name, None)
    task = splits_of(trial, plan.sources)
    clean = {tuple(row) for row in task.train.inputs[: task.clean].flatten(1).tolist()}
    step: Callable[..., Any] = OnlineLossLearner.step
    learned = set()

    def watch(self: OnlineLossLearner, batch: tuple[Any, Tensor], meta: tuple[Any, Tensor] | None = None) -> Any:
        assert not clean & {tuple(row) for row in batch[0].flatten(1).tolist()}
        learned.update([] if meta is None else [tuple(row) for row in meta[0].flatten(1).tolist()])
        return step(self, batch, meta)

    monkeypatch.setattr(OnlineLossLearner, "step", watch)
    train(trial, plan.sources)
    assert learned == clean


def test_what_a_clean_set_cannot_be_used_for_is_refused(plan: Plan) -> None:
    mixed = trial_of(plan, "CE on both", None)
    with pytest.raises(ValueError, match="as meta data"):
        changed(mixed, loss="adaptive")
    with pytest.raises(ValueError, match="needs a clean set"):
        train(changed(mixed, data=DataSpec("digits")), plan.sources)


def test_without_learning_the_loss_is_cross_entropy_on_the_noisy_labels(plan: Plan) -> None:
    plain = weights(trial_of(plan, "CE on noisy", None), plan)
    for name in (ADAPTIVE, "rate replay", "loss replay"):
        torch.testing.assert_close(weights(trial_of(plan, name, None, 0.0), plan), plain, rtol=1e-4, atol=1e-6)


def test_budgets_are_equal_and_seeds_pair(plan: Plan, tmp_path: Path) -> None:
    """Counted in the ledger: six trainings to tune an arm in a replicate, three settings on two halves."""
    arms = [arm for arm in make_arms() if arm.name in {ADAPTIVE, "CE on both", "GCE", "rate replay"}]
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        runner = Runner(ledger, Sources(), workers=0)
        (found,) = run_study(TINY, "digits", runner, arms)
        tuned = [row[0] for row in ledger._connection.execute("SELECT trial FROM results WHERE test IS NULL")]
        assert ledger.times_scored(trial_of(plan, ADAPTIVE, None).trainer) == len(arms) * TINY.seeds
    for loss in ('"Adaptive"', "gce", '"mixed"'):
        count = sum(loss in text for text in tuned)
        assert count == TINY.seeds * 2 * TINY.settings, loss
    assert not any("Replay" in text for text in tuned)
    for runs in found.replicates:
        assert {run.trainings for run in runs.values()} == {2 * TINY.settings}
        assert runs["rate replay"].setting == runs[ADAPTIVE].setting
        assert len({run.result.test.index.tobytes() for run in runs.values() if run.result.test}) == 1
    other = replace(found, condition=Condition("symmetric", 0.4, 20), replicates=found.replicates[::-1])
    scores = scores_of([found, other])[OVERALL][ADAPTIVE]
    assert np.array_equal(scores, np.tile(found.scores(ADAPTIVE).mean(0), (2, 1)))
    lrs = [{s.lr for s in plan.settings(arm, r)} for arm in make_arms() for r in (0, 1)]
    assert all(len(each) == TINY.settings and min(each) >= 0.0025 and max(each) <= 0.08 for each in lrs)
    seeds = {plan.trial(arm, plan.settings(arm, 1)[0], 1.0, CONDITION, 1, 0).seed for arm in make_arms()}
    assert len(seeds) == 1


def test_a_killed_study_goes_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped at every fifth unit of work until it gets through."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main(["digits", *OPTIONS.split(), "--workers", "0", "--out", str(whole)]) == 0
    keep: Callable[..., None] = Runner._keep
    units = 0

    def fragile(self: Runner, unit: Any, results: Any) -> None:
        nonlocal units
        units += 1
        if units % 5 == 0:
            raise OSError("pulled the plug")
        keep(self, unit, results)

    monkeypatch.setattr(Runner, "_keep", fragile)
    codes = []
    while not codes or codes[-1]:
        codes.append(main(["digits", *OPTIONS.split(), "--workers", "0", "--out", str(broken)]))
    assert len(codes) > 2
    for name in FILES:
        assert (whole / name).read_bytes() == (broken / name).read_bytes()
    rows = list(csv.DictReader((whole / "results.csv").read_text().splitlines()))
    assert len(rows) == len(make_arms())
    assert {row["tuning_trainings"] for row in rows} == {"4"}


def test_the_winner_of_made_up_scores_is_named() -> None:
    rng = np.random.default_rng(0)
    base = (rng.random((5, 600)) < 0.7).astype(float)
    better = np.maximum(base, (rng.random((5, 600)) < 0.4).astype(float))
    worse = base * (rng.random((5, 600)) < 0.8)
    same = base.copy()
    same[:, :20], same[:, 20:40] = base[:, 20:40], base[:, :20]  # as many right, elsewhere
    compared = compare({ADAPTIVE: base, "CE": worse, "GCE": better, "rate replay": same, "loss replay": worse})
    assert {c.arm: c.word for c in compared} == {
        "CE": "better",
        "GCE": "worse",
        "rate replay": "undecided",
        "loss replay": "better",
    }
    assert all(c.holm_p >= c.gap.p_value for c in compared if c.gap.p_value is not None)
    told = sentence("here", compared)
    assert told.startswith(
        "here: adaptive is better than CE, loss replay; worse than GCE; not shown to differ from rate"
    )
    assert told.endswith("That it adapts was not shown.")
    adapts = compare({ADAPTIVE: base, "rate replay": worse, "loss replay": worse})
    assert sentence("here", adapts).endswith("better than both replays.")


def test_what_diverged_counts_as_chance_in_tuning_and_as_wrong_in_the_end(plan: Plan) -> None:
    result = train(trial_of(plan, "CE on noisy", None), plan.sources)
    diverged = replace(result, diverged=True)
    point = scored(Setting(0.1), [result, diverged], 0.1)
    assert point.score == pytest.approx((result.scores["accuracy"] + 0.1) / 2)
    assert point.tie_break == math.inf
    ended, lost = (Run(arm_of("CE on noisy"), Setting(0.1), 1.0, 0.5, 6, each).correct for each in (result, diverged))
    assert ended.any()
    assert not lost.any()


@pytest.mark.parametrize("name", ["GCE", "symmetric CE", "label smoothing", "CE on clean", ADAPTIVE])
def test_the_first_step_is_as_long_for_every_loss(name: str, plan: Plan) -> None:
    arm = arm_of(name)
    setting = plan.settings(arm, 0)[0]
    trial = plan.trial(arm, setting, plan.ratio(arm, setting, CONDITION, 0), CONDITION, 0, 0)
    assert trial.optimizer.lr * train(trial, plan.sources).gradient_ratio == pytest.approx(setting.lr, rel=0.02)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("nowhere.csv", "nowhere.csv"),
        ("digits --clean 30000", "30,000"),
        ("digits --seeds 0", "--seeds"),
        ("digits --model nothing", "nothing"),
    ],
)
def test_bad_input_is_told_in_one_sentence(
    options: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options.split(), "--workers", "0", "--out", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert named in told.err
    assert len(told.err.strip().splitlines()) <= 2
    assert told.out == ""
