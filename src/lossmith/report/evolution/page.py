"""The report of a search for losses: one self-contained page that opens offline."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from lossmith.comparison.files import write_file
from lossmith.report import page
from lossmith.report.evolution import said
from lossmith.report.evolution.draw import pictures
from lossmith.report.evolution.finals import final_tables
from lossmith.report.evolution.method import how_it_was_done
from lossmith.report.evolution.portrait import portrait
from lossmith.report.evolution.search_run import SearchRun
from lossmith.report.html import asset, breakable, environment

_MOST_ANCESTORS: Final = 25
_OPERATORS: Final = "-+*/,("


def write_search_report(run: SearchRun) -> Path:
    """Write ``report.html`` into the run folder, and into those of its comparisons that have none."""
    for comparison in run.comparisons:
        if not comparison.report.is_file():
            page.write_report(comparison)
    write_file(run.report, render_search(run))
    return run.report


def render_search(run: SearchRun) -> str:
    """The page as text; equal runs give equal text."""
    found = run.found
    drawn = [(picture, [Markup(panel) for panel in picture.panels]) for picture in pictures(run)]
    winner = portrait(found.winner, found.classes, "winner", found.known) if found.winner else None
    control = portrait(found.control_winner, found.classes, "control") if found.control_winner else None
    return (
        environment()
        .get_template("search.html.j2")
        .render(
            style=Markup(asset("report.css")),
            found=found,
            facts=said.facts(run),
            contents=_contents(run, [(picture.key, picture.title) for picture, _ in drawn]),
            winner=winner,
            control=control,
            variables=re.findall(r"[a-z]+", found.winner),
            comparisons=final_tables(run),
            pictures=drawn,
            **_tables(run),
            method=how_it_was_done(run),
            plan=run.plan,
            versions=run.design.versions,
            breakable=breakable,
            code=lambda formula: breakable(formula, _OPERATORS),
            name=said.strategy,
            nats=said.nats,
            error=said.error,
            percent=said.percent,
            result=said.result,
        )
    )


def _tables(run: SearchRun) -> dict[str, Any]:
    """What the tables and lists of the page hold, by its name in the template."""
    found = run.found
    named = run.names
    descent = list(said.descent(found.searches[0], named))
    return {
        "member_head": said.MEMBER_HEAD,
        "halls": [
            (
                search,
                [
                    (said.member_cells(rank, member, len(found.rungs), named), member.on_front)
                    for rank, member in said.hall_of(search)
                ],
            )
            for search in found.searches
        ],
        "choices": [(search, said.choices_of(found, search)) for search in found.searches] if found.choices else [],
        "lineage": descent[:_MOST_ANCESTORS],
        "older": len(descent[_MOST_ANCESTORS:]),
        "fates": said.fates(found.searches),
        "beside": said.beside_the_filters(found.searches),
        "rung_head": said.RUNG_HEAD,
        "rungs": said.rung_rows(found),
        "rung_sentences": said.rung_sentences(found),
    }


def _contents(run: SearchRun, drawn: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The sections of the page with their titles."""
    found = run.found
    return [
        *([("winner", "The winner")] if found.winner else []),
        *([("final", "Final comparisons")] if run.comparisons else []),
        *drawn,
        ("hall", "Hall of fame"),
        *([("choice", "The choice")] if found.choices else []),
        *([("lineage", "Lineage")] if found.searches[0].lineage else []),
        ("survival", "Candidates"),
        ("rungs", "Rungs"),
        ("method", "How this was done"),
        ("plan", "Plan"),
    ]
