from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from lossmith.comparison.plan import derive_seed
from lossmith.learned import OnlineLossLearner
from lossmith.studies.regression.__main__ import main
from lossmith.studies.regression.arms import (
    AGAIN,
    LONGER,
    LOSS_REPLAY,
    ONLINE,
    RATE_REPLAY,
    SCALE,
    SQUARED,
    WEIGHT_DECAY,
    RegressionArm,
    make_arms,
)
from lossmith.studies.regression.leaderboard import as_json, print_findings, verdict
from lossmith.studies.regression.protocol import Findings, Outcome, Study, run_study
from lossmith.studies.regression.table import Parts, Regression, read_regression, split
from lossmith.studies.regression.training import Memory, Training, train
from lossmith.trials.batches import batches

TINY = Study(folds=2, steps=4, lrs=3, offline_steps=2, batch_size=16)


class Silent:
    def start(self, label: str, total: int, done: int) -> None:
        pass

    def advance(self, trainings: int) -> None:
        pass


@pytest.fixture(name="table", scope="module")
def _table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3))
    rows = np.column_stack([x, 50 + 10 * (x[:, 0] - x[:, 1] ** 2) + rng.normal(size=120)])
    path: Path = tmp_path_factory.mktemp("regression") / "table.csv"
    np.savetxt(path, rows, delimiter=",", header="a,b,c,y", comments="", fmt="%.5f")
    return path


@pytest.fixture(name="data", scope="module")
def _data(table: Path) -> Regression:
    return read_regression(table, "y")


def arm_of(name: str) -> RegressionArm:
    return next(arm for arm in make_arms() if arm.name == name)


def training_of(name: str, **others: Any) -> Training:
    return Training(
        arm_of(name),
        **{
            "lr": 0.05,
            "values": {"delta": 1.0, "meta_lr": 1e-3},
            "seed": 3,
            "steps": 6,
            "batch_size": 16,
            "offline_steps": 3,
        }
        | others,
    )


def test_squared_error_is_a_plain_loop(data: Regression) -> None:
    """The study's score of squared error against torch alone: its own SGD, its own cosine, mse_loss halved."""
    findings = run_study(data, TINY, Silent(), [arm_of(SQUARED), arm_of(AGAIN)])
    outcome = findings.outcome(SQUARED)
    errors, spread = 0.0, 0.0
    for fold, setting in enumerate(outcome.chosen):
        parts = split(data, fold, 2, 0)
        x, y = parts.train.inputs, parts.train.target
        mean = data.target[parts.rows[0]].mean()
        truth = data.target[parts.rows[2]]
        spread += np.square(truth - mean).sum()
        for number in range(2):
            seed = derive_seed(0, 0, 1, fold, number)
            torch.manual_seed(seed)
            model = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 1))
            optimizer = torch.optim.SGD(model.parameters(), setting.lr, momentum=0.9, nesterov=True)
            cosine = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.5 * (1 + math.cos(math.pi * t / 4)))
            for _, rows in zip(range(4), batches(len(y), 16, seed), strict=False):
                optimizer.zero_grad()
                (nn.functional.mse_loss(model(x[rows])[:, 0], y[rows]) / 2).backward()
                optimizer.step()
                cosine.step()
            with torch.no_grad():
                prediction = mean + data.target[parts.rows[0]].std() * model(parts.test.inputs)[:, 0].numpy()
            errors += np.square(truth - prediction).sum() / 2
    assert findings.r2(outcome) == pytest.approx(1 - errors / spread, abs=1e-6)
    assert findings.r2(findings.outcome(AGAIN)) != findings.r2(outcome)


def test_the_parts_are_disjoint_and_every_row_tests_once(data: Regression) -> None:
    tested = []
    for fold in range(5):
        parts = split(data, fold, 5, 0)
        together = np.concatenate(parts.rows)
        assert sorted(together) == list(range(120))
        assert parts.meta == round(0.2 * len(parts.rows[0]))
        assert abs(float(parts.train.inputs.mean())) < 1e-6
        assert float(parts.train.target.std(unbiased=False)) == pytest.approx(1)
        tested += parts.rows[2].tolist()
    assert sorted(tested) == list(range(120))


@pytest.mark.parametrize("name", ["ML3 (offline, random start)", "online, held-out", "online", "offline"])
def test_held_out_rows_never_train_the_model(name: str, data: Regression, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch of every step is watched, those of the offline phase too."""
    parts = split(data, 0, 2, 0)
    assert len(parts.train.target.unique()) == len(parts.train)
    trained, learned = watched(monkeypatch)
    train(training_of(name, steps=30), parts, Memory())
    meta, rest = set(parts.train.target[: parts.meta].tolist()), set(parts.train.target[parts.meta :].tolist())
    if arm_of(name).held_out:
        assert trained == rest
        assert learned
        assert learned <= meta
    else:
        assert trained == meta | rest
    assert not trained & set(parts.valid.target.tolist() + parts.test.target.tolist())


def watched(monkeypatch: pytest.MonkeyPatch) -> tuple[set[float], set[float]]:
    """The targets that models and losses are trained on from here on."""
    trained: set[float] = set()
    learned: set[float] = set()
    step: Callable[..., Any] = OnlineLossLearner.step

    def watch(self: OnlineLossLearner, batch: tuple[Any, Tensor], meta_batch: tuple[Any, Tensor] | None = None) -> Any:
        trained.update(batch[1].tolist())
        learned.update([] if meta_batch is None else meta_batch[1].tolist())
        return step(self, batch, meta_batch)

    monkeypatch.setattr(OnlineLossLearner, "step", watch)
    return trained, learned


def test_training_looks_at_neither_validation_nor_test_part(data: Regression) -> None:
    parts = split(data, 0, 2, 0)
    nan = replace(parts.valid, inputs=parts.valid.inputs * math.nan, target=parts.valid.target * math.nan)
    blind = replace(parts, valid=nan, test=nan)
    for arm in make_arms():
        models = [train(training_of(arm.name), each, Memory()).model for each in (parts, blind)]
        for one, other in zip(*(model.parameters() for model in models), strict=True):
            assert torch.equal(one, other), arm.name


def test_rate_replay_of_a_scale_of_one_is_squared_error(data: Regression) -> None:
    """A loss that does not learn stays half the squared error, so that there is nothing to replay."""
    parts = split(data, 0, 2, 0)
    still = {"values": {"meta_lr": 0.0}}
    plain = weights(training_of(SQUARED), parts)
    for name in (ONLINE, RATE_REPLAY, LOSS_REPLAY, SCALE, "offline", "online + offline"):
        assert torch.allclose(weights(training_of(name, **still), parts), plain, atol=1e-6), name


def test_rate_replay_of_a_learned_factor_is_the_run_itself(data: Regression) -> None:
    """What has only a scale is played back whole by its scale; a loss with a shape is not."""
    parts = split(data, 0, 2, 0)
    fast = {"values": {"meta_lr": 0.05}, "steps": 20}
    scale = training_of(SCALE, **fast)
    replay = replace(scale, arm=replace(scale.arm, online=False, replay="rate"))
    assert torch.allclose(weights(replay, parts), weights(scale, parts), atol=1e-5)
    assert not torch.allclose(weights(scale, parts), weights(training_of(SQUARED, steps=20), parts), atol=1e-3)
    shaped = weights(training_of(ONLINE, **fast), parts)
    assert not torch.allclose(weights(training_of(RATE_REPLAY, **fast), parts), shaped, atol=1e-3)


def weights(training: Training, parts: Parts) -> Tensor:
    return nn.utils.parameters_to_vector(train(training, parts, Memory()).model.parameters()).detach()


def test_a_tiny_run_prints_80_columns(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results.json"
    options = ["--folds", "2", "--steps", "2", "--lrs", "3", "--offline-steps", "1"]
    assert main([str(table), "--label", "y", *options, "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 80
    for arm in make_arms():
        (row,) = (line for line in lines if line.startswith(f" {arm.name}  "))
        assert ("control" in row) == (arm.role == "control")
    assert sum(line.startswith("online minus ") for line in lines) == 5
    results = json.loads(out.read_text())
    assert [arm["name"] for arm in results["arms"]] == [arm.name for arm in make_arms()]
    assert {len(arm["chosen"]) for arm in results["arms"]} == {2}


def test_the_same_seed_gives_the_same_study(data: Regression) -> None:
    def results(seed: int) -> list[float]:
        torch.rand(7)
        arms = [arm_of(name) for name in ("online + offline", LOSS_REPLAY)]
        findings = run_study(data, replace(TINY, seeds=1, steps=2, offline_steps=1, seed=seed), Silent(), arms)
        return [residual for outcome in findings.outcomes for fold in outcome.residuals for residual in fold.flat]

    first = results(0)
    assert results(0) == first
    assert results(1) != first


def made_up(**gains: float) -> Findings:
    """Findings in which squared error leaves residuals of about 1, and others are better by so much."""
    rng = np.random.default_rng(1)
    base = 1 + 0.1 * rng.normal(size=(2, 2, 100))
    outcomes = []
    for name in (SQUARED, AGAIN, WEIGHT_DECAY, LONGER, SCALE, ONLINE, RATE_REPLAY, LOSS_REPLAY):
        noise = 0.01 * rng.normal(size=base.shape)
        outcomes.append(Outcome(arm_of(name), residuals=list(base - gains.get(name.split()[0], 0.0) + noise)))
    return Findings(TINY, "made up", (60, 12, 20, 100), list(2 * rng.normal(size=(2, 100))), outcomes)


def test_adapts_is_said_only_if_both_replays_are_beaten() -> None:
    says = {
        key: verdict(made_up(**gains))
        for key, gains in {
            "both": {"online": 0.3},
            "rate": {"online": 0.3, "rate": 0.3},
            "loss": {"online": 0.3, "loss": 0.3},
            "none": {},
        }.items()
    }
    assert says["both"][0].startswith("Online is better than squared error")
    assert says["both"][1].startswith("It adapts")
    for key, replays in (("rate", [RATE_REPLAY]), ("loss", [LOSS_REPLAY]), ("none", [RATE_REPLAY, LOSS_REPLAY])):
        assert says[key][1].startswith("Not shown to adapt")
        assert all((name in says[key][1]) == (name in replays) for name in (RATE_REPLAY, LOSS_REPLAY))
    assert says["none"][0].startswith("Online is not shown to differ")


def test_what_the_noise_of_tuning_can_do_is_no_finding() -> None:
    """Squared error again is off by as much, however small the p-value."""
    noisy = made_up(online=0.2)
    again = noisy.outcome(AGAIN)
    again.residuals = [fold - 0.3 for fold in again.residuals]
    assert verdict(noisy)[0].endswith("no finding.")


def test_a_difference_without_interval_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    findings = made_up()
    findings.outcome(WEIGHT_DECAY).residuals = findings.outcome(SQUARED).residuals
    print_findings(findings, Console(width=80))
    assert "+0.0000 (no interval)" in capsys.readouterr().out


def test_what_diverged_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    findings = made_up()
    findings.outcome(ONLINE).diverged = 1
    findings.outcome(SCALE).on_edge = 2
    print_findings(findings, Console(width=80))
    told = " ".join(capsys.readouterr().out.split())
    assert told.endswith(
        "Final trainings that diverged and count as the mean: online 1. "
        "Folds of 2 in which the best learning rate lay on the edge of the extended grid: learned scale 2."
    )
    assert json.loads(as_json(findings))["data"] == "made up"


@pytest.mark.parametrize(
    ("text", "options", "named"),
    [
        ("a,y\n" + "1,2\n3,4\n" * 60, "--label z", "'z'"),
        ("a,y\n" + "1,2\n3,red\n" * 60, "--label y", "'red'"),
        ("a,y\n" + "1,2\n3,\n" * 60, "--label y", "empty in data row 2"),
        ("a,y\n" + "1,2\n3,4\n" * 20, "--label y", "40 rows"),
        ("a,y\n" + "1,2\n3,2\n" * 60, "--label y", "the same in all"),
        ("a,y\n" + "1,2\n3,4\n" * 60, "--label y --folds 1", "--folds is 1"),
        (None, "--label y", "missing.csv"),
    ],
)
def test_bad_input_is_told_in_one_sentence(
    text: str | None, options: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ("missing.csv" if text is None else "bad.csv")
    if text is not None:
        path.write_text(text)
    out = tmp_path / "out.json"
    assert main([str(path), *options.split(), "--out", str(out)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert named in told.err
    assert len(told.err.strip().splitlines()) == 1
    assert not out.exists()
