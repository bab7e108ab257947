"""An executor for tests, which would wait for a worker to import torch."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any


class AtOnce(concurrent.futures.Executor):
    """Does what it is given in this process, at once."""

    def submit(self, call: Callable[..., Any], /, *given: Any, **named: Any) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        future.set_result(call(*given, **named))
        return future
