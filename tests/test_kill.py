"""A comparison killed at random moments ends like one left alone; minutes, so it runs under `make test-slow`."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

MOMENTS = 10
FILES = (
    "curves.csv", "plan.toml", "recommendation.toml", "results.csv", "results.parquet", "runs.csv", "summary.json"
)  # fmt: skip
# Short trainings, many of them, one to a worker at a time: every stage is hit.
COMMAND = (
    *(sys.executable, "-c", "from lossmith.cli import main; main()"),
    *("compare", "iris", "--model", "mlp:width=8", "--losses", "m,focal:gamma=?", "--lrs", "5", "--steps", "150"),
    *("--out", "runs/run"),
)


def start(folder: Path, workers: int) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    silent = subprocess.DEVNULL
    return subprocess.Popen([*COMMAND, "--workers", str(workers)], cwd=folder, stdout=silent, stderr=silent)


def processes_in(folder: Path) -> list[str]:
    """The command lines of processes whose working directory is the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == folder and "Z" not in (entry / "stat").read_text().rpartition(")")[2][:3]:
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="looks for left-over processes in /proc")
def test_sigkill_at_ten_random_moments_changes_nothing(tmp_path: Path) -> None:
    began = time.monotonic()
    assert start(tmp_path / "whole", 2).wait() == 0
    duration = time.monotonic() - began
    whole = {name: (tmp_path / "whole" / "runs" / "run" / name).read_bytes() for name in FILES}
    moments = random.Random(0)
    for workers in (1, 2, 4):
        folder = tmp_path / str(workers)
        killed = 0
        for _ in range(MOMENTS):
            process = start(folder, workers)
            try:
                process.wait(timeout=moments.uniform(1.0, max(3.0, duration / 3)))
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                killed += 1
            deadline = time.monotonic() + 20
            while processes_in(folder) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert processes_in(folder) == []
        assert killed > 0
        assert start(folder, workers).wait() == 0
        assert {name: (folder / "runs" / "run" / name).read_bytes() for name in FILES} == whole
        with sqlite3.connect(folder / "runs" / "ledger.sqlite") as ledger:
            trainings, repeats = ledger.execute("SELECT count(*), sum(repeats) FROM results").fetchone()
        ledger.close()
        print(f"{workers} workers: killed {killed} times, {trainings} trainings, {repeats} of them run twice")
        assert trainings > 0
        assert repeats == 0


@pytest.mark.slow
def test_two_comparisons_at_once_in_one_folder_end_as_each_alone(tmp_path: Path) -> None:
    """They share the reference and the controls, which either of them may train."""
    commands = [[*COMMAND[:-1], f"runs/{losses}", "--losses", losses, "--workers", "1"] for losses in ("m", "ngl")]
    for command in commands:
        folder = tmp_path / "alone"
        folder.mkdir(exist_ok=True)
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        (folder / "runs" / "ledger.sqlite").unlink()
    (tmp_path / "together").mkdir()
    silent = subprocess.DEVNULL
    running = [
        subprocess.Popen(command, cwd=tmp_path / "together", stdout=silent, stderr=silent) for command in commands
    ]
    assert [process.wait(timeout=300) for process in running] == [0, 0]
    for run in ("m", "ngl"):
        for name in ("plan.toml", "recommendation.toml", "runs.csv"):  # the summary counts looks at the test part
            here, there = (tmp_path / where / "runs" / run / name for where in ("together", "alone"))
            assert here.read_bytes() == there.read_bytes()
