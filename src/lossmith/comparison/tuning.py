"""Choosing a learning rate and hyperparameters from validation scores, alike for every loss.

The highest score of a noisy grid is often a lucky training at the edge of divergence. Each score is therefore averaged
with its neighbours' (weights 1/4, 1/2, 1/4 on a factor-2 grid), and beyond the upper end counts as guessing. No
neighbour counts as more than 5 points worse: the best rate may lie right beside the edge, and how far the score falls
there says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lossmith.comparison.arms import Arm

MAX_DROP: Final = 0.05
"""How much worse than a point its neighbours count at most, a fraction."""

_TIED: Final = 1e-9


@dataclass(frozen=True)
class Setting:
    """A learning rate and the values of an arm's tuned dimensions (``None``: all at their defaults)."""

    lr: float
    values: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Scored:
    """What tuning saw of one setting.

    Args:
        setting: the setting.
        score: on validation; a run that diverged or failed counts as guessing.
        tie_break: the task's, which decides between equal scores, lower first; inf if the run diverged or failed.
    """

    setting: Setting
    score: float
    tie_break: float


def smoothed(points: Sequence[Scored], arm: Arm, beyond: float | None) -> list[float]:
    """Each point's score averaged with its neighbours', of which none counts as over `MAX_DROP` worse than the point.

    The weight of a neighbour falls linearly from 1 at distance 0 to 0 at distance 2, in every dimension: octaves of the
    learning rate, steps between choices, quarters of a range. One octave below the lowest learning rate the point's
    own score is repeated. On a factor-2 grid the average is ``(max(l, a - c) + 2 a + max(r, a - c)) / 4``.

    Args:
        points: scored settings of one arm.
        arm: the arm.
        beyond: what counts as the score one octave beyond the highest learning rate; ``None``: as below the lowest.

    Returns:
        One score per point, in order.
    """
    octaves = np.array([math.log2(point.setting.lr) for point in points])
    places = np.array([_place(point.setting, arm) for point in points]).reshape(len(points), -1)
    scores = np.array([point.score for point in points])
    top, bottom = octaves.max(), octaves.min()
    smooth = []
    for x, place, own in zip(octaves, places, scores, strict=True):
        weight = _tent(octaves - x) * np.prod(_tent(places - place), axis=1)
        above, below = _tent(top + 1 - x), _tent(bottom - 1 - x)
        total = weight.sum() + above + below
        over = own if beyond is None else max(beyond, own - MAX_DROP)
        smooth.append(float((weight @ np.maximum(scores, own - MAX_DROP) + above * over + below * own) / total))
    return smooth


def best(points: Sequence[Scored], arm: Arm, beyond: float | None) -> Scored:
    """The point of the highest smoothed score; ties go to the lower tie-break.

    Args:
        points: scored settings of one arm.
        arm: the arm.
        beyond: as for `smoothed`.

    Returns:
        The point.
    """
    scores = smoothed(points, arm, beyond)
    tied = [point for point, score in zip(points, scores, strict=True) if score >= max(scores) - _TIED]
    return min(tied, key=lambda point: (point.tie_break, point.setting.lr))


def extension(points: Sequence[Scored], arm: Arm) -> float | None:
    """The learning rate to add where the best of a grid lies on its edge: one octave further; else ``None``.

    Here nothing is presumed of what lies beyond the grid: presuming the worst would hide a better rate out there.

    Args:
        points: the bracketing grid, all at default values.
        arm: the arm.

    Returns:
        The learning rate or ``None``.
    """
    lrs = sorted(point.setting.lr for point in points)
    lr = best(points, arm, None).setting.lr
    if lr == lrs[-1]:
        return lr * 2
    return lr / 2 if lr == lrs[0] else None


def sobol_settings(arm: Arm, centre: float, count: int, seed: int) -> list[Setting]:
    """Quasi-random settings within an octave of a learning rate, over the arm's tuned dimensions if it has any.

    Args:
        arm: the arm.
        centre: the learning rate in the middle.
        count: number of settings.
        seed: of the scrambling.

    Returns:
        The settings.
    """
    from scipy.stats import qmc  # slow to import

    power = max(0, math.ceil(math.log2(count)))
    draws = qmc.Sobol(1 + len(arm.tuned), rng=np.random.default_rng(seed)).random_base2(power)[:count]
    return [
        Setting(
            float(f"{centre * 2 ** (2 * u[0] - 1):.6g}"),
            tuple(dimension.value(float(v)) for dimension, v in zip(arm.tuned, u[1:], strict=True)) or None,
        )
        for u in draws
    ]


def expected_best(scores: Sequence[float]) -> list[float]:
    """The expected highest of k scores drawn without repeats, for k = 1 to all.

    Args:
        scores: n validation scores.

    Returns:
        n expectations, rising to the highest score.

    Source: Dodge et al., "Show Your Work: Improved Reporting of Experimental Results", 2019, arXiv 1909.03004.
    """
    ordered = sorted(scores)
    n = len(ordered)
    return [
        sum(math.comb(i, k - 1) * score for i, score in enumerate(ordered)) / math.comb(n, k) for k in range(1, n + 1)
    ]


def _tent(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(0.0, 1 - np.abs(distance) / 2)


def _place(setting: Setting, arm: Arm) -> list[float]:
    if setting.values is None:
        return arm.default_positions
    return [dimension.position(value) for dimension, value in zip(arm.tuned, setting.values, strict=True)]
