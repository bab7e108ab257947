"""The page of a study, as HTML for a browser and as Markdown with pictures for a repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lossmith.comparison.estimate import duration
from lossmith.comparison.files import write_file
from lossmith.report.highlights import INK, LOOKS, REFERENCE, Look
from lossmith.report.html import asset, environment
from lossmith.report.scene import log_ticks
from lossmith.report.svg import FONT_SIZE, drawing, style, to_svg
from lossmith.studies.findings import Findings, Line, Plot
from lossmith.trials.files import written_whole

HTML: Final = "report.html"
MARKDOWN: Final = "report.md"
_SIZE: Final = (330.0, 215.0)
_LOOKS: Final = (REFERENCE, *LOOKS)
_FAINT: Final = 0.3
_DOTS_PER_INCH: Final = 150


@dataclass(frozen=True)
class Said:
    """Who made the page, and how.

    Args:
        command: that was given.
        seconds: that the trainings took on one core, all sittings together.
        quick: whether it was a trial run that proves nothing.
    """

    command: str
    seconds: float
    quick: bool

    @property
    def time(self) -> str:
        """The time in words."""
        return duration(self.seconds)


def write_study(findings: Findings, said: Said, folder: Path) -> Path:
    """Write ``report.html``, ``report.md`` and its pictures into a folder, and return the first."""
    plots = [(f"{place}-{number}", plot) for place, section in enumerate(findings.sections, start=1)
             for number, plot in enumerate(section.plots, start=1)]  # fmt: skip
    with style():
        panels = {key: to_svg(_figure(plot), f"p{key}", plot.title) for key, plot in plots}
        for key, plot in plots:
            _write_png(_figure(plot), folder / f"{key}.png")
    shown = {key: (plot, Markup(panels[key]), _legend(plot)) for key, plot in plots}
    pages = environment()
    write_file(folder / HTML, pages.get_template("study.html.j2").render(
        style=Markup(asset("report.css")), findings=findings, said=said, shown=shown))  # fmt: skip
    pages.autoescape = False
    write_file(folder / MARKDOWN, pages.get_template("study.md.j2").render(findings=findings, said=said))
    return folder / HTML


def _legend(plot: Plot) -> dict[str, Look]:
    return {line.name: look for line, look in _named(plot)}


def _named(plot: Plot) -> list[tuple[Line, Look]]:
    return list(zip([line for line in plot.lines if line.name], _LOOKS, strict=False))


def _figure(plot: Plot) -> Figure:
    figure, ax = drawing(*_SIZE, x=plot.x, y=plot.y)
    for line in plot.lines:
        if not line.name:
            _draw(ax, plot, line, None)
    for line, look in reversed(_named(plot)):
        _draw(ax, plot, line, look)
    if plot.level is not None:
        ax.axhline(plot.level, color=INK, linewidth=0.8, linestyle=(0, (2, 2)), zorder=5)
    if "x" in plot.log:
        ax.set_xscale("log")
        log_ticks(ax, "x", *ax.get_xlim())
    if "y" in plot.log:
        ax.set_yscale("log")
        log_ticks(ax, "y", *ax.get_ylim())
    return figure


def _draw(ax: Axes, plot: Plot, line: Line, look: Look | None) -> None:
    colour, alpha, width = (INK, _FAINT, 0.7) if look is None else (look.colour, 1.0, 1.2)
    label = line.name or "_"  # matplotlib leaves names that begin so out of legends
    x, y = np.asarray(line.x, dtype=float), np.asarray(line.y, dtype=float)
    if plot.dots:
        ax.plot(x, y, ".", color=colour, alpha=alpha, markersize=2.0, markeredgewidth=0, label=label)
        return
    dashes = (0, look.dashes) if look is not None and look.dashes else "-"
    ax.plot(x, y, color=colour, alpha=alpha, linewidth=width, linestyle=dashes, label=label)
    if line.low is not None and line.high is not None:
        ax.fill_between(x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)


def _write_png(figure: Figure, file: Path) -> None:
    """A picture on white ground, with its legend in it."""
    (ax,) = figure.axes
    if ax.get_legend_handles_labels()[1]:
        ax.legend(frameon=False, fontsize=FONT_SIZE - 1, reverse=True)
    figure.set_facecolor("white")
    with written_whole(file) as place:
        figure.savefig(place, format="png", dpi=_DOTS_PER_INCH, facecolor="white")
