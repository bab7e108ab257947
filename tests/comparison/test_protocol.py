from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from made_up import CROSS_ENTROPY

from lossmith.comparison.plan import Options, Plan, PlanError, make_plan, write_plan
from lossmith.comparison.session import carry_out
from lossmith.comparison.stages.tune import MAX_EXTENSIONS
from lossmith.comparison.tuning import Setting
from lossmith.trials.ledger import Ledger
from lossmith.trials.runner import Runner
from lossmith.trials.training import splits_of
from lossmith.trials.trial import Sources, Trial

SMALL = Options(data="iris", model="mlp:width=8", losses=("m", "parabolic"), lrs=4, steps=60)
FILES = ("plan.toml", "recommendation.toml", "results.csv", "runs.csv", "summary.json")


def planned(options: Options = SMALL) -> tuple[Plan, Sources]:
    sources = Sources()
    return make_plan(options, sources), sources


def every_trial(plan: Plan, use: Literal["tuning", "final"]) -> list[Trial]:
    return [plan.training(arm, *pipeline, Setting(0.01), use) for arm in plan.arms for pipeline in plan.pipelines]


def test_tuning_and_final_seeds_are_disjoint_and_shared_by_all_losses_but_the_noise_control() -> None:
    """Each fold and repeat has seeds of its own."""
    plan, _ = planned()
    tuning, final = ({t.seed for t in every_trial(plan, use)} for use in ("tuning", "final"))
    assert not tuning & final
    assert len(tuning) == len(final) == 2 * 5 * 2
    own = {arm.name: [plan.training(arm, *p, Setting(0.01), "final").seed for p in plan.pipelines] for arm in plan.arms}
    assert len({tuple(seeds) for name, seeds in own.items() if "again" not in name}) == 1
    assert not set(own["cross_entropy (again)"]) & set(own[CROSS_ENTROPY])


@pytest.mark.parametrize("folds", [None, 0])
def test_repeats_share_the_test_part_and_have_validation_parts_of_their_own(folds: int | None) -> None:
    """The same ones for every arm, in tuning and in the end."""
    plan, sources = planned(replace(SMALL, folds=folds))
    assert plan.pipelines == [(f, r) for f in range(5) for r in range(2)] if folds is None else [(0, 0), (0, 1), (0, 2)]
    seen: dict[tuple[int, int], set[tuple[int, ...]]] = {}
    tests: dict[int, set[tuple[int, ...]]] = {}
    for trial in every_trial(plan, "tuning") + every_trial(plan, "final"):
        splits = splits_of(trial, sources)
        key = trial.ours.data.fold, trial.ours.data.repeat
        seen.setdefault(key, set()).add(tuple(splits.valid.index.tolist()))
        tests.setdefault(key[0], set()).add(tuple(splits.test.index.tolist()))
    assert seen.keys() == set(plan.pipelines)
    assert all(len(parts) == 1 for parts in seen.values())
    assert len(set.union(*seen.values())) == len(plan.pipelines)
    assert all(len(parts) == 1 for parts in tests.values())


def test_only_final_trials_score_the_test_part() -> None:
    plan, _ = planned()
    assert not any(trial.final for trial in every_trial(plan, "tuning"))
    assert all(trial.final for trial in every_trial(plan, "final"))


def test_few_examples_without_an_official_test_part_are_all_tested_once() -> None:
    plan, sources = planned()
    assert len(plan.folds) == 5
    assert plan.repeats == 2
    tested = [splits_of(t, sources).test.index for t in every_trial(plan, "final")[:10:2]]
    assert sorted(torch.cat(tested).tolist()) == list(range(150))


def test_weight_decay_is_decoupled_under_adam() -> None:
    plan, _ = planned()
    arm = plan.arm("cross_entropy + weight decay")
    trial = plan.training(arm, 0, 0, Setting(0.01, (0.3,)), "tuning")
    assert (trial.optimizer.name, trial.optimizer.weight_decay, trial.loss) == ("adamw", 0.3, "cross_entropy")
    assert plan.training(arm, 0, 0, Setting(0.01), "tuning").optimizer.name == "adam"


def test_sgd_learning_rates_are_relative_to_each_losss_first_gradient() -> None:
    """M's gradient is about C times cross-entropy's at the start, so its grid lies about C times lower."""
    plan, _ = planned(replace(SMALL, data="digits", model="mlp", optimizer="sgd", lrs=None))
    lowest = {arm.name: plan.bracket(arm)[0].lr for arm in plan.arms}
    assert lowest[CROSS_ENTROPY] == pytest.approx(0.1 / 64, rel=1e-3)
    assert lowest[CROSS_ENTROPY] / lowest["m"] == pytest.approx(10, rel=0.2)
    trial = plan.training(plan.arms[0], 0, 0, Setting(0.1), "tuning")
    assert (trial.optimizer.momentum, trial.optimizer.nesterov) == (0.9, True)


def test_the_plan_is_toml_that_says_everything_and_stands_before_the_first_training(tmp_path: Path) -> None:
    plan, _ = planned()
    write_plan(plan, tmp_path)
    read = tomllib.loads((tmp_path / "plan.toml").read_text())
    assert read["budget"] == 4
    assert [arm["name"] for arm in read["arms"]] == [arm.name for arm in plan.arms]
    assert read["versions"]["torch"] == torch.__version__
    assert planned()[0] == plan
    write_plan(plan, tmp_path)
    with pytest.raises(PlanError, match="seed"):
        write_plan(replace(plan, trial=replace(plan.trial, seed=5)), tmp_path)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"budget": 3}, "--budget"),
        ({"lrs": 2}, "--lrs"),
        ({"lrs": (0.1, 0.2)}, "--lrs"),
        ({"steps": 19}, "too few"),
        ({"epochs": 5}, "--epochs and --steps"),
        ({"losses": ("rootd",)}, "rooted"),
        ({"losses": ("smooth_absolute_error",)}, "regression"),
        ({"model": "cnn"}, "cnn"),
        ({"data": "iriss"}, "iris"),
        ({"imbalance": 0.5}, "imbalance"),
        ({"train_size": 10**6}, "train_size"),
    ],
)
def test_what_cannot_be_planned_is_said_in_a_sentence(change: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        make_plan(replace(SMALL, **change), Sources())  # type: ignore[arg-type]


def test_the_recommendation_is_written_before_the_test_part_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    original = Ledger.open_test

    def watched(ledger: Ledger, trial: Trial) -> object:
        opened.append((tmp_path / "run" / "recommendation.toml").exists())
        return original(ledger, trial)

    monkeypatch.setattr(Ledger, "open_test", watched)
    plan, sources = planned()
    carry_out(plan, sources, tmp_path / "run", workers=0)
    assert opened
    assert all(opened)


def test_a_run_that_was_interrupted_ends_like_one_that_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no finished trial runs twice: the trainings of all sittings together are those of one."""
    plan, sources = planned()
    trained: list[int] = []
    keep = Runner._keep

    def counting(runner: Runner, unit: list[Trial], results: list[object]) -> None:
        keep(runner, unit, results)  # type: ignore[arg-type]
        trained[-1] += len(unit)
        if limit is not None and trained[-1] > limit:
            raise KeyboardInterrupt

    monkeypatch.setattr(Runner, "_keep", counting)
    limit: int | None = None
    trained.append(0)
    write_plan(plan, tmp_path / "whole" / "run")
    carry_out(plan, sources, tmp_path / "whole" / "run", workers=0)
    whole = trained.pop()
    for stop_after in (10, 60, 40, 1, 70):
        limit = stop_after
        trained.append(0)
        write_plan(plan, tmp_path / "cut" / "run")
        try:
            carry_out(plan, sources, tmp_path / "cut" / "run", workers=0)
        except KeyboardInterrupt:
            continue
    limit = None
    trained.append(0)
    carry_out(plan, sources, tmp_path / "cut" / "run", workers=0)
    assert sum(trained) == whole
    for name in FILES:
        assert (tmp_path / "cut" / "run" / name).read_bytes() == (tmp_path / "whole" / "run" / name).read_bytes()


def test_every_arm_gets_the_same_budget_but_for_extensions(tmp_path: Path) -> None:
    plan, sources = planned()
    carry_out(plan, sources, tmp_path / "run", workers=0)
    rows = json.loads((tmp_path / "run" / "summary.json").read_text())["rows"]
    budget = plan.budget * len(plan.folds)
    most = budget + len(plan.folds) * MAX_EXTENSIONS * 2
    for row in rows:
        tuning = row["tuning"]
        assert budget <= tuning["trainings"] <= most
        extra = sum(max(0, point["folds"]) for point in tuning["rates"]) - len(plan.lrs) * len(plan.folds)
        assert tuning["trainings"] == budget + extra * (
            1 if tuning["values"][0] or "tuned" in row["name"] or "decay" in row["name"] else 2
        )
