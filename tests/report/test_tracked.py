"""What trackers are told of a run folder."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from report_example import row, summary, untrained, write_run

from lossmith.cli import app
from lossmith.integrations.tracked import found, load_tracked, said
from lossmith.report.folder import RunError
from lossmith.trials.options import RequestError

RUNS = "loss,fold,repeat,score,diverged,lr,tuned\ncross_entropy,0,0,0.5,False,0.1,\nm,0,0,,True,0.2,gamma=2\n"
CURVES = "loss,fold,repeat,step,train_nll,valid_accuracy\nm,0,0,3,1.5,0.25\nm,0,0,6,,0.5\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_run(tmp_path / "run", summary([row("cross_entropy", 0.5), untrained(row("m", 0.1), "it diverged")]))
    (folder / "runs.csv").write_text(RUNS)
    (folder / "curves.csv").write_text(CURVES)
    return folder


def test_what_is_not_known_is_left_out(folder: Path) -> None:
    tracked = load_tracked(folder)
    (plain,), (diverged,) = tracked.trainings["cross_entropy"], tracked.trainings["m"]
    assert plain.scores == {"score": 0.5, "diverged": 0}
    assert diverged.scores == {"diverged": 1}
    assert diverged.params == {"loss": "m", "fold": "0", "repeat": "0", "lr": "0.2", "tuned": "gamma=2"}
    assert diverged.curves == {"train/nll": [(3, 1.5)], "valid/accuracy": [(3, 0.25), (6, 0.5)]}
    reference, bad = tracked.run.results.rows
    assert "minus_reference" not in found(reference)
    assert found(reference)["score"] == 0.5
    assert "rank" not in found(bad)
    assert said(bad) == "it diverged"


def test_a_training_function_need_not_log_a_curve(folder: Path) -> None:
    (folder / "curves.csv").unlink()
    assert not load_tracked(folder).trainings["m"][0].curves


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("runs.csv", "loss,fold\nm,0\n"),
        ("runs.csv", RUNS.replace("0.5", "half")),
        ("curves.csv", CURVES.replace("m,0,0", "m,7,0")),
        ("curves.csv", CURVES.replace("6,,", "six,,")),
    ],
)
def test_damaged_tables_are_refused_in_a_sentence(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(RunError, match="damaged"):
        load_tracked(folder)


def test_missing_tables_are_refused_in_a_sentence(folder: Path) -> None:
    (folder / "runs.csv").unlink()
    with pytest.raises(RunError, match="run the same"):
        load_tracked(folder)


@pytest.mark.parametrize(("library", "extra"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow")])
def test_a_tracker_that_is_missing_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, library: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["lossmith", "track", ".", "--to", library])
    with pytest.raises(RequestError, match=rf"pip install 'lossmith\[{extra}\]'"):
        app(standalone_mode=False)


@pytest.mark.parametrize(
    ("module", "library"), [("huggingface", "transformers"), ("lightning", "lightning"), ("skorch", "skorch")]
)
def test_a_training_loop_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, module: str, library: str) -> None:
    for name in (library, "lightning.pytorch"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"lossmith.integrations.{module}", raising=False)
    with pytest.raises(ImportError, match=rf"pip install 'lossmith\[{module}\]'"):
        importlib.import_module(f"lossmith.integrations.{module}")
