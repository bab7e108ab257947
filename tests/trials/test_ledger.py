from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

import lossmith
from lossmith.data import CleanSet, DataSpec
from lossmith.tasks import Judged
from lossmith.trials.ledger import Ledger, LedgerError, training_code
from lossmith.trials.result import Curve, TrialResult
from lossmith.trials.trial import OptimizerSpec
from made_trials import changed, made

TRIAL = made(DataSpec("iris"), "mlp", "m", OptimizerSpec("adam", 0.01), 4, 16, 0, final=True)


def judged(seed: int) -> Judged:
    rng = np.random.default_rng(seed)
    columns = {"label": rng.integers(0, 3, 7), "nll": rng.random(7, dtype=np.float32), "index": rng.random((7, 2))}
    return Judged(rng.integers(0, 99, 7), rng.random(7), columns)


RESULT = TrialResult(
    curve=Curve((2, 4), {"nll": (1.0, math.nan)}, {"accuracy": (1 / 3, 0.7), "nll": (0.3, math.inf)}),
    scores={"accuracy": 0.1 + 0.2},
    columns={"nll": math.nan},
    fitted={"temperature": 1.5},
    gradient_ratio=2.0,
    extended_share=0.0,
    diverged=False,
    notes=("a note",),
    seconds=0.25,
    valid=judged(1),
    test=judged(2),
)


def same(a: Judged | None, b: Judged | None) -> bool:
    assert a is not None
    assert b is not None
    pairs = [(a.index, b.index), (a.score, b.score), *((a.columns[name], b.columns[name]) for name in b.columns)]
    return a.columns.keys() == b.columns.keys() and all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in pairs)


def sql(path: Path, statement: str) -> Sequence[Sequence[object]]:
    """What SQLite itself says of a ledger that nobody has open."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


def test_what_is_put_comes_back_with_the_test_part_sealed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "ledger.sqlite"
    with Ledger(path) as ledger:
        assert ledger.path == path
        assert ledger.get(TRIAL) is None
        ledger.put([(TRIAL, RESULT)])
    with Ledger(path) as ledger:
        assert TRIAL in ledger
        back = ledger.get(TRIAL)
        assert back is not None
        assert back.test is None
        assert same(back.valid, RESULT.valid)
        assert math.isnan(back.curve.train["nll"][1])
        assert math.isnan(back.columns["nll"])
        assert back.curve.valid == RESULT.curve.valid
        assert (back.scores, back.notes, back.curve.steps) == ({"accuracy": 0.1 + 0.2}, ("a note",), (2, 4))
        assert ledger.times_scored(TRIAL.trainer) == 0
        assert same(ledger.open_test(TRIAL).test, RESULT.test)


def test_looks_at_a_test_split_are_counted_per_model(tmp_path: Path) -> None:
    """Another training part makes no other test split; another fold does. A second look at a model is no news."""
    same_split = [
        DataSpec("iris", label_noise=0.2),
        DataSpec("iris", label_noise=0.2, noise="asymmetric"),
        DataSpec("iris", clean=CleanSet(20, aside=40)),
        DataSpec("iris", train_size=60),
        DataSpec("iris", valid_size=10),
        DataSpec("iris", imbalance=4.0),
    ]
    looks = [TRIAL, TRIAL, changed(TRIAL, seed=1), *(changed(TRIAL, data=data) for data in same_split)]
    regression = [DataSpec("diabetes", task="regression", outliers=share) for share in (0.0, 0.1)]
    numbers = [changed(TRIAL, data=data) for data in regression]
    fold = changed(TRIAL, data=DataSpec("iris", folds=5, fold=1))
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.put([(trial, RESULT) for trial in {*looks, *numbers, fold}])
        for trial in (*looks, *numbers, fold):
            ledger.open_test(trial)
        assert ledger.times_scored(numbers[0].trainer) == 2
        assert ledger.times_scored(TRIAL.trainer) == 2 + len(same_split)
        assert ledger.times_scored(fold.trainer) == 1
        assert ledger.times_scored(changed(TRIAL, data=DataSpec("digits")).trainer) == 0


def test_a_finished_trial_stays_as_it_was_and_repeats_are_counted(tmp_path: Path) -> None:
    again, once = replace(RESULT, seconds=9.0), changed(TRIAL, seed=1)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.put([(TRIAL, RESULT)])
        ledger.put([(TRIAL, again), (once, RESULT)])
        ledger.put([(TRIAL, again), (TRIAL, again)])
        kept = ledger.get(TRIAL)
        assert kept is not None
        assert kept.seconds == 0.25
        keys = [ledger.key(TRIAL), ledger.key(once)]
    rows = dict(sql(tmp_path / "ledger.sqlite", "SELECT key, repeats FROM results"))  # type: ignore[arg-type]
    assert rows == {keys[0]: 3, keys[1]: 0}


def test_a_unit_of_work_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    """A disk that fills up at the second of two results, played by a trigger, leaves neither."""
    path, other = tmp_path / "ledger.sqlite", changed(TRIAL, seed=1)
    with Ledger(path) as ledger:
        key = ledger.key(other)
    full = f"BEFORE INSERT ON results WHEN NEW.key = '{key}' BEGIN SELECT RAISE(FAIL, 'disk full'); END"
    sql(path, f"CREATE TRIGGER full {full}")
    with Ledger(path) as ledger:
        with pytest.raises(LedgerError, match=r"disk full.*free some space"):
            ledger.put([(TRIAL, RESULT), (other, RESULT)])
        assert TRIAL not in ledger
        ledger.put([(TRIAL, RESULT)])
        assert TRIAL in ledger
    assert len(sql(path, "SELECT key FROM results")) == 1


def test_a_trial_is_kept_as_the_text_that_its_hash_is_of(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.put([(TRIAL, RESULT)])
    ((text,),) = sql(tmp_path / "ledger.sqlite", "SELECT trial FROM results")
    assert isinstance(text, str)
    kept = json.loads(text)
    assert kept["trainer"] == json.loads(json.dumps(asdict(TRIAL.trainer))) | {"kind": "ModelTrainer"}
    assert kept["stepper"] == asdict(TRIAL.stepper) | {"kind": "Plain"}
    assert (kept["loss"], kept["steps"], kept["seed"], kept["final"]) == ("m", 4, 0, True)
    assert hashlib.sha256(text.encode()).hexdigest() == TRIAL.hash


def test_a_trial_that_kept_no_outcomes_comes_back_without_any(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.put([(TRIAL, replace(RESULT, valid=None, test=None))])
        kept = ledger.get(TRIAL)
        assert kept is not None
        assert (kept.valid, kept.test) == (None, None)


def test_the_kind_of_device_is_part_of_the_key(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.put([(TRIAL, RESULT)])
    with Ledger(tmp_path / "ledger.sqlite", device="cuda") as ledger:
        assert TRIAL not in ledger
    with Ledger(tmp_path / "ledger.sqlite", device="cpu") as ledger:
        assert TRIAL in ledger


_SHARING = """
import sys
from dataclasses import replace
from pathlib import Path
from test_ledger import RESULT, TRIAL
from lossmith.trials.ledger import Ledger
from made_trials import changed

path, own = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(20):
    with Ledger(path) as ledger:
        shared, alone = changed(TRIAL, seed=number), changed(TRIAL, seed=1000 * own + number)
        ledger.put([(shared, replace(RESULT, seconds=float(own))), (alone, RESULT)])
        assert alone in ledger
        ledger.open_test(shared)
"""


def test_processes_share_a_ledger(tmp_path: Path) -> None:
    """Two processes open, write and close one file at the same time: every result is kept once, every look counted."""
    path = tmp_path / "ledger.sqlite"
    there = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _SHARING, str(path)]
    pipe = subprocess.PIPE
    running = [subprocess.Popen([*command, str(own)], stdin=pipe, stdout=pipe, text=True, env=there) for own in (1, 2)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        process.communicate("go\n", timeout=60)
        assert process.returncode == 0
    with Ledger(path) as ledger:
        assert ledger.times_scored(TRIAL.trainer) == 20
    assert sql(path, "SELECT count(*), sum(repeats) FROM results") == [(20 + 2 * 20, 20)]


def test_a_ledger_from_before_versions_were_written_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.put([(TRIAL, RESULT)])
    sql(path, "PRAGMA user_version=0")
    with Ledger(path) as ledger:
        assert TRIAL in ledger
    assert sql(path, "PRAGMA user_version") == [(1,)]


@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE TABLE trials (key TEXT PRIMARY KEY, result TEXT)",),
        ("CREATE TABLE results (key TEXT PRIMARY KEY, result TEXT)",),
        ("CREATE TABLE places (url TEXT)", "PRAGMA user_version=1"),
        ("PRAGMA user_version=2",),
    ],
    ids=["an older ledger", "older columns", "another program's database", "a newer ledger"],
)
def test_a_database_of_another_kind_is_refused_and_left_alone(tmp_path: Path, statements: tuple[str, ...]) -> None:
    path = tmp_path / "ledger.sqlite"
    for statement in statements:
        sql(path, statement)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=r"no ledger that this version.*choose another --out"):
        Ledger(path)
    assert path.read_bytes() == before


def test_a_full_disk_is_told_in_a_sentence(tmp_path: Path) -> None:
    """SQLite's own limit on the size of a file plays the disk; what was kept before stays."""
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.put([(TRIAL, RESULT)])
        pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
        ledger._connection.execute(f"PRAGMA max_page_count={pages}")
        many = [(changed(TRIAL, seed=seed), RESULT) for seed in range(1, 50)]
        with pytest.raises(LedgerError, match=r"full\): free some space and run the same command again"):
            ledger.put(many)
        assert TRIAL in ledger
        assert many[0][0] not in ledger


def test_a_file_that_is_no_ledger_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    file.write_text("these are my notes\n" * 100)
    with pytest.raises(LedgerError, match="no ledger"):
        Ledger(file)
    assert file.read_text().startswith("these are my notes")


def test_tests_of_tuning_trials_cannot_be_opened(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        with pytest.raises(KeyError, match=f"trial {TRIAL.hash[:12]}'"):
            ledger.open_test(TRIAL)
        ledger.put([(TRIAL, replace(RESULT, test=None))])
        with pytest.raises(KeyError, match=f"trial {TRIAL.hash[:12]}'"):
            ledger.open_test(TRIAL)
        assert ledger.times_scored(TRIAL.trainer) == 0


def test_results_of_other_code_are_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of a loss, or of the loop that trains it, makes another key; one of the report does not."""
    package = tmp_path / "lossmith"
    shutil.copytree(Path(lossmith.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr("lossmith.trials.ledger.__file__", str(package / "trials" / "ledger.py"))
    digests = [training_code.__wrapped__()]
    for name in ("report/page.py", "losses/alternate.py", "trials/training.py", "kernels/cpu.cpp"):
        (package / name).write_text("# changed\n", encoding="utf-8")
        digests.append(training_code.__wrapped__())
    assert digests[0] == digests[1]
    assert len(set(digests)) == 4
    keys = []
    for code in digests[1:3]:
        monkeypatch.setattr("lossmith.trials.ledger.training_code", lambda code=code: code)
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            keys.append(ledger.key(TRIAL))
    assert keys[0] != keys[1]
