"""Where trials run: processes of this machine or a cluster, each with the interface of `concurrent.futures`."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Protocol, runtime_checkable

MakeExecutor = Callable[[int], concurrent.futures.Executor]
"""Makes an executor with a number of workers. What is submitted to it can be pickled."""


@runtime_checkable
class Endable(Protocol):
    """An executor that can be stopped, whatever it is doing."""

    def end(self) -> None:
        """Stop what is waiting and what is running."""
