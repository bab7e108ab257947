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
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from lossmith.kernels.threads import one_thread
from lossmith.trials.executors import MakeExecutor
from lossmith.trials.executors.cluster import ClusterExecutor
from lossmith.trials.executors.local import LocalPool
from lossmith.trials.files import written_whole
from lossmith.trials.ledger import training_code
from lossmith.trials.parcel import Packed, Parcel, node_folder, pack
from lossmith.trials.runner import Progress
from lossmith.trials.trial import Sources

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
        make_executor: makes the executor of a cluster, which is sent files by content; ``None``: processes of this
            machine.

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
        make_executor: MakeExecutor | None = None,
    ) -> None:
        self.folder, self.workers, self.progress, self.data, self.quick = folder, workers, progress, data, quick
        self.make_executor = make_executor
        self.seconds = 0.0

    def run(self, label: str, work: Callable[[Job], Result], jobs: Sequence[Job]) -> list[dict[str, NDArray[Any]]]:
        """Do all jobs that were not done before.

        Args:
            label: of the stage, for the progress.
            work: a function of a module that does a job on one thread, and returns named arrays.
            jobs: frozen dataclasses of numbers, texts, paths of files that the job reads, and tuples of numbers or
                texts.

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
            pool = (self.make_executor or LocalPool)(min(self.workers, len(left)))
            assert isinstance(pool, LocalPool | ClusterExecutor)
            try:
                packed = pool.share(_files_of(jobs)) if isinstance(pool, ClusterExecutor) else None
                futures = {pool.submit(_done_there, work, jobs[i], packed): files[i] for i in left}
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
        key = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()
        return self.folder / "jobs" / f"{key[:24]}.npz"

    def _keep(self, file: Path, result: Result) -> None:
        with written_whole(file) as place, place.open("wb") as stream:
            np.savez_compressed(stream, **dict(result))  # type: ignore[arg-type]
        if self.progress is not None:
            self.progress.advance(1)


def _files_of(jobs: Sequence[Job]) -> Parcel:
    """The files that jobs name, each under its path."""
    paths = {str(path): str(path) for job in jobs for path in _paths(job).values()}
    return pack(Sources(code=paths))


def _paths(job: object) -> dict[str, Path]:
    """The fields of a job that name files."""
    values = {field.name: getattr(job, field.name) for field in fields(job)}  # type: ignore[arg-type]
    return {name: value for name, value in values.items() if isinstance(value, Path)}


def _done_there(work: Callable[[Job], Result], job: Job, packed: Packed | None) -> Result:
    """`_done` in another process; `packed` holds the files if they are not there, ``None``: they are."""
    if packed is not None:
        there = packed.unpack(node_folder()).code
        job = replace(job, **{name: Path(there[str(path)]) for name, path in _paths(job).items()})  # type: ignore[type-var]
    return _done(work, job)


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
