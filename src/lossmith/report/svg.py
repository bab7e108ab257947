"""Matplotlib drawings as SVG that stand inside a page, in its colour of text and its font.

Equal input gives equal bytes. Nothing here touches pyplot; figures are plain objects.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from lossmith.report.highlights import GROUND, INK

FONT_SIZE: Final = 8.0
# A plot with labelled axes, two of which stand side by side: width, height, and room left, right, below, above.
PANEL: Final = (300.0, 200.0, (44.0, 6.0, 28.0, 5.0))
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lossmith",
    "text.parse_math": False,  # a loss may be called $x
    "axes.unicode_minus": True,
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "axes.labelsize": FONT_SIZE,
    "xtick.labelsize": FONT_SIZE - 0.5,
    "ytick.labelsize": FONT_SIZE - 0.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "lines.dash_capstyle": "butt",
    "lines.scale_dashes": False,
}


@contextmanager
def style() -> Iterator[None]:
    """The style of the report, whatever the user's own settings, which come back at the end."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def drawing(
    width: float,
    height: float,
    margins: tuple[float, float, float, float] | None = None,
    *,
    x: str = "",
    y: str = "",
    title: str = "",
) -> tuple[Figure, Axes]:
    """An empty plot with labelled axes, in points, which are the units of the SVG.

    The margins are left, right, below and above the axes; ``None`` measures them, which takes longer.
    """
    figure = Figure(figsize=(width / 72, height / 72))
    if margins is None:
        figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02))
        ax = figure.add_subplot()
    else:
        left, right, below, above = margins
        size = (1 - (left + right) / width, 1 - (below + above) / height)
        ax = figure.add_axes((left / width, below / height, *size))
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if title:
        ax.set_title(title, loc="left", fontsize=FONT_SIZE - 0.5, y=1.02, pad=0)
    return figure, ax


_kept: ContextVar[list[Figure] | None] = ContextVar("_kept", default=None)


@contextmanager
def keeping_figures() -> Iterator[list[Figure]]:
    """The figures that are written as SVG meanwhile, for other formats."""
    figures: list[Figure] = []
    before = _kept.set(figures)
    try:
        yield figures
    finally:
        _kept.reset(before)


def to_svg(figure: Figure, key: str, label: str) -> str:
    """Write a figure as an SVG element whose ids begin with a key of its own, so that others may stand beside it."""
    if (kept := _kept.get()) is not None:
        kept.append(figure)
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the reader's fonts draw it, not ours
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        _adapt(element, key)
    for unwanted in ("metadata", "defs"):  # the first defs hold a style for the whole page
        found = root.find(unwanted)
        if found is not None:
            root.remove(found)
    root.attrib = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-label": label,
        "stroke-linejoin": "round",
    }
    title = ElementTree.Element("title")
    title.text = label
    root.insert(0, title)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _adapt(element: ElementTree.Element, key: str) -> None:
    """Drop namespaces and unused ids, prefix the others, shorten numbers, take colour and font from the page."""
    element.tag = _local(element.tag)
    attributes = {_local(name): value for name, value in element.attrib.items()}
    if element.tag == "g":
        attributes.pop("id", None)
        element.text = element.tail = None
    for name in ("id", "clip-path", "href"):
        if name in attributes:
            attributes[name] = re.sub(r"^(url\(#|#|)", rf"\g<1>{key}-", attributes[name])
    for name in ("d", "x", "y", "transform", "points"):
        if name in attributes and "scale(" not in attributes[name]:  # a scale of glyphs may be as small as 0.01
            shortened = re.sub(r"-?\d+\.\d+(e-?\d+)?", _two_decimals, attributes[name])
            attributes[name] = re.sub(r"\s+", " ", shortened).strip()
    if attributes.get("transform", "").startswith("rotate(-0 "):
        del attributes["transform"]
    if "style" in attributes:
        styled = re.sub(r"font(-family)?: (?:\d+px )?'[^;]*;? ?", "", attributes["style"])
        attributes["style"] = styled.replace(INK, "currentColor").replace(GROUND, "var(--ground, white)")
    element.attrib = attributes
    if element.tag != "text":
        element.text = element.text.strip() if element.text else None
    element.tail = None


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _two_decimals(match: re.Match[str]) -> str:
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
