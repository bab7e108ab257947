"""Ray: each call is a task with one processor, in a process of its own."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from lossmith.trials.executors.cluster import ClusterError, ClusterExecutor, Future, LostError, Task, knock
from lossmith.trials.executors.node import Software, check, compute, no_import, software
from lossmith.trials.parcel import Manifest, Packed, Parcel
from lossmith.trials.trial import Sources

try:
    import ray
    from ray.exceptions import RayError, RayTaskError, TaskCancelledError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:
    raise ClusterError("--executor ray needs Ray: pip install lossmith[ray]") from None

_PATIENCE: Final = 120.0  # seconds in which a node says what it has
_TELEMETRY: Final = "RAY_USAGE_STATS_ENABLED"
_UNIMPORTED: Final = re.compile(r"failed to import|No module named 'lossmith")


@dataclass(frozen=True)
class RayCluster:
    """A Ray cluster that this process is connected to.

    Args:
        notes: what a user should know of it, in sentences.
    """

    notes: tuple[str, ...]

    @property
    def nodes(self) -> int:
        """Number of nodes that compute."""
        return len(_nodes())

    def slots(self, device: str) -> int:
        """How many trainings it can do at once: its processors, or its GPUs."""
        return int(ray.cluster_resources().get("GPU" if device == "cuda" else "CPU", 0))

    def executor(self, workers: int, device: str) -> RayExecutor:
        """An executor for so many calls at once, which share the GPUs where there are fewer."""
        gpus = min(1.0, int(1e4 * self.slots(device) / workers) / 1e4) if device == "cuda" else 0.0
        return RayExecutor(workers, gpus)


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[RayCluster]:
    """Connect to a Ray cluster, or use the connection that the process has.

    Args:
        address: ``"HOST:PORT"``, ``"ray://HOST:10001"`` or ``"auto"``; ``None``: that of ``RAY_ADDRESS``, else a
            cluster that runs on this machine, else a new one of this machine's processors, which ends with the
            connection.

    Yields:
        The cluster, all of whose nodes can be used.

    Raises:
        ClusterError: if there is none at the address, or a node cannot be used; one sentence.
    """
    found = ray.is_initialized()
    if not found:
        _connect(address)
    try:
        if not _nodes():
            raise ClusterError("no node of the Ray cluster has processors: add a node to it")
        yield RayCluster(_checked())
    finally:
        if not found:
            ray.shutdown()


class RayExecutor(ClusterExecutor):
    """Runs calls as tasks of Ray.

    Args:
        most: calls that are under way at once.
        gpus: GPUs that each call has to itself, at most 1.
    """

    def __init__(self, most: int, gpus: float = 0.0) -> None:
        super().__init__(most)
        # Ray would begin again for ever what is killed for lack of memory; the base class counts.
        self._compute = ray.remote(compute).options(num_cpus=1, num_gpus=gpus, max_retries=0)
        self._references: dict[Future, ray.ObjectRef[Any]] = {}

    @override
    def share(self, parcel: Parcel) -> Packed:
        return _InStore(parcel.manifest, (ray.put(parcel),))

    @override
    def _start(self, task: Task) -> Future:
        reference = self._compute.remote(software(), task.function, *task.arguments)
        future: Future = reference.future()
        self._references[future] = reference
        return future

    @override
    def _outcome(self, under_way: Future) -> object:
        del self._references[under_way]
        try:
            return under_way.result()
        except RayTaskError as error:
            if _UNIMPORTED.search(str(error)):
                raise ClusterError(no_import(str(error), "that joined later")) from None
            raise error.cause if isinstance(error.cause, Exception) else error from None
        except TaskCancelledError:
            raise concurrent.futures.CancelledError from None
        except RayError as error:
            raise LostError(next(iter(str(error).splitlines()), type(error).__name__)) from None

    @override
    def _stop(self, under_way: Sequence[Future]) -> None:
        for future in under_way:
            reference = self._references.pop(future, None)
            if reference is not None:
                ray.cancel(reference, force=True)


@dataclass(frozen=True)
class _InStore:
    """A parcel in Ray's object store, which copies it to a node when the first of its processes asks.

    Args:
        manifest: what is in it.
        reference: to the parcel; in a tuple, so that Ray does not fetch it for each call.
    """

    manifest: Manifest
    reference: tuple[Any]

    def unpack(self, folder: Path) -> Sources:
        """As `Parcel.unpack`; fetches nothing if all is there."""
        if not self.manifest.is_in(folder):
            parcel: Parcel = ray.get(self.reference[0])
            parcel.unpack(folder)
        return self.manifest.sources(folder)


def _connect(address: str | None) -> None:
    """Connect without Ray's output, its telemetry and its handling of SIGTERM, which is the caller's business."""
    asked = address or os.environ.get("RAY_ADDRESS")
    try:
        knock(asked)  # Ray tries for minutes
    except OSError as error:
        raise _no_cluster(asked, error) from None
    handler, telemetry = signal.getsignal(signal.SIGTERM), os.environ.get(_TELEMETRY)
    if telemetry is None:
        os.environ[_TELEMETRY] = "0"  # for a cluster that begins here
    try:
        ray.init(address, log_to_driver=False, logging_level="ERROR", include_dashboard=None if address else False)
    except (ValueError, RuntimeError, OSError, RayError) as error:
        raise _no_cluster(address, error) from None
    finally:
        if telemetry is None:
            del os.environ[_TELEMETRY]
        with contextlib.suppress(ValueError):  # outside the main thread Ray sets none
            signal.signal(signal.SIGTERM, handler)


def _no_cluster(address: str | None, error: Exception) -> ClusterError:
    reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
    return ClusterError(f"--address {address}: there is no Ray cluster to connect to ({reason})")


def _nodes() -> dict[str, str]:
    """The address of each node that computes, by its identity."""
    return {
        node["NodeID"]: node["NodeManagerAddress"]
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
    }


def _checked() -> tuple[str, ...]:
    """Ask all nodes what they have.

    Raises:
        ClusterError: if one cannot be used.
    """
    asked = ray.remote(software)
    questions = {
        node: asked.options(
            num_cpus=0, max_retries=1, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote()
        for node in _nodes()
    }
    names, found = _nodes(), dict[str, Software | BaseException]()
    for node, question in questions.items():
        name = names.get(node, node[:8])
        try:
            found[name] = ray.get(question, timeout=_PATIENCE)
        except RayTaskError as error:
            found[name] = ImportError(str(error))
        except RayError as error:
            raise ClusterError(f"the node {name} does not answer: {next(iter(str(error).splitlines()), '')}") from None
    return check(found)
