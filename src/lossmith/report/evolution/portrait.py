"""A loss that was found, as the page shows it: typeset, described, and beside what it resembles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from markupsafe import Markup

from lossmith.catalog import create
from lossmith.properties import certify
from lossmith.properties.certificate import Certificate
from lossmith.properties.nearest import nearest
from lossmith.report.description import Section, sections
from lossmith.report.draw_certificate import formula_svg, pictures
from lossmith.report.numbers import significant
from lossmith.report.scene import Picture

_FAR: Final = 0.25
_SHORT: Final = ("Kind", "Proper", "Best prediction", "Convex in logits", "Gradient's norm", "Label noise")


@dataclass(frozen=True)
class Portrait:
    """A loss.

    Args:
        text: its text form.
        typeset: its formula as SVG; ``None`` where it cannot be set.
        resembles: which named loss it is like, in sentences.
        short: the heart of its certificate.
        sections: the whole certificate; none where the loss cannot be described, and then `resembles` says why.
        pictures: of the certificate, with their panels.
    """

    text: str
    typeset: Markup | None
    resembles: tuple[str, ...]
    short: tuple[tuple[str, str], ...] = ()
    sections: tuple[Section, ...] = ()
    pictures: tuple[tuple[Picture, list[Markup]], ...] = ()


def portrait(text: str, num_classes: int, key: str, known: str | None = None) -> Portrait:
    """Describe a loss for a number of classes.

    Args:
        text: its text form.
        num_classes: the number of classes.
        key: sets its drawing apart from others on the page.
        known: its name, if the search began with it.
    """
    try:
        certificate = certify(create(text), num_classes)
        if not isinstance(certificate, Certificate):
            raise ValueError("it is no classification loss")
    except ValueError as error:
        return Portrait(text, None, (f"It could not be described: {error}.",))
    drawn = None if certificate.latex is None else formula_svg(certificate.latex, key)
    parts = sections(certificate)
    said = {label: words for part in parts for label, words in part.rows}
    return Portrait(
        text,
        None if drawn is None else Markup(drawn),
        (*resemblance(text, num_classes, known), *_start(certificate)),
        tuple((label, said[label]) for label in _SHORT if label in said),
        parts,
        tuple(
            (_renamed(each, certificate.loss), [Markup(panel) for panel in each.panels])
            for each in pictures(certificate)
        ),
    )


def _renamed(picture: Picture, text: str) -> Picture:
    """A picture whose legend has no room for a formula."""
    return replace(picture, legend={"this loss" if name == text else name: of for name, of in picture.legend.items()})


def resemblance(text: str, num_classes: int, known: str | None) -> tuple[str, ...]:
    """Which named loss a loss is, or is like, in a sentence; none where that cannot be said."""
    if known is not None:
        return (f"It is {known}, which the search began with.",)
    try:
        found = nearest(create(text), num_classes)
    except ValueError:
        return ()
    if found is None:
        return ()
    if found.alike:
        return (f"It pulls on the target as {found.known} does, but for a factor.",)
    differs = f"its pull on the target differs by {significant(100 * found.apart)} %, a factor aside"
    if found.apart > _FAR:
        return (f"It is like none of the named losses. {found.known} comes nearest, but {differs}.",)
    return (f"Of the named losses it is most like {found.known}: {differs}.",)


def _start(certificate: Certificate) -> tuple[str, ...]:
    """What its confidence is capped by, as label smoothing's is."""
    start = next((each for each in certificate.starts if each.num_classes == certificate.num_classes), None)
    if start is None or start.cap is None or start.smoothing is None or not 1e-6 < start.smoothing <= 1:
        return ()
    return (
        f"For a sure label its best prediction is p = {start.cap:.3f}, as that of label smoothing by "
        f"{start.smoothing:.2g}.",
    )
