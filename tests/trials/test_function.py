from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lossmith.comparison.arms import make_arms
from lossmith.comparison.plan import Plan
from lossmith.comparison.protocol import run_protocol
from lossmith.tasks import Classification
from lossmith.trials.function import function_trainer
from lossmith.trials.ledger import Ledger
from lossmith.trials.runner import Runner
from lossmith.trials.training import train
from lossmith.trials.trial import OptimizerSpec, Sources, Trial
from lossmith.trials.user_code import UserCodeError

MINE = """
from __future__ import annotations
from dataclasses import dataclass
import torch

@dataclass
class Settings:
    rate: float = 0.1

def train(run):
    torch.manual_seed(run.seed)
    x = torch.randn(90, 2)
    y = (x @ torch.tensor([1.0, -1.0]) > 0).long()
    test = torch.arange(90) % 3 == run.fold
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), run.lr, weight_decay=run.weight_decay)
    for step in range(run.steps):
        optimizer.zero_grad()
        run.loss(model(x[~test]), y[~test]).backward()
        optimizer.step()
        if (step + 1) % (run.steps // 5) == 0:
            run.log(step + 1, (model(x[~test]).argmax(1) == y[~test]).double().mean())
    right = (model(x).argmax(1) == y).double()
    return right[~test], right[test] if run.final else None

def rude(run):
    return [[1.0]], None

def tired(run):
    raise RuntimeError("no more")
"""


@pytest.fixture
def sources() -> Sources:
    return Sources()


@pytest.fixture
def trial(tmp_path: Path, sources: Sources) -> Trial:
    (tmp_path / "mine.py").write_text(MINE)
    trainer = function_trainer(f"{tmp_path}/mine.py:train", sources, folds=3)
    return Trial(trainer, "focal", OptimizerSpec("sgd", 0.5), 20, 7, final=True)


def other(trial: Trial, name: str) -> Trial:
    function = trial.trainer.function.replace(":train#", f":{name}#")
    return replace(trial, trainer=replace(trial.trainer, function=function))


def test_a_function_is_given_what_the_trial_says(trial: Trial, sources: Sources) -> None:
    result = train(trial, sources)
    assert result.curve.steps == (4, 8, 12, 16, 20)
    assert result.valid is not None
    assert result.test is not None
    assert (len(result.valid.score), len(result.test.score)) == (60, 30)
    assert result.scores["score"] == pytest.approx(result.valid.score.mean())
    assert result.curve.score[-1] == pytest.approx(result.valid.score.mean())
    assert train(trial, sources).curve == result.curve
    assert train(replace(trial, final=False), sources).test is None
    assert train(replace(trial, loss="ngl", steps=5), sources).curve.score != result.curve.score


def test_a_function_is_its_file(trial: Trial, sources: Sources, tmp_path: Path) -> None:
    assert str(tmp_path) not in trial.json
    (tmp_path / "mine.py").write_text(MINE + "# changed")
    with pytest.raises(UserCodeError, match="has changed since"):
        train(trial, sources)
    again = function_trainer(f"{tmp_path}/mine.py:train", sources, folds=3)
    assert replace(trial, trainer=again).hash != trial.hash


def test_what_a_function_cannot_be(trial: Trial, sources: Sources, tmp_path: Path) -> None:
    for name, words in {"rude": r"return \(valid, test\)", "tired": "no more"}.items():
        with pytest.raises(Exception, match=words):
            train(other(trial, name), sources)
    (tmp_path / "script.py").write_text("import sys\nsys.exit(2)")
    with pytest.raises(UserCodeError, match=r"importing .* failed, line 2: SystemExit"):
        function_trainer(f"{tmp_path}/script.py:train", sources)
    for text in ("nowhere.py:train", f"{tmp_path}/mine.py:absent", f"{tmp_path}/mine.txt:train"):
        with pytest.raises(UserCodeError):
            function_trainer(text, sources)


class Scored(Classification):
    """What a function scores, in one metric."""

    metric_names = ("score",)
    curve = ("score",)
    tie_break = "negative score"

    guess = 0.5

    def unit_scores(self, folds, metric):
        return [np.stack([seed.score for seed in fold]) for fold in folds]


def test_a_comparison_does_not_know_how_a_trial_trains(trial: Trial, sources: Sources, tmp_path: Path) -> None:
    """The whole protocol on a user's function: tuning, ledger, recommendation, opened test scores, resuming."""
    task = Scored(("a", "b"))
    plan = Plan(
        name="mine",
        trial=replace(trial, loss=task.reference, final=False),
        task=task,
        examples=(60, 60, 30),
        arms=tuple(make_arms(task, ["focal"], "sgd")),
        lrs=(0.25, 0.5, 1.0),
        budget=6,
        repeats=2,
        metric_reason="as asked for",
        delta=0.01,
        device="cpu",
        versions={},
        notes=(),
    )
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        runner = Runner(ledger, sources, workers=0)
        findings = run_protocol(plan, runner, tmp_path / "run")
        assert not runner.failures
        assert findings.times_scored == len(plan.arms) * 2
        again = run_protocol(plan, runner, tmp_path / "run")
    assert {run.arm for run in findings.runs} == {arm.name for arm in plan.arms}
    assert all(len(run.judged("test").score) == 30 for run in findings.runs)
    assert [run.result.scores for run in again.runs] == [run.result.scores for run in findings.runs]
    assert "mine.py:train#" in plan.text
