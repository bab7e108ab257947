"""The pictures of a certificate: the loss beside cross-entropy, and what it takes for the best prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.ticker import EngFormatter

from lossmith.properties.certificate import Certificate
from lossmith.properties.regression import ErrorCurve, RegressionCertificate
from lossmith.report.highlights import INK, LOOKS, REFERENCE, Look
from lossmith.report.scene import Picture, finite, limits, signed, strictness_axes
from lossmith.report.svg import PANEL, drawing, style, to_svg

_OWN: Final = LOOKS[0]
_THIRD: Final = (230.0, 165.0, (38.0, 6.0, 28.0, 5.0))  # as `PANEL`, for three side by side
_MOST_LOSS, _LEAST_LOSS = 5.5, -1.5
_P: Final = "probability of the target"
_STEEPEST: Final = -3.0
_STRICTNESS: Final = (0.001, 200.0)
_LEAST: Final = 0.7  # of its size to which a formula shrinks on a narrow page; beyond, it scrolls
_WIDE: Final = 1000.0  # numbers beyond have no room beside an axis


def pictures(certificate: Certificate | RegressionCertificate) -> tuple[Picture, ...]:
    """All pictures of a certificate."""
    with style():
        if isinstance(certificate, RegressionCertificate):
            return (_regression(certificate),)
        found = [curves(certificate)]
        if certificate.optimum is not None:
            found.append(_predictions(certificate))
        return tuple(found)


def formula_svg(latex: str, key: str = "formula") -> str | None:
    """A formula set in type, as SVG; None if Matplotlib cannot set it.

    Args:
        latex: the formula.
        key: sets the ids of this drawing apart from those of others on the page.
    """
    with style():
        mpl.rcParams.update({"svg.fonttype": "path", "mathtext.fontset": "cm"})
        figure, ax = drawing(600, 44, (0, 0, 0, 0))
        ax.set_axis_off()
        text = ax.text(0, 0.5, f"${latex}$", fontsize=13, va="center", parse_math=True)
        try:
            box = text.get_window_extent(FigureCanvasAgg(figure).get_renderer())  # type: ignore[no-untyped-call]
        except ValueError:
            return None
        width, height = (72 / figure.dpi * size for size in (box.width, box.height))
        figure.set_size_inches((width + 4) / 72, (height + 6) / 72)
        drawn = to_svg(figure, key, "The formula")
        rem = width / 7.5
        return drawn.replace("<svg ", f'<svg style="width: {rem:.1f}rem; min-width: {_LEAST * rem:.1f}rem" ', 1)


def curves(certificate: Certificate) -> Picture:
    """Value, slope and strictness beside cross-entropy's."""
    curve = certificate.curve
    p = curve.p
    cross_entropy = [-math.log(q) for q in p]
    value = [v - curve.loss[-1] for v in curve.loss]
    panels = (
        _panel(p, cross_entropy, value, "loss", (_LEAST_LOSS, _MOST_LOSS)),
        _panel(p, [q - 1 for q in p], curve.gradient, "slope in the target's logit", (_STEEPEST, -_STEEPEST)),
        _strictness(certificate),
    )
    return Picture(
        "curves",
        "The loss beside cross-entropy",
        f"Against the probability of the target, while {_others(certificate.num_classes - 1)}: the loss, less "
        "its value at the right; its slope in the target's logit; and its strictness s(p), which is that slope "
        "relative to cross-entropy's, dotted where it pushes the target down.",
        panels,
        "three",
        {"cross-entropy": REFERENCE, certificate.loss: _OWN},
    )


def _widened(window: tuple[float, float], values: Sequence[float]) -> tuple[float, float]:
    """A window, made to hold all but the outermost fiftieths of the values where it does not hold the middle half."""
    known = sorted(finite(values)) or [0.0]
    few = len(known) // 50
    low = window[0] if window[0] <= known[len(known) // 4] else known[few]
    return low, window[1] if known[3 * len(known) // 4] <= window[1] else known[-1 - few]


def _others(count: int) -> str:
    return "the other class has the rest" if count == 1 else f"the other {count:,} classes share the rest evenly"


def _panel(
    p: Sequence[float], reference: Sequence[float], own: Sequence[float], label: str, most: tuple[float, float]
) -> str:
    figure, ax = drawing(*_THIRD, x=_P, y=label)
    _line(ax, p, reference, REFERENCE)
    _line(ax, p, own, _OWN)
    low, high = _widened(most, own)
    found = limits(v for v in (*reference, *own) if low <= v <= high)
    if found is not None:
        ax.set_ylim(*found)
        if max(map(abs, found)) > _WIDE:
            ax.yaxis.set_major_formatter(EngFormatter(sep=""))
    ax.set_xlim(0, 1)
    return to_svg(figure, label.split()[0].strip(","), f"{label} against the probability of the target")


def _strictness(certificate: Certificate) -> str:
    curve = certificate.curve
    figure, ax = drawing(*_THIRD, x=_P, y="strictness, cross-entropy = 1")
    ax.axhline(1, color=INK, linewidth=1.2)
    _line(ax, curve.p, signed(curve.strictness, 1), _OWN)
    down = signed(curve.strictness, -1)
    ax.plot(curve.p, down, linestyle=(0, (1, 2)), linewidth=1.2, color=_OWN.colour)
    for crossing in certificate.strictness.crossings[:6]:
        ax.plot([crossing], [1], marker="o", markersize=4, color=_OWN.colour)
    sizes = [abs(v) for v in curve.strictness if v]
    strictness_axes(ax, sizes, _widened(_STRICTNESS, sizes))
    return to_svg(figure, "strictness", "Strictness against the probability of the target")


def _predictions(certificate: Certificate) -> Picture:
    assert certificate.optimum is not None
    panels, sizes = [], certificate.optimum.sizes
    names = [str(place) for place in range(1, len(sizes) + 1)]
    rest = ""
    if sizes[-1] > 1:
        names[-1] += f" to {certificate.optimum.num_classes:,}"
        rest = " The last bar and line are those of each of the other classes, which are alike."
    for key, example in zip(("sure label", "likely class", "graded"), certificate.optimum.examples, strict=True):
        figure, ax = drawing(230, 150, (34, 4, 28, 5), x=f"class ({key})", y="probability")
        places = range(1, len(example.truth) + 1)
        ax.bar(places, example.best, width=0.62, color=_OWN.colour, alpha=0.75, linewidth=0)
        for place, truth in zip(places, example.truth, strict=True):
            ax.plot([place - 0.42, place + 0.42], [truth, truth], color=INK, linewidth=1.6)
        ax.set_ylim(0, 1.03)
        ax.set_xticks(list(places) if len(names) <= 12 else [], names if len(names) <= 12 else [])
        panels.append(to_svg(figure, key.split()[0], f"Best prediction and truth, {key}"))
    return Picture(
        "predictions",
        "Best predictions",
        "The lines are the true probabilities of the classes, the bars the prediction of least expected loss that was "
        f"found for them. For a proper loss, bars end at lines.{rest}",
        tuple(panels),
        "three",
        {"truth": REFERENCE, "best prediction": _OWN},
    )


def _regression(certificate: RegressionCertificate) -> Picture:
    curve = certificate.curve
    absolute = [abs(e) for e in curve.error]
    panels = (
        _error_panel(curve, absolute, lambda c: c.loss, "loss"),
        _error_panel(curve, [math.copysign(1, e) for e in curve.error], lambda c: c.slope, "slope"),
    )
    return Picture(
        "curves",
        "The loss beside the absolute error",
        "Against the error, prediction less target.",
        panels,
        "pair",
        {"absolute error": REFERENCE, certificate.loss: _OWN},
    )


def _error_panel(
    curve: ErrorCurve, reference: Sequence[float], own: Callable[[ErrorCurve], Sequence[float]], label: str
) -> str:
    figure, ax = drawing(*PANEL, x="error", y=label)
    _line(ax, curve.error, reference, REFERENCE)
    _line(ax, curve.error, own(curve), _OWN)
    return to_svg(figure, label, f"{label} against the error")


def _line(ax: Axes, x: Sequence[float], y: Sequence[float], look: Look) -> None:
    ax.plot(
        x,
        y,
        color=look.colour,
        linewidth=1.2 if look is REFERENCE else 1.8,
        marker=look.marker,
        markersize=3.2,
        markeredgewidth=0,
        markevery=(len(x) // 12, len(x) // 6),
        zorder=3,
    )
