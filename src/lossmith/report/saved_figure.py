"""A picture of a report by itself: it shows in a notebook, and can be saved."""

from __future__ import annotations

import html
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from lossmith.report.highlights import INK
from lossmith.report.html import swatch
from lossmith.report.scene import FAINT, Picture, elide
from lossmith.report.svg import style, to_svg
from lossmith.trials.files import written_whole

_FONT: Final = "font-family:system-ui,sans-serif"
_GROUND: Final = "--ground:var(--jp-layout-color0,var(--vscode-editor-background,Canvas))"
"""Hollow marks have the ground of the notebook, whatever its theme."""
_DPI: Final = 200
_ENTRY: Final = 150.0  # points that a name takes in a legend
_LINE: Final = 13.0  # points between two rows of a legend

Pixels = NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True)
class SavedFigure:
    """A picture of a report.

    Args:
        picture: the picture.
        figures: its panels, as matplotlib drew them.
    """

    picture: Picture
    figures: tuple[Figure, ...]

    def __repr__(self) -> str:
        return f"{self.picture.title}. {self.picture.reading} Save it: figure.save('{self.picture.key}.svg') or .png."

    def _repr_html_(self) -> str:
        """How a notebook shows it, in the colours of its theme."""
        said = " ".join([self.picture.reading, *self.picture.remarks])
        names = "" if self.picture.layout == "wide" else self._names
        return (
            f'<figure style="margin:0;{_FONT}"><figcaption><b>{html.escape(self.picture.title)}</b></figcaption>'
            f'{names}{self.panels}<p style="opacity:.75;max-width:56em;font-size:90%">{html.escape(said)}</p></figure>'
        )

    @property
    def _names(self) -> str:
        """The legend as HTML."""
        names = [
            '<span style="margin-right:1.2em;white-space:nowrap">'
            '<span style="display:inline-block;width:2em;margin-right:.4em">'
            f"{swatch(look)}</span>{html.escape(name)}</span>"
            for name, look in self.picture.legend.items()
        ]
        others = '<span style="opacity:.6;white-space:nowrap">faint: all others</span>' if self.picture.others else ""
        return f'<p style="margin:.4em 0">{"".join(names)}{others}</p>'

    @property
    def panels(self) -> str:
        """Its panels as HTML, without words."""
        drawn = "".join(
            f'<div style="flex:1 1 18em;max-width:{1.4 * _size(panel)[0]:.0f}px">{panel}</div>'
            for panel in self.picture.panels
        )
        return f'<div style="display:flex;flex-wrap:wrap;gap:1em;{_GROUND};{_FONT};font-size:8px">{drawn}</div>'

    def save(self, path: str | Path) -> Path:
        """Write the picture, its panels side by side, black on white.

        Args:
            path: ends in ``.svg`` or ``.png``.

        Returns:
            The file.

        Raises:
            ValueError: if it ends in something else, or the picture cannot be saved so.
        """
        file = Path(path)
        if file.suffix.lower() not in {".svg", ".png"}:
            raise ValueError(f"a figure is saved as .svg or .png, not as {file.name!r}")
        if file.suffix.lower() == ".png" and len(self.figures) < len(self.picture.panels):
            raise ValueError(f"the figure {self.picture.key!r} holds images of its own: save it as .svg")
        with written_whole(file) as place:
            if file.suffix.lower() == ".svg":
                place.write_text(self._svg(), encoding="utf-8")
            else:
                imsave(place, self._pixels(), format="png")
        return file

    def _svg(self) -> str:
        rows, placed, top, whole = self._in_rows([*self.picture.panels]), "", 0.0, 0.0
        with style():
            rows += [[to_svg(legend, f"{self.picture.key}-legend", "Legend")] for legend in self._legend]
        for row in rows:
            sizes, left = list(map(_size, row)), 0.0
            for panel, (width, height) in zip(row, sizes, strict=True):
                at = f'<svg x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" '
                placed, left = placed + panel.replace("<svg ", at, 1), left + width
            top, whole = top + max(height for _, height in sizes), max(whole, left)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole:g} {top:g}" width="{whole:g}pt" '
            f'height="{top:g}pt" style="color:black;{_FONT};font-size:8px"><rect width="100%" height="100%" '
            f'fill="white"/>{placed.replace("var(--ground, white)", "white")}</svg>\n'
        )

    def _pixels(self) -> Pixels:
        rows = [[_pixels_of(figure) for figure in row] for row in self._in_rows([*self.figures])]
        rows += [[_pixels_of(legend)] for legend in self._legend]
        joined = [np.concatenate(_padded(row, 0), axis=1) for row in rows]
        return np.concatenate(_padded(joined, 1), axis=0)

    def _in_rows(self, panels: list[T]) -> list[list[T]]:
        beside = 3 if self.picture.layout == "many" else 2
        return [panels[i : i + beside] for i in range(0, len(panels), beside)]

    @property
    def _legend(self) -> list[Figure]:
        """What the lines are, as one more panel; none where the names stand beside them."""
        if self.picture.layout == "wide":
            return []
        width = max(sum(_size(panel)[0] for panel in row) for row in self._in_rows([*self.picture.panels]))
        lines = [
            Line2D([], [], color=look.colour, linestyle=(0, look.dashes) if look.dashes else "-", marker=look.marker)
            for look in self.picture.legend.values()
        ]
        names = [elide(name, 40) for name in self.picture.legend]
        if self.picture.others:
            lines.append(Line2D([], [], color=INK, alpha=FAINT))
            names.append("faint: all others")
        columns = max(1, min(len(names), round(width / _ENTRY)))
        with style():
            figure = Figure(figsize=(width / 72, (_LINE * -(-len(names) // columns) + 6) / 72))
            figure.legend(lines, names, loc="center", ncols=columns, frameon=False, markerscale=0.6)
        return [figure]


def _pixels_of(figure: Figure) -> Pixels:
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white")
    buffer.seek(0)
    return np.asarray(imread(buffer, format="png")[..., :3], np.float32)


def _padded(images: list[Pixels], axis: int) -> list[Pixels]:
    """Images brought to one length along an axis, by white at the end."""
    longest = max(image.shape[axis] for image in images)
    room = [[(0, longest - image.shape[axis] if each == axis else 0) for each in range(3)] for image in images]
    return [np.pad(image, each, constant_values=1) for image, each in zip(images, room, strict=True)]


def _size(panel: str) -> tuple[float, float]:
    """Width and height of an SVG element, in its own units."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', panel)
    assert found is not None, "every panel has the view box that matplotlib gives it"
    return float(found[1]), float(found[2])
