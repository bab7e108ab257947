"""Simplification of formulas by sympy, in a separate process that can be killed on a timeout."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

from lossmith.formulas.errors import FormulaError
from lossmith.formulas.expression import Expression
from lossmith.formulas.parser import parse

_WORKER: Final = Path(__file__).with_name("sympy_worker.py")


def simplify(expression: Expression, seconds: float = 2.0) -> Expression:
    """Simplify a formula with sympy, within a time limit.

    Args:
        expression: the formula.
        seconds: the time limit. The first call in a process also starts sympy, which takes about a second.

    Returns:
        A formula with fewer nodes whose values agree with those of ``expression`` at test points, or ``expression``
        itself if sympy finds none in time.

    Raises:
        ValueError: if ``seconds`` is not positive.
    """
    if not seconds > 0:
        raise ValueError(f"seconds must be positive, not {seconds!r}")
    try:
        text = _SYMPY.ask(str(expression), time.monotonic() + seconds)
        simple = expression if text is None else parse(text)
    except FormulaError:
        return expression
    return simple if simple.size < expression.size and _agree(simple, expression) else expression


class _SympyProcess:
    """A worker process that is started on first use and restarted after a timeout."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = 0
        self.lock = threading.Lock()

    def ask(self, text: str, deadline: float) -> str | None:
        """Send a formula and wait for its simplified form; None on failure or timeout."""
        if not self.lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return None
        try:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            timer = threading.Timer(max(0.0, deadline - time.monotonic()), process.kill)
            timer.start()
            try:
                process.stdin.write(json.dumps(text).encode() + b"\n")
                process.stdin.flush()
                answer: str | None = json.loads(process.stdout.readline())
            finally:
                timer.cancel()
            return answer
        except (OSError, ValueError):  # a worker that was killed leaves half a line at most
            self.end()
            return None
        finally:
            self.lock.release()

    def end(self) -> None:
        """Kill the worker if this process started it."""
        process, self.process = self.process, None
        if process is None or self.owner != os.getpid():
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is not None and (self.owner != os.getpid() or self.process.poll() is not None):
            self.end()
        if self.process is None:
            self.owner = os.getpid()
            self.process = subprocess.Popen(
                [sys.executable, str(_WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # so that Ctrl-C does not reach the worker
            )
        return self.process


_SYMPY: Final = _SympyProcess()
atexit.register(_SYMPY.end)


def _agree(a: Expression, b: Expression) -> bool:
    """Whether two formulas have the same values at test points where the second is finite."""
    import torch

    from lossmith.formulas.evaluation import evaluate

    p = torch.tensor([1e-6, 0.003, 0.07, 0.25, 0.41, 0.5, 0.77, 0.93, 0.9999], dtype=torch.float64)
    for y in (0.0, 1.0):
        for n, t in ((2.0, 0.0), (10.0, 0.3), (1000.0, 1.0)):
            ours, theirs = (evaluate(each, p=p, c=-p.log(), y=y, n=n, t=t).expand(p.shape) for each in (a, b))
            known = theirs.isfinite()
            size = float(theirs[known].abs().max()) if known.any() else 1.0
            if not torch.allclose(ours[known], theirs[known], rtol=1e-9, atol=1e-9 * max(1e-30, size)):
                return False
    return True
