"""The final comparisons of a search in short."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from lossmith.comparison.rows import Row
from lossmith.report import numbers
from lossmith.report.evolution.search_run import CONTROL_WINNER, WINNER, SearchRun
from lossmith.report.highlights import tone
from lossmith.report.run import Run
from lossmith.tasks import metric_title


@dataclass(frozen=True)
class FinalRow:
    """A loss: its rank, name, tone of colour, whether a search found it, and its cells, of which the last is told."""

    rank: str
    name: str
    tone: str
    found: bool
    cells: tuple[str, ...]


@dataclass(frozen=True)
class FinalTable:
    """A comparison: what it is called, its headline, where its own report lies, the heads of its columns, its rows.

    The notes say how noisy it is, and why losses could not be trained.
    """

    title: str
    headline: str
    link: str
    head: tuple[str, ...]
    rows: tuple[FinalRow, ...]
    notes: tuple[str, ...]


def final_tables(run: SearchRun) -> list[FinalTable]:
    """All comparisons, that on the data searched first."""
    return [_table(of, run) for of in run.comparisons]


def _table(of: Run, run: SearchRun) -> FinalTable:
    words, results = of.design.task.words, of.results
    digits = numbers.decimals(results.rows)

    def minus_reference(row: Row) -> str:
        return "reference" if row.name == results.reference else numbers.gap(row.against_reference, digits)

    def minus_rival(row: Row) -> str:
        return "reference" if row.name == results.rival else numbers.gap(row.against_rival, digits)

    def line(row: Row) -> FinalRow:
        holm = numbers.p_value((row.against_reference or numbers.NO_GAP).holm_p)
        cells = (numbers.percent(row.score, digits), minus_reference(row), holm, minus_rival(row), row.kind)
        return FinalRow(_rank(row), row.name, tone(row), row.name in _FOUND, cells)

    return FinalTable(
        f"{of.design.model} on {of.design.name}, by {metric_title(of.design.task.metric)}",
        results.headline,
        quote((of.report.relative_to(run.folder)).as_posix()),
        ("#", "loss", "score, %", f"minus {words.reference}", "Holm p", f"minus {words.rival}", "verdict"),
        tuple(map(line, results.rows)),
        (
            results.noise,
            *(f"{row.name} could not be trained: {row.untrained}." for row in results.rows if row.untrained),
        ),
    )


def _rank(row: Row) -> str:
    return numbers.MISSING if row.rank is None else str(row.rank)


_FOUND: Final = (WINNER, CONTROL_WINNER)
