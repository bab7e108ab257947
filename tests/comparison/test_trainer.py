"""A comparison with a user's training function: everything but the training is as with ours."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossmith.comparison.estimate import measure
from lossmith.comparison.options import Options
from lossmith.comparison.plan import Plan, make_plan, write_plan
from lossmith.comparison.session import carry_out
from lossmith.report.page import write_report
from lossmith.report.run import load_run
from lossmith.trials.options import RequestError
from lossmith.trials.trial import Sources
from lossmith.trials.user_code import UserCodeError

MINE = """
import torch

X = torch.randn(240, 3, generator=torch.Generator().manual_seed(0))
Y = (X @ torch.tensor([[1.0, -1.0, 0.5], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.3]]).T).argmax(1)

def fit(run, train, valid):
    model = torch.nn.Linear(3, 3)
    optimizer = torch.optim.SGD(model.parameters(), run.lr, weight_decay=run.weight_decay)
    for step in range(1, run.steps + 1):
        rows = train[torch.randint(len(train), (16,))]
        optimizer.zero_grad()
        run.loss(model(X[rows]), Y[rows]).backward()
        optimizer.step()
        run.loss.step()
        if step % 5 == 0:
            run.log(step, (model(X[valid]).argmax(1) == Y[valid]).double().mean())
    return lambda rows: model(X[rows]).detach()

def train(run):
    train, valid, test = run.split(Y)
    made = fit(run, train, valid)
    return (made(valid), Y[valid]), (made(test), Y[test]) if run.final else None

def scores(run):
    train, valid, test = run.split(Y)
    made = fit(run, train, valid)
    right = lambda rows: (made(rows).argmax(1) == Y[rows]).double()
    return right(valid), right(test) if run.final else None

def uneven(run):
    valid, test = scores(run)
    return valid, test if test is None else test[: 30 + run.seed % 7]

def quiet(run):
    run.log = lambda step, score: None
    return scores(run)

def half(run):
    if "focal" in type(run.loss).__name__.lower():
        raise RuntimeError("not this one")
    return train(run)

def numbers(run):
    y = X[:, :1] * 4 + 1
    train, valid, test = run.split(y[:, 0])
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.Adam(model.parameters(), run.lr)
    for step in range(1, run.steps + 1):
        optimizer.zero_grad()
        run.loss(model(X[train]), y[train]).backward()
        optimizer.step()
    with torch.no_grad():
        return (model(X[valid]), y[valid]), (model(X[test]), y[test]) if run.final else None
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(MINE)
    return str(tmp_path / "mine.py")


def options(file: str, name: str = "train", **changed: Any) -> Options:
    asked: dict[str, Any] = {"losses": ("focal",), "steps": 20, "lrs": 3, "repeats": 2, "optimizer": "sgd"}
    return Options(trainer=f"{file}:{name}", **(asked | changed))


def carried_out(asked: Options, folder: Path, workers: int = 0) -> Plan:
    sources = Sources()
    plan = make_plan(asked, sources)
    write_plan(plan, folder)
    carry_out(plan, sources, folder, workers=workers)
    return plan


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "results.csv").open() as lines:
        return {row["loss"]: row for row in csv.DictReader(lines)}


@pytest.mark.parametrize("folds", [0, 3])
def test_from_a_function_to_a_page(file: str, tmp_path: Path, folds: int) -> None:
    plan = carried_out(options(file, folds=folds), tmp_path / "run")
    assert plan.metric == "accuracy"
    assert plan.examples[1:] == ((48, 48) if not folds else (32, 80))
    rows = rows_of(tmp_path / "run")
    assert {"focal", "cross_entropy", "cross_entropy (again)", "label_smoothing (tuned)"} <= set(rows)
    assert all(0.3 < float(row["score"]) <= 1 for row in rows.values())
    page = write_report(load_run(tmp_path / "run")).read_text()
    assert "mine.py:train" in page
    assert "a training function of the user&#39;s own" in page or "a training function of the user's own" in page
    assert str(tmp_path) not in page


def test_scores_and_outputs_give_the_same_verdict(file: str, tmp_path: Path) -> None:
    """A score of 1 for each right example is what accuracy is made of."""
    carried_out(options(file, "train", optimizer="adam"), tmp_path / "outputs")
    carried_out(options(file, "scores", optimizer="adam"), tmp_path / "scores")
    outputs, scores = rows_of(tmp_path / "outputs"), rows_of(tmp_path / "scores")
    for name in ("cross_entropy", "focal"):
        assert outputs[name]["lr_median"] != ""
        if outputs[name]["lr_median"] == scores[name]["lr_median"]:
            assert outputs[name]["score"] == scores[name]["score"]
    assert "scores" in write_report(load_run(tmp_path / "scores")).read_text()


def test_workers_and_resuming_change_nothing(file: str, tmp_path: Path) -> None:
    carried_out(options(file), tmp_path / "one" / "run")
    carried_out(options(file), tmp_path / "two" / "run", workers=2)
    first = (tmp_path / "one" / "run" / "results.csv").read_bytes()
    assert first == (tmp_path / "two" / "run" / "results.csv").read_bytes()
    carried_out(options(file), tmp_path / "two" / "run")
    assert first == (tmp_path / "two" / "run" / "results.csv").read_bytes()


def test_a_function_without_a_learning_curve(file: str, tmp_path: Path) -> None:
    carried_out(options(file, "quiet"), tmp_path / "run")
    assert {row["speed_ratio"] for row in rows_of(tmp_path / "run").values()} == {""}
    write_report(load_run(tmp_path / "run"))


def test_a_loss_that_always_fails_does_not_end_the_run(file: str, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    carried_out(options(file, "half"), tmp_path / "run")
    row = rows_of(tmp_path / "run")["focal"]
    assert "not this one" in row["verdict"]
    table = parquet.read_table(tmp_path / "run" / "results.parquet").to_pylist()
    assert {each["loss"]: each["accuracy"] for each in table}["focal"] is None
    write_report(load_run(tmp_path / "run"))


def test_a_regression(file: str, tmp_path: Path) -> None:
    plan = carried_out(options(file, "numbers", losses=("huber",), optimizer="adam"), tmp_path / "run")
    assert plan.names.reference == "mse"
    assert plan.metric == "R2"
    write_report(load_run(tmp_path / "run"))


def test_the_metric_may_be_another_of_the_task(file: str) -> None:
    assert make_plan(options(file, metric="nll"), Sources()).metric == "NLL skill"
    with pytest.raises(ValueError, match="there is no such metric"):
        make_plan(options(file, "scores", metric="auc"), Sources())


def test_test_parts_must_be_the_same_for_all(file: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"test part of fold 0 has .* units in one training and .* in another"):
        carried_out(options(file, "uneven"), tmp_path / "run")


def test_the_estimate_counts_steps(file: str) -> None:
    sources = Sources()
    plan = make_plan(options(file), sources)
    timings = measure(plan, sources)
    assert timings.keys() == {arm.name for arm in plan.arms}
    assert all(of.step > 0 and np.isfinite(of.whole(100, 0)) for of in timings.values())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"steps": None}, "--trainer needs --steps"),
        ({"model": "mlp"}, "--model mlp: the training function decides that itself"),
        ({"data": "iris"}, "DATA iris: the training function decides"),
        ({"batch_size": 3}, "--batch-size 3"),
        ({"probe": ("sharpness",)}, "--probe"),
        ({"losses": ("adaptive",)}, "takes no losses that learn"),
        ({"losses": ("mse",)}, "failed on the first batch"),
        ({"metric": "cost.py:cost"}, "returns the scores of its own metric"),
        ({"steps": 5}, "5 steps are too few"),
    ],
)
def test_what_is_refused(file: str, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        make_plan(options(file, **changed), Sources())


def test_a_loss_with_a_schedule_needs_its_steps(file: str) -> None:
    Path(file).write_text(MINE.replace("        run.loss.step()\n", ""))
    with pytest.raises(RequestError, match=r"call run\.loss\.step\(\)"):
        make_plan(options(file, losses=("dynamical:period=5",)), Sources())
    plan = make_plan(options(file, losses=None), Sources())
    assert not any("dynamical" in arm.name for arm in plan.arms)
    assert any("losses with a schedule are left out" in note for note in plan.notes)
    with pytest.raises(UserCodeError, match="no function"):
        make_plan(options(file, "absent"), Sources())
