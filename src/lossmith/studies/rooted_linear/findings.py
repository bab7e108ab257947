"""The page of the study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lossmith.studies.findings import Findings, Section, Table
from lossmith.studies.rooted_linear import sections
from lossmith.studies.rooted_linear.descent import ARMS, GRID, KS, Arm
from lossmith.studies.rooted_linear.measure import ACCURACY, CLOSE, NEAR, SHORT, SLOWER
from lossmith.studies.rooted_linear.readings import Measured, slowdown
from lossmith.studies.rooted_linear.sets import FILES, NAMES, SHARE
from lossmith.studies.rooted_linear.verdicts import (
    NORMALISED,
    conditioned,
    directed,
    faster,
    schedule,
)


def report(sets: Sequence[Measured], missing: Sequence[str]) -> Findings:
    """Judge the claims, and write the page.

    Args:
        sets: measurements of the data sets.
        missing: data sets whose file was not there.
    """
    claims = (faster(sets), schedule(sets), conditioned(sets), directed(sets))
    return Findings(
        "Rooted logistic objectives on linear models",
        f"Does gradient descent do better on rooted logistic objectives than on cross-entropy? {_answer(sets)}",
        'Wang, Veluswami, Mishra and Ravi, "Accelerated Neural Network Training with Rooted Logistic Objectives", '
        "2023, arXiv 2310.03890",
        claims,
        (
            _protocol(sets, missing),
            sections.again(sets),
            sections.speed(sets),
            sections.rates(sets),
            sections.taken_apart(sets),
            sections.direction(sets),
            sections.conditioning(sets),
            sections.ridge(sets),
            sections.known(sets),
        ),
    )


def _answer(sets: Sequence[Measured]) -> str:
    first, second, last = (f"{slowdown(sets, Arm('rooted', k), 0).as_ratio()} (k={k})" for k in KS)
    other = slowdown(sets, NORMALISED, 0).as_ratio()
    gain = schedule(sets).verdict
    more = {
        "holds": "What is gained goes beyond a step-size schedule.",
        "holds in part": "Some of what is gained goes beyond a step-size schedule.",
    }.get(gain, "No gain was shown to be more than that of a step-size schedule.")
    return (
        f"To a fixed cross-entropy the rooted loss takes {first}, {second} and {last} times the steps of "
        "cross-entropy, on average over the data sets and with the best learning rate for each. Cross-entropy with "
        f"its gradient divided by its value takes {other} times the steps. {more}"
    )


def _protocol(sets: Sequence[Measured], missing: Sequence[str]) -> Section:
    count = len(sets[0].drawn)
    rows = []
    for each in sets:
        kind = ("complete", "quasi-complete", "none")[int(each.whole["kind"])]
        points, size, kinds = (int(number) for number in each.whole["shape"])
        margin = f"{each.whole['margin'][0]:.2g}" if each.separable else "-"
        lowest, best, _ = each.whole["lowest"]
        near, close, accuracy = each.whole["targets"]
        numbers = (f"{lowest:.3f}", f"{best:.3f}", f"{near:.3f}", f"{close:.3f}", f"{accuracy:.3f}")
        rows.append((each.title, str(points), str(size), str(kinds), kind, margin, *numbers))
    head = ("data set", "points", "weights", "classes", "separation", "margin", "lowest CE", "its accuracy")
    edges = sum(int(np.count_nonzero(result["edges"])) for each in sets for result in (each.whole, *each.drawn))
    raced = sum(len(ARMS) * (1 + len(each.drawn)) for each in sets)
    left = [f"{NAMES[name]} is left out: no file tabular/{FILES[name]}.csv.gz." for name in missing]
    return Section(
        "Protocol",
        (
            "Gradient descent from zero trains a linear model on the whole training set, in double precision. Real "
            "data sets are standardised, and all have a constant feature. Two classes have one logit, and wine has "
            "a softmax. The rooted loss is k (p^(-1/k) - 1), the form of the theory. The form of the authors' "
            "code, k (1 - p^(1/k)), has arms of its own.",
            f"Each arm has its own grid of learning rates, by factors of {GRID}. The grid is widened until the best "
            f"rate lies inside it; in {edges} of {raced} races it still lies on an edge. Each target is reached with "
            "the rate that gets there first, and runs may rise on their way. There are three targets, all on the "
            f"training set: a near cross-entropy, where {NEAR:.1%} of the way from guessing to the lowest is left, "
            f"which is 0.05 for two separable classes; a close one, where {CLOSE:.2%} is left; and {ACCURACY:.0%} "
            f"of the accuracy at the lowest cross-entropy. An arm stops after {SLOWER} times the steps that "
            "cross-entropy takes to the near target, or 200 if that is more, and after "
            f"{' and '.join(f'{most} on {NAMES[name]}' for name, most in SHORT.items())} in any case. Where it has not "
            "reached a target by then, its ratio is a lower bound, marked >=.",
            f"Brackets hold the middle 95 % of the same number on {count} random parts of the training set, each with "
            f"{SHARE:.0%} of the points, drawn without replacement. All arms have the same parts, and ratios and "
            "differences are paired. They show how much a number depends on the points in the training set; new data "
            "would vary more, since the parts overlap. Faster, smaller and closer mean that the whole set and the "
            "bracket agree. The column or row `all` has the mean over the data sets.",
            *left,
        ),
        (Table((*head, "near CE", "close CE", "accuracy"), tuple(rows)),),
    )
