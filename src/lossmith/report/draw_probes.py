"""The pictures of what probes measured in the final trainings: sharpness, tangent kernel, margins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from lossmith.comparison.rows import Row
from lossmith.report.highlights import INK
from lossmith.report.scene import Picture, Scene, draw_lines, limits, log_limits, log_ticks
from lossmith.report.svg import PANEL, drawing, to_svg


class _Panel(NamedTuple):
    """What a panel shows: column, label, title for those who hear it, and whether its axis is logarithmic."""

    column: str
    label: str
    title: str
    log: bool


class _Shown(NamedTuple):
    """How a probe is shown."""

    title: str
    reading: str
    panels: tuple[_Panel, ...]


_SHOWN: Final = {
    "sharpness": _Shown(
        "Sharpness",
        "The largest eigenvalue of the Hessian of each loss, over the threshold of the optimiser at its learning rate "
        "(left), and by itself (right). Above 1 a step overshoots along the sharpest direction. For Adam the Hessian "
        "is preconditioned. Medians over the final trainings.",
        (
            _Panel("ratio", "sharpness over threshold", "Sharpness over threshold against steps", log=True),
            _Panel("sharpness", "sharpness", "Sharpness against steps", log=True),
        ),
    ),
    "ntk": _Shown(
        "Tangent kernel",
        "The largest eigenvalue of the neural tangent kernel, averaged over the outputs: how strongly an update by "
        "some examples moves the outputs for others. Medians over the final trainings.",
        (
            _Panel(
                "largest eigenvalue", "largest eigenvalue", "Largest eigenvalue of the kernel against steps", log=True
            ),
        ),
    ),
    "margin": _Shown(
        "Margins",
        "The logit of the target minus the largest of the others, on training examples: the median (left) and the "
        "smallest (right). Medians over the final trainings.",
        (
            _Panel("median", "median margin", "Median margin against steps", log=False),
            _Panel("smallest", "smallest margin", "Smallest margin against steps", log=False),
        ),
    ),
}


def sharpness(scene: Scene) -> Picture | None:
    """Sharpness over its threshold, and by itself."""
    return _picture(scene, "sharpness")


def tangent_kernel(scene: Scene) -> Picture | None:
    """The largest eigenvalue of the tangent kernel."""
    return _picture(scene, "ntk")


def margins(scene: Scene) -> Picture | None:
    """Median and smallest margin."""
    return _picture(scene, "margin")


def _picture(scene: Scene, probe: str) -> Picture | None:
    if not any(probe in row.training.probes for row in scene.results.rows):
        return None
    title, reading, panels = _SHOWN[probe]
    drawn = tuple(_draw(scene, probe, panel) for panel in panels)
    return Picture(probe, title, reading, drawn, "pair", scene.looks, scene.others)


def _draw(scene: Scene, probe: str, panel: _Panel) -> str:
    figure, ax = drawing(*PANEL, x="steps", y=panel.label)
    if panel.column == "ratio":
        ax.axhline(1, color=INK, linewidth=0.6)

    def curve(row: Row) -> tuple[Sequence[float], Sequence[float]]:
        found = row.training.probes.get(probe)
        return ((), ()) if found is None else (found.steps, found.columns[panel.column])

    draw_lines(ax, scene, curve, markers=5)
    values = [value for row in scene.near for value in curve(row)[1]]
    if panel.log:
        ax.set_yscale("log")
        if (found := log_limits([*values, 1.0] if panel.column == "ratio" else values)) is not None:
            ax.set_ylim(*found)
            log_ticks(ax, "y", *found)
    else:
        ax.set_ylim(limits(values))
    return to_svg(figure, f"{probe}-{panel.column.split()[0]}", panel.title)
