"""What validation decides: which losses could not be trained, and which one is recommended.

Everything is a pure function of scores. None of it looks at the test part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from lossmith.comparison.arms import Baselines
from lossmith.comparison.statistics import paired_difference
from lossmith.comparison.verdict import CLASSIFICATION
from lossmith.tasks import Words

MAX_EDGE_SHARE: Final = 0.5
MAX_DIVERGED_SHARE: Final = 0.1
MIN_LEARNED_SHARE: Final = 0.5  # of the way from guessing to the reference
COLLAPSED_SHARE: Final = 0.05  # likewise


@dataclass(frozen=True)
class Recommendation:
    """The loss to use, fixed from validation results before the test part is opened.

    Attributes:
        arm: Its name.
        reason: One sentence.
        gain: Its mean validation score above that of the reference; that of the best loss where the reference is
            recommended.
        se: Standard error of that gain; None if there is none.
    """

    arm: str
    reason: str
    gain: float
    se: float | None


def recommend(
    scores: Mapping[str, Sequence[ArrayLike]], names: Baselines, words: Words = CLASSIFICATION
) -> Recommendation:
    """The best loss if it is more than one standard error better than the reference, else the reference.

    The reference tuned and seeded anew is never recommended: it is the reference.

    Args:
        scores: The validation score of each example under each final seed, by arm: one array (seeds, examples) per
            fold. The reference is among the arms; arms that could not be trained are not.
        names: what the reference is called, and the reference tuned and seeded anew.
        words: the task's.

    Returns:
        The recommendation.
    """
    reference = scores[names.reference]
    differences = {
        name: paired_difference([np.asarray(a) - np.asarray(b) for a, b in zip(of, reference, strict=True)])
        for name, of in scores.items()
        if name not in {names.reference, names.again}
    }
    if not differences:
        return Recommendation(names.reference, "nothing else could be trained", 0.0, None)
    name, top = max(differences.items(), key=lambda item: item[1].mean)
    gain = f"{name} is {100 * top.mean:+.2f} points from {words.reference} on validation"
    if math.isnan(top.variance):
        return Recommendation(names.reference, f"{gain}, of unknown standard error", top.mean, None)
    if top.mean > top.se:
        return Recommendation(name, f"{gain}, more than one standard error of {100 * top.se:.2f}", top.mean, top.se)
    reason = f"the best, {gain}, within one standard error of {100 * top.se:.2f}"
    return Recommendation(names.reference, reason, top.mean, top.se)


def why_untrained(
    scores: Mapping[str, Sequence[float | None]],
    on_edge: Mapping[str, Sequence[bool]],
    guess: float,
    names: Baselines,
    words: Words = CLASSIFICATION,
) -> dict[str, str]:
    """The arms that could not be trained under the budget, each with the reason.

    Args:
        scores: The validation score of each final training, by arm; None where it diverged, which counts as guessing.
            The reference is among the arms.
        on_edge: For each arm and fold, whether the best learning rate still lay on the edge of the extended grid.
        guess: The score of guessing.
        names: What the reference is called.
        words: The task's.

    Returns:
        The reason by arm, each the end of a sentence. The reference, judged like the others, may be among them.
    """
    known = {name: [guess if score is None else score for score in of] for name, of in scores.items()}
    learned = {name: float(np.mean(of)) - guess for name, of in known.items()}
    collapsed = guess + COLLAPSED_SHARE * learned[names.reference]
    untrained = {}
    for name, runs in scores.items():
        edges = sum(on_edge[name])
        lost = sum(run is None or run < collapsed for run in runs)
        if edges > MAX_EDGE_SHARE * len(on_edge[name]):
            folds = len(on_edge[name])
            untrained[name] = (
                f"its best learning rate still lay on the edge of the extended grid in {edges} of {folds} folds"
            )
        elif lost > MAX_DIVERGED_SHARE * len(runs):
            untrained[name] = f"{lost} of its {len(runs)} final trainings diverged or fell back to guessing"
        elif learned[name] < MIN_LEARNED_SHARE * learned[names.reference]:
            untrained[name] = (
                f"at its best it got to {100 * (learned[name] + guess):.0f} % on validation, less than half the "
                f"way from guessing to {words.reference}"
            )
    return untrained
