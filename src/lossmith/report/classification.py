"""What a report shows of classifiers besides their scores: calibration."""

from __future__ import annotations

import math
from typing import Final

from lossmith.comparison.rows import Row
from lossmith.report import numbers
from lossmith.report.column import Column
from lossmith.report.highlights import INK
from lossmith.report.numbers import MISSING, is_known, percent
from lossmith.report.scene import Picture, Scene
from lossmith.report.svg import PANEL, drawing, to_svg
from lossmith.tasks.calibration import CALIBRATION_BINS

_FEW: Final = 20
METHOD: Final = (
    "Calibration",
    f"The calibration error is the expected one over {CALIBRATION_BINS} bins of equal width. Temperature "
    "scaling divides the logits by one number, fitted on validation.",
)


def reliability(scene: Scene) -> Picture:
    """Accuracy against confidence on test, before and after temperature scaling.

    Args:
        scene: The run.

    Returns:
        The picture.
    """
    panels = tuple(_reliability_panel(scene, what) for what in ("as trained", "temperature scaled"))
    return Picture(
        "reliability",
        "Reliability",
        "Of the test examples that a model is so confident about, this share is right. On the diagonal, confidence "
        "can be taken at its word; above it the model is too modest, below it too bold. The larger a dot, the more "
        f"examples it stands for; bins with fewer than {_FEW}, all final trainings together, are left out. First as "
        "trained, then after dividing the logits by one number, fitted on validation.",
        panels,
        "pair",
        scene.looks,
    )


def columns() -> tuple[Column, ...]:
    """The calibration of each loss, in columns of the page."""
    group = "Calibration on test, raw → temperature scaled"
    return (
        Column(
            group,
            "cross-entropy, nats",
            "Mean cross-entropy of the test labels, before and after temperature scaling.",
            lambda row: f"{_three(row, 'nll')} → {_three(row, 'nll_scaled')}",
            lambda row: row.columns.get("nll_scaled"),
        ),
        Column(
            group,
            "error, %",
            "Expected calibration error: by how much confidence and accuracy differ on average.",
            lambda row: errors(row),
            lambda row: row.columns.get("ece_scaled"),
        ),
        Column(
            group,
            "temperature",
            "What the logits are divided by; below 1 the model was too modest, above 1 too bold.",
            lambda row: numbers.significant(row.columns.get("temperature")),
            lambda row: row.columns.get("temperature"),
        ),
    )


def errors(row: Row, arrow: str = "→") -> str:
    """Expected calibration error in percent, before and after temperature scaling."""
    return f"{percent(row.columns.get('ece'), 1)} {arrow} {percent(row.columns.get('ece_scaled'), 1)}"


def _three(row: Row, name: str) -> str:
    value = row.columns.get(name)
    return MISSING if value is None or not is_known(value) else f"{value:.3f}"


def _reliability_panel(scene: Scene, what: str) -> str:
    width, _, margins = PANEL
    figure, ax = drawing(width, 0.85 * width, margins)
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
    ax.set_xlabel(f"confidence, {what}")
    ax.set_ylabel("share that is right")
    return to_svg(figure, f"reliability-{what.split()[0]}", f"Share that is right against confidence, {what}")
