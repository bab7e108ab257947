"""The picture of a classifier's calibration."""

from __future__ import annotations

import math
from typing import Final

from lossmith.report.highlights import INK
from lossmith.report.scene import Picture, Scene
from lossmith.report.svg import PANEL, drawing, to_svg

_FEW: Final = 20


def reliability(scene: Scene) -> Picture:
    """Accuracy against confidence on test, before and after temperature scaling."""
    panels = tuple(_reliability_panel(scene, what) for what in ("as trained", "temperature scaled"))
    return Picture(
        "reliability",
        "Reliability",
        "Share of test examples that are right at each level of confidence. On the diagonal, confidence "
        "equals accuracy; above it the model is underconfident, below it overconfident. The larger a dot, the more "
        f"examples it stands for; bins with fewer than {_FEW}, all final trainings together, are left out. First as "
        "trained, then after dividing the logits by one number, fitted on validation.",
        panels,
        "pair",
        scene.looks,
    )


def _reliability_panel(scene: Scene, what: str) -> str:
    width, _, margins = PANEL
    figure, ax = drawing(width, 0.85 * width, margins, x=f"confidence, {what}", y="share that is right")
    ax.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
    for row in scene.rows:
        look = scene.looks.get(row.name)
        diagram = next((each for each in row.diagrams if each.name == what), None)
        if look is None or diagram is None:
            continue
        points = zip(diagram.x, diagram.y, diagram.count, strict=True)
        seen = [point for point in points if point[2] >= _FEW]
        x, y = [point[0] for point in seen], [point[1] for point in seen]
        ax.plot(x, y, color=look.colour, linestyle=(0, look.dashes) if look.dashes else "-", linewidth=1.1)
        sizes = [4 + 60 * math.sqrt(point[2] / sum(diagram.count)) for point in seen]
        ax.scatter(x, y, s=sizes, color=look.colour, marker=look.marker, alpha=0.85, linewidths=0)
    ax.set_xlim(0, 1.02)
    ax.set_ylim(0, 1.02)
    return to_svg(figure, f"reliability-{what.split()[0]}", f"Share that is right against confidence, {what}")
