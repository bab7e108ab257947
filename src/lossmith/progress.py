"""Progress of a run: a bar with the time left in a terminal, one renewed output in a notebook, else a few lines."""

from __future__ import annotations

import contextlib
import html
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from typing_extensions import override

from lossmith.comparison.estimate import Estimate, duration
from lossmith.trials.result import Curve
from lossmith.trials.training import Progress as TrainingProgress

_SECONDS_BETWEEN_LINES = 15.0
_SECONDS_BETWEEN_SHOWS = 0.2
_PRIOR = 100  # trainings that an estimate from before counts as


class RunProgress:
    """How far a run has come, stage by stage, with the time that is left of all of it; shows nothing.

    Args:
        expected: how long all stages will take; ``None``: not known, the time left is that of the stage.
    """

    again = "call"
    """What is to be run again to resume."""

    def __init__(self, expected: Estimate | None = None) -> None:
        self.expected = expected
        self.label, self.total, self.done = "", 0, 0
        self._finished, self._begun = 0, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the display away, if there is one."""

    @property
    def kept(self) -> str:
        """What is kept of a run that is stopped now, in two sentences."""
        if not self.label:
            return "No training was begun."
        return (
            f"{self.done} of {_trainings(self.total)} of the stage '{self.label}' are done and kept. "
            f"Run the same {self.again} to resume."
        )

    def start(self, label: str, total: int, done: int) -> None:
        """Begin a stage of ``total`` trainings, of which ``done`` are already in the ledger."""
        self.label, self.total, self.done = label, total, done

    def advance(self, trainings: int) -> None:
        """Count finished trainings."""
        self.done += trainings
        self._finished += trainings

    @property
    def left(self) -> str:
        """The time left of the whole run in words; empty before anything is known of it."""
        expected, elapsed = self.expected, time.monotonic() - self._begun
        remaining = self.total - self.done
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
    def told(self) -> str:
        """`left` as the end of a sentence."""
        return f", {self.left}" if self.left else ""


class ConsoleProgress(RunProgress):
    """Shows the progress of a run on a console.

    Args:
        console: the console to print to.
        expected: how long all stages will take; ``None``: not known, the time left is that of the stage.
        again: what is to be run again to resume.
    """

    def __init__(self, console: Console, expected: Estimate | None = None, again: str = "command") -> None:
        super().__init__(expected)
        self.console, self.again = console, again
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._shown = 0.0
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn())
            self._bar = Bar(*columns, TimeElapsedColumn(), TextColumn("{task.fields[left]}"), console=console)

    @override
    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            if self._task is not None:
                self._bar.update(self._task, left="")
            self._bar.stop()

    @override
    def start(self, label: str, total: int, done: int) -> None:
        super().start(label, total, done)
        self._shown = time.monotonic()
        if self._bar is not None:
            if self._task is not None:
                self._bar.stop_task(self._task)
                self._bar.update(self._task, left="")
            self._task = self._bar.add_task(label, total=total, completed=done, left=self.left)
        elif done < total:
            kept = f", {done} of them already done" if done else ""
            self.console.print(f"{label}: {_trainings(total)}{kept}{self.told}", soft_wrap=True)

    @override
    def advance(self, trainings: int) -> None:
        super().advance(trainings)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=trainings, left=self.left)
        elif time.monotonic() - self._shown >= _SECONDS_BETWEEN_LINES:
            self._shown = time.monotonic()
            self.console.print(f"{self.label}: {self.done} of {self.total}{self.told}", soft_wrap=True)


class NotebookProgress(RunProgress):
    """Shows the progress of a run in one output of a notebook, which is renewed in place.

    Args:
        said: lines that stand above.
        expected: how long all stages will take; ``None``: not known, the time left is that of the stage.
    """

    again = "cell"

    def __init__(self, said: Sequence[str] = (), expected: Estimate | None = None) -> None:
        super().__init__(expected)
        self._said, self._output = tuple(said), NotebookOutput()

    @override
    def __enter__(self) -> Self:
        self._show()
        return self

    @override
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
        if stopped or kind is None:
            self._show(f"Stopped. {self.kept}" if stopped else "", last=True)

    @override
    def start(self, label: str, total: int, done: int) -> None:
        super().start(label, total, done)
        self._show(self._stage)

    @override
    def advance(self, trainings: int) -> None:
        super().advance(trainings)
        self._show(self._stage, share=self.done / self.total if self.total else 1.0)

    @property
    def _stage(self) -> str:
        return f"{self.label}: {self.done:,} of {_trainings(self.total)}{self.told}"

    def _show(self, line: str = "", share: float | None = None, *, last: bool = False) -> None:
        bar = "" if share is None else f'<progress value="{share:.3f}" max="1" style="width:20em"></progress>'
        lines = [*map(html.escape, self._said), *([html.escape(line)] if line else []), *([bar] if bar else [])]
        text = "\n".join([*self._said, *([line] if line else [])])
        self._output.show("".join(f'<div style="opacity:.8">{each}</div>' for each in lines), text, at_once=last)


class NotebookOutput:
    """An output of a notebook that is renewed in place, at most a few times a second."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._shown = 0.0

    def show(self, html_text: str, text: str, *, at_once: bool = True) -> None:
        """Put something in the place of what stands there.

        Args:
            html_text: what a notebook shows.
            text: what stands where HTML cannot.
            at_once: whether it must be shown, however short the time since the last.
        """
        display = import_module("IPython.display").display
        now = time.monotonic()
        if self._handle is not None and not at_once and now - self._shown < _SECONDS_BETWEEN_SHOWS:
            return
        self._shown, bundle = now, {"text/html": html_text, "text/plain": text}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def in_notebook() -> bool:
    """Whether this runs in a notebook, whose outputs are HTML."""
    return Console().is_jupyter


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
