"""A picture of a report by itself: it shows in a notebook, and can be saved."""

from __future__ import annotations

import html
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave

from lossmith.report.scene import Picture
from lossmith.report.svg import style
from lossmith.trials.files import written_whole

_FONT: Final = "font-family:system-ui,sans-serif"
_GROUND: Final = "--ground:var(--jp-layout-color0,var(--vscode-editor-background,Canvas))"
"""Hollow marks have the ground of the notebook, whatever its theme."""
_DPI: Final = 200


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
        return (
            f'<figure style="margin:0;{_FONT}"><figcaption><b>{html.escape(self.picture.title)}</b></figcaption>'
            f'{self.panels}<p style="opacity:.75;max-width:56em;font-size:90%">{html.escape(said)}</p></figure>'
        )

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
            ValueError: if it ends in something else.
        """
        file = Path(path)
        if file.suffix.lower() not in {".svg", ".png"}:
            raise ValueError(f"a figure is saved as .svg or .png, not as {file.name!r}")
        with written_whole(file) as place:
            if file.suffix.lower() == ".svg":
                place.write_text(self._svg(), encoding="utf-8")
            else:
                imsave(place, self._pixels(), format="png")
        return file

    def _svg(self) -> str:
        sizes = [_size(panel) for panel in self.picture.panels]
        lefts = np.cumsum([0.0, *(width for width, _ in sizes)])
        whole, height = lefts[-1], max(height for _, height in sizes)
        placed = "".join(
            panel.replace("<svg ", f'<svg x="{left:g}" width="{size[0]:g}" height="{size[1]:g}" ', 1)
            for panel, left, size in zip(self.picture.panels, lefts, sizes, strict=False)
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole:g} {height:g}" width="{whole:g}pt" '
            f'height="{height:g}pt" style="color:black;{_FONT};font-size:8px"><rect width="100%" height="100%" '
            f'fill="white"/>{placed.replace("var(--ground, white)", "white")}</svg>\n'
        )

    def _pixels(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        panels = []
        with style():
            for figure in self.figures:
                buffer = io.BytesIO()
                figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white")
                buffer.seek(0)
                panels.append(imread(buffer, format="png")[..., :3])
        height = max(len(panel) for panel in panels)
        return np.concatenate(
            [np.pad(panel, ((0, height - len(panel)), (0, 0), (0, 0)), constant_values=1) for panel in panels], axis=1
        )


def _size(panel: str) -> tuple[float, float]:
    """Width and height of an SVG element, in its own units."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', panel)
    assert found is not None, "every panel has the view box that matplotlib gives it"
    return float(found[1]), float(found[2])
