"""Dask: each call is a task, which a worker hands to a process of its own."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import pickle
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from typing_extensions import override

from lossmith.trials.executors.child import Children
from lossmith.trials.executors.cluster import ClusterError, ClusterExecutor, Future, LostError, Task, knock
from lossmith.trials.executors.local import visible_gpus
from lossmith.trials.executors.node import check, compute, no_import, software
from lossmith.trials.parcel import Manifest, Packed, Parcel, node_folder
from lossmith.trials.trial import Sources

try:
    import dask
    import distributed
    from distributed.diagnostics.plugin import WorkerPlugin
except ImportError:
    raise ClusterError("--executor dask needs Dask: pip install lossmith[dask]") from None

_NOT_TCP: Final = {"inproc", "ucx"}
_PATIENCE: Final = 60  # seconds in which a scheduler answers, and the first worker comes


@dataclass(frozen=True)
class DaskCluster:
    """A Dask cluster that this process is connected to.

    Args:
        client: the connection.
        notes: what a user should know of it, in sentences.
    """

    client: distributed.Client
    notes: tuple[str, ...]

    @property
    def nodes(self) -> int:
        """Number of machines that compute."""
        return len({address.rpartition(":")[0] for address in self.client.nthreads()})

    def slots(self, device: str) -> int:
        """How many trainings it can do at once: as many as its workers have threads, or as they see GPUs."""
        found = self.client.run(_gpus) if device == "cuda" else self.client.nthreads()
        return sum(found.values())

    def executor(self, workers: int, device: str) -> DaskExecutor:
        """An executor for so many calls at once."""
        return DaskExecutor(self.client, workers, device)


def _gpus() -> int:
    """How many GPUs a worker sees."""
    return len(visible_gpus())


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[DaskCluster]:
    """Connect to a Dask cluster, or use the client that the process has.

    Args:
        address: of the scheduler, ``"tcp://HOST:8786"``; ``None``: that of ``DASK_SCHEDULER_ADDRESS``, else a new
            cluster of this machine's processors, which ends with the connection.

    Yields:
        The cluster, all of whose workers can be used.

    Raises:
        ClusterError: if there is none at the address, or a worker cannot be used; one sentence.
    """
    with contextlib.ExitStack() as stack:
        client = _client(address, stack)
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError:
            raise ClusterError(
                f"the Dask cluster at {client.scheduler.address} has no workers: start one with dask worker"
            ) from None
        found = client.run(software, on_error="return")
        yield DaskCluster(client, check(found))


def _client(address: str | None, stack: contextlib.ExitStack) -> distributed.Client:
    if address is None:
        with contextlib.suppress(ValueError):  # there is none
            found: distributed.Client = distributed.default_client()
            return found
        if dask.config.get("scheduler-address", None) is None:
            cluster = distributed.LocalCluster(
                n_workers=1, threads_per_worker=os.cpu_count() or 1, processes=False, dashboard_address="127.0.0.1:0"
            )
            return stack.enter_context(distributed.Client(stack.enter_context(cluster)))
    asked = address or dask.config.get("scheduler-address", None)
    try:
        if isinstance(asked, str) and asked.partition("://")[0] not in _NOT_TCP:
            knock(asked)  # Dask tries for a minute
        return stack.enter_context(distributed.Client(address, timeout=_PATIENCE, set_as_default=False))
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ClusterError(f"--address {asked}: there is no Dask scheduler to connect to ({reason})") from None


class DaskExecutor(ClusterExecutor):
    """Runs calls as tasks of Dask, each in a process of its own.

    A worker's thread could neither be stopped, nor use its own random numbers and number of threads, nor fail alone.

    Args:
        client: the connection.
        most: calls that are under way at once.
        device: ``"cpu"``, or ``"cuda"``: the processes of a worker take turns with the GPUs that it sees.
    """

    def __init__(self, client: distributed.Client, most: int, device: str = "cpu") -> None:
        super().__init__(most)
        self._client, self._device = client, device
        self._futures: dict[Future, distributed.Future] = {}
        self._plugins: list[str] = []

    @override
    def share(self, parcel: Parcel) -> Packed:
        plugin = _Unpacking(parcel)
        self._client.register_plugin(plugin, name=plugin.name)
        self._plugins.append(plugin.name)
        return _OnNode(parcel.manifest)

    @override
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures)
        self._forget_parcels()

    @override
    def end(self) -> None:
        super().end()
        self._forget_parcels()

    @override
    def _start(self, task: Task) -> Future:
        call = pickle.dumps((compute, software(), task.function, *task.arguments))
        theirs = self._client.submit(on_worker, call, self._device, pure=False)
        future: Future = concurrent.futures.Future()
        self._futures[future] = theirs
        theirs.add_done_callback(lambda _: future.set_result(None))
        return future

    @override
    def _outcome(self, under_way: Future) -> object:
        future = self._futures.pop(under_way)
        try:
            returned, value = pickle.loads(future.result())
        except distributed.KilledWorker as error:
            raise LostError(str(error)) from None
        except ImportError as error:
            raise ClusterError(no_import(f"{type(error).__name__}: {error}", "that joined later")) from None
        except (concurrent.futures.CancelledError, distributed.client.FuturesCancelledError):
            raise ClusterError("the connection to the Dask scheduler was lost: run the same command again") from None
        if not returned:
            raise value
        return value

    @override
    def _stop(self, under_way: Sequence[Future]) -> None:
        self._client.cancel([self._futures.pop(future) for future in under_way if future in self._futures], force=True)

    def _forget_parcels(self) -> None:
        for name in self._plugins:
            with contextlib.suppress(OSError, ValueError):  # the scheduler is gone
                self._client.unregister_worker_plugin(name)
        self._plugins.clear()


class _Unpacking(WorkerPlugin):
    """Unpacks a parcel on each worker, also on those that come later."""

    def __init__(self, parcel: Parcel) -> None:
        self.parcel: Parcel | None = parcel
        self.name = f"lossmith-{uuid.uuid4()}"

    @override
    def setup(self, worker: distributed.Worker) -> None:
        if self.parcel is not None:
            self.parcel.unpack(node_folder())
        self.parcel = None  # what is on the disk need not be in memory


@dataclass(frozen=True)
class _OnNode:
    """A parcel that every worker has unpacked before it computes.

    Args:
        manifest: what is in it.
    """

    manifest: Manifest

    def unpack(self, folder: Path) -> Sources:
        """Where its files lie."""
        return self.manifest.sources(folder)


_CHILDREN: Final = {device: Children(device) for device in ("cpu", "cuda")}
"""Of this worker process."""


def on_worker(call: bytes, device: str) -> bytes:
    """Do a call in a process of its own, which ends if the task is cancelled.

    Args:
        call: pickled.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        The pickled answer.
    """
    worker = distributed.get_worker()
    key = worker.get_current_task()

    def stopped() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    return _CHILDREN[device].call(call, stopped)
