"""The paper's claims, judged by rules from the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from lossmith.studies.findings import Claim, Verdict
from lossmith.studies.spirals.numbers import NEAR, Mean, Onsets, column, gap, per_period, ratio_of_rounds
from lossmith.studies.spirals.plan import Outcomes, Trained
from lossmith.studies.spirals.problem import CLASSES, SAMPLES, Run

SUCCESS: Final = 0.95
"""The training accuracy from which on a training has succeeded."""
_AS_GOOD: Final = 0.02
"""A control does as well if its mean is at most so much lower."""
_GAIN: Final = 0.01
"""A gain in validation accuracy that matters."""
_MOST: Final = 0.8
"""The share of onsets that is to be near 2/lr."""
_ARM: Final = "dynamical, A=20, T=250"
"""The arm that is compared with the controls; it was chosen by our earlier simulation."""


def judge(trained: Trained) -> tuple[Claim, ...]:
    """Judge the four claims."""
    return judge_narrow(trained), judge_wide(trained), judge_sharpness(trained), judge_kernel(trained)


def parameters(width: int) -> int:
    """The number of weights of a network."""
    return width * 3 + CLASSES * width + CLASSES


def succeeded(outcomes: Outcomes, runs: Sequence[Run]) -> int:
    """How many runs fit their data."""
    return int((column(outcomes, runs, "accuracy") >= SUCCESS).sum())


def as_good(outcomes: Outcomes, arms: dict[str, tuple[Run, ...]]) -> dict[str, Mean]:
    """The controls without a dynamical loss that fit as well: what they are behind."""
    behind = {arm: gap(outcomes, arms[_ARM], runs, "accuracy") for arm, runs in arms.items() if "dynamical" not in arm}
    return {arm: each for arm, each in behind.items() if each.value <= _AS_GOOD}


def judge_narrow(trained: Trained) -> Claim:
    """The dynamical loss fits where the static does not, in the paper's setting and against the controls."""
    figure, outcomes, arms = trained.plan.figure, trained.figure, trained.plan.controls
    ours, static = figure["dynamical"], figure["static"]
    better = gap(outcomes, ours, static, "accuracy")
    fits, fails = succeeded(outcomes, ours), len(static) - succeeded(outcomes, static)
    rivals = as_good(trained.controls, arms)
    clear = better.low > 0 and min(fits, fails) >= 0.9 * len(ours)
    verdict: Verdict = "does not hold" if better.high < _AS_GOOD else "undecided"
    if better.low > 0:
        verdict = "holds" if clear and not rivals else "holds in part"
    updated = trained.plan.updated
    because = (
        f"With the paper's fixed rate and its initial weights, {fits} of {len(ours)} runs with the dynamical loss "
        f"reach a training accuracy of {SUCCESS:g}, and {len(static) - fails} of {len(static)} with the static loss; "
        f"the mean difference is {better.text(sign=True)}. With the later notebook's weights these are "
        f"{succeeded(trained.updated, updated['dynamical'])} and {succeeded(trained.updated, updated['static'])} of "
        f"{len(updated['static'])}. "
    )
    because += (
        f"But controls without a dynamical loss do as well, at most {_AS_GOOD:g} behind {_ARM}: "
        f"{'; '.join(f'{arm}, by {behind.text(sign=True)}' for arm, behind in rivals.items())}."
        if rivals
        else f"No control without a dynamical loss comes within {_AS_GOOD:g} of {_ARM}."
    )
    text = (
        f"An underparameterised network ({parameters(100)} weights for {SAMPLES} points of {CLASSES} classes) succeeds "
        "with the dynamical loss where it fails with the static one."
    )
    return Claim(text, verdict, because)


def judge_wide(trained: Trained) -> Claim:
    """Validation accuracy of width 300, where the static loss fits its data too."""
    arms, outcomes = trained.plan.wide, trained.wide
    static, names = arms["static, rate 1"], [name for name in arms if "dynamical" in name]
    gaps = {name: gap(outcomes, arms[name], static, "valid") for name in names}
    controls = {name: gap(outcomes, arms[_ARM], runs, "valid") for name, runs in arms.items() if name not in names}
    verdict: Verdict = "undecided"
    if all(each.low > 0 for each in gaps.values()):
        verdict = "holds" if all(each.low > 0 for each in controls.values()) else "holds in part"
    elif any(each.low > 0 for each in gaps.values()):
        verdict = "holds in part"
    elif all(each.high < _GAIN for each in gaps.values()):
        verdict = "does not hold"
    told = "; ".join(f"{name}: {each.text(sign=True)}" for name, each in gaps.items())
    rest = "; ".join(f"{name}: {each.text(sign=True)}" for name, each in controls.items() if name != "static, rate 1")
    draws = len({run.draw for run in static})
    because = (
        f"At width {static[0].width} the static loss fits {succeeded(outcomes, static)} of {len(static)} runs. "
        f"Validation accuracy minus that of the static loss at the same rate, over {draws} draws of the data: {told}. "
        f"Validation accuracy of {_ARM} minus that of other controls: {rest}. A gain of {_GAIN:g} would matter."
    )
    text = f"An overparameterised network ({parameters(300):,} weights) generalises better with the dynamical loss."
    return Claim(text, verdict, because)


def judge_sharpness(trained: Trained) -> Claim:
    """The sharpness falls over the cycles, and onsets lie near 2/lr more often than quiet moments do."""
    figure, outcomes = trained.plan.figure, trained.figure
    runs = figure["dynamical"]
    ratio = np.array([ratio_of_rounds(run, outcomes[run]) for run in runs])
    change = Mean.of(np.log(ratio))
    highest = np.mean([per_period(run, outcomes[run]) for run in runs], 0).argmax() + 1
    falls = change.high < 0
    parts, bursts = [], []
    for name in ("dynamical", "half"):
        onsets = Onsets.of(outcomes, figure[name])
        first, before, quiet = (Mean.of(Onsets.shares(rows)) for rows in (onsets.first, onsets.before, onsets.quiet))
        bursts.append(first.value >= _MOST and first.low > quiet.value)
        every = np.concatenate(onsets.first)
        above, below = (float(np.mean(far)) if len(every) else 0.0 for far in (every > 1 + NEAR, every < 1 - NEAR))
        parts.append(
            f"at rate {figure[name][0].lr:g} it is so at {first.text(2)} of the first onsets of a period ({above:.2f} "
            f"lie above, {below:.2f} below; by the 50 updates before alone, {before.text(2)} are within) and at "
            f"{quiet.text(2)} of the quiet moments"
        )
    verdict: Verdict = (
        "holds" if falls and all(bursts) else "holds in part" if falls or any(bursts) else "does not hold"
    )
    if np.isnan(change.value) or (verdict == "does not hold" and change.low <= 0):
        verdict = "undecided"
    low, middle, high = np.exp([change.low, change.value, change.high])
    because = (
        f"The median sharpness of the last three periods is {middle:.2f} [{low:.2f}, {high:.2f}] times that of the "
        f"first three ({change.count} seeds); it is highest in period {highest}. Is the sharpness within {NEAR:.0%} "
        f"of 2/lr? {'; '.join(parts).capitalize()}."
    )
    text = "The sharpness falls from cycle to cycle, and the bursts of instability begin where it reaches 2/lr."
    return Claim(text, verdict, because)


def judge_kernel(trained: Trained) -> Claim:
    """The kernel's largest eigenvalue, at the end over that at the beginning."""
    figure, outcomes = trained.plan.figure, trained.figure
    growth = {
        name: np.log([outcomes[run]["all"][-1] / outcomes[run]["all"][0] for run in figure[name]])
        for name in ("dynamical", "static")
    }
    ours, static, more = Mean.of(growth["dynamical"]), Mean.of(growth["static"]), growth["dynamical"] - growth["static"]
    verdict: Verdict = "holds" if ours.low > 0 else "does not hold" if ours.high < 0 else "undecided"

    def times(mean: Mean) -> str:
        return f"{np.exp(mean.value):.3g} [{np.exp(mean.low):.3g}, {np.exp(mean.high):.3g}]"

    because = (
        f"Over a training the largest eigenvalue on all samples becomes {times(ours)} times as large with the "
        f"dynamical loss and {times(static)} times with the static loss ({ours.count} seeds): the dynamical loss lets "
        f"it grow {times(Mean.of(more))} times as much."
    )
    return Claim("The neural tangent kernel grows during training.", verdict, because)
