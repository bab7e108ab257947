"""``lossmith dynamics``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def dynamics(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that `lossmith train --probe ...` made.")],
    window: Annotated[str | None, typer.Option(help="The steps to show first, FROM:TO; default: all.")] = None,
) -> None:
    """Show how a training went: a page with its loss, sharpness, kernel and margins over the steps."""
    from lossmith.data.files import check_exists

    check_exists(run)
    from lossmith.report.course import load_course
    from lossmith.report.dynamics import instabilities_said, write_dynamics

    course = load_course(run)
    page = write_dynamics(course, run, None if window is None else _parse_window(window, course.steps))
    said = [] if course.onsets is None else [instabilities_said(course)]
    Console().print("\n".join([*said, f"The page is {page}."]), markup=False, highlight=False, soft_wrap=True)


def _parse_window(text: str, steps: int) -> tuple[int, int]:
    """Two steps from ``FROM:TO``."""
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and int(first) < int(last) and int(first) < steps):
        raise typer.BadParameter(
            f"{text}: give two of its {steps:,} steps, such as 0:{steps // 2}", param_hint="--window"
        )
    return int(first), int(last)
