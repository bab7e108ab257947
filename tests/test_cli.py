from __future__ import annotations

import csv
import os
import random
import re
import signal
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from at_once import AtOnce
from lossmith.cli import main
from lossmith.comparison.selftest import self_test

COMPARE = (
    "compare",
    "iris",
    "--model",
    "mlp:width=8",
    "--losses",
    "m,rooted:k=2",
    "--lrs",
    "3",
    "--steps",
    "30",
    "--folds",
    "2",
)


def lossmith(*arguments: str, cwd: Path, width: int = 80) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": str(width), "NO_COLOR": "1"}
    command = [sys.executable, "-c", "from lossmith.cli import main; main()", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("compare", "digitz"), ("digitz", "digits")),
        (("compare", "--losses", "rootd"), ("rootd", "rooted")),
        (("compare", "--losses", "rooted:q=3"), ("rooted", "'q'")),
        (("compare", "--losses", "rooted:k=?,m,"), ("empty loss",)),
        (("compare", "--losses", "smooth_absolute_error"), ("smooth_absolute_error", "regression")),
        (("compare", "--lrs", "fast"), ("--lrs",)),
        (("compare", "--lrs", "inf"), ("--lrs inf", "finite")),
        (("compare", "--budget", "5"), ("--budget",)),
        (("compare", "--optimizer", "adamm"), ("--optimizer", "adam")),
        (("compare", "--select", "first"), ("--select first", "last, best-val")),
        (("compare", "--repeats", "0"), ("--repeats 0", "at least 1")),
        (("selftest", "iris", "--losses", "m"), ("--losses", "copies of the reference")),
        (("train", "--steps", "0"), ("--steps 0", "at least 1")),
        (("train", "iris", "--probe", "sharpnes"), ("sharpnes", "did you mean 'sharpness'")),
        (("train", "iris", "--probe", "sharpness", "--every", "0"), ("--every 0", "at least 1")),
        (("train", "iris", "--optimizer", "gd", "--batch-size", "8"), ("--batch-size", "gd")),
        (("compare", "iris", "--probe", "instability"), ("instability", "sharpness, ntk, margin")),
        (("dynamics", "nowhere"), ("nowhere",)),
        (("study", "spiral"), ("spiral", "spirals, rooted-linear, dynamical-cnn")),
        (("compare", "--model", "mlpp"), ("mlpp", "mlp")),
        (("compare", "iris", "--model", "cnn"), ("cnn", "mlp")),
        (("compare", "--label-noise", "1.5"), ("--label-noise 1.5", "below 1")),
        (("compare", "--label-noise", "nan"), ("--label-noise nan", "at least 0")),
        (("compare", "--imbalance", "inf"), ("--imbalance inf", "at least 1")),
        (("train", "--lr", "nan"), ("--lr nan", "below 1e+06")),
        (("train", "--lr", "-1"), ("--lr -1", "at least 1e-12")),
        (("train", "--lr", "inf"), ("--lr inf", "below 1e+06")),
        (("train", "--lr", "1e30"), ("--lr 1e+30", "below 1e+06")),
        (("train", "--weight-decay", "-1"), ("--weight-decay -1", "at least 0")),
        (("train", "iris", "--model", "cnn"), ("lossmith: model cnn reads images", "mlp")),
        (("train", "iris", "--model", ""), ("--model is empty",)),
        (("train", "iris", "--out="), ("--out is empty",)),
        (("train", "iris", "--drop", ""), ("--drop is empty",)),
        (("compare", "--losses", ""), ("--losses is empty",)),
        (("export", "m", "--output", ""), ("--output is empty",)),
        (("export", "m", "--output", "."), (". is a folder", "--output")),
        (("describe", "m", "--html", "."), (". is a folder", "--html")),
        (("compare", "--device", "tpu"), ("--device",)),
        (("train", "--loss", "rooted:k=banana"), ("k", "banana")),
        (("train", "--loss", "focal:gamma=?"), ("gamma", "lossmith compare")),
        (("train", "--epochs", "3", "--steps", "9"), ("--epochs", "--steps")),
        (("describe", "ngll"), ("ngll", "ngl")),
        (("describe", "ngl", "--classes", "1"), ("classes", "1")),
        (("show", "."), ("plan.toml",)),
        (("show", "nowhere"), ("nowhere",)),
    ],
)
def test_a_mistake_ends_in_one_sentence_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lossmith", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert err.startswith("lossmith: ")
    assert len(err.strip().splitlines()) == 1
    assert all(word in err for word in words)
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_leaves_no_traceback_behind(tmp_path: Path) -> None:
    done = lossmith("show", "nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1


def test_list_fits_80_columns_and_names_every_loss(tmp_path: Path) -> None:
    import lossmith as package

    done = lossmith("list", cwd=tmp_path)
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    for info in package.available():
        assert info.name in done.stdout


def test_train_saves_weights_and_says_how_to_reload_them(tmp_path: Path) -> None:
    arguments = ("iris", "--model", "mlp:width=8", "--loss", "rooted:k=3", "--lr", "0.02", "--out", "saved")
    done = lossmith("train", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "test             accuracy" in done.stdout
    code = done.stdout[done.stdout.index("import lossmith") :].replace('"saved"', f'"{tmp_path}/saved"')
    names: dict[str, Any] = {"table": np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.3, 5.7, 2.5]])}
    exec(code, {}, names)
    assert names["predictor"].predict(names["table"]).tolist() == ["setosa", "virginica"]


def test_train_with_a_loss_that_learns_keeps_the_loss(tmp_path: Path) -> None:
    """It comes back by the name that is printed, trains a model as it stands, and is described."""
    common = ("--model", "mlp:width=8", "--lr", "0.02", "--steps", "60")
    done = lossmith("train", "iris", *common, "--loss", "adaptive:meta_data=next", "--out", "saved", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "effective scale  1 at first" in done.stdout
    assert "learned          " in done.stdout
    name = done.stdout.partition("lossmith.create('")[2].partition("'")[0]
    again = lossmith("train", "iris", *common, "--loss", name, "--out", "again", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"loss             {name}#" in again.stdout
    told = lossmith("describe", name, "--classes", "3", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "Convex in p" in told.stdout


@dataclass(frozen=True)
class Resumed:
    """A comparison that was interrupted by Ctrl-C and carried on."""

    folder: Path
    code: int
    said: str
    again: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    folder = tmp_path_factory.mktemp("resumed")
    arguments = (*COMPARE, "--workers", "1", "--out", "r/run")
    running = subprocess.Popen(
        [sys.executable, "-c", "from lossmith.cli import main; main()", *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
    )
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("final trainings"):
            break
    os.killpg(running.pid, signal.SIGINT)
    rest = running.stderr.read()
    code = running.wait(timeout=60)
    running.stderr.close()
    return Resumed(folder / "r" / "run", code, rest, lossmith(*arguments, cwd=folder))


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(resumed: Resumed) -> None:
    assert resumed.code == 130
    assert "Run the same command to resume" in " ".join(resumed.said.split())
    assert "Traceback" not in resumed.said
    assert resumed.again.returncode == 0, resumed.again.stderr
    assert "learning rates:" not in resumed.again.stderr  # that stage was finished


def test_compare_from_plan_to_report(resumed: Resumed) -> None:
    done, run = resumed.again, resumed.folder
    assert max(map(len, done.stdout.splitlines())) <= 80
    made = {file.name for file in run.iterdir()}
    assert made == {
        "plan.toml",
        "recommendation.toml",
        "results.csv",
        "results.parquet",
        "runs.csv",
        "curves.csv",
        "timings.csv",
        "summary.json",
        "report.html",
    }
    rows = list(csv.DictReader((run / "results.csv").read_text().splitlines()))
    assert {row["loss"] for row in rows} >= {"m", "rooted:k=2", "cross_entropy", "cross_entropy (again)"}
    runs = list(csv.DictReader((run / "runs.csv").read_text().splitlines()))
    assert len({(each["loss"], each["fold"], each["repeat"]) for each in runs}) == len(runs) == 2 * 2 * len(rows)
    for row in rows:
        own = [float(each["score"]) for each in runs if each["loss"] == row["loss"]]
        assert float(row["score"]) == pytest.approx(sum(own) / len(own), abs=1e-5)  # folds of one size
    assert tomllib.loads((run / "plan.toml").read_text())["repeats"] == 2
    shown = lossmith("show", "r/run", cwd=run.parents[1])
    assert shown.stdout == done.stdout
    other = lossmith(*COMPARE, "--seed", "1", "--out", "r/run", cwd=run.parents[1])
    assert other.returncode == 2
    assert "another plan" in other.stderr


def test_a_self_test_counts_false_alarms_and_says_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, which saves importing torch once more; a second time nothing is trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lossmith.trials.runner.LocalPool", lambda *_, **__: AtOnce())
    monkeypatch.setattr("lossmith.comparison.selftest.self_test", partial(self_test, relabellings=20))
    command = ["selftest", "iris", "--model", "mlp:width=8", "--copies", "3", "--lrs", "3", "--folds", "2"]
    said = []
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["lossmith", *command, "--steps", "20", "--workers", "1"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code in (0, None)
        said.append(capsys.readouterr())
    text = " ".join(said[0].out.split())
    assert "cross_entropy against 3 copies of itself on iris with mlp:width=8, 2 fold(s), 2 repeats" in text
    assert re.search(r"false alarms per comparison, p < .05 \d+\.\d % \[\d+\.\d, \d+\.\d\]", text)
    assert re.search(r"copies said to need fewer steps \d of 3", text)
    assert ("No sign of too many" in text) is not ("Too many false alarms" in text)
    (folder,) = (tmp_path / "runs").glob("selftest-iris-mlp-*")
    assert {arm["name"] for arm in tomllib.loads((folder / "plan.toml").read_text())["arms"]} == {
        "cross_entropy", "cross_entropy (again)", "copy 1", "copy 2", "copy 3"
    }  # fmt: skip
    assert said[1].out == said[0].out
    assert "already done" in said[1].err or "trainings" not in said[1].err


def test_a_regression_is_compared_in_its_own_words(tmp_path: Path) -> None:
    """Inferred from a label of decimals, with its reference, rival and columns."""
    rng = random.Random(0)
    lines = [f"{(x := rng.random())},{rng.random()},{2 * x + rng.random() / 10}" for _ in range(400)]
    (tmp_path / "made.csv").write_text("\n".join(["a,b,size", *lines]) + "\n")
    shape = ("--lrs", "3", "--folds", "2", "--steps", "60", "--workers", "1", "--out", "run")
    done = lossmith(
        "compare", "made.csv", "--label", "size", "--losses", "mae,log_cosh", *shape, cwd=tmp_path, width=100
    )
    assert done.returncode == 0, done.stderr
    assert "on made (regression)" in done.stderr
    assert "minus squared error" in done.stdout
    assert "Huber: the best tuned Huber loss." in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    for text in (done.stdout, (tmp_path / "run" / "report.html").read_text()):
        assert "entropy" not in text
        assert "label smoothing" not in text.lower()
    rows = {row["loss"]: row for row in csv.DictReader((tmp_path / "run" / "results.csv").read_text().splitlines())}
    assert set(rows) == {"mse", "mse (again)", "mse + weight decay", "huber (tuned)", "absolute_error", "log_cosh"}
    assert float(rows["mse"]["score"]) > 0.8
    assert float(rows["mse"]["mae"]) < 0.2


def test_a_training_with_probes_has_a_page_of_its_dynamics(tmp_path: Path) -> None:
    asked = ("train", "spirals", "--loss", "dynamical:amplitude=9,period=20,static_after=40", "--optimizer", "gd")
    probes = ("--lr", "1", "--steps", "60", "--probe", "sharpness,ntk,instability,margin", "--every", "7")
    done = lossmith(*asked, *probes, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"sharpness +sharpness [\d.]+ to [\d.]+, at most [\d.]+ times the threshold", done.stdout)
    assert re.search(r"probes +\d+ % of the time", done.stdout)
    assert "`lossmith dynamics run`" in done.stdout
    page = lossmith("dynamics", "run", "--window", "10:30", cwd=tmp_path)
    assert page.returncode == 0, page.stderr
    assert '"window": [10, 30]' in (tmp_path / "run" / "dynamics.html").read_text()
    wrong = lossmith("dynamics", "run", "--window", "30:10", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "--window" in wrong.stderr
