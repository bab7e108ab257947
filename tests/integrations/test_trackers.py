"""What TensorBoard and MLflow hold of a comparison, read back by their own readers."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.filterwarnings("default")  # other libraries' own

LOSSES = 5  # the one that is tested and four controls
FOLDS = 2


def lossmith(*arguments: str, cwd: Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    command = [sys.executable, "-c", "from lossmith.cli import main; main()", *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison of five losses on two folds."""
    pytest.importorskip("tensorboard", reason="needs lossmith[tensorboard]")
    pytest.importorskip("mlflow", reason="needs lossmith[mlflow]")
    root = tmp_path_factory.mktemp("tracked")
    shape = ("--lrs", "3", "--folds", str(FOLDS), "--repeats", "2", "--steps", "40", "--workers", "1")
    lossmith("compare", "iris", "--model", "mlp:width=8", "--losses", "m", *shape, "--out", "r/run", cwd=root)
    return root


def rows(file: Path) -> list[dict[str, str]]:
    with file.open() as lines:
        return list(csv.DictReader(lines))


def test_tensorboard_shows_the_curves_and_settings_of_each_final_training(folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):  # written again, nothing is there twice
        lossmith("track", "r/run", "--to", "tensorboard", cwd=folder)
    written = folder / "r" / "run" / "tensorboard"
    runs = {file.parent for file in written.glob("*/*/events*")}
    assert len(runs) == LOSSES * FOLDS * 2
    curves = rows(folder / "r" / "run" / "curves.csv")
    for fold in range(FOLDS):
        events = EventAccumulator(str(written / "m" / f"fold_{fold}_repeat_0")).Reload()
        wanted = [row for row in curves if (row["loss"], row["fold"], row["repeat"]) == ("m", str(fold), "0")]
        for name in ("train_nll", "valid_accuracy"):
            found = events.Scalars(name.replace("_", "/", 1))
            assert [point.step for point in found] == [int(row["step"]) for row in wanted]
            assert [point.value for point in found] == pytest.approx([float(row[name]) for row in wanted])
        of = next(
            row for row in rows(folder / "r" / "run" / "runs.csv") if row["loss"] == "m" and row["fold"] == str(fold)
        )
        assert [point.value for point in events.Scalars("test/score")] == pytest.approx([float(of["score"])])
    texts = EventAccumulator(str(written / "comparison")).Reload().Tensors("results/text_summary")
    headline = json.loads((folder / "r" / "run" / "summary.json").read_text())["headline"]
    assert headline in texts[0].tensor_proto.string_val[0].decode()


def test_mlflow_holds_the_comparison_its_losses_and_their_trainings(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    said = {lossmith("track", "r/run", "--to", "mlflow", "--at", "sqlite:///store.db", cwd=folder) for _ in range(2)}
    assert len(said) == 1, "the second time it is there already"
    monkeypatch.chdir(folder)
    client = mlflow.MlflowClient("sqlite:///store.db")
    (experiment,) = (each for each in client.search_experiments() if each.name == "iris")
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    below: dict[str | None, list] = {}
    for run in found:
        below.setdefault(run.data.tags.get("mlflow.parentRunId"), []).append(run)
    (top,) = below[None]
    summary = json.loads((folder / "r" / "run" / "summary.json").read_text())
    assert top.info.status == "FINISHED"
    assert top.data.tags["headline"] == summary["headline"]
    assert top.data.tags["recommendation"] == summary["recommendation"]
    kept = {file.path for file in client.list_artifacts(top.info.run_id)}
    assert {"report.html", "results.csv", "results.parquet", "curves.csv"} <= kept
    losses = {run.info.run_name: run for run in below[top.info.run_id]}
    assert len(losses) == LOSSES
    for row in summary["rows"]:
        of = losses[row["name"]].data
        assert of.metrics["score"] == pytest.approx(row["score"])
        assert of.tags["verdict"] == row["verdict"]
        gap = row["against_reference"] or {"mean": None, "interval": None}
        exact = dict(zip(("minus_reference_low", "minus_reference_high"), gap["interval"] or (), strict=False))
        exact |= {"minus_reference": gap["mean"]} if gap["mean"] is not None else {}
        shown = {name: of.metrics[name] for name in of.metrics if name.startswith("minus_reference")}
        shown.pop("minus_reference_p", None)
        assert shown == pytest.approx(exact)
    for training in below[losses["m"].info.run_id]:
        named = tuple(training.data.params[name] for name in ("loss", "fold", "repeat"))
        curve = client.get_metric_history(training.info.run_id, "valid/accuracy")
        points = rows(folder / "r" / "run" / "curves.csv")
        wanted = [row for row in points if (row["loss"], row["fold"], row["repeat"]) == named]
        assert sorted((point.step, point.value) for point in curve) == [
            (int(row["step"]), pytest.approx(float(row["valid_accuracy"]))) for row in wanted
        ]
