"""Progress of a run: a bar with the remaining time in a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from lossmith.comparison.estimate import Estimate, duration
from lossmith.trials.result import Curve
from lossmith.trials.training import Progress as TrainingProgress

_SECONDS_BETWEEN_LINES = 15.0
_PRIOR = 100  # trainings that an estimate from before counts as


class ConsoleProgress:
    """Shows the progress of a run, stage by stage, with the time that is left of all of it.

    Args:
        console: the console to print to.
        expected: how long all stages will take; ``None``: not known, the time left is that of the stage.
    """

    def __init__(self, console: Console, expected: Estimate | None = None) -> None:
        self.console, self.expected = console, expected
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._label, self._total, self._done, self._shown = "", 0, 0, 0.0
        self._finished, self._begun = 0, time.monotonic()
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn())
            self._bar = Bar(*columns, TimeElapsedColumn(), TextColumn("{task.fields[left]}"), console=console)

    def __enter__(self) -> ConsoleProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            if self._task is not None:
                self._bar.update(self._task, left="")
            self._bar.stop()

    @property
    def kept(self) -> str:
        """What is kept of a run that is stopped now, in two sentences."""
        if not self._label:
            return "No training was begun."
        return (
            f"{self._done} of {_trainings(self._total)} of the stage '{self._label}' are done and kept. "
            "Run the same command to resume."
        )

    def start(self, label: str, total: int, done: int) -> None:
        """Begin a stage of ``total`` trainings, of which ``done`` are already in the ledger."""
        self._label, self._total, self._done, self._shown = label, total, done, time.monotonic()
        if self._bar is not None:
            if self._task is not None:
                self._bar.stop_task(self._task)
                self._bar.update(self._task, left="")
            self._task = self._bar.add_task(label, total=total, completed=done, left=self.left)
        elif done < total:
            kept = f", {done} of them already done" if done else ""
            self.console.print(f"{label}: {_trainings(total)}{kept}{self._told}", soft_wrap=True)

    def advance(self, trainings: int) -> None:
        """Count finished trainings."""
        self._done += trainings
        self._finished += trainings
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=trainings, left=self.left)
        elif time.monotonic() - self._shown >= _SECONDS_BETWEEN_LINES:
            self._shown = time.monotonic()
            self.console.print(f"{self._label}: {self._done} of {self._total}{self._told}", soft_wrap=True)

    @property
    def left(self) -> str:
        """The time left of the whole run in words; empty before anything is known of it."""
        expected, elapsed = self.expected, time.monotonic() - self._begun
        remaining = self._total - self._done
        if expected is not None and expected.trainings:
            remaining = max(remaining, expected.trainings - self._finished)
            prior = expected.seconds / expected.trainings
            each = (_PRIOR * prior + elapsed) / (_PRIOR + self._finished)
        elif self._finished:
            each = elapsed / self._finished
        else:
            return ""
        return f"about {duration(each * remaining)} left" if remaining else ""

    @property
    def _told(self) -> str:
        return f", {self.left}" if self.left else ""


def _trainings(count: int) -> str:
    return f"{count} training{'s' * (count != 1)}"


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
