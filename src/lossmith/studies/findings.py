"""What a study finds: claims with verdicts, and the tables and plots that they rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

MOST_NAMED: Final = 6
"""Lines of a plot that can be told apart."""
Verdict = Literal["holds", "holds in part", "does not hold", "undecided"]


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, judged.

    Args:
        text: what the paper claims, in a sentence.
        verdict: whether it holds here.
        because: the reason, in a sentence or two with the numbers that decide.
    """

    text: str
    verdict: Verdict
    because: str


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Args:
        head: names of the columns.
        rows: the cells of each row; the first names it.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Line:
    """A line of a plot.

    Args:
        x: across.
        y: up; NaN makes a gap.
        name: in the legend; empty: the line is faint and has no entry.
        low: lower edge of a band around the line, if there is one.
        high: its upper edge.
    """

    x: Sequence[float]
    y: Sequence[float]
    name: str = ""
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class Plot:
    """Lines over a common pair of axes.

    Args:
        title: what it shows.
        x: label of the axis across, with the unit.
        y: label of the axis upwards, with the unit.
        lines: the lines, at most `MOST_NAMED` of them named.
        log: the axes that are logarithmic, ``""``, ``"x"``, ``"y"`` or ``"xy"``.
        level: where a horizontal line marks a threshold.
        dots: whether points are drawn, not joined.
    """

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    log: Literal["", "x", "y", "xy"] = ""
    level: float | None = None
    dots: bool = False

    def __post_init__(self) -> None:
        if sum(bool(line.name) for line in self.lines) > MOST_NAMED:
            raise ValueError(f"{self.title}: at most {MOST_NAMED} lines of a plot have names")


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        title: its heading.
        text: its paragraphs.
        tables: after the text.
        plots: after the tables.
    """

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()


@dataclass(frozen=True)
class Findings:
    """What a study found.

    Args:
        title: of the page.
        question: what the study asks, and the answer in short, in a paragraph.
        source: the paper.
        claims: each claim with its verdict.
        sections: what the verdicts rest on, the protocol among them.
    """

    title: str
    question: str
    source: str
    claims: tuple[Claim, ...]
    sections: tuple[Section, ...]
