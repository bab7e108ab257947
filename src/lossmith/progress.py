"""Progress of a run: a bar with the remaining time in a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from lossmith.trials.result import Curve
from lossmith.trials.training import Progress as TrainingProgress

_SECONDS_BETWEEN_LINES = 15.0


class ConsoleProgress:
    """Shows the progress of a run, stage by stage.

    Args:
        console: the console to print to.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._label, self._total, self._done, self._shown = "", 0, 0, 0.0
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn())
            self._bar = Bar(*columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console)

    def __enter__(self) -> ConsoleProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def kept(self) -> str:
        """What is kept of a run that is stopped now, in two sentences."""
        if not self._label:
            return "No training was begun."
        return (
            f"{self._done} of {self._total} trainings of the stage '{self._label}' are done and kept. "
            "Run the same command to resume."
        )

    def start(self, label: str, total: int, done: int) -> None:
        """Begin a stage of ``total`` trainings, of which ``done`` are already in the ledger."""
        self._label, self._total, self._done, self._shown = label, total, done, time.monotonic()
        if self._bar is not None:
            if self._task is not None:
                self._bar.stop_task(self._task)
            self._task = self._bar.add_task(label, total=total, completed=done)
        elif done < total:
            kept = f", {done} of them already done" if done else ""
            self.console.print(f"{label}: {total} trainings{kept}", soft_wrap=True)

    def advance(self, trainings: int) -> None:
        """Count finished trainings."""
        self._done += trainings
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, trainings)
        elif time.monotonic() - self._shown >= _SECONDS_BETWEEN_LINES:
            self._shown = time.monotonic()
            self.console.print(f"{self._label}: {self._done} of {self._total}", soft_wrap=True)


@contextlib.contextmanager
def training_progress(console: Console, steps: int) -> Iterator[TrainingProgress]:
    """Show the progress of one training: a bar with the latest validation scores, or ten lines without a terminal.

    Args:
        console: the console to print to.
        steps: number of training steps.

    Yields:
        The callback for `train_model`, which calls it at each point of the learning curve.
    """
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn())
        with Bar(*columns, TextColumn("left"), TimeRemainingColumn(), console=console) as bar:
            task = bar.add_task("training", total=steps)
            yield lambda step, curve: bar.update(task, completed=step, description=_latest(curve))
    else:
        shown = [0]

        def line(step: int, curve: Curve) -> None:
            if step * 10 // steps > shown[0]:
                shown[0] = step * 10 // steps
                console.print(f"step {step} of {steps}: {_latest(curve)}", soft_wrap=True, highlight=False)

        yield line


def _latest(curve: Curve) -> str:
    return ", ".join(f"validation {name} {values[-1]:.3f}" for name, values in curve.valid.items())
