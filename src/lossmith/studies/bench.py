"""Where a study works: jobs whose results are kept, so that a stopped study resumes."""

from __future__ import annotations

import ast
import concurrent.futures
import functools
import hashlib
import importlib.util
import json
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TypeVar
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from lossmith.kernels.threads import one_thread
from lossmith.trials.executors import LocalPool
from lossmith.trials.files import written_whole
from lossmith.trials.ledger import training_code
from lossmith.trials.runner import Progress

Result = Mapping[str, NDArray[Any]]
Job = TypeVar("Job")
_SECONDS: Final = "seconds spent"
_STUDIES: Final = "lossmith.studies"


class Bench:
    """A folder, workers and progress.

    Args:
        folder: of the study; results are kept in its folder ``jobs``.
        workers: number of processes; 0 works in this process.
        progress: told how far each stage has come; ``None`` tells nobody.
        data: folder of data sets that a study reads; ``None``: what needs one is left out.
        quick: whether a study is to try everything on few and short runs, which prove nothing.

    Attributes:
        seconds: of processor time that the jobs took, whenever they were done. A study adds what it does elsewhere.
    """

    def __init__(
        self,
        folder: Path,
        workers: int = 0,
        progress: Progress | None = None,
        data: Path | None = None,
        *,
        quick: bool = False,
    ) -> None:
        self.folder, self.workers, self.progress, self.data, self.quick = folder, workers, progress, data, quick
        self.seconds = 0.0

    def run(self, label: str, work: Callable[[Job], Result], jobs: Sequence[Job]) -> list[dict[str, NDArray[Any]]]:
        """Do all jobs that were not done before.

        Args:
            label: of the stage, for the progress.
            work: a function of a module that does a job on one thread, and returns named arrays.
            jobs: frozen dataclasses of numbers, texts and tuples of these.

        Returns:
            The results, in the order of the jobs.

        Raises:
            KeyboardInterrupt: on Ctrl-C; finished jobs are kept.
            ValueError: if a kept result is damaged; one sentence.
        """
        files = [self._file(work, job) for job in jobs]
        left = [i for i, file in enumerate(files) if not file.is_file()]
        if self.progress is not None:
            self.progress.start(label, len(jobs), len(jobs) - len(left))
        if self.workers and left:
            pool = LocalPool(min(self.workers, len(left)))
            try:
                futures = {pool.submit(_done, work, jobs[i]): files[i] for i in left}
                for future in concurrent.futures.as_completed(futures):
                    self._keep(futures[future], future.result())
            finally:
                pool.end()
        else:
            for i in left:
                with one_thread():
                    self._keep(files[i], _done(work, jobs[i]))
        results = [_read(file) for file in files]
        self.seconds += sum(float(result.pop(_SECONDS)) for result in results)
        return results

    def _file(self, work: Callable[[Job], Result], job: Job) -> Path:
        """Where a result is kept: it is found again only by the same job, code and version of torch."""
        what = [work.__qualname__, asdict(job), code_of(work.__module__), training_code(), torch.__version__]  # type: ignore[call-overload]
        key = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
        return self.folder / "jobs" / f"{key[:24]}.npz"

    def _keep(self, file: Path, result: Result) -> None:
        with written_whole(file) as place, place.open("wb") as stream:
            np.savez_compressed(stream, **dict(result))  # type: ignore[arg-type]
        if self.progress is not None:
            self.progress.advance(1)


def _done(work: Callable[[Job], Result], job: Job) -> Result:
    """What a job gives, and the seconds of processor time that it took."""
    began = time.process_time()
    return {**work(job), _SECONDS: np.array(time.process_time() - began)}


@functools.cache
def code_of(module: str) -> str:
    """SHA-256 of the source of a module and of what it imports from other modules of the studies, in hexadecimal."""
    code, left, seen = hashlib.sha256(), [module], set[str]()
    while left:
        name = left.pop()
        spec = importlib.util.find_spec(name)
        if name in seen or spec is None or spec.origin is None:
            continue
        seen.add(name)
        source = Path(spec.origin).read_bytes()
        code.update(source)
        imports = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom))
        left += sorted({node.module for node in imports if node.module and node.module.startswith(f"{_STUDIES}.")})
    return code.hexdigest()


def _read(file: Path) -> dict[str, NDArray[Any]]:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return dict(arrays)
    except (ValueError, BadZipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{file} is damaged ({error}): delete it and run the same command again") from None
