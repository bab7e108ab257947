"""`lossmith evolve` as a command: what it refuses, what it leaves, how it is stopped and goes on."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import lossmith
from lossmith.cli import main
from tiny_search import without_seconds

LOSSMITH = (sys.executable, "-c", "from lossmith.cli import main; main()")
SHORT = ("evolve", "iris", "--model", "linear", "--steps", "20", "--population", "20")


def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str]:
    """The exit code of a command, and what it said."""
    monkeypatch.setattr(sys, "argv", ["lossmith", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return ended.value.code, out + err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--minutes", "1", "--evaluations", "30"), ("--minutes and --evaluations exclude each other",)),
        (("--evaluations", "5"), ("--evaluations 5", "at least 20")),
        (("--seed-losses", "rootd"), ("rootd", "rooted")),
        (("--seed-losses", "dynamical(ngl)"), ("--seed-losses: dynamical(ngl) has no formula",)),
        (("--seed-losses", "huber"), ("--seed-losses: huber has no formula",)),
        (("--seed-losses", "formula(t*y*c)"), ("changes during training", "--time")),
        (("--also", "iris:linear"), ("--also iris:linear is searched on already",)),
        (("--also", "wine:mlpp"), ("--also wine:mlpp", "mlp")),
        (("--also", "wine:"), ("--also wine:", "name a model")),
        (("--also", "nowhere.csv"), ("nowhere.csv",)),
        (("--also", "diabetes"), ("diabetes is a regression task",)),
        (("--transfer", "digitz"), ("digitz", "digits")),
        (("--transfer", "wine:cnn"), ("cnn", "images")),
        (("--transfer", "wine,diabetes:mlp"), ("diabetes is a regression task",)),
        (("--strategy", "annealing"), ("--strategy annealing", "tournament")),
        (("--steps", "10"), ("10 steps are too few",)),
        (("--train-size", "80"), ("train_size is 80", "72")),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence_before_the_search(arguments, words, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, said = told(monkeypatch, capsys, *SHORT, *arguments)
    assert code == 2
    assert said.startswith("lossmith: ")
    assert said.count("\n") == 1
    for word in words:
        assert word in said
    assert list(tmp_path.rglob("*")) == []


def test_regression_is_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, said = told(monkeypatch, capsys, "evolve", "diabetes")
    assert (code, said.count("\n")) == (2, 1)
    assert "diabetes is a regression task, and `lossmith evolve` searches for losses of classification" in said
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_with_other_data_is_found_before_the_search(monkeypatch, capsys, tmp_path):
    """A set with classes too small to be put aside for a choice, and one that is no set."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [3, 60])
    np.savez(tmp_path / "few.npz", X=rng.normal(size=(63, 2)), y=labels)
    (tmp_path / "broken.csv").write_text("a,b\n")
    monkeypatch.chdir(tmp_path)
    code, said = told(monkeypatch, capsys, *SHORT, "--also", "few.npz:linear")
    assert (code, said.count("\n")) == (2, 1)
    assert "a search, a choice and their training" in said
    code, said = told(monkeypatch, capsys, *SHORT, "--transfer", "broken.csv", "--dry-run")
    assert (code, said.count("\n")) == (2, 1)
    assert "broken" in said


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, said = told(monkeypatch, capsys, *SHORT, "--evaluations", "30", "--transfer", "wine:mlp", "--dry-run")
    assert code == 0
    assert "90 examples for the search, 30 for the choice of a winner, 30 for the comparison" in said
    assert "wine:mlp" in said
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_another_plan_is_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.toml").write_text('name = "digits"\n')
    code, said = told(monkeypatch, capsys, *SHORT, "--evaluations", "30", "--out", "run")
    assert code == 2
    assert "lossmith: run holds the run of another plan (" in said
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["plan.toml"]


def test_a_damaged_clock_is_a_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "clock.json").write_text('{"seconds": [')
    code, said = told(monkeypatch, capsys, *SHORT, "--evaluations", "30", "--out", "run", "--workers", "1")
    assert code == 2
    assert "run/clock.json is damaged" in said.splitlines()[-1]
    assert "Traceback" not in said


def results(folder: Path) -> dict[str, object]:
    run = folder / "run"
    plain = {name: (run / name).read_text() for name in ("hall_of_fame.csv", "best.loss", "plan.toml")}
    summaries = {f"{file.parent.name}/{file.name}": file.read_text() for file in run.rglob("runs.csv")}
    return plain | summaries | {"evolution": without_seconds((run / "evolution.json").read_text())}


def started(folder: Path, workers: int, *more: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    command = [*LOSSMITH, *SHORT, "--evaluations", "60", "--workers", str(workers), "--out", "run", *more]
    environment = os.environ | {"COLUMNS": "80", "NO_COLOR": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=pipe,
        stderr=pipe,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
    )


def test_ctrl_c_ends_with_the_report_of_what_was_found(tmp_path: Path) -> None:
    process = started(tmp_path, 1)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "hall_of_fame.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "Stopped. What was trained is kept. Run the same command to resume." in " ".join(err.split())
    assert out.startswith("The search was stopped before")
    assert (tmp_path / "run" / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert not json.loads((tmp_path / "run" / "evolution.json").read_text())["finished"]
    assert (tmp_path / "run" / "hall_of_fame.csv").read_text().startswith("rank,strategy,formula")
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.slow
def test_the_same_command_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    for seconds in (5.0, 10.0):
        process = started(tmp_path, 1)
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
        assert process.returncode in {0, 130}
    out, err = started(tmp_path, 1).communicate(timeout=300)
    assert out.startswith("On the 30 examples of iris that the search never saw"), err
    assert json.loads((tmp_path / "run" / "evolution.json").read_text())["finished"]
    assert json.loads((tmp_path / "run" / "comparisons" / "1-iris-linear" / "summary.json").read_text())["rows"]


@pytest.mark.slow
def test_sigkill_at_ten_random_moments_changes_nothing(tmp_path: Path) -> None:
    began = time.monotonic()
    _, err = started(tmp_path / "whole", 2).communicate(timeout=600)
    duration = time.monotonic() - began
    whole = results(tmp_path / "whole")
    assert whole["evolution"]["finished"], err  # type: ignore[index]
    moments = random.Random(0)
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        killed = 0
        for _ in range(10):
            process = started(folder, workers)
            try:
                process.communicate(timeout=moments.uniform(2.0, max(4.0, duration)))
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                killed += 1
        assert killed > 2
        _, err = started(folder, workers).communicate(timeout=600)
        assert results(folder) == whole, err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"minutes": "5"}, "minutes='5': give a number"),
        ({"evaluations": 20.5}, "evaluations=20.5: give a whole number"),
        ({"model": 3}, "model=3: give a text"),
        ({"time": 1}, "time=1: give true or false"),
        ({"data": {1, 2}}, "data is of type set: give the name of a data set, a path, a DataFrame"),
        ({"data": len}, "data is a function: give a data set"),
    ],
)
def test_python_gets_the_same_sentences(options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(words)):
        lossmith.evolve(**options)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_how_long_it_takes_and_that_too_few_losses_are_asked_for(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, said = told(monkeypatch, capsys, *SHORT, "--evaluations", "20", "--transfer", "wine,wine", "--dry-run")
    assert code == 0
    assert re.search(r"afterwards, the winner is chosen and compared on iris, then on wine: about [\d.]+ (s|min)", said)
    assert re.search(r"note: 20 losses are no more than the \d+ known ones", said)
    assert list(tmp_path.iterdir()) == []
