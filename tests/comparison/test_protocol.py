from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
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
FILES = (
    "curves.csv", "plan.toml", "recommendation.toml", "results.csv", "results.parquet", "runs.csv", "summary.json"
)  # fmt: skip


def planned(options: Options = SMALL) -> tuple[Plan, Sources]:
    sources = Sources()
    return make_plan(options, sources), sources


def every_trial(plan: Plan, use: Literal["tuning", "final"]) -> list[Trial]:
    return [plan.training(arm, *pipeline, Setting(0.01), use) for arm in plan.arms for pipeline in plan.pipelines]


def test_tuning_and_final_seeds_are_disjoint_and_every_loss_has_its_own() -> None:
    """As has each fold and repeat; a loss keeps its seeds whatever else is compared."""
    plan, _ = planned()
    tuning, final = ({t.seed for t in every_trial(plan, use)} for use in ("tuning", "final"))
    assert not tuning & final
    assert len(tuning) == len(final) == len(plan.arms) * 5 * 2
    own = {arm.name: [plan.training(arm, *p, Setting(0.01), "final").seed for p in plan.pipelines] for arm in plan.arms}
    alone, _ = planned(replace(SMALL, losses=("parabolic",)))
    for pipeline, seed in zip(alone.pipelines, own["parabolic"], strict=True):
        assert alone.training(alone.arm("parabolic"), *pipeline, Setting(0.01), "final").seed == seed


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


@dataclass(frozen=True)
class Carried:
    """A comparison that was carried out in one go."""

    plan: Plan
    folder: Path
    trained: int
    opened: list[bool]


QUICK = replace(SMALL, losses=("m",), folds=2, lrs=3, steps=20)


@contextmanager
def counting(limit: int | None = None) -> Iterator[list[int]]:
    """How many trainings are kept; interrupted when there are more than a limit."""
    trained, keep = [0], Runner._keep

    def kept(runner: Runner, unit: list[Trial], results: list[object]) -> None:
        keep(runner, unit, results)  # type: ignore[arg-type]
        trained[0] += len(unit)
        if limit is not None and trained[0] > limit:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "_keep", kept)
        yield trained


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Carried:
    plan, sources = planned(QUICK)
    folder = tmp_path_factory.mktemp("whole") / "run"
    opened = []
    original = Ledger.open_test

    def watched(ledger: Ledger, trial: Trial) -> object:
        opened.append((folder / "recommendation.toml").exists())
        return original(ledger, trial)

    write_plan(plan, folder)
    with counting() as trained, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ledger, "open_test", watched)
        carry_out(plan, sources, folder, workers=0)
    return Carried(plan, folder, trained[0], opened)


def test_the_recommendation_is_written_before_the_test_part_is_opened(whole: Carried) -> None:
    assert len(whole.opened) == len(whole.plan.arms) * 2 * 2
    assert all(whole.opened)


def test_a_run_that_was_interrupted_ends_like_one_that_was_not(whole: Carried, tmp_path: Path) -> None:
    """And no finished trial runs twice: the trainings of all sittings together are those of one."""
    plan, sources = planned(QUICK)
    total = 0
    for stop_after in (10, 30, 20, 1, None):
        write_plan(plan, tmp_path / "run")
        with counting(stop_after) as trained, suppress(KeyboardInterrupt):
            carry_out(plan, sources, tmp_path / "run", workers=0)
        total += trained[0]
    assert total == whole.trained
    for name in FILES:
        assert (tmp_path / "run" / name).read_bytes() == (whole.folder / name).read_bytes()


def test_every_arm_gets_the_same_budget_but_for_extensions(whole: Carried) -> None:
    """Each learning rate of the grid is tried in every repeat; a tuned arm has as many trainings for fewer rates."""
    plan, pipelines = whole.plan, len(whole.plan.pipelines)
    for row in json.loads((whole.folder / "summary.json").read_text())["rows"]:
        tuning, arm = row["tuning"], plan.arm(row["name"])
        tried = {point["lr"]: point["tried"] for point in tuning["rates"]}
        bracket = [setting.lr for setting in plan.bracket(arm)]
        assert len(bracket) == (2 if arm.tuned else 3)
        assert all(tried[lr] == pipelines for lr in bracket)
        extra = sum(number for lr, number in tried.items() if lr not in bracket)
        assert extra <= MAX_EXTENSIONS * pipelines
        assert tuning["trainings"] == plan.budget * pipelines + extra
