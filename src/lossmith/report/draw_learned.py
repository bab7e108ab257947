"""The picture of losses that learn: what each was at several moments, and how strongly it pulled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from torch import nn

from lossmith.comparison.rows import LearnedRow, Row
from lossmith.learned import strictness_curve
from lossmith.report.highlights import INK, LOOKS
from lossmith.report.scene import Picture, Scene, elide, limits
from lossmith.report.svg import FONT_SIZE, PANEL, drawing, style, to_svg

_SMALL: Final = (150.0, 110.0, (28.0, 5.0, 24.0, 12.0))
_P: Final = "probability of the true class"
_FINEST: Final = 0.2
_EARLY, _LATE = 0.2, 0.68  # of the colour map: what is readable on light and dark ground


def learned_losses(scene: Scene) -> Picture | None:
    """Each loss that learned: its strictness at several moments, and its effective scale over the training."""
    rows = [(row, row.training.learned) for row in scene.results.rows if row.training.learned is not None]
    if not rows:
        return None
    words = scene.design.task.words
    panels = [
        panel
        for place, (row, of) in enumerate(rows)
        for panel in (_pull(place, row, of, words.pull_axis), _scale(place, row, of))
    ]
    return Picture(
        "learned",
        "What the losses learned",
        f"For each loss that learned, on the left {words.pull}: "
        "at the beginning (orange), at a quarter, half, three quarters and the end of the training (violet), "
        "averaged over the final trainings. On the right its effective scale over the steps, the norm of its "
        "gradient in the model's outputs over that of its base, with the range over the trainings. A curve that only "
        "moves up and down is a learning rate; one that changes its shape is another loss. Axes differ by loss.",
        tuple(panels),
        "many",
        {},
        remarks=tuple(_formula(row, of) for row, of in rows if of.formula is not None),
    )


def write_curves(losses: Mapping[str, nn.Module], num_classes: int, path: str | Path) -> None:
    """Draw the strictness of several losses, such as one that learns at several moments, as an SVG file.

    Args:
        losses: by name, in their order in time; classification losses of logits and class indices, for example
            ``{"step 0": adaptive.freeze(), ...}``.
        num_classes: C.
        path: of the file.
    """
    p = torch.linspace(-6.0, 6.0, 97, dtype=torch.float64).sigmoid()
    with style():
        figure, ax = drawing(*PANEL, x=_P, y="strictness, cross-entropy = 1")
        ax.axhline(1, color=INK, linewidth=0.6)
        for i, (name, loss) in enumerate(losses.items()):
            curve = strictness_curve(loss, num_classes, p)
            ax.plot(p, curve, color=_colour(i, len(losses)), linewidth=1.2, label=name)
        ax.set_xlim(0, 1)
        ax.legend(frameon=False, fontsize=FONT_SIZE - 1)
        Path(path).write_text(to_svg(figure, "curves", "Strictness of losses"), encoding="utf-8")


def _pull(place: int, row: Row, of: LearnedRow, axis: str) -> str:
    figure, ax = drawing(*_SMALL, x=axis, title=elide(row.name, 29))
    ax.axhline(1, color=INK, linewidth=0.6)
    for i, curve in enumerate(of.pull):
        ax.plot(of.axis, curve, color=_colour(i, len(of.pull)), linewidth=1.2)
    ax.set_xlim(of.axis[0], of.axis[-1])
    _set_limits(ax, (value for curve in of.pull for value in curve))
    return to_svg(figure, f"learned{place}", f"Pull of {row.name} at {len(of.moments)} moments of the training")


def _scale(place: int, row: Row, of: LearnedRow) -> str:
    figure, ax = drawing(*_SMALL, x="steps", title="effective scale")
    colour = LOOKS[0].colour
    ax.axhline(1, color=INK, linewidth=0.6)
    ax.fill_between(of.steps, of.lowest, of.highest, color=colour, alpha=0.15, linewidth=0)
    ax.plot(of.steps, of.scale, color=colour, linewidth=1.2)
    _set_limits(ax, (*of.lowest, *of.highest))
    return to_svg(figure, f"scale{place}", f"Effective scale of {row.name} against training steps")


def _set_limits(ax: Axes, values: Iterable[float]) -> None:
    """Each plot has an axis of its own, never so fine that what is nearly cross-entropy looks like anything else."""
    ax.set_ylim(limits((*values, 1 - _FINEST, 1 + _FINEST)))


def _colour(place: int, count: int) -> str:
    """From orange, the first, to violet, the last."""
    share = place / max(1, count - 1)
    return to_hex(mpl.colormaps["plasma_r"](_EARLY + share * (_LATE - _EARLY)))


def _formula(row: Row, of: LearnedRow) -> str:
    error = "" if of.formula_error is None else f", whose gradient is off by {100 * of.formula_error:.2g} %"
    return f"{row.name} of the first final training, distilled: {of.formula}{error}."
