"""What a search shows while it runs: a display that renews itself in a terminal or notebook, lines elsewhere."""

from __future__ import annotations

import html
import io
import time
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live

from lossmith.comparison.estimate import duration
from lossmith.evolution.findings import SearchFindings
from lossmith.progress import NotebookOutput
from lossmith.report.evolution import said
from lossmith.report.evolution.search_run import judged, score_of, trained
from lossmith.report.evolution.terminal import members, rejections
from lossmith.report.terminal import plain_text

_SECONDS_BETWEEN_LINES = 15.0
_PER_SECOND = 2.0
_NOTEBOOK_WIDTH = 110
_WORTH_KNOWING = 10.0  # seconds


class SearchDisplay:
    """Shows how far a search has come; a `Watcher`, and a context in which the display stands.

    Args:
        console: the console to print to.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._searches: tuple[SearchFindings, ...] = ()
        self._limit: tuple[float | None, int | None] = (None, None)
        self._at, self._seconds, self._shown = time.monotonic(), 0.0, -_SECONDS_BETWEEN_LINES
        self._label, self._total, self._done = "", 0, 0
        self._stage_begun, self._stage_done = self._at, 0
        self._live: Live | None = None
        self._output = NotebookOutput() if console.is_jupyter and not console.quiet else None
        if console.is_terminal and not console.is_jupyter:
            self._live = Live(self, console=console, refresh_per_second=_PER_SECOND, transient=True)

    def __enter__(self) -> SearchDisplay:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the display away."""
        if self._live is not None:
            self._live.stop()

    def begin(self, seconds: float | None, evaluations: int | None) -> None:
        """See `Watcher.begin`."""
        self._limit, self._at = (seconds, evaluations), time.monotonic()

    def generation(self, searches: tuple[SearchFindings, ...], seconds: float) -> None:
        """See `Watcher.generation`."""
        self._searches, self._seconds, self._at = searches, seconds, time.monotonic()
        self._tell()

    def start(self, label: str, total: int, done: int) -> None:
        """See `Progress.start`."""
        self._label, self._total, self._done = label, total, done
        self._stage_begun, self._stage_done = time.monotonic(), done

    def advance(self, trainings: int) -> None:
        """See `Progress.advance`."""
        self._done += trainings
        self._tell()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield plain_text(self.headline, options, "bold")
        if self._label:
            yield plain_text(self.stage, options)
        for search in self._searches[:1]:
            yield members(search, options, cut=True)
        for search in self._searches:
            yield plain_text(f"{said.strategy(search)} rejected: {rejections(search)}", options, "dim")

    @property
    def headline(self) -> str:
        """Time left, candidates, candidates per minute, in a line."""
        count, taught = sum(map(judged, self._searches)), sum(map(trained, self._searches))
        said_so_far = [f"{count:,} candidates", f"{taught:,} trained"] if self._searches else ["searching"]
        if self._searches and self._seconds > 0:
            said_so_far.append(f"{60 * count / self._seconds:,.0f} a minute")
        return ", ".join([*said_so_far, *self._left])

    @property
    def stage(self) -> str:
        """How far the stage has come, and its time left where that is worth knowing."""
        line = f"{self._label}: {self._done:,} of {self._total:,} trainings"
        if self._done == self._stage_done:
            return line
        each = (time.monotonic() - self._stage_begun) / (self._done - self._stage_done)
        left = each * (self._total - self._done)
        return f"{line}, about {duration(left)} left" if left > _WORTH_KNOWING else line

    @property
    def kept(self) -> str:
        """What is kept of a search that is stopped now, in a sentence or two."""
        return "What was trained is kept. Run the same command to resume."

    @property
    def _left(self) -> list[str]:
        seconds, evaluations = self._limit
        left = None
        if seconds is not None:
            left = seconds - self._seconds - (time.monotonic() - self._at)
        elif evaluations is not None and self._searches and (done := trained(self._searches[0])):
            left = self._seconds * (evaluations - done) / done
        return [f"about {duration(left)} of search left"] if left is not None and left > 0 else []

    def _tell(self) -> None:
        """Renew the output of a notebook, or print a line where no display stands, if the last one is some time ago."""
        if self._output is not None:
            recorded = Console(record=True, file=io.StringIO(), width=_NOTEBOOK_WIDTH, force_jupyter=False)
            recorded.print(self)
            text = recorded.export_text(clear=False, styles=False)
            self._output.show(f"<pre>{html.escape(text)}</pre>", text, at_once=False)
            return
        if self._live is not None or time.monotonic() - self._shown < _SECONDS_BETWEEN_LINES:
            return
        self._shown = time.monotonic()
        best = [member for search in self._searches[:1] for member in search.hall_of_fame[:1]]
        of = [f"best {said.nats(score_of(member))}: {member.formula}" for member in best]
        stage = [self.stage] if self._label else []
        line = "; ".join([self.headline, *stage, *of])
        self.console.print(line, soft_wrap=True, markup=False, highlight=False)
