"""Processes of their own for the calls of one worker process, whose threads cannot be stopped and share their fate."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from typing import Any, Final

from lossmith.trials.executors.cluster import LostError
from lossmith.trials.executors.local import one_gpu, visible_gpus

_BETWEEN_LOOKS: Final = 0.2  # seconds
_IDLE: Final = 60.0  # seconds after which a child without work ends
_MAIN: Final = "import sys; from lossmith.trials.executors.child import main; main(int(sys.argv[1]))"


class StoppedError(Exception):
    """The call is no longer wanted."""


class Children:
    """Processes that each do one call at a time, kept for the next one for a while.

    Args:
        device: ``"cpu"``, or ``"cuda"``: each process sees one GPU, and they take turns.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._idle: list[_Child] = []
        self._busy: set[int] = set()
        self._lock = threading.Lock()

    def call(self, call: bytes, stopped: Callable[[], bool]) -> bytes:
        """Do a call.

        Args:
            call: the pickled function and arguments.
            stopped: whether it is no longer wanted; asked now and then.

        Returns:
            The pickled pair of whether it returned, and what it returned or raised.

        Raises:
            LostError: if the process died.
            StoppedError: if it was stopped.
        """
        with self._lock:
            child = self._idle.pop() if self._idle else self._new()
            self._busy.add(child.turn)
        try:
            answer = child.call(call, stopped)
        except BaseException:
            child.end()
            raise
        else:
            with self._lock:
                self._idle.append(child)
            timer = threading.Timer(_IDLE, self._end_idle, (child, child.calls))
            timer.daemon = True
            timer.start()
            return answer
        finally:
            with self._lock:
                self._busy.discard(child.turn)

    def _new(self) -> _Child:
        taken = self._busy | {child.turn for child in self._idle}
        gpus = visible_gpus() if self._device == "cuda" else ()
        return _Child(next(turn for turn in range(len(taken) + 1) if turn not in taken), gpus)

    def _end_idle(self, child: _Child, calls: int) -> None:
        """End a child that has had no call since."""
        with self._lock:
            if child not in self._idle or child.calls != calls:
                return
            self._idle.remove(child)
        child.end()


class _Child:
    """A process that dies when this one does, since its pipe then ends."""

    def __init__(self, turn: int, gpus: tuple[str, ...]) -> None:
        self.turn, self.calls = turn, 0
        self._connection, theirs = Pipe()
        own = theirs.fileno()
        arguments = [sys.executable, "-c", _MAIN, str(own)]
        path = os.pathsep.join(path for path in sys.path if path)
        environment = {**os.environ, "PYTHONPATH": path, **one_gpu(gpus, turn)}
        self._process = subprocess.Popen(
            arguments, pass_fds=[own], stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        theirs.close()

    def call(self, call: bytes, stopped: Callable[[], bool]) -> bytes:
        self.calls += 1
        try:
            self._connection.send_bytes(call)
            while not self._connection.poll(_BETWEEN_LOOKS):
                if stopped():
                    raise StoppedError
            return self._connection.recv_bytes()
        except (EOFError, OSError):
            code = self._process.wait()
            raise LostError(f"its process ended with code {code}") from None

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._connection.close()


def main(descriptor: int) -> None:
    """Do the calls that come through a pipe, one after the other.

    Args:
        descriptor: of the pipe's end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection, calls = Connection(descriptor), queue.SimpleQueue[bytes]()
    threading.Thread(target=_receive, args=(connection, calls), daemon=True).start()
    while True:
        connection.send_bytes(_answer(calls.get()))


def _receive(connection: Connection, calls: queue.SimpleQueue[bytes]) -> None:
    """Take calls; where the other end is gone, this process ends, whatever it is doing."""
    while True:
        try:
            calls.put(connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(1)


def _answer(call: bytes) -> bytes:
    answer: tuple[bool, Any]
    try:
        function, *arguments = pickle.loads(call)
        answer = True, function(*arguments)
    except Exception as error:
        answer = False, error
    return pickle.dumps(answer)
