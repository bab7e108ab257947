"""The claims about rooted objectives, judged by rules from the measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lossmith.studies.findings import Claim, Verdict
from lossmith.studies.rooted_linear.descent import KS, Arm
from lossmith.studies.rooted_linear.measure import OBJECTIVES
from lossmith.studies.rooted_linear.readings import Difference, Measured, slowdown, stiffer, turned

TARGETS: Final = ("the near cross-entropy", "the close cross-entropy", "the accuracy")
NORMALISED: Final = Arm("normalised")


@dataclass(frozen=True)
class Tally:
    """How many comparisons came out which way.

    Args:
        less: that are below 0 on the whole and on the resamples.
        more: above 0.
        total: all.
    """

    less: int
    more: int
    total: int


def tally(differences: Sequence[Difference]) -> Tally:
    """Count the differences whose resamples agree about the sign."""
    known = [each for each in differences if not np.isnan(each.value)]
    return Tally(sum(each.below for each in known), sum(each.above for each in known), len(known))


def races(sets: Sequence[Measured], arm: Arm) -> list[Difference]:
    """An arm's steps against cross-entropy's to each target, as means over the data sets."""
    return [slowdown(sets, arm, target) for target in range(3)]


def judged(tallies: Sequence[Tally]) -> Verdict:
    """Judge a claim by how many comparisons came out which way.

    Args:
        tallies: one for each k.

    Returns:
        ``"holds"`` if for some k half of the comparisons or more are less, and none is more; ``"holds in part"`` if for
        some k there are more of less than of more; ``"undecided"`` if none is either; else ``"does not hold"``.
    """
    if any(each.less * 2 >= each.total > 0 and not each.more for each in tallies):
        return "holds"
    if any(each.less > each.more for each in tallies):
        return "holds in part"
    if not any(each.less or each.more for each in tallies):
        return "undecided"
    return "does not hold"


def faster(sets: Sequence[Measured]) -> Claim:
    """Whether the rooted loss needs fewer steps than cross-entropy."""
    found = {k: races(sets, Arm("rooted", k)) for k in KS}
    means = "; ".join(
        f"k={k}: {', '.join(f'{each.as_ratio()} to {TARGETS[i]}' for i, each in enumerate(differences))}"
        for k, differences in found.items()
    )
    single = {k: tally([slowdown([each], Arm("rooted", k), i) for each in sets for i in range(3)]) for k in KS}
    return Claim(
        "Gradient descent converges faster on rooted objectives than on cross-entropy.",
        judged([tally(each) for each in found.values()]),
        "Steps at each loss's own best learning rate, as geometric means over the data sets of ratios to "
        f"cross-entropy's: {means}. On single data sets and targets: {_counts(single, 'faster', 'slower')}.",
    )


def schedule(sets: Sequence[Measured]) -> Claim:
    """Whether the rooted loss, where it is faster than cross-entropy, is faster than both schedules too."""
    cells, beaten = 0, []
    places = [(sets, "all data sets"), *(([each], each.title) for each in sets)]
    for among, name in places:
        for target in range(3):
            for k in KS:
                arm = Arm("rooted", k)
                if not slowdown(among, arm, target).below:
                    continue
                cells += 1
                if all(slowdown(among, arm, target, other).below for other in (Arm("scalar", k), NORMALISED)):
                    beaten.append(f"{name} (k={k}, {TARGETS[target]})")
    verdict: Verdict = "does not hold" if cells else "undecided"
    if cells and len(beaten) == cells:
        verdict = "holds"
    elif beaten:
        verdict = "holds in part"
    where = f", on {_listed(beaten)}" if beaten else ""
    alone = ", ".join(f"{each.as_ratio()} to {TARGETS[i]}" for i, each in enumerate(races(sets, NORMALISED)))
    return Claim(
        "The speed-up is more than a step-size schedule.",
        verdict,
        f"A rooted loss was faster than cross-entropy in {cells} comparison{'s' * (cells != 1)}, over all data sets "
        f"or on one. In {len(beaten)} of these it was also faster than both step-size schedules on cross-entropy: the "
        f"scalar mean p^(-1/k) of the same k, and division by the loss{where}. Division by the loss alone takes these "
        f"multiples of cross-entropy's steps over all data sets: {alone}.",
    )


def conditioned(sets: Sequence[Measured]) -> Claim:
    """Whether the Hessians of the rooted loss have smaller condition numbers along the way."""
    own, there = ({k: stiffer(sets, Arm("rooted", k), there=way) for k in KS} for way in (False, True))
    single = {k: tally([stiffer([each], Arm("rooted", k)) for each in sets]) for k in KS}
    return Claim(
        "Rooted objectives are better conditioned.",
        judged([tally([each]) for each in own.values()]),
        "Condition numbers of the Hessians, restricted to their range, at equal cross-entropies along the training, as "
        f"geometric means over the data sets of ratios to cross-entropy's: {_ratios(own)}; on single data sets "
        f"{_counts(single, 'smaller', 'larger')}. At the same weights, along the path of cross-entropy: "
        f"{_ratios(there)}.",
    )


LAST_ANGLE: Final = 5.0
"""Degrees from the maximum margin at which the regularised minimiser has arrived."""


def directed(sets: Sequence[Measured]) -> Claim:
    """Whether the rooted loss finds the direction of smallest norm, and better than cross-entropy."""
    solvable = [each for each in sets if each.separable]
    ends = [each.whole["ridge angles"][OBJECTIVES.index(Arm("rooted", k)), -1] for each in solvable for k in KS]
    base = [each.whole["ridge angles"][0, -1] for each in solvable]
    arrives = bool(ends) and max(ends) <= LAST_ANGLE
    by = {way: {k: turned(sets, Arm("rooted", k), way) for k in KS} for way in _WAYS}
    closer = [judged([tally([each]) for each in differences.values()]) for differences in by.values()]
    verdict: Verdict = "does not hold" if solvable else "undecided"
    if arrives:
        verdict = "holds" if all(each == "holds" for each in closer) else "holds in part"
    means = "; ".join(
        f"{_WAYS[way]} {', '.join(f'{each.as_degrees()} for k={k}' for k, each in differences.items())}"
        for way, differences in by.items()
    )
    return Claim(
        "Rooted objectives find the minimum-norm direction, that of the maximum margin.",
        verdict,
        f"With vanishing L2 regularisation the rooted minimisers end at most {max(ends, default=np.nan):.1f} "
        f"degrees from it on the {len(solvable)} separable sets, and cross-entropy's at most "
        f"{max(base, default=np.nan):.1f}: the limit is a property of both. The angle to it along gradient descent, "
        f"minus that of cross-entropy, in degrees as means over these sets: {means}. Cross-entropy with its gradient "
        f"divided by its value: {turned(sets, NORMALISED, 'steps').as_degrees()} after as many steps.",
    )


_WAYS: Final = {"norms": "at equal norm", "losses": "at equal cross-entropy", "steps": "after as many steps"}


def _counts(tallies: dict[int, Tally], less: str, more: str) -> str:
    parts = [f"k={k}: {each.less} {less} and {each.more} {more} of {each.total}" for k, each in tallies.items()]
    return "; ".join(parts)


def _ratios(differences: dict[int, Difference]) -> str:
    return ", ".join(f"{each.as_ratio()} for k={k}" for k, each in differences.items())


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
