"""The sections of the page: tables and plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from lossmith.studies.findings import Line, Plot, Section, Table
from lossmith.studies.rooted_linear.descent import ARMS, CROSS_ENTROPY, KS, Arm
from lossmith.studies.rooted_linear.measure import OBJECTIVES
from lossmith.studies.rooted_linear.readings import (
    LATE,
    LEVELS,
    Measured,
    curve,
    gaps,
    slowdown,
    steps,
    stiffer,
    tolerance,
    turned,
)
from lossmith.studies.rooted_linear.sets import COUNTS, MARGIN
from lossmith.studies.rooted_linear.verdicts import NORMALISED, judged, races, tally

EARLIER: Final = {
    CROSS_ENTROPY: "86",
    Arm("rooted", 8): "91",
    Arm("rooted", 3): "406",
    Arm("rooted", 1): "2,723",
    Arm("scalar", 3): "119 (k not recorded)",
    Arm("term", 3): "295 (k not recorded)",
    NORMALISED: "35",
}
"""Steps to a cross-entropy of 0.05 on breast cancer in our earlier simulation."""
_SHOWN: Final = (CROSS_ENTROPY, *(Arm("rooted", k) for k in KS), Arm("scalar", 3), NORMALISED)


def again(sets: Sequence[Measured]) -> Section:
    """Breast cancer, beside the earlier simulation."""
    each = next(each for each in sets if each.name == "breast_cancer")
    rows = []
    for number, arm in enumerate(ARMS):
        here = _steps(each, arm, 0)
        rate = f"{each.whole['rates'][number, 0]:.2f}"
        rows.append((arm.name, EARLIER.get(arm, "-"), here, rate, slowdown([each], arm, 0).as_ratio()))
    rows.append(("L-BFGS (evaluations)", "-", _number(each.whole["quasi_newton"][0]), "-", "-"))
    lines = []
    for arm in _SHOWN:
        learning_rates, taken = curve(each.whole, arm)
        lines.append(Line(learning_rates.tolist(), taken.tolist(), arm.name))
    return Section(
        "Breast cancer, against our earlier simulation",
        (
            "Steps to the near target. A learning rate of 1 stands for a first step as long as cross-entropy's at "
            "2 / (largest eigenvalue of its Hessian at zero weights). The earlier simulation did not record the k "
            "of the scalar and of TERM; its numbers stand beside k=3. "
            f"The plot has the rates that need at most {LATE:g} times the fewest steps of the arm.",
        ),
        (Table(("arm", "earlier", "steps", "best rate", "ratio to cross-entropy"), tuple(rows)),),
        (
            Plot(
                f"Breast cancer: steps to cross-entropy {each.whole['targets'][0]:.2f} by learning rate",
                "learning rate, in units of equal first steps",
                "steps",
                tuple(lines),
                "xy",
            ),
        ),
    )


def speed(sets: Sequence[Measured]) -> Section:
    """Steps to the targets on all data sets."""
    tables = []
    for target, what in enumerate(("near cross-entropy", "close cross-entropy", "accuracy")):
        there = [each for each in sets if each.asked(target)]
        rows = [("cross-entropy (steps)", "", *(_steps(each, CROSS_ENTROPY, target) for each in there))]
        among = [there, *([each] for each in there)]
        rows += [(arm.name, *(slowdown(sets, arm, target).as_ratio() for sets in among)) for arm in ARMS[1:]]
        rows.append(("L-BFGS (evaluations)", "", *(_number(each.whole["quasi_newton"][target]) for each in there)))
        tables.append(Table((f"to the {what}", "all", *(each.title for each in there)), tuple(rows)))
    return Section(
        "Steps to fixed cross-entropies and accuracy",
        (
            "The first row has the steps of cross-entropy on the whole data set, and the others the ratios to it "
            "with their brackets. A table leaves out the data sets on which cross-entropy misses the target, on "
            "the whole or on many parts. L-BFGS needs no learning rate; its row counts gradients, each of which "
            "costs as much as a step.",
        ),
        tuple(tables),
    )


def rates(sets: Sequence[Measured]) -> Section:
    """How wide the range of good learning rates is."""
    rows = []
    for arm in ARMS:
        factors = [tolerance(each.whole, arm) for each in sets]
        rows.append((arm.name, *("-" if np.isnan(each) else f"{each:,.1f}" for each in factors)))
    return Section(
        "Tolerance to the learning rate",
        (
            f"Between which learning rates the steps to the near target are at most {LATE:g} times the fewest: the "
            "largest divided by the smallest, on the whole data sets. A missing number says that no rate reached the "
            "target.",
        ),
        (Table(("arm", *(each.title for each in sets)), tuple(rows)),),
    )


def taken_apart(sets: Sequence[Measured]) -> Section:
    """The rooted loss as a step size times a re-weighting."""
    rows = []
    for target in range(3):
        for k in KS:
            cells = []
            for kind in ("scalar", "term", "rooted"):
                cells.append(slowdown(sets, Arm(kind, k), target).as_ratio())
            rows.append((f"{('near', 'close', 'accuracy')[target]}, k={k}", *cells))
    verdicts = judged([tally(races(sets, Arm("term", k))) for k in KS])
    head = ("target", "step size only (CE x scalar)", "re-weighting only (TERM)", "both (rooted)")
    return Section(
        "Step size and re-weighting apart",
        (
            "The gradient of the rooted loss is exactly mean p^(-1/k) times the gradient of tilted empirical risk "
            "minimisation (TERM). The scalar alone on cross-entropy's gradient is an adaptive step size, and TERM "
            "alone is a re-weighting of the samples. The table has geometric means over the data sets of the "
            "ratios to cross-entropy's steps. By the rule of the claims, that TERM is faster than cross-entropy: "
            f"{verdicts}.",
        ),
        (Table(head, tuple(rows)),),
    )


def direction(sets: Sequence[Measured]) -> Section:
    """Angles to the maximum margin."""
    solvable = [each for each in sets if each.separable]
    tables = []
    for by, what in (
        ("norms", "at equal norm"),
        ("losses", "at equal cross-entropy"),
        ("steps", "after as many steps"),
    ):
        among = [solvable, *([each] for each in solvable)]
        rows = [(arm.name, *(turned(some, arm, by).as_degrees() for some in among)) for arm in ARMS[1:]]
        tables.append(Table((f"{what}, degrees", "all", *(each.title for each in solvable)), tuple(rows)))
    each = next(each for each in solvable if each.name == "breast_cancer" or each is solvable[-1])
    lines = [_path_line(each, arm, "path norms", "path angles") for arm in _SHOWN]
    return Section(
        "Direction: the angle to the maximum margin",
        (
            "The tables have the angle of an arm minus that of cross-entropy: at the largest norm and at the "
            "lowest cross-entropy that both reach, and at the last step at which both are finite. Negative numbers "
            "favour the arm. The learning rate of each arm is 1 / (largest eigenvalue of its Hessian at zero "
            "weights), at which no run overshoots at the start.",
        ),
        tuple(tables),
        (
            Plot(
                f"{each.title.capitalize()}: angle to the maximum margin",
                "norm of the weights",
                "angle (degrees)",
                tuple(lines),
                "x",
            ),
        ),
    )


def conditioning(sets: Sequence[Measured]) -> Section:
    """Condition numbers along the training."""
    rows = []
    for some, name in [(sets, "all"), *(([each], each.title) for each in sets)]:
        own, there = ([stiffer(some, Arm("rooted", k), there=way).as_ratio() for k in KS] for way in (False, True))
        rows.append((name, *own, *there))
    head = ("data set", *(f"own way, k={k}" for k in KS), *(f"same weights, k={k}" for k in KS))
    shown = [each for each in sets if each.name in {"breast_cancer", "ionosphere"}]
    plots = []
    for each in shown:
        left, lines = gaps(each.whole), []
        for place, arm in enumerate(OBJECTIVES):
            lines.append(Line(left[ARMS.index(arm)].tolist(), each.whole["path conditions"][place].tolist(), arm.name))
        title = f"{each.title.capitalize()}: condition number of the Hessian along the training"
        plots.append(
            Plot(
                title,
                "part of the way to the lowest cross-entropy that is left",
                "condition number",
                tuple(lines),
                "xy",
            )
        )
    levels = ", ".join(f"{level:.2g}" for level in LEVELS)
    return Section(
        "Condition numbers along the training",
        (
            "The Hessian is that of the arm's own objective, restricted to its range. The range is the span of the "
            "inputs (times the differences between classes) and does not change. At zero weights all objectives "
            "with one logit have the same condition number. The table has geometric means of ratios to "
            f"cross-entropy's condition number at equal cross-entropies, where {levels} of the way from guessing to "
            "the lowest are left. In the first columns each loss is on its own way, and in the others both have "
            "the weights that cross-entropy comes past. Below 1 the rooted loss is better conditioned.",
        ),
        (Table(head, tuple(rows)),),
        tuple(plots),
    )


def ridge(sets: Sequence[Measured]) -> Section:
    """Minimisers with vanishing regularisation."""
    solvable = [each for each in sets if each.separable]
    rows = []
    for each in solvable:
        angles = each.whole["ridge angles"]
        half = angles.shape[1] // 2
        for place, arm in enumerate(OBJECTIVES):
            numbers = (angles[place, 0], angles[place, half], angles[place, -1], each.whole["ridge norms"][place, -1])
            rows.append((f"{each.title}, {arm.name}", *(f"{number:.3g}" for number in numbers)))
    strengths = solvable[0].whole["ridge strengths"]
    ends = [f"angle at {strengths[i]:.0e}" for i in (0, len(strengths) // 2, -1)]
    each = next(each for each in solvable if each.name == "breast_cancer" or each is solvable[-1])
    lines = [
        Line(strengths.tolist(), each.whole["ridge angles"][place].tolist(), arm.name)
        for place, arm in enumerate(OBJECTIVES)
    ]
    residual = max(float(each.whole["ridge residuals"].max()) for each in sets)
    others = [each for each in sets if not each.separable]
    moved = [
        (each.title, *(f"{each.whole['ridge apart'][OBJECTIVES.index(Arm('rooted', k))]:.1f}" for k in KS))
        for each in others
    ]
    return Section(
        "Vanishing L2 regularisation",
        (
            "The minimisers of the objective plus strength / 2 |w|^2 are found by Newton's method; gradients left "
            f"are at most {residual:.0e} of those at zero. The first table has their angles to the maximum margin, "
            "in degrees. On sets that are not separable the rooted loss has another minimiser than cross-entropy, "
            "because it is not proper. The second table has the angle between the two at the smallest strength, in "
            "degrees.",
        ),
        (
            Table(("data set, loss", *ends, "norm at the last"), tuple(rows)),
            *((Table(("data set", *(f"rooted k={k}" for k in KS)), tuple(moved)),) if moved else ()),
        ),
        (
            Plot(
                f"{each.title.capitalize()}: angle of the regularised minimiser to the maximum margin",
                "strength of the regularisation",
                "angle (degrees)",
                tuple(lines),
                "x",
            ),
        ),
    )


def known(sets: Sequence[Measured]) -> Section:
    """Solutions in closed form, and what was found."""
    by_name = {each.name: each.whole for each in sets}
    separable, wide, overlapping = (by_name[name] for name in ("separable", "wide", "overlapping"))
    rows = [("separable: margin", f"{MARGIN:g}", f"{separable['margin'][0]:.12g}")]
    odds = np.log([one / other for one, other in COUNTS])
    lengths = overlapping["directions"]
    for place, arm in enumerate(OBJECTIVES):
        expected = odds * (arm.k / (arm.k + 1) if arm.k else 1)
        found = lengths @ overlapping["ridge last"][place]
        rows.append((
            f"overlapping: largest error of a logit, {arm.name}",
            "0",
            f"{np.abs(found - expected).max():.1e}",
        ))
    rows.append(("wide: angle of least squares to the maximum margin, degrees", "-", f"{wide['margin'][4]:.2f}"))
    return Section(
        "Solutions that are known",
        (
            "Two of the drawn sets have solutions in closed form: the margin of the separable one, and the logits "
            "of the overlapping one, log(a / b) for cross-entropy and k / (k + 1) of that for the rooted loss. On "
            "the wide set least squares interpolates the labels, so that its solution of smallest norm is another "
            "candidate for the paper's minimum-norm solution; the last row says how far it is from the maximum "
            "margin.",
        ),
        (Table(("solution", "known", "found"), tuple(rows)),),
    )


def _path_line(each: Measured, arm: Arm, x: str, y: str) -> Line:
    number = ARMS.index(arm)
    good = np.isfinite(each.whole[y][number])
    return Line(each.whole[x][number][good].tolist(), each.whole[y][number][good].tolist(), arm.name)


def _steps(each: Measured, arm: Arm, target: int) -> str:
    found = each.whole["steps"][ARMS.index(arm), target]
    return _number(found) if np.isfinite(found) else f"> {_number(steps(each.whole, arm, target))}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if np.isfinite(value) else "-"
