"""The report of a run: one self-contained page of HTML that opens offline."""

from __future__ import annotations

import base64
import hashlib
import itertools
from pathlib import Path

from markupsafe import Markup

from lossmith.comparison.adaptation import ADAPTS, NOT_SHOWN
from lossmith.comparison.files import write_file
from lossmith.comparison.headlines import BETTER_CONTROL, FEWER_STEPS, GUESSING, HEADLINES, STRONGER_CONTROL
from lossmith.comparison.rows import Row, Summary
from lossmith.comparison.verdict import RULES
from lossmith.report import numbers
from lossmith.report.columns import page_columns
from lossmith.report.figures import pictures
from lossmith.report.highlights import failed_trainings, tone
from lossmith.report.html import asset, breakable, environment
from lossmith.report.method import OPTIMIZERS, how_it_was_done, times_scored
from lossmith.report.run import Design, Run
from lossmith.tasks import Words


def write_report(run: Run) -> Path:
    """Write ``report.html`` into the run folder, whole or not at all, and return the file."""
    write_file(run.report, render(run))
    return run.report


def render(run: Run) -> str:
    """The page as text; equal runs give equal text."""
    script = asset("sort.js")
    words = run.design.task.words
    columns = page_columns(run.design, run.results)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            style=Markup(asset("report.css")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            design=run.design,
            results=run.results,
            facts=_facts(run.design, run.results),
            columns=columns,
            groups=[(name, len(list(of))) for name, of in itertools.groupby(column.group for column in columns)],
            pictures=[(picture, [Markup(panel) for panel in picture.panels]) for picture in pictures(run)],
            tone=tone,
            breakable=breakable,
            noise_measured=any(
                row.name == run.results.again and row.against_reference is not None for row in run.results.rows
            ),
            scored=times_scored(run),
            method=how_it_was_done(run.design, run.results),
            rules=[rule.worded(words) for rule in RULES],
            headlines=[claim.worded(words) for claim in (*HEADLINES, GUESSING, BETTER_CONTROL, STRONGER_CONTROL)],
            adaptations=(ADAPTS, NOT_SHOWN),
            fewer_steps=FEWER_STEPS.worded(words),
            words=words,
            notes=_notes(run.results, words),
            plan=run.plan,
        )
    )


def _facts(design: Design, results: Summary) -> list[str]:
    """What was compared, in a line under the title."""
    folds = f"{design.data.folds} folds, " if design.data.folds else ""
    optimizer = f"{OPTIMIZERS.get(design.optimizer.name, design.optimizer.name)}, " if design.function is None else ""
    return [
        f"{sum(row.role != 'control' for row in results.rows)} losses, "
        f"{sum(row.role == 'control' for row in results.rows)} controls",
        design.task.summary,
        f"{folds}{design.repeats} repeats" + (" each" if design.data.folds else ""),
        f"{optimizer}{design.steps:,} steps",
        f"{design.budget} tuning trainings a loss and repeat",
    ]


def _notes(results: Summary, words: Words) -> list[tuple[str, list[str]]]:
    """What a reader should know of single losses."""
    return [(row.name, said) for row in results.rows if (said := _notes_on(row, words))]


def _notes_on(row: Row, words: Words) -> list[str]:
    said = [] if row.untrained is None else [f"It could not be trained under this budget: {row.untrained}."]
    if row.training.diverged and "diverged" not in (row.untrained or ""):
        said.append(f"{row.training.diverged} of its {len(row.runs)} final trainings diverged.")
    said += failed_trainings(row)
    if row.training.extended_share > 0:
        share = numbers.significant(100 * row.training.extended_share)
        said.append(f"Too steep to compute with, it was continued by its tangent for {share} % of the examples seen.")
    if row.against_reference is not None and row.against_reference.reason is not None:
        said.append(f"No interval against {words.reference}: {row.against_reference.reason}.")
    return said + [f"Warning while training: {note.rstrip('.')}." for note in row.training.notes]
