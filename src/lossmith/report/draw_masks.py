"""Predicted masks beside the truth, as pictures that need no file but the page."""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape

import numpy as np
from matplotlib.image import imsave
from numpy.typing import NDArray

from lossmith.report.scene import Picture, Scene, elide
from lossmith.tasks import Raster

_TILE: Final = 150.0
_GAP: Final = 8.0
_LABEL: Final = 13.0
_COLUMNS: Final = 4
_MOST_NAMES: Final = 40
_GREY: Final = (128, 128, 128)
# Mid tones that stand apart on light and dark grounds; after them, hues by the golden ratio.
_COLOURS: Final = (
    "4e79a7", "f28e2b", "e15759", "76b7b2", "59a14f", "edc948", "b07aa1", "ff9da7", "9c755f", "1b9e77", "7570b3",
    "e7298a", "66a61e", "a6761d",
)  # fmt: skip


def masks(scene: Scene) -> Picture | None:
    """Some test images, their truth, and what the losses in colour made of them; None where there are none."""
    originals = scene.results.originals
    count = len(originals) // 2
    if not count:
        return None
    rows = [row for row in scene.results.rows if row.name in scene.looks and len(row.predictions) == count]
    panels = []
    for i in range(count):
        tiles = [("image", originals[i]), ("truth", originals[count + i])]
        tiles += [(f"{100 * row.score:.1f} %: {row.name}", row.predictions[i]) for row in rows]
        panels.append(_sheet(tiles))
    panels.append(_legend(scene.design.task.classes or ()))
    return Picture(
        "masks",
        "Predicted masks",
        "A few test images with their true masks, and the masks predicted by the first final training of each loss. "
        "One colour is one class; pixels that are ignored are grey in the truth. The percentages are the losses' mean "
        "scores over the whole test part.",
        tuple(panels),
        "wide",
        {},
    )


def _legend(classes: Sequence[str]) -> str:
    """The colours of the classes, five to a row, as SVG."""
    parts, palette = [], _palette()
    for i, name in enumerate([*classes[:_MOST_NAMES], "ignored"]):
        x, y = (i % 5) * 125, (i // 5) * 14
        colour = bytes(palette[i if i < len(classes[:_MOST_NAMES]) else -1]).hex()
        parts.append(
            f'<rect x="{x}" y="{y}" width="10" height="10" fill="#{colour}"/>'
            f'<text x="{x + 14}" y="{y + 8}" font-size="8" fill="currentColor">{escape(elide(name, 26))}</text>'
        )
    return _svg(5 * 125, 14 * (-(-len(parts) // 5)), "Classes", parts)


def _sheet(tiles: list[tuple[str, Raster]]) -> str:
    """Labelled tiles, four to a row, as SVG."""
    pictures = [(label, raster.values) for label, raster in tiles]
    height = max(_TILE * values.shape[0] / values.shape[1] for _, values in pictures)
    parts = []
    for i, (label, values) in enumerate(pictures):
        x, y = (i % _COLUMNS) * (_TILE + _GAP), (i // _COLUMNS) * (height + _LABEL + _GAP)
        name, shown = escape(label, {'"': "&quot;"}), escape(elide(label, 36))
        parts.append(
            f'<text x="{x:g}" y="{y + _LABEL - 4:g}" font-size="8" fill="currentColor">{shown}</text>'
            f'<image x="{x:g}" y="{y + _LABEL:g}" width="{_TILE:g}" height="{height:g}" aria-label="{name}" '
            f'style="image-rendering:pixelated" href="data:image/png;base64,{_png(_colours(values))}"/>'
        )
    rows = -(-len(tiles) // _COLUMNS)
    return _svg(_COLUMNS * (_TILE + _GAP) - _GAP, rows * (height + _LABEL + _GAP) - _GAP, "Masks", parts)


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def _colours(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Red, green and blue (h, w, 3) of an image, or of classes (h, w, 1)."""
    return values if values.shape[2] == 3 else _palette()[values[..., 0]]


def _palette() -> NDArray[np.uint8]:
    colours = [tuple(bytes.fromhex(colour)) for colour in _COLOURS]
    for i in range(len(colours), 255):
        rgb = colorsys.hls_to_rgb((0.618034 * i) % 1, 0.45 + 0.1 * (i % 3), 0.6)
        colours.append(tuple(round(255 * part) for part in rgb))
    return np.array([*colours, _GREY], np.uint8)


def _png(colours: NDArray[np.uint8]) -> str:
    """An image (h, w, 3) as PNG in base64."""
    buffer = io.BytesIO()
    imsave(buffer, colours, format="png", metadata={"Software": "Lossmith"})
    return base64.b64encode(buffer.getvalue()).decode()
