"""How many steps a loss needs to get where the reference gets, relative to the reference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from lossmith.comparison.files import Number

MIN_PAIRS = 3
LEAST_POINTS = 3
"""Evaluations of a curve whose mean must reach the level."""

# Two numbers that are equal on paper may differ by this much after sums of floats.
_ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class SpeedRatio:
    """How many steps a loss needs to reach tau, relative to the reference in the same repeat.

    Attributes:
        ratio: Median over the pairs of T_loss/T_ref: inf where only the loss never arrived, 0 where only
            the reference did not, pairs in which neither did left out; NaN if no pair is left.
        interval: 95 % interval of the geometric mean ratio; None under the sign test or with too few pairs.
        p_value: Two-sided p of "as fast as the reference"; None with too few pairs.
        censored_loss: Runs of the loss that never reached tau.
        censored_reference: Runs of the reference that never reached tau.
        pairs: Paired runs given.
        method: Which test gave `p_value`.
    """

    ratio: Number
    interval: tuple[float, float] | None
    p_value: float | None
    censored_loss: int
    censored_reference: int
    pairs: int
    method: Literal["log-t", "sign test"]


@dataclass(frozen=True)
class Speed:
    """How fast an arm reaches the reference's level.

    Args:
        lrs: the learning rate tuned for speed, one per fold and repeat.
        steps: steps to tau, one per fold and repeat; inf if never.
        ratio: against the reference's steps, the geometric mean over its two arms.
        holm_p: p-value adjusted by Holm's method over the losses tested; a control's own.
        shortened_reference_missed: whether the reference re-tuned for so many steps missed tau; ``None`` if not asked.
        shortened_steps: that number of steps.
    """

    lrs: tuple[float, ...]
    steps: tuple[Number, ...]
    ratio: SpeedRatio
    holm_p: float | None = None
    shortened_reference_missed: bool | None = None
    shortened_steps: int | None = None


def paired_log_ratio(t_loss: ArrayLike, t_reference: ArrayLike) -> SpeedRatio:
    """The ratio of steps to tau, T_loss/T_ref, over paired seeds.

    With every time finite: the paired t-test on log T_loss - log T_ref, exp(mean +- t_{.975,k-1} sd/sqrt(k)).
    With a run censored: the two-sided exact sign test, a censored run counting as the slower, ties (both
    censored, or equal times) dropped. Times lie on a grid of evaluations, so all pairs can show the very same
    ratio; a spread of zero would make the t-test certain, and the sign test decides there too.

    Args:
        t_loss: Steps to tau of the loss, shape (pairs,), positive, inf where it was never reached.
        t_reference: The same for the reference under the same seeds.

    Returns:
        The median ratio with its interval and p-value; both are None with fewer than 3 pairs.

    Raises:
        ValueError: If the shapes differ, there is no pair, or a time is NaN or not positive.
    """
    a, b = (np.asarray(t, dtype=np.float64) for t in (t_loss, t_reference))
    if a.ndim != 1 or a.shape != b.shape or a.size == 0 or not np.all((a > 0) & (b > 0)):
        raise ValueError(
            "paired_log_ratio: needs two vectors of one length holding positive step counts (inf = never), "
            f"got {a.tolist()} and {b.tolist()}"
        )
    decided = np.isfinite(a) | np.isfinite(b)
    ratios = a[decided] / b[decided]
    ratios[np.abs(ratios - 1) <= _ROUNDING] = 1.0  # a mean of equal times need not be that time
    censored_loss, censored_reference = int(np.isinf(a).sum()), int(np.isinf(b).sum())
    log_t = censored_loss + censored_reference == 0 and (a.size == 1 or float(np.ptp(np.log(ratios))) > _ROUNDING)
    interval, p_value = None, None
    if a.size >= MIN_PAIRS and log_t:
        interval, p_value = _log_t(np.log(ratios))
    elif a.size >= MIN_PAIRS:
        p_value = _sign_test(faster=int((ratios < 1).sum()), slower=int((ratios > 1).sum()))
    return SpeedRatio(
        ratio=float(np.median(ratios)) if ratios.size else math.nan,
        interval=interval,
        p_value=p_value,
        censored_loss=censored_loss,
        censored_reference=censored_reference,
        pairs=a.size,
        method="log-t" if log_t else "sign test",
    )


def steps_to_reach(curve: ArrayLike, steps: ArrayLike, tau: float) -> float:
    """The first evaluation at which the mean of three, it and the two before it, reaches tau.

    That is steps[i] for the first i >= 2 with mean(curve[i-2..i]) >= tau: all three evaluations are known by
    then, so a run could have been stopped there; one lucky evaluation does not count.

    Args:
        curve: Validation accuracy at each evaluation, shape (k,); NaN (diverged) reaches nothing.
        steps: Training steps done at each evaluation, shape (k,), increasing.
        tau: The accuracy to reach.

    Returns:
        The number of steps, or inf if tau is never reached.

    Raises:
        ValueError: If `curve` and `steps` are not two vectors of one length, or `steps` does not increase.
    """
    y, x = (np.asarray(v, dtype=np.float64) for v in (curve, steps))
    if y.ndim != 1 or y.shape != x.shape or not np.all(np.diff(x) > 0):
        raise ValueError(
            f"steps_to_reach: needs one step count per evaluation, increasing, got shapes {y.shape} and {x.shape}"
        )
    # tau is itself an accuracy on the grid of k/n, so equality is common and must survive rounding.
    reached = np.flatnonzero((y[:-2] + y[1:-1] + y[2:]) / 3 >= tau - _ROUNDING)
    return float(x[reached[0] + 2]) if reached.size else math.inf


def _log_t(log_ratios: NDArray[np.float64]) -> tuple[tuple[float, float], float]:
    """The 95 % interval of the geometric mean ratio and the two-sided p of the t-test on the logs."""
    k = log_ratios.size
    mean, se = float(log_ratios.mean()), float(log_ratios.std(ddof=1)) / math.sqrt(k)
    half = float(scipy.special.stdtrit(k - 1, 0.975)) * se
    return (math.exp(mean - half), math.exp(mean + half)), float(2 * scipy.special.stdtr(k - 1, -abs(mean) / se))


def _sign_test(faster: int, slower: int) -> float:
    """The two-sided exact binomial p that faster and slower are equally likely; 1 where no pair is left."""
    from scipy.stats import binomtest  # slow to import

    return float(binomtest(faster, faster + slower).pvalue) if faster + slower else 1.0
