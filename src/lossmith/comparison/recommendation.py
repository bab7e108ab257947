"""What validation decides: which losses could not be trained, and which one is recommended.

Everything is a pure function of scores. None of it looks at the test part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lossmith.comparison.arms import Baselines
from lossmith.comparison.statistics import PairedDifference, holm
from lossmith.comparison.verdict import ALPHA, CLASSIFICATION
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
    differences: Mapping[str, PairedDifference], tested: int, names: Baselines, words: Words = CLASSIFICATION
) -> Recommendation:
    """The best of the losses that are better than the reference with a Holm-adjusted p below .05, else the reference.

    Args:
        differences: Each arm minus the reference on validation, by name, without the reference's own arms; arms that
            could not be trained are absent.
        tested: How many arms were planned besides the reference's own; those absent enter Holm's method with p = 1.
        names: What the reference is called.
        words: The task's.

    Returns:
        The recommendation.
    """
    if not differences:
        return Recommendation(names.reference, "nothing else could be trained", 0.0, None)
    p_values = [1.0 if gap.p_value is None else gap.p_value for gap in differences.values()]
    adjusted = holm([*p_values, *[1.0] * (tested - len(p_values))])[: len(p_values)]
    holm_p = dict(zip(differences, adjusted.tolist(), strict=True))
    better = [name for name, gap in differences.items() if gap.mean > 0 and holm_p[name] < ALPHA]
    name = max(better or differences, key=lambda name: differences[name].mean)
    top = differences[name]
    gain = f"{100 * top.mean:+.2f} points from {words.reference} on validation"
    if top.reason is not None:
        reason = f"the highest, {name}, is {gain}, without a p-value ({top.reason.value})"
        return Recommendation(names.reference, reason, top.mean, None)
    if better:
        return Recommendation(name, f"{gain}, Holm-adjusted p = {holm_p[name]:.2g}", top.mean, top.se)
    reason = f"the highest, {name}, is {gain}, Holm-adjusted p = {holm_p[name]:.2g}"
    return Recommendation(names.reference, reason, top.mean, top.se)


def why_untrained(
    scores: Mapping[str, Sequence[float | None]],
    on_edge: Mapping[str, Sequence[bool]],
    guess: float,
    names: Baselines,
    words: Words = CLASSIFICATION,
    *,
    metric: str = "accuracy",
    learned_something: bool = True,
) -> dict[str, str]:
    """The arms that could not be trained under the budget, each with the reason.

    Args:
        scores: The validation score of each final training, by arm; None where it diverged, which counts as guessing.
            The reference is among the arms.
        on_edge: For each arm and repeat, whether the best learning rate still lay on the edge of the extended grid.
        guess: The score of guessing.
        names: What the reference is called.
        words: The task's.
        metric: What the scores are.
        learned_something: Whether the reference does better than guessing. If not, no arm is held against it.

    Returns:
        The reason by arm, each the end of a sentence. The reference, judged like the others, may be among them.
    """
    known = {name: [guess if score is None else score for score in of] for name, of in scores.items()}
    learned = {name: float(np.mean(of)) - guess for name, of in known.items()}
    collapsed = guess + COLLAPSED_SHARE * learned[names.reference] if learned_something else -math.inf
    untrained = {}
    for name, runs in scores.items():
        edges = sum(on_edge[name])
        lost = sum(run is None or run < collapsed for run in runs)
        if edges > MAX_EDGE_SHARE * len(on_edge[name]):
            untrained[name] = (
                f"its best learning rate still lay on the edge of the extended grid in {edges} of "
                f"{len(on_edge[name])} repeats"
            )
        elif lost > MAX_DIVERGED_SHARE * len(runs):
            what = "diverged or fell back to guessing" if learned_something else "diverged"
            untrained[name] = f"{lost} of its {len(runs)} final trainings {what}"
        elif learned_something and learned[name] < MIN_LEARNED_SHARE * learned[names.reference]:
            untrained[name] = (
                f"at its best it got to {100 * (learned[name] + guess):.0f} % {metric} on validation, less than half "
                f"the way from guessing to {words.reference}"
            )
    return untrained
