"""The claims about rooted objectives, judged by rules from the measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lossmith.studies.findings import Claim, Verdict
from lossmith.studies.rooted_linear.descent import KS, Arm
from lossmith.studies.rooted_linear.measure import OBJECTIVES
from lossmith.studies.rooted_linear.readings import Difference, Measured

TARGETS: Final = ("the near cross-entropy", "the close cross-entropy", "the accuracy")
NORMALISED: Final = Arm("normalised")


@dataclass(frozen=True)
class Tally:
    """How many comparisons came out which way.

    Args:
        less: whose interval lies below 0.
        more: above 0.
        total: all.
    """

    less: int
    more: int
    total: int


def tally(differences: Sequence[Difference]) -> Tally:
    """Count the intervals that leave out 0."""
    known = [each for each in differences if not np.isnan(each.value)]
    return Tally(sum(each.below for each in known), sum(each.above for each in known), len(known))


def races(sets: Sequence[Measured], arm: Arm) -> list[Difference]:
    """An arm's steps against cross-entropy's, for all data sets and targets."""
    return [each.slowdown(arm, target) for each in sets for target in range(3) if each.asked(target)]


def judged(tallies: Sequence[Tally]) -> Verdict:
    """One tally for each k: whether less is more frequent for some k, and never the contrary."""
    if any(each.less * 2 >= each.total > 0 and not each.more for each in tallies):
        return "holds"
    if any(each.less > each.more for each in tallies):
        return "holds in part"
    if not any(each.less or each.more for each in tallies):
        return "undecided"
    return "does not hold"


def faster(sets: Sequence[Measured]) -> Claim:
    """Whether the rooted loss needs fewer steps than cross-entropy."""
    tallies = {k: tally(races(sets, Arm("rooted", k))) for k in KS}
    counts = _counts(tallies, "faster", "slower")
    return Claim(
        "Gradient descent converges faster on rooted objectives than on cross-entropy.",
        judged(list(tallies.values())),
        f"Comparisons of steps at each loss's own best learning rate, over data sets and targets: {counts}. "
        f"{_where_faster(sets)}",
    )


def _where_faster(sets: Sequence[Measured]) -> str:
    places = [
        f"{each.title} (k={k}, {TARGETS[target]})"
        for each in sets
        for target in range(3)
        for k in KS
        if each.asked(target) and each.slowdown(Arm("rooted", k), target).below
    ]
    return f"It was faster on {_listed(places)}." if places else "It was faster nowhere."


def schedule(sets: Sequence[Measured]) -> Claim:
    """Whether the rooted loss, where it is faster than cross-entropy, is faster than both schedules too."""
    cells, beaten = 0, []
    for each in sets:
        for target in range(3):
            for k in KS:
                arm = Arm("rooted", k)
                if not each.asked(target) or not each.slowdown(arm, target).below:
                    continue
                cells += 1
                if all(each.slowdown(arm, target, other).below for other in (Arm("scalar", k), NORMALISED)):
                    beaten.append(f"{each.title} (k={k}, {TARGETS[target]})")
    quicker = tally(races(sets, NORMALISED))
    verdict: Verdict = "does not hold"
    if cells and len(beaten) == cells:
        verdict = "holds"
    elif beaten:
        verdict = "holds in part"
    where = f", on {_listed(beaten)}" if beaten else ""
    return Claim(
        "The speed-up is more than a step-size schedule.",
        verdict,
        f"Of the {cells} comparisons in which a rooted loss was faster than cross-entropy, {len(beaten)} show it "
        "faster also than both schedules on cross-entropy: the scalar mean p^(-1/k) of the same k, and division by "
        f"the loss{where}. That division alone was faster than cross-entropy in {quicker.less} of {quicker.total} "
        f"comparisons, and slower in {quicker.more}.",
    )


def conditioned(sets: Sequence[Measured]) -> Claim:
    """Whether the Hessians of the rooted loss have smaller condition numbers along the way."""
    own = {k: tally([each.stiffer(Arm("rooted", k)) for each in sets]) for k in KS}
    there = {k: tally([each.stiffer_there(Arm("rooted", k)) for each in sets]) for k in KS}
    return Claim(
        "Rooted objectives are better conditioned.",
        judged(list(own.values())),
        "Condition numbers of the Hessians, restricted to their range, at equal cross-entropy and each on its own way: "
        f"{_counts(own, 'smaller', 'larger')}. At the same weights, those that cross-entropy comes past: "
        f"{_counts(there, 'smaller', 'larger')}.",
    )


LAST_ANGLE: Final = 5.0
"""Degrees from the maximum margin at which the regularised minimiser has arrived."""


def directed(sets: Sequence[Measured]) -> Claim:
    """Whether the rooted loss finds the direction of smallest norm, and better than cross-entropy."""
    solvable = [each for each in sets if each.separable]
    ends = [each.whole["ridge angles"][OBJECTIVES.index(Arm("rooted", k)), -1] for each in solvable for k in KS]
    base = [each.whole["ridge angles"][0, -1] for each in solvable]
    arrives = bool(ends) and max(ends) <= LAST_ANGLE
    by = {way: {k: tally([each.turned(Arm("rooted", k), way) for each in solvable]) for k in KS} for way in _WAYS}
    closer = [judged(list(tallies.values())) for tallies in by.values()]
    verdict: Verdict = "does not hold"
    if arrives:
        verdict = "holds" if all(each == "holds" for each in closer) else "holds in part"
    counts = "; ".join(f"{_WAYS[way]}: {_counts(tallies, 'smaller', 'larger')}" for way, tallies in by.items())
    return Claim(
        "Rooted objectives find the minimum-norm direction, that of the maximum margin.",
        verdict,
        f"With vanishing L2 regularisation the rooted minimisers end at most {max(ends, default=np.nan):.1f} "
        f"degrees from it on the {len(solvable)} separable sets, and cross-entropy's at most "
        f"{max(base, default=np.nan):.1f}: the limit is a property of both. The angle that gradient descent leaves, "
        f"compared with cross-entropy's, {counts}.",
    )


_WAYS: Final = {"norms": "at equal norm", "losses": "at equal cross-entropy"}


def _counts(tallies: dict[int, Tally], less: str, more: str) -> str:
    parts = [f"k={k} {each.less} {less}, {each.more} {more} of {each.total}" for k, each in tallies.items()]
    return "; ".join(parts)


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
