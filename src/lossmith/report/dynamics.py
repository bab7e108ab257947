"""The page of a training's dynamics: panels over the steps that zoom together, in one self-contained file."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from pathlib import Path
from typing import Any, Final

import numpy as np
from markupsafe import Markup

from lossmith.comparison.files import write_file
from lossmith.dynamics.instability import FLIPS
from lossmith.report.course import Array, Course, Onset
from lossmith.report.highlights import LOOKS
from lossmith.report.html import asset, breakable, environment

NAME: Final = "dynamics.html"
_CLOSE: Final = 0.1


def write_dynamics(course: Course, folder: Path, window: tuple[int, int] | None = None) -> Path:
    """Write ``dynamics.html`` into a folder, whole or not at all, and return the file.

    Args:
        course: of the training.
        folder: the run folder.
        window: the steps that the page shows first; ``None``: all.
    """
    write_file(folder / NAME, render_dynamics(course, window))
    return folder / NAME


def render_dynamics(course: Course, window: tuple[int, int] | None = None) -> str:
    """The page as text; equal courses give equal text."""
    plot_script, script = asset("uplot/uPlot.iife.min.js"), asset("dynamics.js")
    return (
        environment()
        .get_template("dynamics.html.j2")
        .render(
            style=Markup(asset("report.css")),
            plot_style=Markup(asset("uplot/uPlot.min.css")),
            plot_script=Markup(plot_script),
            script=Markup(script),
            hashes=[_hash(plot_script), _hash(script)],
            course=course,
            breakable=breakable,
            colours=[look.colour for look in LOOKS],
            data=Markup(json.dumps(_data(course, window)).replace("<", "\\u003c")),
            summary=instabilities_said(course),
            onsets=[_cells(onset) for onset in course.onsets or ()],
        )
    )


def instabilities_said(course: Course) -> str:
    """A sentence or two on the instabilities of a training."""
    onsets = course.onsets or ()
    wild = "" if course.diverged is None else f" From step {course.diverged:,} on the loss is not finite: it diverged."
    if course.losses < FLIPS + 2:
        return f"The training is too short to find instabilities, which takes {FLIPS + 2} steps.{wild}"
    if not onsets:
        return f"The loss never jumps up and down for {FLIPS} steps in a row.{wild}"
    said = f"The loss jumps up and down in {len(onsets)} stretch{'es' * (len(onsets) > 1)}."
    ratios = [ratio for onset in onsets if math.isfinite(ratio := onset.sharpness / onset.threshold)]
    if ratios:
        close = sum(abs(ratio - 1) <= _CLOSE for ratio in ratios)
        said += (
            f" At {close} of {len(ratios)} onsets the sharpness is within 10 % of the threshold; its median is "
            f"{np.median(ratios):.2f} times the threshold."
        )
    return said + wild


def _cells(onset: Onset) -> tuple[str, ...]:
    def number(value: float) -> str:
        return f"{value:.3g}" if math.isfinite(value) else "-"

    of, ratio = onset.of, onset.sharpness / onset.threshold
    return f"{of.start:,}", f"{of.stop:,}", onset.kind, *map(number, (onset.sharpness, onset.threshold, ratio))


def _data(course: Course, window: tuple[int, int] | None) -> dict[str, Any]:
    """What the script draws."""
    panels = [
        {
            "log": panel.log,
            "steps": _encoded(panel.steps),
            "lines": [
                {"name": name, "values": _encoded(values), "dashed": name == panel.dashed, "colour": _colour(place)}
                for place, (name, values) in enumerate(panel.lines.items())
            ],
        }
        for panel in course.panels
    ]
    whole = (0, course.steps)
    unstable = [(onset.of.start, onset.of.stop) for onset in course.onsets or ()]
    return {"panels": panels, "unstable": unstable, "whole": whole, "window": window or whole}


def _colour(place: int) -> str:
    """The variable of the page that holds the colour of a line: that of the text for the first."""
    return f"--l{(place - 1) % len(LOOKS) + 1}" if place else "--ink"


def _encoded(values: Array) -> str:
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
