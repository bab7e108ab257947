"""The pictures of tuning: validation accuracy against learning rate, and against the number of settings tried."""

from __future__ import annotations

import math
from statistics import median
from typing import Final

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lossmith.comparison.rows import RatePoint, Row
from lossmith.report.highlights import GROUND, INK, REFERENCE
from lossmith.report.scene import Picture, Scene, below_axis, draw_lines, elide, finite, limits, log_limits, log_ticks
from lossmith.report.svg import PANEL, drawing, to_svg

_LOW_SHARE: Final = 0.1


def learning_rates(scene: Scene) -> Picture:
    """Small multiples: each loss's validation score at each learning rate of its grid."""
    y = limits(_worth_showing(scene))
    x = log_limits(point.lr for row in scene.results.rows for point in row.tuning.rates)
    panels: tuple[str, ...] = ()
    if x is not None and y is not None:
        panels = tuple(_panel(scene, i, row, x, y) for i, row in enumerate(scene.results.rows))
    return Picture(
        "rates",
        "Score against learning rate",
        f"Dots: validation {scene.results.metric} in percent at each learning rate, averaged over repeats; a "
        "hollow dot was tried in some repeats only, where the grid had to be extended. Line: the same averaged with "
        "its neighbours, by which a rate is chosen; it drops at the upper end because beyond it counts as guessing. "
        f"Dotted: the line of {scene.words.reference}. The marks below are the rates chosen, one for each repeat. A "
        "loss is fairly tuned where its best dots lie inside, not at an end.",
        panels,
        "many",
        {},
        remarks=() if panels else ("No learning rates are recorded.",),
    )


def expected_best(scene: Scene) -> Picture:
    """The expected best validation score against the number of settings tried."""
    curves = {row.name: [100 * score for score in row.tuning.expected_best] for row in scene.results.rows}
    y = limits((score for row in scene.near for score in curves[row.name]), lowest_share=_LOW_SHARE)
    figure, ax = drawing(*PANEL, x="settings tried", y=f"best validation {scene.results.metric}, %")
    draw_lines(ax, scene, lambda row: (range(1, len(curves[row.name]) + 1), curves[row.name]), markers=8)
    ax.set_ylim(y)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    svg = to_svg(figure, "budget", "Expected best validation score against the number of settings tried")
    return Picture(
        "budget",
        "What tuning buys",
        "The expected best validation score after trying a number of settings of a loss, drawn at random from those "
        "tried. A line that flattens early needs little tuning. Grid extensions aside, the number of trainings is the "
        "same for all.",
        (svg,) if any(curves.values()) else (),
        "pair",
        scene.looks,
        scene.others,
        below_axis(curves, y, "the axis"),
    )


def _panel(scene: Scene, place: int, row: Row, x: tuple[float, float], y: tuple[float, float]) -> str:
    look = scene.looks.get(row.name)
    colour = INK if look is None else look.colour
    reference = scene.reference
    figure, ax = drawing(150, 96, (28, 5, 13, 12), title=elide(row.name, 29))
    ax.set_xscale("log", base=2)
    if reference is not None and row.name != scene.results.reference:
        everywhere = _everywhere(reference)
        lrs, smoothed = [p.lr for p in everywhere], [100 * p.smoothed for p in everywhere]
        ax.plot(lrs, smoothed, color=REFERENCE.colour, alpha=0.6, linewidth=0.9, linestyle=(0, (1, 1.5)))
    everywhere = _everywhere(row)
    ax.plot([p.lr for p in everywhere], [100 * p.smoothed for p in everywhere], color=colour, linewidth=1.2)
    for point in row.tuning.rates:
        hollow = point not in everywhere
        fill = "none" if hollow else colour
        ax.plot(point.lr, 100 * point.score, "o", color=colour, markerfacecolor=fill, markersize=2.6)
    ax.set_xlim(*x)
    ax.set_ylim(*y)
    log_ticks(ax, "x", *x, most=4)
    ax.yaxis.set_major_locator(MaxNLocator(4))
    chosen = [lr for lr in finite(row.tuning.lrs) if lr > 0]
    ax.plot(chosen, [y[0]] * len(chosen), "|", color=INK, markersize=7, markeredgewidth=1.1, clip_on=False)
    _say_what_lies_below(ax, row, y[0])
    return to_svg(figure, f"rate{place}", f"Validation score of {row.name} against learning rate")


def _worth_showing(scene: Scene) -> list[float]:
    """Scores in percent that the axis is made for: of all near losses but the lowest, and of each its better half."""
    scores = [finite(100 * point.score for point in row.tuning.rates) for row in scene.near]
    together = sorted(score for of in scores for score in of)
    return together[int(_LOW_SHARE * len(together)) :] + [median(of) for of in scores if of]


def _everywhere(row: Row) -> list[RatePoint]:
    """The learning rates tried in every repeat: means over fewer do not compare with the others."""
    most = max((point.tried for point in row.tuning.rates), default=0)
    return [point for point in row.tuning.rates if point.tried == most]


def _say_what_lies_below(ax: Axes, row: Row, low: float) -> None:
    best = max(finite(100 * point.score for point in row.tuning.rates), default=math.nan)
    if best < low:
        box = {"facecolor": GROUND, "edgecolor": "none", "pad": 1}
        said = f"all below: at best {best:.1f} %"
        ax.text(0.5, 0.5, said, transform=ax.transAxes, ha="center", va="center", bbox=box)
