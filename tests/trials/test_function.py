"""A user's training function as a trainer: what it is given, what it may return, and how its faults are told."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, r2_score

import lossmith
from lossmith.tasks import Classification, Regression, ScoredClassification, Segmentation
from lossmith.trials.function import Run
from lossmith.trials.rehearsal import rehearse
from lossmith.trials.training import train, train_many
from lossmith.trials.trial import OptimizerSpec, Sources, Trial
from lossmith.trials.user_code import UserCodeError

MINE = """
from __future__ import annotations
from dataclasses import dataclass
import random
import time
import numpy as np
import torch

@dataclass
class Settings:
    rate: float = 0.1

X = torch.randn(90, 2, generator=torch.Generator().manual_seed(0))
Y = (X @ torch.tensor([1.0, -1.0]) > 0).long()
TEST = lambda run: torch.arange(90) % 3 == run.fold

def fit(run, outputs=2, y=Y):
    model = torch.nn.Linear(2, outputs)
    optimizer = torch.optim.SGD(model.parameters(), run.lr, weight_decay=run.weight_decay)
    for step in range(run.steps):
        optimizer.zero_grad()
        made = model(X[~TEST(run)])
        run.loss(made, y[~TEST(run)]).backward()
        optimizer.step()
        run.loss.step()
        run.log(step + 1, (made.argmax(1) == Y[~TEST(run)]).double().mean())
    with torch.no_grad():
        return model(X)

def train(run):
    right = (fit(run).argmax(1) == Y).double()
    return right[~TEST(run)], right[TEST(run)] if run.final else None

def logits(run):
    made, test = fit(run), TEST(run)
    return (made[~test], Y[~test]), (made[test], Y[test]) if run.final else None

def probabilities(run):
    made, test = fit(run).softmax(1).numpy(), TEST(run)
    return (made[~test], Y[~test]), (made[test], Y[test]) if run.final else None

def numbers(run):
    y = 3 + 5 * X[:, :1]
    made, test = fit(run, 1, y), TEST(run)
    return (made[~test][:, 0], y[~test]), (made[test], y[test, 0].numpy()) if run.final else None

def masks(run):
    x = torch.randn(12, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    y = (x[:, 0] > 0).long()
    y[:, 0, 0] = 255
    model = torch.nn.Conv2d(3, 2, 1)
    optimizer = torch.optim.SGD(model.parameters(), run.lr)
    for _ in range(run.steps):
        run.loss(model(x), y.where(y != 255, -100)).backward()
        optimizer.step()
    with torch.no_grad():
        return (model(x[:6]), y[:6]), (model(x[6:]), y[6:])

def no_schedule(run):
    run.loss(torch.randn(3, 2, requires_grad=True), torch.tensor([0, 1, 1])).backward()
    return [0.1, 0.2], [0.1, 0.2, 0.3]

def careless(run):
    run.loss(torch.randn(3, 2, requires_grad=True), torch.tensor([0, 1, 1])).backward()
    return np.frombuffer(__import__("os").urandom(16), np.uint8) / 255, [0.0, 1.0]

def binary(run):
    run.loss(torch.randn(4, 1, requires_grad=True), torch.tensor([[0.0], [1.0], [1.0], [0.0]])).backward()
    return [1.0], [1.0]

def ragged(run):
    run.loss(torch.randn(3, 2, requires_grad=True), torch.tensor([0, 1, 1]))
    return [[1.0], [1.0, 2.0], 3.0], [1.0]

def fit_with(run, **changed):
    import copy
    other = copy.copy(run)
    vars(other).update(changed)
    return train(other)

def fixed_rate(run):
    return fit_with(run, lr=0.1)

def fixed_length(run):
    return fit_with(run, steps=7)

def fixed_seed(run):
    torch.manual_seed(0)
    return train(run)

def argued(run):
    import argparse
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", default=3)
    parser.parse_args()
    return train(run)

def loud(run):
    print("much", flush=True)
    return train(run)

def mean(run):
    run.loss(torch.randn(3, 2, requires_grad=True), torch.tensor([0, 1, 1]))
    return torch.tensor([0.5]), [1.0, 1.0]

def classes(run):
    run.loss(torch.randn(3, 2, requires_grad=True), torch.tensor([0, 1, 1]))
    return torch.tensor([0, 2, 1]), [1.0, 1.0]

def lost(run):
    run.loss(torch.randn(3, 2, requires_grad=True), torch.tensor([0, 1, 1]))
    open("data/table.csv")

def deaf(run):
    return [1.0], [1.0]

def rude(run):
    run.loss(torch.randn(3, 2, requires_grad=True), torch.tensor([0, 1, 1]))
    return [[1.0]], [1.0]

def lonely(run):
    run.loss(torch.randn(3, 2, requires_grad=True), torch.tensor([0, 1, 1]))
    return [1.0, 2.0, 3.0]

def forgetful(run):
    run.loss(torch.randn(3, 2, requires_grad=True), torch.tensor([0, 1, 1]))
    return [1.0, 0.0], None

def tired(run):
    raise RuntimeError("no more")

def slow(run):
    for step in range(run.steps):
        time.sleep(0.02)
        run.log(step, 0.0)

def spoilt(run):
    run.loss(torch.randn(3, 2, requires_grad=True), torch.tensor([0, 1, 1]))
    return [1.0, float("nan"), 0.5], [1.0, 0.0]

def drawn(run):
    run.loss(torch.randn(3, 2, requires_grad=True), torch.tensor([0, 1, 1]))
    return [random.random(), np.random.rand(), torch.rand(()).item()], [0.0, 1.0]
"""


@pytest.fixture
def sources() -> Sources:
    return Sources()


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(MINE)
    return str(tmp_path / "mine.py")


def trial_of(file: str, name: str, sources: Sources, **changed: Any) -> Trial:
    found = rehearse(f"{file}:{name}", sources, folds=3, seed=5)
    own: dict[str, Any] = {"loss": "focal", "steps": 20, "seed": 7, "final": True} | changed
    return Trial(found.trainer, optimizer=OptimizerSpec("sgd", 0.5), **own)


def test_a_function_is_given_what_the_trial_says(file: str, sources: Sources) -> None:
    trial = trial_of(file, "train", sources)
    result = train(trial, sources)
    assert result.curve.steps == tuple(range(1, 21))
    assert result.valid is not None
    assert result.test is not None
    assert (len(result.valid.score), len(result.test.score)) == (60, 30)
    assert result.scores["score"] == pytest.approx(result.valid.score.mean())
    assert train(trial, sources).curve == result.curve
    assert train(replace(trial, final=False), sources).test is None
    assert train(replace(trial, loss="ngl", steps=5), sources).curve.score != result.curve.score


def test_what_it_returns_decides_what_scores_it(file: str, sources: Sources) -> None:
    tasks = {
        "train": ScoredClassification,
        "logits": Classification,
        "numbers": Regression,
        "masks": Segmentation,
    }
    for name, task in tasks.items():
        found = rehearse(f"{file}:{name}", sources, folds=3, seed=5)
        assert type(found.trainer.task) is task, name
    assert rehearse(f"{file}:logits", sources, folds=3, seed=5).examples == (60, 30)
    assert rehearse(f"{file}:masks", sources, folds=3, seed=5).examples == (6, 6)


def test_outputs_are_scored_as_scikit_learn_scores_them(file: str, sources: Sources) -> None:
    space: dict[str, Any] = {}
    exec(compile(MINE, file, "exec"), space)
    for name in ("logits", "probabilities"):
        result = train(trial_of(file, name, sources), sources)
        run = Run(lossmith.create("focal"), 0.5, 0.0, 20, 7, 0, 3, 0, True)
        torch.manual_seed(7)
        made, truth = (each.numpy() for each in space["logits"](run)[1])
        assert result.test is not None
        assert result.test.score.mean() == pytest.approx(accuracy_score(truth, made.argmax(1)))
        p = torch.from_numpy(made).double().softmax(1).numpy()
        assert result.test.columns["nll"].mean() == pytest.approx(log_loss(truth, p), rel=1e-4)


def test_a_regression_is_scored_by_its_squared_error(file: str, sources: Sources) -> None:
    trial = trial_of(file, "numbers", sources, loss="mse")
    trial = replace(trial, optimizer=replace(trial.optimizer, lr=0.02))
    result = train(trial, sources)
    space: dict[str, Any] = {}
    exec(compile(MINE, file, "exec"), space)
    torch.manual_seed(7)
    run = Run(lossmith.create("mse"), 0.02, 0.0, 20, 7, 0, 3, 0, False)
    made, truth = (each.flatten().numpy() for each in space["numbers"](run)[0])
    assert result.scores["R2"] == pytest.approx(r2_score(truth, made), abs=1e-5)
    assert result.columns["mae"] == pytest.approx(np.abs(truth - made).mean(), rel=1e-5)


def test_ignored_pixels_do_not_count(file: str, sources: Sources) -> None:
    result = train(trial_of(file, "masks", sources, steps=3), sources)
    assert result.test is not None
    assert result.test.columns["truth"].sum() == 6 * 15


def test_everything_random_follows_from_the_seed(file: str, sources: Sources) -> None:
    before = random.getstate(), np.random.get_state()[1].sum(), torch.get_rng_state().sum()  # noqa: NPY002
    trial = trial_of(file, "drawn", sources)
    one, same, other = (train(each, sources).valid for each in (trial, trial, replace(trial, seed=8)))
    assert one is not None
    assert same is not None
    assert other is not None
    assert one.score.tolist() == same.score.tolist() != other.score.tolist()
    assert (random.getstate(), np.random.get_state()[1].sum(), torch.get_rng_state().sum()) == before  # noqa: NPY002
    assert "does not follow from run.seed" in rehearse(f"{file}:careless", sources, folds=3, seed=5).notes[0]
    assert rehearse(f"{file}:train", sources, folds=3, seed=5).notes == ()


def test_what_of_its_run_it_ignores_is_noted(
    file: str, sources: Sources, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["lossmith", "compare", "--trainer", "mine.py:argued"])
    for name, words in {"fixed_seed": r"run\.seed", "fixed_length": r"run\.steps"}.items():
        (note,) = rehearse(f"{file}:{name}", sources, folds=3, seed=5).notes
        assert re.search(f"seems to ignore {words}", note)
    for name in ("train", "argued", "loud"):
        assert rehearse(f"{file}:{name}", sources, folds=3, seed=5).notes == ()
    assert capfd.readouterr().out == ""


def test_a_score_that_is_not_finite_counts_as_untrained(file: str, sources: Sources) -> None:
    trial = trial_of(file, "spoilt", sources)
    result = train(trial, sources)
    assert result.diverged
    assert result.valid is not None
    assert result.valid.score.tolist() == [1.0, trial.trainer.task.guess, 0.5]


def test_a_function_is_its_file(file: str, sources: Sources, tmp_path: Path) -> None:
    trial = trial_of(file, "train", sources)
    assert str(tmp_path) not in trial.json
    Path(file).write_text(MINE + "# changed")
    with pytest.raises(UserCodeError, match="has changed since"):
        train(trial, sources)
    assert trial_of(file, "train", sources).hash != trial.hash


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("binary", "targets of 0.0 and 1.0: for two classes, give it two outputs"),
        ("ragged", "returned 3 values that make no array"),
        ("fixed_rate", r"ignores run\.lr: give it to the optimiser"),
        ("mean", "returned a single score, perhaps a mean"),
        ("classes", "which may be predicted classes"),
        ("lost", "a relative path begins where the command was started"),
        ("deaf", r"never called run\.loss"),
        ("rude", r"scores of the shape \(1, 1\): return \(valid, test\)"),
        ("lonely", r"returned 3 values: return \(valid, test\)"),
        ("forgetful", "returned None for the test part"),
        ("tired", "failed, line .*: RuntimeError: no more"),
        ("absent", "has no function"),
    ],
)
def test_faults_are_told_in_a_rehearsal(file: str, sources: Sources, name: str, words: str) -> None:
    with pytest.raises(UserCodeError, match=words):
        rehearse(f"{file}:{name}", sources, folds=3, seed=5)


def test_files_that_cannot_be_imported(tmp_path: Path, sources: Sources) -> None:
    (tmp_path / "script.py").write_text("import sys\nsys.exit(2)")
    with pytest.raises(UserCodeError, match=r"importing .* failed, line 2: SystemExit"):
        rehearse(f"{tmp_path}/script.py:train", sources, folds=0, seed=0)
    for text in ("nowhere.py:train", f"{tmp_path}/script.txt:train"):
        with pytest.raises(UserCodeError):
            rehearse(text, sources, folds=0, seed=0)


def test_a_schedule_that_never_moves_is_refused(file: str, sources: Sources) -> None:
    moving = trial_of(file, "train", sources, loss="dynamical:period=5")
    train(moving, sources)
    still = trial_of(file, "no_schedule", sources, loss="dynamical:period=5")
    with pytest.raises(UserCodeError, match=r"call run\.loss\.step\(\)"):
        train(still, sources)
    assert not rehearse(f"{file}:no_schedule", sources, folds=3, seed=5).steps_schedule


def test_a_time_limit_ends_it_where_it_logs(file: str, sources: Sources) -> None:
    found = rehearse(f"{file}:train", sources, folds=3, seed=5)
    trainer = replace(found.trainer, function=found.trainer.function.replace(":train#", ":slow#"))
    trial = Trial(trainer, "focal", OptimizerSpec("sgd", 0.5), 50, 7)
    with pytest.raises(TimeoutError, match="time limit"):
        train_many([trial], sources, time_limit=0.1)


def test_the_gradient_ratio_is_that_in_the_outputs(file: str, sources: Sources) -> None:
    found = rehearse(f"{file}:train", sources, folds=3, seed=5)
    for text, ratio in {"cross_entropy": 1.0, "formula(-0.25*y*log(p))": 0.25}.items():
        assert found.gradient_ratio(lossmith.create(text)) == pytest.approx(ratio)


def test_split_is_a_partition_by_fold_and_repeat() -> None:
    labels = np.repeat(["a", "b", "c"], [30, 20, 10])

    def parts(**of: int) -> list[np.ndarray]:
        own = {"fold": 0, "folds": 3, "repeat": 0} | of
        run = Run(torch.nn.CrossEntropyLoss(), 0.1, 0.0, 1, of.pop("seed", 0), final=False, **own)  # type: ignore
        return list(run.split(labels))

    folds = [parts(fold=fold) for fold in range(3)]
    for each in folds:
        assert sorted(np.concatenate(each)) == list(range(60))
        assert np.unique(labels[each[2]], return_counts=True)[1].tolist() == pytest.approx([10, 7, 3], abs=1)
    assert sorted(np.concatenate([test for _, _, test in folds])) == list(range(60))
    again = parts(repeat=1)
    assert again[2].tolist() == folds[0][2].tolist()
    assert again[1].tolist() != folds[0][1].tolist()
    plain = Run(torch.nn.CrossEntropyLoss(), 0.1, 0.0, 1, 3, 0, 0, 0, False)
    assert [len(part) for part in plain.split(100)] == [60, 20, 20]
    assert [len(part) for part in plain.split(torch.rand(100))] == [60, 20, 20]
