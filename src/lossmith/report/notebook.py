"""A finished comparison as a notebook shows it: what it found, a small table and the picture of the differences."""

from __future__ import annotations

import html
from typing import Final

from lossmith.comparison.rows import Row
from lossmith.report import numbers
from lossmith.report.figures import figure
from lossmith.report.highlights import tone
from lossmith.report.run import Run
from lossmith.tasks import metric_title

_COLOURS: Final = {"better": "#2a9d4a", "worse": "#e0533f", "even": "#3b8fc7"}
"""Readable on light and dark ground."""
_CELL: Final = "padding:.15em .7em;text-align:{side};white-space:nowrap;vertical-align:top"


def notebook_html(run: Run) -> str:
    """HTML without scripts, style sheets or anything from elsewhere, in the colours of the notebook."""
    design, results = run.design, run.results
    digits, words = numbers.decimals(results.rows), design.task.words
    heads = ("", "loss", f"test {metric_title(design.task.metric)}, %", f"minus {words.reference} [95 % interval]")
    head = "".join(_cell(text, "th", "left" if place < 2 else "right") for place, text in enumerate((*heads, "Holm p")))
    rows = "".join(_row(row, run, digits) for row in results.rows)
    out = [row for row in results.rows if row.rank is None]
    return (
        '<div style="max-width:64em">'
        f'<p style="opacity:.75;margin:.2em 0">{_said(f"{design.model} on {design.name}")}</p>'
        f'<p style="font-weight:bold;margin:.2em 0">{_said(results.headline)}</p>'
        f'<p style="margin:.2em 0">{_said(results.recommendation)}</p>'
        f'<p style="margin:.2em 0">{_said(results.noise)}</p>'
        f'<table style="border-collapse:collapse;margin:.6em 0"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>'
        "</table>"
        + "".join(f"<p>{_said(f'Not ranked: {row.name}, {row.untrained}.')}</p>" for row in out)
        + figure(run, "differences").panels
        + f'<p style="opacity:.75">{_said(str(run.folder))}</p></div>'
    )


def _row(row: Row, run: Run, digits: int) -> str:
    if row.rank is None:
        return ""
    results = run.results
    gap = "reference" if row.name == results.reference else numbers.gap(row.against_reference, digits)
    p = numbers.p_value((row.against_reference or numbers.NO_GAP).holm_p)
    name = row.name + (" *" if row.name == results.recommended else "")
    weight = ";font-weight:bold" if row.name == results.recommended else ""
    colour = _COLOURS.get(tone(row))
    cells = [
        _cell(str(row.rank), "td", "right", weight),
        _cell(name, "td", "left", weight),
        _cell(numbers.percent(row.score, digits), "td", "right", weight),
        _cell(gap, "td", "right", weight + (f";color:{colour}" if colour else "")),
        _cell(p, "td", "right", weight),
    ]
    return f'<tr title="{html.escape(row.verdict)}">{"".join(cells)}</tr>'


def _cell(text: str, tag: str, side: str, more: str = "") -> str:
    return f'<{tag} style="{_CELL.format(side=side)}{more}">{_said(text)}</{tag}>'


def _said(text: str) -> str:
    return html.escape(numbers.typeset(text))
