"""What all pictures of a report share: the losses in the order of drawing, their looks, the limits of axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from lossmith.comparison.rows import Row, Summary
from lossmith.report.highlights import INK, Look, far_off, highlighted
from lossmith.report.run import Design, Run
from lossmith.tasks import Words

Curve = tuple[Sequence[float], Sequence[float]]

FAINT: Final = 0.25
_SMALLEST: Final = 1e-30  # of what a logarithmic axis shows


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Args:
        key: a word, for links.
        title: what it shows.
        reading: how to read it, in a sentence or two.
        panels: SVG elements, side by side where there is room.
        layout: ``"wide"`` for one broad panel, ``"pair"``, or ``"many"`` for small multiples.
        legend: the looks to explain, by name.
        others: whether there are faint lines too.
        remarks: what the panels do not show.
    """

    key: str
    title: str
    reading: str
    panels: tuple[str, ...]
    layout: str
    legend: dict[str, Look]
    others: bool = False
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """A run as pictures see it.

    Args:
        design: the plan.
        results: the summary.
        looks: the losses drawn in colour.
        far: the losses that axes are not stretched for.
    """

    design: Design
    results: Summary
    looks: dict[str, Look]
    far: frozenset[str]

    @classmethod
    def of(cls, run: Run) -> Scene:
        """The scene of a run."""
        far = far_off(run.results, run.design.task.guess)
        return cls(run.design, run.results, highlighted(run.results, far), far)

    @property
    def rows(self) -> list[Row]:
        """The losses in the order of drawing: the faint ones first, the reference last and so on top."""
        order = [*reversed(list(self.looks))]
        return sorted(self.results.rows, key=lambda row: order.index(row.name) if row.name in self.looks else -1)

    @property
    def words(self) -> Words:
        """What sentences call the reference and the rival."""
        return self.design.task.words

    @property
    def others(self) -> bool:
        """Whether some losses are drawn faint."""
        return len(self.looks) < len(self.results.rows)

    @property
    def near(self) -> list[Row]:
        """The losses that axes are made for."""
        return [row for row in self.results.rows if row.name not in self.far]

    @property
    def reference(self) -> Row | None:
        """The reference."""
        return next((row for row in self.results.rows if row.name == self.results.reference), None)


def draw_lines(ax: Axes, scene: Scene, curve: Callable[[Row], Curve], markers: int = 0) -> None:
    """One line for each loss, those with a look in colour and with about so many markers, the others faint."""
    for row in scene.rows:
        x, y = curve(row)
        look = scene.looks.get(row.name)
        if look is None:
            ax.plot(x, y, color=INK, alpha=FAINT, linewidth=0.7, zorder=2)
        else:
            every = max(1, len(x) // markers) if markers else 1
            place = list(scene.looks).index(row.name)
            ax.plot(
                x,
                y,
                color=look.colour,
                linestyle=(0, look.dashes) if look.dashes else "-",
                marker=look.marker if markers else None,
                markevery=(min(place * every // len(scene.looks), max(0, len(x) - 1)), every),
                markersize=3.2,
                markeredgewidth=0,
                zorder=4 if row.name == scene.results.reference else 3,
            )


def finite(values: Iterable[float]) -> list[float]:
    """The values that are numbers."""
    return [value for value in values if math.isfinite(value)]


def limits(values: Iterable[float], lowest_share: float = 0.0, margin: float = 0.05) -> tuple[float, float] | None:
    """Limits of an axis around values, of which a share may lie below; None where no value is a number."""
    known = finite(values)
    if not known:
        return None
    low, high = float(np.quantile(known, lowest_share)), max(known)
    room = margin * (high - low) or max(abs(high), 1.0) * 0.05
    return low - room, high + room


def log_limits(values: Iterable[float], margin: float = 0.05) -> tuple[float, float] | None:
    """Limits of a logarithmic axis around the positive ones of values."""
    found = limits((math.log(value) for value in values if _SMALLEST < value < math.inf), margin=margin)
    return None if found is None else (math.exp(found[0]), math.exp(found[1]))


def strictness_axes(ax: Axes, sizes: Iterable[float], window: tuple[float, float] = (0.01, 200.0)) -> None:
    """A probability across; up, a logarithmic axis around 1 that holds the sizes as far as they lie in a window."""
    low, high = log_limits(sizes) or (0.1, 10.0)
    low, high = min(max(low, window[0]), 0.5), max(min(high, window[1]), 2.0)
    ax.set_xlim(0, 1)
    ax.set_yscale("log")
    ax.set_ylim(low, high)
    log_ticks(ax, "y", low, high)


def signed(values: Sequence[float], sign: int) -> list[float]:
    """The values of one sign, made positive; NaN, a gap in the line, elsewhere."""
    return [sign * value if sign * value > 0 else math.nan for value in values]


def below_axis(scores: Mapping[str, Sequence[float]], y: tuple[float, float] | None, axis: str) -> tuple[str, ...]:
    """A remark on the losses whose scores, in percent, end below an axis."""
    outside = [
        f"{name} (ends at {values[-1]:.1f} %)"
        for name, values in scores.items()
        if y is not None and values and not values[-1] >= y[0]
    ]
    return (f"Below {axis}: {'; '.join(outside)}.",) if outside else ()


def log_ticks(ax: Axes, axis: str, low: float, high: float, most: int = 6) -> None:
    """Put plain numbers - 1, 2, 5 or 1, 3 or 1 of each power of ten, whichever are few enough - on a log axis."""
    low, high = max(low, 1e-300), min(high, 1e300)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [tick for k in powers for step in steps if low <= (tick := step * 10.0**k) <= high]
        if len(ticks) <= most:
            break
    of = ax.xaxis if axis == "x" else ax.yaxis
    of.set_major_locator(FixedLocator(ticks[:: max(1, math.ceil(len(ticks) / most))]))
    of.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    of.set_minor_locator(NullLocator())
    of.set_minor_formatter(NullFormatter())


def elide(name: str, length: int) -> str:
    """A name cut to a length."""
    return name if len(name) <= length else name[: length - 1] + "…"
