"""From statistics to words: the rules by which a comparison may say that a loss is better, equal or worse.

`RULES` is the whole decision on one loss: `verdict` takes the first row that holds. Docs and report print these rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from lossmith.comparison.statistics import NoInterval, PairedDifference

ALPHA = 0.05
SCOPE = "on this data, model, optimiser and budget."


class VerdictKind(Enum):
    """What may be said of a loss."""

    UNTRAINABLE = "could not be trained"
    TOO_LITTLE_DATA = "too little data"
    NOT_DISTINGUISHABLE = "not distinguishable"
    BETTER_THAN_BOTH = "better than both"
    BETTER_SMOOTHING = "label smoothing better than cross-entropy"
    BETTER_WITHOUT_CONTROL = "better, label smoothing missing"
    BETTER_THAN_CE_WORSE_THAN_LS = "better, but worse than label smoothing"
    BETTER_THAN_CE = "better than cross-entropy only"
    EQUIVALENT = "equivalent"
    NOT_WORSE = "not worse"
    WORSE = "worse"
    UNDECIDED = "undecided"


BETTER_THAN_CE_ONLY = frozenset({
    VerdictKind.BETTER_WITHOUT_CONTROL,
    VerdictKind.BETTER_THAN_CE_WORSE_THAN_LS,
    VerdictKind.BETTER_THAN_CE,
})
BETTER = BETTER_THAN_CE_ONLY | {VerdictKind.BETTER_THAN_BOTH}


@dataclass(frozen=True)
class Verdict:
    """One loss's verdict: its kind, for programs, and its sentence, for people."""

    kind: VerdictKind
    sentence: str


@dataclass(frozen=True)
class Evidence:
    """What the rules look at; see `verdict` for the fields."""

    against_ce: PairedDifference | None
    against_ls: PairedDifference | None
    holm_p: float | None
    delta: float
    trained: bool
    is_smoothing: bool

    @property
    def reason(self) -> NoInterval | None:
        """Why there is no interval against cross-entropy."""
        return None if self.against_ce is None else self.against_ce.reason

    @property
    def sign_ce(self) -> int:
        """+1 significantly better than cross-entropy after Holm, -1 significantly worse, 0 neither."""
        return sign_of(self.against_ce, self.holm_p)

    @property
    def sign_ls(self) -> int:
        """The same against the best label smoothing, by the unadjusted p."""
        return sign_of(self.against_ls, None if self.against_ls is None else self.against_ls.p_value)

    def bounds(self, level: float) -> tuple[float, float]:
        """The interval against cross-entropy, infinitely wide where there is none."""
        interval = None if self.against_ce is None else self.against_ce.interval(level)
        return (-math.inf, math.inf) if interval is None else interval


@dataclass(frozen=True)
class Rule:
    """One row of the table: the sentence is the verdict where its condition holds and none above it does."""

    kind: VerdictKind
    condition: str
    sentence: str
    holds: Callable[[Evidence], bool]


RULES = (
    Rule(
        VerdictKind.UNTRAINABLE,
        "best learning rate on the edge of the extended grid in most folds, or over 10 % of the final runs diverged "
        "or fell back to guessing, or on validation less than half of the way from guessing to cross-entropy, or a "
        "final run failed",
        "{name} could not be trained under this budget, on this data, model and optimiser.",
        lambda e: not e.trained,
    ),
    Rule(
        VerdictKind.TOO_LITTLE_DATA,
        "fewer than 3 final runs or only one a fold, fewer than 100 test examples, or no spread",
        f"{{name}} has too little data for a verdict ({{reason}}) {SCOPE}",
        lambda e: e.reason not in {None, NoInterval.FEW_DIFFERING},
    ),
    Rule(
        VerdictKind.NOT_DISTINGUISHABLE,
        "fewer than 10 test examples on which the loss and cross-entropy differ",
        f"{{name}} is not distinguishable from cross-entropy ({{reason}}) {SCOPE}",
        lambda e: e.reason is NoInterval.FEW_DIFFERING,
    ),
    Rule(
        VerdictKind.BETTER_THAN_BOTH,
        "Holm p < .05 against cross-entropy and p < .05 against best label smoothing, both positive",
        f"{{name}} is better than tuned cross-entropy and label smoothing: {{ce}} {SCOPE}",
        lambda e: e.sign_ce > 0 and e.sign_ls > 0,
    ),
    Rule(
        VerdictKind.BETTER_SMOOTHING,
        "p < .05 against cross-entropy, positive, for the tuned label smoothing itself",
        f"{{name}} is better than cross-entropy: {{ce}} {SCOPE}",
        lambda e: e.sign_ce > 0 and e.is_smoothing,
    ),
    Rule(
        VerdictKind.BETTER_WITHOUT_CONTROL,
        "Holm p < .05 against cross-entropy, positive, and no label smoothing to compare with",
        f"{{name}} is better than cross-entropy, not compared with label smoothing: {{ce}} {SCOPE}",
        lambda e: e.sign_ce > 0 and e.against_ls is None,
    ),
    Rule(
        VerdictKind.BETTER_THAN_CE_WORSE_THAN_LS,
        "Holm p < .05 against cross-entropy, positive, and p < .05 against best label smoothing, negative",
        f"{{name}} is better than cross-entropy, worse than label smoothing: {{ce}} against cross-entropy, "
        f"{{ls}} against label smoothing, {SCOPE}",
        lambda e: e.sign_ce > 0 and e.sign_ls < 0,
    ),
    Rule(
        VerdictKind.BETTER_THAN_CE,
        "Holm p < .05 against cross-entropy, positive",
        f"{{name}} is better than cross-entropy, not distinguishable from label smoothing: {{ce}} against "
        f"cross-entropy, {{ls}} against label smoothing, {SCOPE}",
        lambda e: e.sign_ce > 0,
    ),
    Rule(
        VerdictKind.EQUIVALENT,
        "90 % interval against cross-entropy inside -delta to +delta",
        f"{{name}} is equivalent to cross-entropy within {{delta}} points: {{ce90}} (90 % interval) {SCOPE}",
        lambda e: -e.delta < e.bounds(0.90)[0] and e.bounds(0.90)[1] < e.delta,
    ),
    Rule(
        VerdictKind.NOT_WORSE,
        "lower bound of the 95 % interval against cross-entropy above -delta",
        f"{{name}} is not worse than cross-entropy by more than {{delta}} points: {{ce}} {SCOPE}",
        lambda e: -e.delta < e.bounds(0.95)[0],
    ),
    Rule(
        VerdictKind.WORSE,
        "Holm p < .05 against cross-entropy, negative",
        f"{{name}} is worse than cross-entropy: {{ce}} {SCOPE}",
        lambda e: e.sign_ce < 0,
    ),
    Rule(
        VerdictKind.UNDECIDED,
        "otherwise",
        f"{{name}} is undecided against cross-entropy: between {{lower}} and {{upper}} points; could only "
        f"have detected {{mde}} points {SCOPE}",
        lambda _: True,
    ),
)


def verdict(
    name: str,
    against_ce: PairedDifference | None,
    against_ls: PairedDifference | None,
    holm_p: float | None,
    delta: float,
    *,
    trained: bool = True,
    is_smoothing: bool = False,
) -> Verdict:
    """The first of `RULES` that holds for one loss.

    Args:
        name: The loss as the sentence calls it.
        against_ce: Loss minus tuned cross-entropy; None only if not `trained`.
        against_ls: Loss minus the best tuned label smoothing; None where that could not be trained, or for
            itself.
        holm_p: p against cross-entropy, Holm-adjusted over the non-control losses (for a control: its own p);
            None only where `against_ce` has none.
        delta: The difference that matters, a fraction (0.005 = half a point), positive.
        is_smoothing: True for the tuned label smoothing that others are held against.
        trained: False for a loss the protocol calls untrainable; the other evidence is then not looked at.

    Returns:
        The verdict.

    Raises:
        ValueError: If `delta` or `holm_p` is out of range, or evidence is missing.
    """
    if not 0 < delta < math.inf:
        raise ValueError(f"verdict: delta must be a positive fraction, got {delta}")
    if holm_p is not None and not 0 <= holm_p <= 1:
        raise ValueError(f"verdict: holm_p must lie in [0, 1], got {holm_p}")
    if trained and against_ce is None:
        raise ValueError(f"verdict: {name} was trained, so its difference to cross-entropy is needed")
    if trained and holm_p is None and against_ce is not None and against_ce.reason is None:
        raise ValueError(f"verdict: {name} has a p-value against cross-entropy, so holm_p is needed")
    evidence = Evidence(against_ce, against_ls, holm_p, delta, trained, is_smoothing)
    rule = next(rule for rule in RULES if rule.holds(evidence))
    return Verdict(rule.kind, rule.sentence.format_map(_words(name, evidence)))


def sign_of(difference: PairedDifference | None, p_value: float | None) -> int:
    """+1 or -1 where a difference is significant, else 0."""
    if difference is None or p_value is None or p_value >= ALPHA:
        return 0
    return (difference.mean > 0) - (difference.mean < 0)


def _words(name: str, e: Evidence) -> dict[str, str]:
    """What the templates of `RULES` may name."""
    lower, upper = e.bounds(0.95)
    mde = None if e.against_ce is None else e.against_ce.mde()
    return {
        "name": name,
        "reason": e.reason.value if e.reason else "",
        "ce": points_with_interval(e.against_ce, 0.95),
        "ce90": points_with_interval(e.against_ce, 0.90),
        "ls": points_with_interval(e.against_ls, 0.95),
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
