"""Which losses stand out: those drawn in colour, those too far off to be drawn to scale, those without an interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lossmith.comparison.rows import Row, Summary
from lossmith.comparison.verdict import BETTER_THAN_REFERENCE_ONLY, VerdictKind

# Stand-ins that no palette uses; the page turns them into the colours of its text and its ground, light or dark.
INK: Final = "#010203"
GROUND: Final = "#fefdfb"
_MOST_OF_THE_WAY: Final = 0.5


@dataclass(frozen=True)
class Look:
    """How a loss is drawn, the same in every picture: colour, dashes and marker, so that colour alone tells nothing."""

    colour: str
    dashes: tuple[float, ...]
    marker: str


# Contrast of 3 to 1 or more on white and on the page's dark ground, and apart under each kind of colour blindness.
REFERENCE: Final = Look(INK, (), "s")
LOOKS: Final = (
    Look("#e2770c", (), "o"),
    Look("#21a3a4", (5, 1.5), "^"),
    Look("#625cb8", (1.5, 1.2), "D"),
    Look("#9300fc", (6, 1.5, 1.2, 1.5), "v"),
    Look("#935537", (3, 1.2), "P"),
)


def highlighted(results: Summary, far: frozenset[str]) -> dict[str, Look]:
    """The losses drawn in colour: the reference, the recommended one, the rival, then by rank.

    Those by rank are losses tested, not controls, and not far off. The reference tuned a second time is never among
    them, nor is a loss that could not be trained.
    """
    ranked = sorted((row for row in results.rows if row.rank is not None), key=lambda row: row.rank or 0)
    known = {row.name for row in ranked} - {results.reference, results.again}
    top = [row.name for row in ranked if row.role != "control" and row.name not in far]
    wanted = [results.recommended, results.rival, *top]
    others = [name for name in dict.fromkeys(wanted) if name in known]
    reference = {results.reference: REFERENCE} if any(row.name == results.reference for row in results.rows) else {}
    return reference | dict(zip((name for name in others if name), LOOKS, strict=False))


def far_off(results: Summary, guess: float) -> frozenset[str]:
    """The losses that axes are not stretched for.

    Those that could not be trained, and those that came less than half the way from guessing to the reference, or that
    err three times as often as the reference and two points more.
    """
    reference = next((row.score for row in results.rows if row.name == results.reference), 1.0)
    least = max(guess + _MOST_OF_THE_WAY * (reference - guess), 1 - 3 * (1 - reference) - 0.02)
    return frozenset(
        row.name
        for row in results.rows
        if row.name != results.reference and (row.untrained is not None or not row.score >= least)
    )


def without_interval(results: Summary) -> dict[str, list[str]]:
    """The losses whose difference to the reference has no interval, by the reason."""
    found: dict[str, list[str]] = {}
    for row in results.rows:
        if row.against_reference is not None and row.against_reference.reason is not None:
            found.setdefault(row.against_reference.reason, []).append(row.name)
    return found


def failed_trainings(row: Row) -> list[str]:
    """A sentence on the tuning trainings that gave no result, if there are any."""
    count = len(row.tuning.failures)
    if not count:
        return []
    subject = "1 of its tuning trainings failed" if count == 1 else f"{count} of its tuning trainings failed"
    return [f"{subject} and counted as guessing: {row.tuning.failures[0].rstrip('.')}."]


def tone(row: Row) -> str:
    """A verdict in one word for colours and filters: better, worse, even, open, reference or out."""
    tones = {
        VerdictKind.BETTER_THAN_BOTH.value: "better",
        **dict.fromkeys((kind.value for kind in BETTER_THAN_REFERENCE_ONLY), "better"),
        VerdictKind.WORSE.value: "worse",
        VerdictKind.EQUIVALENT.value: "even",
        VerdictKind.NOT_WORSE.value: "even",
        VerdictKind.UNTRAINABLE.value: "out",
        "reference": "reference",
    }
    return tones.get(row.kind, "open")
