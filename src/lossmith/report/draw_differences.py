"""The picture of every loss's difference from the reference."""

from __future__ import annotations

from typing import Final

from matplotlib.axes import Axes

from lossmith.comparison.rows import Row
from lossmith.report.highlights import GROUND, INK, without_interval
from lossmith.report.numbers import bounds, decimals, gap, points, typeset
from lossmith.report.scene import Picture, Scene, elide, finite, limits
from lossmith.report.svg import FONT_SIZE, drawing, to_svg

_WIDTH: Final = 360
_ROW: Final = 13.5


def differences(scene: Scene) -> Picture:
    """Every loss's difference from the reference, best first, with both intervals, delta and the size of noise."""
    rows = scene.results.rows
    digits, reference = decimals(rows), scene.words.reference
    figure, ax = drawing(_WIDTH, _ROW * len(rows) + 36, x=f"difference from {reference}, percentage points")
    low, high = _limits(scene)
    ax.set_xlim(low, high)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.axvspan(-100 * scene.design.delta, 100 * scene.design.delta, color=INK, alpha=0.08, linewidth=0)
    ax.axvline(0, color=INK, linewidth=0.9)
    for bound in _noise(scene):
        ax.axvline(bound, color=INK, linewidth=0.9, linestyle=(0, (1, 2)))
    for place, row in enumerate(rows):
        _draw(ax, scene, place, row, low, digits)
    ax.set_yticks(range(len(rows)), [elide(row.name, 30) for row in rows])
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.spines["left"].set_visible(False)
    svg = to_svg(figure, "differences", f"Difference from {reference} with 95 % intervals, one line for each loss")
    delta = f"{100 * scene.design.delta:g}"
    noise = (
        f"Dotted: the 95 % interval of {reference} against itself, tuned and seeded anew, which is the size of noise."
        if _noise(scene)
        else f"{scene.results.again} shows the size of noise, here without an interval."
    )
    return Picture(
        "differences",
        f"Differences from {reference}",
        f"Each dot is a loss's mean difference on test from {reference}, which stands for its two arms together; right "
        "of the line is better. The thick bar "
        "is the 95 % interval of that loss taken alone, the thin one holds for all losses tested at once. Hollow dots "
        f"are controls. Shaded: less than {delta} points either way, which by plan does not matter. {noise}",
        (svg,),
        "wide",
        scene.looks,
        remarks=_remarks(scene, low, high, digits),
    )


def _limits(scene: Scene) -> tuple[float, float]:
    delta = 100 * scene.design.delta
    ends = [-1.3 * delta, 1.3 * delta]
    for row in scene.near:
        if row.against_reference is not None:
            pair = row.against_reference.simultaneous or row.against_reference.interval or ()
            ends += finite(100 * end for end in (row.against_reference.mean, *pair))
    return limits(ends, margin=0.03) or (-1.0, 1.0)


def _noise(scene: Scene) -> list[float]:
    again = next((row.against_reference for row in scene.results.rows if row.name == scene.results.again), None)
    return [] if again is None or again.interval is None else finite(100 * end for end in again.interval)


def _draw(ax: Axes, scene: Scene, place: int, row: Row, low: float, digits: int) -> None:
    look = scene.looks.get(row.name)
    colour = INK if look is None else look.colour
    if row.against_reference is None:
        if row.untrained is None:
            ax.plot(0, place, marker="s", color=colour, markersize=4, zorder=4)
        else:
            _write(ax, low, place, "could not be trained")
        return
    mean = 100 * row.against_reference.mean
    if not mean >= low:  # far off, or not a number
        _write(ax, low, place, f"← {typeset(gap(row.against_reference, digits))}")
        return
    for pair, width in ((row.against_reference.simultaneous, 0.8), (row.against_reference.interval, 2.6)):
        if pair is not None:
            ax.plot([100 * end for end in pair], [place, place], color=colour, linewidth=width, solid_capstyle="butt")
    hollow = row.role == "control"
    ax.plot(
        mean,
        place,
        marker=look.marker if look else "o",
        color=colour,
        markerfacecolor=GROUND if hollow else colour,
        markersize=4.2,
        markeredgewidth=1,
        zorder=4,
    )


def _write(ax: Axes, low: float, place: int, words: str) -> None:
    """Words in place of an interval, at the left edge."""
    ax.annotate(
        words,
        (low, place),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=FONT_SIZE - 1,
        bbox={"facecolor": GROUND, "edgecolor": "none", "pad": 1},
    )


def _remarks(scene: Scene, low: float, high: float, digits: int) -> tuple[str, ...]:
    outside = [
        f"{row.name} {points(row.against_reference.mean, digits)} {bounds(row.against_reference.interval, digits)}"
        for row in scene.results.rows
        if row.against_reference is not None and not low <= 100 * row.against_reference.mean <= high
    ]
    untrained = [f"{row.name} ({row.untrained})" for row in scene.results.rows if row.untrained is not None]
    bare = [f"{', '.join(names)} ({reason})" for reason, names in without_interval(scene.results).items()]
    remarks = (
        ("Too far off for the axis", outside),
        ("Could not be trained", untrained),
        ("Without an interval", bare),
    )
    return tuple(f"{what}: {'; '.join(names)}." for what, names in remarks if names)
