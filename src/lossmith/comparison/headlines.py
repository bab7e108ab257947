"""What a comparison says as a whole, and of speed; see `verdict` for what it says of each loss.

Docs and report print the conditions and sentences that stand here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from lossmith.comparison.speed import Speed
from lossmith.comparison.statistics import PairedDifference, holm
from lossmith.comparison.verdict import (
    ALPHA,
    BETTER_THAN_REFERENCE_ONLY,
    CLASSIFICATION,
    Verdict,
    VerdictKind,
    points_with_interval,
    shown_delta,
    sign_of,
)
from lossmith.comparison.verdict import (
    Claim as Claim,
)
from lossmith.tasks import Words

HEADLINES = (
    Claim(
        "a loss is better than both",
        "{names} better than tuned {reference} and {rival} {scope}",
    ),
    Claim(
        "a loss is better than {reference} only",
        "{names} better than tuned {reference}, but not shown to beat {rival}, {scope}",
    ),
    Claim(
        "the upper bound of every simultaneous interval against {reference} is below delta",
        "{no_loss} is better than tuned {reference} by {delta} points or more {scope}",
    ),
    Claim(
        "otherwise",
        "{no_loss} was shown to be better than tuned {reference} {scope}",
    ),
)

GUESSING = Claim(
    "on validation {reference} is not above guessing, one-sided p < .05 (in place of the headline, unless a loss is "
    "better)",
    "{reference} does no better than guessing: {score} % {metric} on validation, where guessing has {guess} %. Look at "
    "the data, the model and the budget before comparing losses.",
)

BETTER_CONTROL = Claim(
    "no loss is better, and a control is above {reference}, Holm p < .05 over the controls (added to the headline)",
    "But {control}, a control, is better than {reference}: {difference} {scope}",
)

STRONGER_CONTROL = Claim(
    "the best loss of the headline is below another control, p < .05 (added to the headline)",
    "But {control}, a control, is better still than {name}: {difference} {scope}",
)

FEWER_STEPS = Claim(
    "median ratio of steps below 1 with Holm p < .05 (t-test on logarithms; any run censored: sign test), and "
    "{reference}, re-tuned with its schedule shortened to that many steps, missed tau",
    "{name} needs fewer steps than {reference} to reach its final score: {ratio} of them {proof}, and "
    "{reference} re-tuned for that many steps does not reach it, {scope}",
)


def overall(
    verdicts: Mapping[str, Verdict],
    upper_bounds: Mapping[str, float | None],
    delta: float,
    words: Words = CLASSIFICATION,
) -> str:
    """The headline over all compared losses: the first of `HEADLINES` that holds.

    Args:
        verdicts: The verdict of each non-control loss by name.
        upper_bounds: The upper bound of each loss's simultaneous interval against the reference, a
            fraction; None, or no entry, where there is no interval.
        delta: The difference that matters, a fraction.
        words: The task's.

    Returns:
        One sentence. Untrainable losses are set aside, and "no loss is better" then says so.
    """
    better_than_both, better_than_ce, none_better, none_shown = HEADLINES
    for headline, kinds in (
        (better_than_both, {VerdictKind.BETTER_THAN_BOTH}),
        (better_than_ce, BETTER_THAN_REFERENCE_ONLY),
    ):
        names = [name for name, v in verdicts.items() if v.kind in kinds]
        if names:
            return headline.worded(words).sentence.format(names=_listed(names))
    ranked = [name for name, v in verdicts.items() if v.kind is not VerdictKind.UNTRAINABLE]
    bounds = [upper_bounds.get(name) for name in ranked]
    below = bool(bounds) and all(bound is not None and bound < delta for bound in bounds)
    return (
        (none_better if below else none_shown)
        .worded(words)
        .sentence.format(
            no_loss="No loss" if len(ranked) == len(verdicts) else "No loss that could be trained",
            delta=shown_delta(delta),
        )
    )


def stronger_control(name: str, controls: Mapping[str, PairedDifference], words: Words = CLASSIFICATION) -> str | None:
    """The sentence `STRONGER_CONTROL`, where its condition holds.

    A loss that beats the plain reference is no discovery where a change that leaves the loss alone does more.

    Args:
        name: The best loss of the headline.
        controls: Control minus that loss, by the control's name; without the reference and the rival, which the
            verdict has looked at.
        words: The task's.

    Returns:
        The sentence for the strongest such control, or None.
    """
    better = {control: gap for control, gap in controls.items() if sign_of(gap, gap.p_value) > 0}
    if not better:
        return None
    control = max(better, key=lambda name: better[name].mean)
    shown = points_with_interval(better[control], 0.95)
    return STRONGER_CONTROL.worded(words).sentence.format(control=control, name=name, difference=shown)


def no_better_than_guessing(metric: str, score: float, guess: float, words: Words = CLASSIFICATION) -> str:
    """The sentence `GUESSING`, with the metric's name and two scores, fractions."""
    shown = {"score": f"{100 * score:.1f}", "guess": f"{100 * guess:.1f}"}
    return GUESSING.worded(words).sentence.format(metric=metric, **shown)


def better_control(controls: Mapping[str, PairedDifference], words: Words = CLASSIFICATION) -> str | None:
    """The sentence `BETTER_CONTROL`, where its condition holds.

    Args:
        controls: Control minus the reference, by the control's name.
        words: The task's.

    Returns:
        The sentence for the best such control, or None.
    """
    p_values = holm([1.0 if gap.p_value is None else gap.p_value for gap in controls.values()]).tolist()
    better = {
        name: gap for (name, gap), p in zip(controls.items(), p_values, strict=True) if gap.mean > 0 and p < ALPHA
    }
    if not better:
        return None
    control = max(better, key=lambda name: better[name].mean)
    shown = points_with_interval(better[control], 0.95)
    return BETTER_CONTROL.worded(words).sentence.format(control=control, difference=shown)


TOO_FEW_PAIRS = Claim(
    "a loss has runs that never reach tau, and a sign test in which it is faster in all pairs would have Holm p >= .05",
    "No claim on speed is possible: some runs never reach the level, so a sign test decides, and with {tested} it "
    "needs at least {needed} repeats; there are {pairs}.",
)


def fewer_steps(name: str, speed: Speed, words: Words = CLASSIFICATION) -> str | None:
    """The sentence `FEWER_STEPS`, where its condition holds.

    A loss that only does early what the reference does just as well in a shorter run saves nothing; hence the
    re-tuned reference.

    Args:
        name: The loss as the sentence calls it.
        speed: What was found of its speed.
        words: The task's.

    Returns:
        The sentence, or None where it may not be said.
    """
    ratio, p = speed.ratio, speed.holm_p
    if not speed.shortened_reference_missed or not ratio.ratio < 1 or p is None or p >= ALPHA:
        return None
    within = "sign test" if ratio.interval is None else f"[{ratio.interval[0]:.2f}, {ratio.interval[1]:.2f}]"
    proof = f"({within}, Holm-adjusted p = {p:.2g})"
    return FEWER_STEPS.worded(words).sentence.format(name=name, ratio=f"{ratio.ratio:.2f}", proof=proof)


def too_few_pairs(speed: Mapping[str, Speed], tested: int) -> tuple[str, ...]:
    """The sentence `TOO_FEW_PAIRS`, where its condition holds.

    Args:
        speed: What was found, by arm.
        tested: How many losses are tested.

    Returns:
        The sentence, or nothing.
    """
    censored = [of.ratio for of in speed.values() if of.ratio.censored_loss or of.ratio.censored_reference]
    needed = math.ceil(math.log2(2 * max(1, tested) / ALPHA) + 1e-9)
    if not censored or censored[0].pairs >= needed:
        return ()
    losses = "1 loss" if tested == 1 else f"{tested} losses"
    return (TOO_FEW_PAIRS.sentence.format(pairs=censored[0].pairs, tested=losses, needed=needed),)


def _listed(names: list[str]) -> str:
    *rest, last = names
    return f"{', '.join(rest)} and {last} are" if rest else f"{last} is"
