"""The leaderboard in the terminal: as many columns as its width holds, the same without colour."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from lossmith.comparison.rows import Row, Summary
from lossmith.report import numbers
from lossmith.report.beside import Beside, beside
from lossmith.report.highlights import failed_trainings, tone, without_interval
from lossmith.report.method import times_scored
from lossmith.report.numbers import NO_GAP
from lossmith.report.offers import Offer, offer
from lossmith.report.reading import clean
from lossmith.report.run import Design, Run
from lossmith.tasks import Words, metric_title

_LEAST_NAME: Final = 18
_BESIDE: Final = "beside:"
_GAP: Final = 2
_STYLES: Final = {"better": "green", "worse": "red", "even": "cyan"}
# From the fullest to the barest; the first that fits is shown.
_LAYOUTS: Final = (
    "rank loss score beside ce p ls_interval mde speed task trainings lr verdict",
    "rank loss score beside ce p ls_interval mde speed task trainings lr",
    "rank loss score beside ce p ls mde speed task trainings lr",
    "rank loss score beside ce p ls mde speed task",
    "rank loss score beside ce p ls mde speed",
    "rank loss score beside ce p ls mde",
    "rank loss score beside ce p ls",
    "rank loss score beside ce p",
    "rank loss score ce p",
    "rank loss score ce_mean p",
    "rank loss score ce_mean",
)


class Leaderboard:
    """The results of a run as rich prints them, fitted to the width of the console."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        design, results = self.run.design, self.run.results
        rows = [row for row in results.rows if row.rank is not None]
        columns = _columns(design, results, "->" if options.ascii_only else "→")
        names, name_width = _fit(columns, rows, options.max_width)
        yield plain_text(f"{design.model} on {design.name}", options, "dim")
        yield plain_text(f"judged by {metric_title(design.task.metric)}, {design.metric_reason}", options, "dim")
        yield plain_text(results.headline, options, "bold")
        yield ""
        yield plain_text(results.noise, options)
        yield plain_text(results.recommendation, options)
        yield ""
        yield _table({name: columns[name] for name in names}, name_width, results, options)
        yield ""
        for line in (*_legend(results, offer(design), names, design.task.words), *_beside(results)):
            yield plain_text(line, options)
        yield ""
        yield plain_text(times_scored(self.run), options)
        yield plain_text(_where(self.run), options)


@dataclass(frozen=True)
class _Column:
    head: str
    cell: Callable[[Row], str]
    justify: Literal["left", "right"] = "right"
    coloured: bool = False

    def width(self, rows: Iterable[Row]) -> int:
        return max(cell_len(line) for text in (self.head, *map(self.cell, rows)) for line in text.split("\n"))


def _table(columns: dict[str, _Column], name_width: int, results: Summary, options: ConsoleOptions) -> Table:
    rows = [row for row in results.rows if row.rank is not None]
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
    for name, column in columns.items():
        width = name_width if name == "loss" else column.width(rows)
        table.add_column(plain_text(column.head, options), justify=column.justify, width=width, overflow="fold")
    for row in rows:
        cells = []
        for name, column in columns.items():
            said = _broken(column.cell(row), name_width) if name == "loss" else column.cell(row)
            cells.append(plain_text(said, options, _STYLES.get(tone(row), "") if column.coloured else ""))
        table.add_row(*cells, style="bold" if row.name == results.recommended else "")
    return table


def _columns(design: Design, results: Summary, arrow: str) -> dict[str, _Column]:
    offered, words = offer(design), design.task.words
    digits = numbers.decimals(results.rows)

    def ce(row: Row) -> str:
        return "reference" if row.name == results.reference else numbers.gap(row.against_reference, digits)

    def ls(row: Row) -> str:
        return "reference" if row.name == results.rival else numbers.gap(row.against_rival, digits)

    def ls_mean(row: Row) -> str:
        return "ref." if row.name == results.rival else numbers.points((row.against_rival or NO_GAP).mean, digits)

    return {
        "rank": _Column("#", lambda row: str(row.rank)),
        "loss": _Column("loss", lambda row: row.name + (" *" if row.name == results.recommended else ""), "left"),
        "score": _Column("score\n%", lambda row: numbers.percent(row.score, digits)),
        "ce": _Column(f"minus {words.reference}\n[95 % interval]", ce, coloured=True),
        "ce_mean": _Column(
            f"minus\n{words.reference_short}",
            lambda row: numbers.points(row.against_reference.mean, digits) if row.against_reference else "ref.",
        ),
        "p": _Column("Holm\np", lambda row: numbers.p_value((row.against_reference or NO_GAP).holm_p)),
        "ls": _Column(f"minus\n{words.rival_short}", ls_mean),
        "ls_interval": _Column(f"minus {words.rival}\n[95 % interval]", ls),
        "mde": _Column("MDE", lambda row: numbers.percent((row.against_reference or NO_GAP).mde, digits)),
        "speed": _Column("steps\nratio", lambda row: numbers.steps_ratio(row.speed.ratio if row.speed else None)),
        **{name: _Column(each.head, _cell_of(each)) for name, each in _named(design).items()},
        "task": _Column(offered.head.format(arrow=arrow), lambda row: offered.cell(row, arrow) if offered.cell else ""),
        "trainings": _Column("train-\nings", lambda row: f"{row.tuning.trainings:,}"),
        "lr": _Column("learning\nrate", lambda row: numbers.median_rate(row.tuning.lrs)),
        "verdict": _Column("verdict", lambda row: row.kind, "left", coloured=True),
    }


def _named(design: Design) -> dict[str, Beside]:
    return {f"{_BESIDE}{each.name}": each for each in beside(design)}


def _cell_of(each: Beside) -> Callable[[Row], str]:
    return lambda row: each.shown(row.columns.get(each.name))


def _fit(columns: dict[str, _Column], rows: list[Row], width: int) -> tuple[list[str], int]:
    """The fullest layout that fits, and what it leaves for the names of the losses."""
    longest = columns["loss"].width(rows)
    beside = " ".join(name for name in columns if name.startswith(_BESIDE))
    for layout in _LAYOUTS:
        names = layout.replace(" beside", f" {beside}").split()
        left = width - sum(columns[name].width(rows) for name in names if name != "loss") - _GAP * (len(names) - 1)
        if left >= min(longest, _LEAST_NAME):
            break
    return names, max(8, min(longest, left))


def _broken(name: str, width: int) -> str:
    """A name broken into lines, after a colon, comma or space where there is one."""
    lines = []
    while cell_len(name) > width:
        room = next(n for n in range(len(name), 0, -1) if cell_len(name[:n]) <= width)
        begun = len(name) - len(name.lstrip()) + 1  # a cut in the indent would leave the line as it is
        cut = max(name.rfind(mark, begun, room) + 1 for mark in ":, ") or room
        lines.append(name[:cut].rstrip())
        name = "  " + name[cut:].lstrip() if width > 12 else name[cut:]
    return "\n".join([*lines, name])


def _legend(results: Summary, offered: Offer, names: list[str], words: Words) -> list[str]:
    """What the columns shown mean."""
    said = ["Differences in points."]
    if any(name == f"{_BESIDE}nll" for name in names):
        said.append("NLL: cross-entropy of the test labels, lower is better.")
    if "ls" in names or "ls_interval" in names:
        said.append(f"{words.rival_short}: the best tuned {words.rival}.")
    if "mde" in names:
        said.append("MDE: a true difference that large would have been found four times in five.")
    if "speed" in names:
        said.append(f"Steps ratio: steps to the final {_curve(results)} of {words.reference}, over its own.")
    if "task" in names and offered.legend:
        said.append(offered.legend)
    if "trainings" in names:
        said.append("Trainings: those spent on tuning.")
    if any(row.name == results.recommended and row.rank is not None for row in results.rows):
        said.append("*: recommended.")
    controls = [row.name for row in results.rows if row.role == "control"]
    return [" ".join(said), f"Controls, whose p is not adjusted: {', '.join(controls)}."]


def _curve(results: Summary) -> str:
    """What the learning curves show, by which steps are counted."""
    return next(iter(results.rows[0].training.curve.valid), "level")


def _beside(results: Summary) -> list[str]:
    """What cannot stand in the table."""
    share = results.probe_share
    return [
        *results.adaptation,
        *results.speed_sentences,
        *([] if share is None else [f"Probes took {100 * share:.0f} % of the time of the final trainings."]),
        *(f"No interval, as {reason}: {', '.join(names)}." for reason, names in without_interval(results).items()),
        *(f"{row.name}: {said}" for row in results.rows for said in failed_trainings(row)),
        *(f"Not ranked: {row.name}, {row.untrained}." for row in results.rows if row.untrained is not None),
    ]


def _where(run: Run) -> str:
    if run.report.is_file():
        return f"Report: {clean(str(run.report))}"
    return f"No report.html lies in {clean(str(run.folder))} yet."


def plain_text(text: str, options: ConsoleOptions, style: str = "") -> Text:
    """Text as it is, never read as markup; without characters that the terminal lacks."""
    if options.ascii_only:
        text = text.replace(numbers.MISSING, "-").encode("ascii", "replace").decode()
    return Text(text, style=style, overflow="fold")
