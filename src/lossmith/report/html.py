"""What all pages share: templates, style sheet, the samples of lines in legends."""

from __future__ import annotations

import re
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lossmith.report import numbers
from lossmith.report.highlights import INK, Look

_MARKERS = {
    "o": "M13 5a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
    "s": "M13.4 2.4h5.2v5.2h-5.2z",
    "^": "M16 1.6l3.4 6h-6.8z",
    "v": "M16 8.4l3.4-6h-6.8z",
    "D": "M16 1.4l3.6 3.6l-3.6 3.6l-3.6-3.6z",
    "P": "M15 1.6h2v2.4h2.4v2h-2.4v2.4h-2v-2.4h-2.4v-2h2.4z",
}


def environment() -> Environment:
    """Where templates come from; everything that is not marked as markup is escaped."""
    found = Environment(
        loader=PackageLoader("lossmith.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["typeset"] = numbers.typeset
    found.globals["swatch"] = swatch
    return found


def asset(name: str) -> str:
    """The text of a file that pages hold: a style sheet, a script."""
    return (files("lossmith.report") / "templates" / name).read_text(encoding="utf-8")


def breakable(text: str, after: str = ":,_") -> Markup:
    """A text that may be broken after some characters."""
    return Markup("<wbr>").join(re.split(f"(?<=[{re.escape(after)}])", text))


def swatch(look: Look) -> Markup:
    """A short sample of a line."""
    colour = "currentColor" if look.colour == INK else look.colour
    dashes = " ".join(f"{1.3 * length:g}" for length in look.dashes) or "none"
    return Markup(
        '<svg class="swatch" viewBox="0 0 32 10" aria-hidden="true"><path d="M1 5H31" stroke="{0}" stroke-width="2" '
        'stroke-dasharray="{1}"/><path d="{2}" fill="{0}"/></svg>'
    ).format(colour, dashes, _MARKERS[look.marker])
