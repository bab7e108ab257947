"""Queue, losses and end of cluster executors, on a cluster made of futures; turns of GPUs; refusals."""

from __future__ import annotations

import concurrent.futures
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lossmith.trials.executors import local
from lossmith.trials.executors.child import Children, StoppedError
from lossmith.trials.executors.cluster import ClusterError, ClusterExecutor, Future, LostError, Task, WorkerDiedError
from lossmith.trials.executors.local import LocalPool, one_gpu, visible_gpus
from lossmith.trials.executors.machines import machines
from lossmith.trials.executors.node import check, no_import, software
from lossmith.trials.parcel import Packed, Parcel


class MadeUp(ClusterExecutor):
    """Tasks wait until the test ends them."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.begun: list[tuple[Task, Future]] = []
        self.stopped: list[Future] = []
        self.changed = threading.Event()

    def share(self, parcel: Parcel) -> Packed:
        return parcel

    def _start(self, task: Task) -> Future:
        future: Future = concurrent.futures.Future()
        self.begun.append((task, future))
        return future

    def _outcome(self, under_way: Future) -> object:
        return under_way.result()

    def _stop(self, under_way: Sequence[Future]) -> None:
        self.stopped += under_way

    def names(self, count: int) -> list[Any]:
        """What has begun, once it is so much."""
        assert soon(lambda: len(self.begun) >= count)
        return [task.arguments[0] for task, _ in self.begun]


def soon(happened: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not happened() and time.monotonic() < end:
        time.sleep(0.005)
    return happened()


def test_so_many_calls_are_under_way_at_once_in_order() -> None:
    with MadeUp(2) as executor:
        futures = [executor.submit(str, i) for i in range(4)]
        assert executor.names(2) == [0, 1]
        executor.begun[1][1].set_result("b")
        assert futures[1].result(10) == "b"
        assert executor.names(3) == [0, 1, 2]
        for i in (0, 2):
            executor.begun[i][1].set_result("x")
        executor.names(4)
        executor.begun[3][1].set_result("d")
        assert [future.result(10) for future in futures] == ["x", "b", "x", "d"]


def test_a_call_whose_worker_is_lost_begins_again_three_times_at_most() -> None:
    with MadeUp(1) as executor:
        first, second, third = (executor.submit(str, i) for i in range(3))
        executor.names(1)
        executor.begun[0][1].set_exception(LostError("gone"))
        assert executor.names(2) == [0, 0]
        executor.begun[1][1].set_result("a")
        assert first.result(10) == "a"
        for i in (2, 3, 4):
            executor.names(i + 1)
            executor.begun[i][1].set_exception(LostError("gone"))
        with pytest.raises(WorkerDiedError, match="3 workers died at one call; gone"):
            second.result(10)
        assert executor.names(6) == [0, 0, 1, 1, 1, 2]
        executor.begun[5][1].set_exception(ValueError("its own"))
        with pytest.raises(ValueError, match="its own"):
            third.result(10)


def test_its_end_stops_what_runs_and_drops_what_waits() -> None:
    executor = MadeUp(1)
    running, waiting = executor.submit(str, 0), executor.submit(str, 1)
    executor.names(1)
    executor.end()
    assert executor.stopped == [executor.begun[0][1]]
    assert waiting.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        running.result(10)
    with pytest.raises(RuntimeError, match="shut down"):
        executor.submit(str, 2)


@pytest.mark.parametrize(
    ("named", "count", "gpus"),
    [(None, 3, ("0", "1", "2")), ("5,2", 2, ("5", "2")), ("GPU-a1", 1, ("GPU-a1",)), ("", 0, ()), (None, 0, ())],
)
def test_processes_take_turns_with_the_gpus(
    named: str | None, count: int, gpus: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    assert visible_gpus() == gpus
    turns = [one_gpu(gpus, turn).get("CUDA_VISIBLE_DEVICES") for turn in range(5)]
    assert turns == ([gpus[turn % count] for turn in range(5)] if gpus else [None] * 5)


def seen(seconds: float) -> tuple[int, str | None]:
    time.sleep(seconds)
    return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")


def test_each_process_of_the_local_pool_sees_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "visible_gpus", lambda: ("7", "3"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    pool = LocalPool(3, "cuda")
    try:
        found = dict(pool.map(seen, [0.5] * 6))
    finally:
        pool.end()
    assert sorted(map(str, found.values())) in (["3", "7", "7"], ["3", "7"])  # a quick process may do the third's work


def test_without_workers_given_there_is_one_for_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for device, workers in (("cuda", 3), ("auto", 3), ("cpu", os.cpu_count())):
        with machines(device=device) as here:
            assert here.workers == workers
            assert here.make_executor is None


def test_more_workers_than_processors_are_no_faster() -> None:
    cores = os.cpu_count() or 1
    with machines(workers=10 * cores) as here:
        assert (here.workers, here.at_once) == (10 * cores, cores)
    with machines(workers=0) as here:
        assert (here.workers, here.at_once) == (0, 1)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"address": "10.0.0.1:6379"}, "--address is that of a cluster"),
        ({"executor": "ray", "workers": 0}, "--executor ray trains on the workers of a cluster"),
        ({"executor": "slurm"}, "--executor slurm: choose one of local, ray, dask"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words), machines(**given):
        pass


def test_other_software_on_a_node_is_refused_in_a_sentence() -> None:
    here = software()
    assert check({"a": here, "b": here}) == ()
    for there, words in (
        (replace(here, torch="1.0"), rf"node b has torch 1.0 and this machine {re.escape(here.torch)}"),
        (replace(here, lossmith="9.9"), "node b has lossmith 9.9 and this machine"),
        (replace(here, code="0"), "code of lossmith .* on the node b differs"),
        (ImportError("No module named 'msgspec'"), r"node b cannot import lossmith \(No module named 'msgspec'\)"),
    ):
        with pytest.raises(ClusterError, match=words):
            check({"a": here, "b": there})
    (note,) = check({"a": replace(here, processor="arm64 with DEFAULT")})
    assert "arm64 with DEFAULT there" in note


def test_the_last_error_of_a_traceback_is_told() -> None:
    error = "ImportError: ray::software()\nTraceback\n  File x\nModuleNotFoundError: No module named 'torch'\n"
    assert "cannot import lossmith (No module named 'torch')" in no_import(error, "n")


def test_a_call_in_a_child_is_stopped_or_lost_without_harm() -> None:
    children = Children("cpu")

    answer = children.call(pickle.dumps((abs, -3)), lambda: False)
    assert pickle.loads(answer) == (True, 3)
    returned, error = pickle.loads(children.call(pickle.dumps((int, "x")), lambda: False))
    assert not returned
    assert isinstance(error, ValueError)
    with pytest.raises(StoppedError):
        children.call(pickle.dumps((time.sleep, 100)), lambda: True)
    with pytest.raises(LostError, match="ended with code 7"):
        children.call(pickle.dumps((os._exit, 7)), lambda: False)
    assert pickle.loads(children.call(pickle.dumps((abs, -4)), lambda: False)) == (True, 4)


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    """What it is doing would take a minute."""
    program = (
        "import os, pickle, threading, time\n"
        "from lossmith.trials.executors.child import Children\n"
        "children = Children('cpu')\n"
        "print(pickle.loads(children.call(pickle.dumps((os.getpid,)), lambda: False))[1], flush=True)\n"
        "threading.Thread(target=children.call, args=(pickle.dumps((time.sleep, 60)), lambda: False)).start()\n"
        "time.sleep(1)\n"
        "os._exit(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    child = int(done.stdout)
    assert soon(lambda: not alive(child))


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
