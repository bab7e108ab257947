"""From statistics to words: the rules by which a comparison may say that a loss is better, equal or worse.

`RULES` is the whole decision on one loss: `verdict` takes the first row that holds. Docs and report print these rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Self

from lossmith.comparison.statistics import NoInterval, PairedDifference
from lossmith.tasks import Words

ALPHA = 0.05
CLASSIFICATION = Words()  # what sentences say unless told otherwise
SCOPE = "on this data, model, optimiser and budget."


class VerdictKind(Enum):
    """What may be said of a loss."""

    UNTRAINABLE = "could not be trained"
    TOO_LITTLE_DATA = "too little data"
    NOT_DISTINGUISHABLE = "not distinguishable"
    BETTER_THAN_BOTH = "better than both"
    BETTER_RIVAL = "rival better than reference"
    BETTER_WITHOUT_RIVAL = "better, rival missing"
    BETTER_BUT_WORSE_THAN_RIVAL = "better, but worse than rival"
    BETTER_THAN_REFERENCE = "better than reference only"
    EQUIVALENT = "equivalent"
    NOT_WORSE = "not worse"
    WORSE = "worse"
    UNDECIDED = "undecided"


BETTER_THAN_REFERENCE_ONLY = frozenset({
    VerdictKind.BETTER_WITHOUT_RIVAL,
    VerdictKind.BETTER_BUT_WORSE_THAN_RIVAL,
    VerdictKind.BETTER_THAN_REFERENCE,
})
BETTER = BETTER_THAN_REFERENCE_ONLY | {VerdictKind.BETTER_THAN_BOTH}


@dataclass(frozen=True)
class Verdict:
    """One loss's verdict: its kind, for programs, and its sentence, for people."""

    kind: VerdictKind
    sentence: str


@dataclass(frozen=True)
class Evidence:
    """What the rules look at; see `verdict` for the fields."""

    against_reference: PairedDifference | None
    against_rival: PairedDifference | None
    holm_p: float | None
    delta: float
    trained: bool
    is_rival: bool

    @property
    def reason(self) -> NoInterval | None:
        """Why there is no interval against the reference."""
        return None if self.against_reference is None else self.against_reference.reason

    @property
    def sign_reference(self) -> int:
        """+1 significantly better than the reference after Holm, -1 significantly worse, 0 neither."""
        return sign_of(self.against_reference, self.holm_p)

    @property
    def sign_rival(self) -> int:
        """The same against the rival, by the unadjusted p."""
        return sign_of(self.against_rival, None if self.against_rival is None else self.against_rival.p_value)

    def bounds(self, level: float) -> tuple[float, float]:
        """The interval against the reference, infinitely wide where there is none."""
        interval = None if self.against_reference is None else self.against_reference.interval(level)
        return (-math.inf, math.inf) if interval is None else interval


@dataclass(frozen=True)
class Claim:
    """A sentence with gaps in braces, and the condition under which it may be said."""

    condition: str
    sentence: str

    def worded(self, words: Words) -> Self:
        """The claim with the words of a task in place; the gaps for single losses stay."""
        condition, sentence = map(words.fill, (self.condition, self.sentence))
        return replace(self, condition=condition, sentence=sentence.replace("{scope}", SCOPE))


@dataclass(frozen=True)
class Rule(Claim):
    """One row of the table: the sentence is the verdict where its condition holds and none above it does."""

    kind: VerdictKind
    holds: Callable[[Evidence], bool]


RULES = (
    Rule(
        "best learning rate on the edge of the extended grid in most repeats, or over 10 % of the final runs diverged "
        "or fell back to guessing, or on validation less than half of the way from guessing to {reference}, or a "
        "final run failed",
        "{name} could not be trained under this budget, on this data, model and optimiser.",
        VerdictKind.UNTRAINABLE,
        lambda e: not e.trained,
    ),
    Rule(
        "fewer than 3 final runs or only one a fold, fewer than 100 test examples, or no spread",
        "{name} has too little data for a verdict ({reason}) {scope}",
        VerdictKind.TOO_LITTLE_DATA,
        lambda e: e.reason not in {None, NoInterval.FEW_DIFFERING},
    ),
    Rule(
        "fewer than 10 test examples on which the loss and {reference} differ",
        "{name} is not distinguishable from {reference} ({reason}) {scope}",
        VerdictKind.NOT_DISTINGUISHABLE,
        lambda e: e.reason is NoInterval.FEW_DIFFERING,
    ),
    Rule(
        "Holm p < .05 against {reference} and p < .05 against best {rival}, both positive",
        "{name} is better than tuned {reference} and {rival}: {gap} {scope}",
        VerdictKind.BETTER_THAN_BOTH,
        lambda e: e.sign_reference > 0 and e.sign_rival > 0,
    ),
    Rule(
        "p < .05 against {reference}, positive, for the tuned {rival} itself",
        "{name} is better than {reference}: {gap} {scope}",
        VerdictKind.BETTER_RIVAL,
        lambda e: e.sign_reference > 0 and e.is_rival,
    ),
    Rule(
        "Holm p < .05 against {reference}, positive, and no {rival} to compare with",
        "{name} is better than {reference}, not compared with {rival}: {gap} {scope}",
        VerdictKind.BETTER_WITHOUT_RIVAL,
        lambda e: e.sign_reference > 0 and e.against_rival is None,
    ),
    Rule(
        "Holm p < .05 against {reference}, positive, and p < .05 against best {rival}, negative",
        "{name} is better than {reference}, worse than {rival}: {gap} against {reference}, "
        "{rival_gap} against {rival}, {scope}",
        VerdictKind.BETTER_BUT_WORSE_THAN_RIVAL,
        lambda e: e.sign_reference > 0 and e.sign_rival < 0,
    ),
    Rule(
        "Holm p < .05 against {reference}, positive",
        "{name} is better than {reference}, not distinguishable from {rival}: {gap} against "
        "{reference}, {rival_gap} against {rival}, {scope}",
        VerdictKind.BETTER_THAN_REFERENCE,
        lambda e: e.sign_reference > 0,
    ),
    Rule(
        "90 % interval against {reference} inside -delta to +delta",
        "{name} is equivalent to {reference} within {delta} points: {gap90} (90 % interval) {scope}",
        VerdictKind.EQUIVALENT,
        lambda e: -e.delta < e.bounds(0.90)[0] and e.bounds(0.90)[1] < e.delta,
    ),
    Rule(
        "lower bound of the 95 % interval against {reference} above -delta",
        "{name} is not worse than {reference} by more than {delta} points: {gap} {scope}",
        VerdictKind.NOT_WORSE,
        lambda e: -e.delta < e.bounds(0.95)[0],
    ),
    Rule(
        "Holm p < .05 against {reference}, negative",
        "{name} is worse than {reference}: {gap} {scope}",
        VerdictKind.WORSE,
        lambda e: e.sign_reference < 0,
    ),
    Rule(
        "otherwise",
        "{name} is undecided against {reference}: between {lower} and {upper} points; could only "
        "have detected {mde} points {scope}",
        VerdictKind.UNDECIDED,
        lambda _: True,
    ),
)


def without_numbers(sentence: str) -> str:
    """A verdict without its numbers, which stand between a colon and the scope."""
    said, _, rest = sentence.partition(":")
    return f"{said} {SCOPE}" if rest else sentence


def verdict(
    name: str,
    against_reference: PairedDifference | None,
    against_rival: PairedDifference | None,
    holm_p: float | None,
    delta: float,
    *,
    trained: bool = True,
    is_rival: bool = False,
    words: Words = CLASSIFICATION,
) -> Verdict:
    """The first of `RULES` that holds for one loss.

    Args:
        name: The loss as the sentence calls it.
        against_reference: Loss minus the tuned reference; None only if not `trained`.
        against_rival: Loss minus the tuned rival; None where that could not be trained, or for
            itself.
        holm_p: p against the reference, Holm-adjusted over the non-control losses (for a control: its own p);
            None only where `against_reference` has none.
        delta: The difference that matters, a fraction (0.005 = half a point), positive.
        is_rival: True for the tuned rival itself.
        trained: False for a loss the protocol calls untrainable; the other evidence is then not looked at.
        words: The task's names of the reference and the rival.

    Returns:
        The verdict.

    Raises:
        ValueError: If `delta` or `holm_p` is out of range, or evidence is missing.
    """
    if not 0 < delta < math.inf:
        raise ValueError(f"verdict: delta must be a positive fraction, got {delta}")
    if holm_p is not None and not 0 <= holm_p <= 1:
        raise ValueError(f"verdict: holm_p must lie in [0, 1], got {holm_p}")
    if trained and against_reference is None:
        raise ValueError(f"verdict: {name} was trained, so its difference from the reference is needed")
    if trained and holm_p is None and against_reference is not None and against_reference.reason is None:
        raise ValueError(f"verdict: {name} has a p-value against the reference, so holm_p is needed")
    evidence = Evidence(against_reference, against_rival, holm_p, delta, trained, is_rival)
    rule = next(rule for rule in RULES if rule.holds(evidence))
    return Verdict(rule.kind, rule.worded(words).sentence.format_map(_gaps(name, evidence)))


def sign_of(difference: PairedDifference | None, p_value: float | None) -> int:
    """+1 or -1 where a difference is significant, else 0."""
    if difference is None or p_value is None or p_value >= ALPHA:
        return 0
    return (difference.mean > 0) - (difference.mean < 0)


def _gaps(name: str, e: Evidence) -> dict[str, str]:
    """What the templates of `RULES` may name besides the task's words."""
    lower, upper = e.bounds(0.95)
    mde = None if e.against_reference is None else e.against_reference.mde()
    return {
        "name": name,
        "reason": e.reason.value if e.reason else "",
        "gap": points_with_interval(e.against_reference, 0.95),
        "gap90": points_with_interval(e.against_reference, 0.90),
        "rival_gap": points_with_interval(e.against_rival, 0.95),
        "lower": _points(lower),
        "upper": _points(upper),
        "delta": shown_delta(e.delta),
        "mde": "" if mde is None else f"{100 * mde:.2f}",
    }


def _points(fraction: float) -> str:
    return f"{round(100 * fraction, 2) + 0.0:+.2f}"  # + 0.0 turns -0.0 into 0.0


def points_with_interval(difference: PairedDifference | None, level: float) -> str:
    """A difference as it stands in a sentence: ``+0.70 points [+0.27, +1.12]``; empty for ``None``."""
    if difference is None:
        return ""
    interval = difference.interval(level)
    bounds = f"[{_points(interval[0])}, {_points(interval[1])}]" if interval else "(no interval)"
    return f"{_points(difference.mean)} points {bounds}"


def shown_delta(delta: float) -> str:
    """The difference that matters, in points."""
    return f"{100 * delta:g}"
