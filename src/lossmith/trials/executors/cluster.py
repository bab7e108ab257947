"""What executors of clusters share: a queue, tasks that run again where a worker was lost, and an end."""

from __future__ import annotations

import concurrent.futures
import queue
import socket
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from typing_extensions import override

from lossmith.trials.parcel import Packed, Parcel

Future = concurrent.futures.Future[Any]
Value = TypeVar("Value")
_MOST_LOSSES: Final = 3
_KNOCK: Final = 20.0  # seconds in which somebody opens
_PATIENCE: Final = 10.0  # seconds to wait for the thread that ends what is running


class ClusterError(RuntimeError):
    """A cluster that cannot be used; the message is one sentence that says why and what to do."""


class LostError(Exception):
    """The worker or the machine that computed a task is gone, and the task may be begun again."""


class WorkerDiedError(concurrent.futures.BrokenExecutor):
    """Each worker that computed this task died. Other tasks go on."""


def knock(address: str | None) -> None:
    """Find out at once whether somebody listens at an address, if it is of a host and a port.

    Raises:
        OSError: if nobody does.
    """
    host, _, port = (address or "").rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK).close()


class Cluster(Protocol):
    """A cluster that this process is connected to."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of it, in sentences."""

    @property
    def nodes(self) -> int:
        """Number of machines that compute."""

    def slots(self, device: str) -> int:
        """How many trainings it can do at once on a device, ``"cpu"`` or ``"cuda"``."""

    def executor(self, workers: int, device: str) -> ClusterExecutor:
        """An executor for so many calls at once."""


@dataclass
class Task:
    """A call under way.

    Args:
        function: what is called; a worker can import it.
        arguments: can be pickled.
        future: what its caller waits for.
        losses: workers that were lost with it.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    future: Future = field(default_factory=concurrent.futures.Future)
    losses: int = 0


class ClusterExecutor(concurrent.futures.Executor, ABC):
    """Runs calls on a cluster.

    A call whose worker or machine is lost begins again. After three losses it fails with `WorkerDiedError`, so that one
    that kills its worker is not tried for ever. One thread talks to the cluster.

    Args:
        most: calls that are under way at once.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._waiting: deque[Task] = deque()
        self._running: dict[Future, Task] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="lossmith-cluster", daemon=True)
        self._thread.start()

    @abstractmethod
    def share(self, parcel: Parcel) -> Packed:
        """Send a parcel to the nodes, to each once, and return what stands for it in calls."""

    @abstractmethod
    def _start(self, task: Task) -> Future:
        """Begin a task on the cluster; the future's outcome is for `_outcome`."""

    @abstractmethod
    def _outcome(self, under_way: Future) -> object:
        """What a task gave.

        Raises:
            LostError: if its worker is gone.
        """

    @abstractmethod
    def _stop(self, under_way: Sequence[Future]) -> None:
        """End tasks, whatever they are doing."""

    @override
    def submit(self, fn: Callable[..., Value], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Value]:
        if self._closed:
            raise RuntimeError("cannot submit to an executor that was shut down")
        assert not kwargs, "calls take positional arguments"
        task = Task(fn, args)
        self._events.put(lambda: self._waiting.append(task))
        return task.future

    @override
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._closed = True
        self._events.put(self._drop_waiting if cancel_futures else lambda: None)
        if wait:
            self._thread.join()

    def end(self) -> None:
        """Stop what is waiting and what is running."""
        self._closed = True
        self._events.put(self._drop_all)
        self._thread.join(_PATIENCE)

    def _work(self) -> None:
        while not (self._closed and not self._waiting and not self._running and self._events.empty()):
            self._events.get()()
            while self._waiting and len(self._running) < self.most:
                self._begin(self._waiting.popleft())

    def _begin(self, task: Task) -> None:
        if task.losses == 0 and not task.future.set_running_or_notify_cancel():
            return
        try:
            under_way = self._start(task)
        except Exception as error:  # it cannot be pickled, or the cluster is gone
            task.future.set_exception(error)
            return
        self._running[under_way] = task
        under_way.add_done_callback(lambda future: self._events.put(lambda: self._finish(future)))

    def _finish(self, under_way: Future) -> None:
        task = self._running.pop(under_way, None)
        if task is None:  # stopped
            return
        try:
            task.future.set_result(self._outcome(under_way))
        except LostError as error:
            task.losses += 1
            if task.losses < _MOST_LOSSES:
                self._waiting.appendleft(task)
            else:
                task.future.set_exception(WorkerDiedError(f"{task.losses} workers died at one call; {error}"))
        except (Exception, concurrent.futures.CancelledError) as error:
            task.future.set_exception(error)

    def _drop_waiting(self) -> None:
        for task in self._waiting:
            if task.losses:
                task.future.set_exception(concurrent.futures.CancelledError())
            elif task.future.cancel():
                task.future.set_running_or_notify_cancel()
        self._waiting.clear()

    def _drop_all(self) -> None:
        self._drop_waiting()
        running, self._running = self._running, {}
        self._stop(list(running))
        for task in running.values():
            task.future.set_exception(concurrent.futures.CancelledError())
