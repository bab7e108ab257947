"""What the measurements say: ratios to cross-entropy with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossmith.studies.rooted_linear.descent import ARMS, CROSS_ENTROPY, Arm
from lossmith.studies.rooted_linear.measure import NEAR, OBJECTIVES
from lossmith.studies.rooted_linear.sets import NAMES, SHARE

Result = Mapping[str, NDArray[Any]]
LEVELS: Final = (0.8, 0.6, 0.4, 0.3, 0.2, 0.15, 0.1, NEAR)
"""Parts of the way from guessing to the lowest cross-entropy that are left where conditions are compared."""


@dataclass(frozen=True)
class Difference:
    """A number on the whole data set, with its 95 % interval.

    The interval is the delete-d jackknife's: the standard deviation over the resamples, which leave out a part of the
    points, times ``sqrt(kept / left out)`` (Shao and Wu, "A General Theory for Jackknife Variance Estimation", 1989),
    and Student's t. It is laid around both the number on the whole and the mean of the resamples.

    Args:
        value: on the whole.
        low: lower end; NaN if too few resamples have a value.
        high: upper end.
        bound: whether the value is only a lower bound.
    """

    value: float
    low: float
    high: float
    bound: bool = False

    @property
    def below(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.high < 0

    @property
    def above(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low > 0

    def as_ratio(self) -> str:
        """The exponential, as text."""
        if math.isnan(self.value):
            return "-"
        start = f"{'>= ' if self.bound else ''}{_short(math.exp(self.value))}"
        return start if math.isnan(self.low) else f"{start} [{_short(_exp(self.low))}, {_short(_exp(self.high))}]"

    def as_degrees(self) -> str:
        """The difference of two angles, as text."""
        if math.isnan(self.value):
            return "-"
        start = f"{self.value:+.1f}"
        return start if math.isnan(self.low) else f"{start} [{self.low:+.1f}, {self.high:+.1f}]"


@dataclass(frozen=True)
class Measured:
    """The measurements of a data set.

    Args:
        name: of the data set.
        whole: of all its points.
        drawn: of its resamples.
    """

    name: str
    whole: Result
    drawn: Sequence[Result]

    @property
    def title(self) -> str:
        """Its name in texts."""
        return NAMES[self.name]

    @property
    def separable(self) -> bool:
        """Whether a linear model separates the whole."""
        return int(self.whole["kind"]) == 0

    def difference(self, value: Callable[[Result], float], *, bound: bool = False) -> Difference:
        """A number of the whole, with the interval that its resamples give."""
        from scipy.stats import t

        centre, drawn = value(self.whole), np.array([value(each) for each in self.drawn])
        drawn = drawn[np.isfinite(drawn)]
        if len(drawn) < max(2, 0.7 * len(self.drawn)) or not math.isfinite(centre):
            return Difference(centre, math.nan, math.nan, bound)
        half = float(t.ppf(0.975, len(drawn) - 1) * drawn.std(ddof=1) * math.sqrt(SHARE / (1 - SHARE)))
        mean = float(drawn.mean())
        return Difference(centre, min(centre, mean) - half, max(centre, mean) + half, bound)

    def slowdown(self, arm: Arm, target: int, other: Arm = CROSS_ENTROPY) -> Difference:
        """The logarithm of the steps to a target, those of another arm subtracted."""

        def value(result: Result) -> float:
            return math.log(steps(result, arm, target) / steps(result, other, target))

        return self.difference(value, bound=not reached(self.whole, arm, target))

    def asked(self, target: int) -> bool:
        """Whether cross-entropy reached the target on the whole."""
        return reached(self.whole, CROSS_ENTROPY, target)

    def turned(self, arm: Arm, by: str) -> Difference:
        """How much larger the angle to the maximum margin is than cross-entropy's, at equal "norms" or "losses"."""
        return self.difference(lambda result: _turned(result, ARMS.index(arm), by))

    def stiffer(self, arm: Arm) -> Difference:
        """The mean log ratio of the condition numbers at equal cross-entropy, each on its own way."""
        return self.difference(
            lambda result: _stiffer(result, OBJECTIVES.index(arm), ARMS.index(arm), "path conditions")
        )

    def stiffer_there(self, arm: Arm) -> Difference:
        """The same for the weights that cross-entropy comes past."""
        return self.difference(lambda result: _stiffer(result, OBJECTIVES.index(arm), 0, "same weights"))


def reached(result: Result, arm: Arm, target: int) -> bool:
    """Whether an arm reached a target."""
    return bool(np.isfinite(result["steps"][ARMS.index(arm), target]))


def steps(result: Result, arm: Arm, target: int) -> float:
    """The steps to a target, or those after which it was given up; NaN if it was not asked for."""
    number = ARMS.index(arm)
    found = float(result["steps"][number, target])
    if target == 1 and not reached(result, CROSS_ENTROPY, target):
        return math.nan
    return float(result["lengths"][number]) if math.isinf(found) else found


def gaps(result: Result) -> NDArray[np.float64]:
    """The part of the way from guessing to the lowest cross-entropy that is left, of each arm along its path."""
    lowest, _, guess = result["lowest"]
    return np.asarray((result["path losses"] - lowest) / (guess - lowest))


def _turned(result: Result, number: int, by: str) -> float:
    place = np.log(result["path norms"]) if by == "norms" else -np.log(np.maximum(result["path losses"], 1e-300))
    level = min(np.nanmax(place[0]), np.nanmax(place[number]))
    angles = result["path angles"]
    return crossing(place[number], angles[number], level) - crossing(place[0], angles[0], level)


def _stiffer(result: Result, objective: int, number: int, key: str) -> float:
    place, own = -np.log(np.maximum(gaps(result), 1e-300)), np.log(result[key])
    base = np.log(result["path conditions"][0])
    found = [
        crossing(place[number], own[objective], -math.log(level)) - crossing(place[0], base, -math.log(level))
        for level in LEVELS
    ]
    there = [each for each in found if math.isfinite(each)]
    return float(np.mean(there)) if there else math.nan


def crossing(x: NDArray[np.float64], y: NDArray[np.float64], level: float) -> float:
    """The y where x first reaches a level, on the straight line between two points; NaN if it does not."""
    over = np.flatnonzero(x >= level)
    if not len(over):
        return math.nan
    i = int(over[0])
    if not i:
        return float(y[0]) if x[0] == level else math.nan
    part = (level - x[i - 1]) / (x[i] - x[i - 1])
    return float(y[i - 1] + part * (y[i] - y[i - 1]))


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else (f"{value:.0f}" if value < 1e4 else f"{value:.0e}")
