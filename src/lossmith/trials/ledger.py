"""Where results are kept: one SQLite file, one writer, every finished trial once."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Final

import lossmith
from lossmith.trials.result import TrialResult, judged_to_bytes, result_from_json, series_to_bytes, summary_to_json
from lossmith.trials.trial import Trainer, Trial

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS results (
    key TEXT PRIMARY KEY, trial TEXT NOT NULL, result TEXT NOT NULL, valid BLOB, test BLOB, series BLOB NOT NULL,
    finished TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, repeats INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS test_scores (
    split TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (split, key)
) WITHOUT ROWID;
"""


_TRAINS: Final = ("catalog.py", "data", "formulas", "kernels", "learned", "losses", "tasks", "trials")
"""What of the package decides the result of a trial."""


class LedgerError(RuntimeError):
    """A ledger that cannot be used; the message is one sentence that says why and what to do."""


class Ledger:
    """Results of trials, by trial, the code that trains it, torch version and kind of device.

    Outcomes on test examples are sealed: `get` returns results without them, `open_test` hands them out and notes
    that this model has been scored on this test split.

    Args:
        path: the SQLite file; it and its folder are made if absent.
        device: ``"cpu"`` or ``"cuda"``.

    Raises:
        LedgerError: if another process writes to it, or the file is no ledger.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._environment = f"{training_code()} {version('torch')} {device}"
        self._connection = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            # Exclusive until closed: SQLite's own lock keeps a second process out and goes with this one.
            self._connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.executescript(_SCHEMA)
        except sqlite3.OperationalError as error:
            self.close()
            raise LedgerError(
                f"{path} cannot be opened ({error}): wait for the lossmith that uses it, or choose another --out"
            ) from None
        except sqlite3.DatabaseError:
            self.close()
            raise LedgerError(f"{path} is no ledger of Lossmith's: move it away or choose another --out") from None

    def close(self) -> None:
        """Close the file and give its lock back."""
        self._connection.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def put(self, finished: Iterable[tuple[Trial, TrialResult]]) -> None:
        """Keep the results of one unit of work, all or none of them.

        A trial already kept stays as it is, and that it ran again is noted in the column ``repeats``.
        """
        rows = [
            (
                self.key(trial),
                trial.json,
                summary_to_json(result),
                None if result.valid is None else judged_to_bytes(result.valid),
                None if result.test is None else judged_to_bytes(result.test),
                series_to_bytes(result.series),
            )
            for trial, result in finished
        ]
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO results (key, trial, result, valid, test, series) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET repeats = repeats + 1",
                rows,
            )

    def get(self, trial: Trial) -> TrialResult | None:
        """The result of a trial, its test outcomes left out; ``None`` if it has not finished."""
        query = "SELECT result, valid, NULL, series FROM results WHERE key = ?"
        row = self._connection.execute(query, (self.key(trial),)).fetchone()
        return None if row is None else result_from_json(*row)

    def __contains__(self, trial: Trial) -> bool:
        found = self._connection.execute("SELECT 1 FROM results WHERE key = ?", (self.key(trial),)).fetchone()
        return found is not None

    def open_test(self, trial: Trial) -> TrialResult:
        """The result of a finished final trial with its test outcomes; counts as a look at its test split.

        Args:
            trial: a trial with ``final=True``.

        Returns:
            The whole result.

        Raises:
            KeyError: if the trial has not finished or scored no test part.
        """
        key = self.key(trial)
        query = "SELECT result, valid, test, series FROM results WHERE key = ?"
        row = self._connection.execute(query, (key,)).fetchone()
        if row is None or row[2] is None:
            raise KeyError(f"no test outcomes are kept for trial {trial.hash[:12]}")
        with self._transaction():
            self._connection.execute("INSERT OR IGNORE INTO test_scores VALUES (?, ?)", (trial.trainer.test_split, key))
        return result_from_json(*row)

    def times_scored(self, trainer: Trainer) -> int:
        """How many trained models have been scored on the test split of a trainer so far."""
        query = "SELECT count(*) FROM test_scores WHERE split = ?"
        return int(self._connection.execute(query, (trainer.test_split,)).fetchone()[0])

    def key(self, trial: Trial) -> str:
        """What a trial is kept under: its hash with the code, version and device kind it ran with, hashed."""
        return hashlib.sha256(f"{trial.hash} {self._environment}".encode()).hexdigest()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


@functools.cache
def training_code() -> str:
    """SHA-256 of the source that decides the result of a trial, in hexadecimal: change a loss, and it trains anew."""
    root, code = Path(lossmith.__file__).parent, hashlib.sha256()
    for file in sorted(root.rglob("*")):
        if file.suffix in {".py", ".cpp"} and file.relative_to(root).parts[0] in _TRAINS:
            code.update(
                f"{file.relative_to(root).as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode()
            )
    return code.hexdigest()
