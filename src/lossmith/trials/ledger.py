"""Where results are kept: one SQLite file that several processes may share, every finished trial once."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from lossmith.trials.result import TrialResult, judged_to_bytes, result_from_json, series_to_bytes, summary_to_json
from lossmith.trials.trial import Trainer, Trial

_VERSION: Final = 1
"""Of the schema, in the file's ``user_version``; files from before it was written there have 0."""
_SCHEMA: Final = (
    "CREATE TABLE results ( key TEXT PRIMARY KEY, trial TEXT NOT NULL, result TEXT NOT NULL, valid BLOB, test BLOB, "
    "series BLOB NOT NULL, finished TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, repeats INTEGER NOT NULL DEFAULT 0 ) "
    "WITHOUT ROWID",
    "CREATE TABLE test_scores ( split TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (split, key) ) WITHOUT ROWID",
)
_PATIENCE: Final = 60.0  # seconds to wait for another process's transaction, which takes milliseconds

_TRAINS: Final = (
    "autodiff",
    "catalog.py",
    "data",
    "dynamics",
    "formulas",
    "kernels",
    "learned",
    "losses",
    "tasks",
    "trials",
)
"""What of the package decides the result of a trial."""


class LedgerError(RuntimeError):
    """A ledger that cannot be used; the message is one sentence that says why and what to do."""


class Ledger:
    """Results of trials, by trial, the code that trains it, torch version and kind of device.

    Several processes may have it open at once. Where two of them train the same trial, the result that is put first is
    kept. Outcomes on test examples are sealed: `get` returns results without them, `open_test` hands them out and notes
    that this model has been scored on this test split.

    Args:
        path: the SQLite file; it and its folder are made if absent.
        device: ``"cpu"`` or ``"cuda"``.

    Raises:
        LedgerError: if the file is no ledger or one of another version, or cannot be written. So do all methods when
            the file can no longer be read or written.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._environment = f"{training_code()} {version('torch')} {device}"
        with self._refusing():
            self._connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
        try:
            with self._refusing():
                self._prepare()
        except LedgerError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
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
        row = self._row("SELECT result, valid, NULL, series FROM results WHERE key = ?", self.key(trial))
        return None if row is None else result_from_json(*row)

    def __contains__(self, trial: Trial) -> bool:
        return self._row("SELECT 1 FROM results WHERE key = ?", self.key(trial)) is not None

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
        row = self._row("SELECT result, valid, test, series FROM results WHERE key = ?", key)
        if row is None or row[2] is None:
            raise KeyError(f"no test outcomes are kept for trial {trial.hash[:12]}")
        with self._transaction():
            self._connection.execute("INSERT OR IGNORE INTO test_scores VALUES (?, ?)", (trial.trainer.test_split, key))
        return result_from_json(*row)

    def times_scored(self, trainer: Trainer) -> int:
        """How many trained models have been scored on the test split of a trainer so far."""
        row = self._row("SELECT count(*) FROM test_scores WHERE split = ?", trainer.test_split)
        assert row is not None
        return int(row[0])

    def key(self, trial: Trial) -> str:
        """What a trial is kept under: its hash with the code, version and device kind it ran with, hashed."""
        return hashlib.sha256(f"{trial.hash} {self._environment}".encode()).hexdigest()

    def _prepare(self) -> None:
        """Make the tables of a new file, and refuse a file that holds others before anything is written to it."""
        self._connection.execute("PRAGMA synchronous=NORMAL")
        if self._check_tables() and self._row("PRAGMA user_version") == (_VERSION,):
            return
        self._row("PRAGMA journal_mode=WAL")
        with self._transaction():
            if not self._check_tables():  # another process may have made them meanwhile
                for statement in _SCHEMA:
                    self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version={_VERSION}")

    def _check_tables(self) -> bool:
        """Whether the file has its tables already; other tables than ours, or of another version, are refused."""
        statements = self._connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table'")
        found = {" ".join(statement.split()) for (statement,) in statements}
        if self._row("PRAGMA user_version") not in {(0,), (_VERSION,)} or found not in (set(), set(_SCHEMA)):
            raise LedgerError(
                f"{self.path} is no ledger that this version of Lossmith can use: move it away or choose another --out"
            )
        return bool(found)

    def _row(self, query: str, *values: str) -> tuple[Any, ...] | None:
        """The first row of a query."""
        with self._refusing():
            row: tuple[Any, ...] | None = self._connection.execute(query, values).fetchone()
        return row

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._refusing():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk rolls back by itself
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        """Turn what SQLite says into one sentence."""
        try:
            yield
        except sqlite3.Error as error:
            said = str(error)
            if "not a database" in said:
                raise LedgerError(
                    f"{self.path} is no ledger of Lossmith's: move it away or choose another --out"
                ) from None
            fixes = {"full": "free some space", "locked": "wait for the program that holds it"}
            fix = next(
                (fix for word, fix in fixes.items() if word in said), "give it a folder that can be written (--out)"
            )
            raise LedgerError(
                f"the ledger {self.path} cannot be used ({said}): {fix} and run the same command again; what it holds "
                "is kept"
            ) from None


@functools.cache
def training_code() -> str:
    """SHA-256 of the source that decides the result of a trial, in hexadecimal: change a loss, and it trains anew."""
    root, code = Path(__file__).parents[1], hashlib.sha256()
    for file in sorted(root.rglob("*")):
        if file.suffix in {".py", ".cpp"} and file.relative_to(root).parts[0] in _TRAINS:
            code.update(
                f"{file.relative_to(root).as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode()
            )
    return code.hexdigest()
