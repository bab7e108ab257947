"""What the measurements say: ratios to cross-entropy, and how much they vary over resamples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lossmith.studies.rooted_linear.descent import ARMS, CROSS_ENTROPY, Arm
from lossmith.studies.rooted_linear.measure import NEAR, OBJECTIVES
from lossmith.studies.rooted_linear.sets import NAMES

Result = Mapping[str, NDArray[Any]]
LEVELS: Final = (0.8, 0.6, 0.4, 0.3, 0.2, 0.15, 0.1, NEAR)
"""Parts of the way from guessing to the lowest cross-entropy that are left where conditions are compared."""


LATE: Final = 4.0
"""How many times the fewest steps a learning rate may take to count as tolerable."""
_ENOUGH: Final = 0.7
"""The part of the resamples that must have a number."""


@dataclass(frozen=True)
class Difference:
    """A number on the whole data set, and the middle 95 % of those on its resamples.

    Args:
        value: on the whole.
        low: where the middle 95 % of the resamples begin; NaN if too few have a value.
        high: where they end.
        bound: whether the value is only a lower bound.
    """

    value: float
    low: float
    high: float
    bound: bool = False

    @property
    def below(self) -> bool:
        """Whether the whole is below 0, and with it the resamples."""
        return self.value < 0 and self.high < 0

    @property
    def above(self) -> bool:
        """Whether the whole is above 0, and with it the resamples."""
        return self.value > 0 and self.low > 0

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
        value, low, high = (f"{round(number, 1) + 0.0:+.1f}" for number in (self.value, self.low, self.high))
        return value if math.isnan(self.low) else f"{value} [{low}, {high}]"


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

    def asked(self, target: int) -> bool:
        """Whether cross-entropy reached the target on the whole and on enough resamples."""
        there = [reached(result, CROSS_ENTROPY, target) for result in self.drawn]
        return reached(self.whole, CROSS_ENTROPY, target) and sum(there) >= _ENOUGH * len(there)


def slowdown(sets: Sequence[Measured], arm: Arm, target: int, other: Arm = CROSS_ENTROPY) -> Difference:
    """The logarithm of the steps to a target, those of another arm subtracted: the mean over data sets that have it."""
    there = [each for each in sets if each.asked(target)]

    def value(result: Result) -> float:
        return math.log(steps(result, arm, target) / steps(result, other, target))

    return _difference(there, value, bound=not all(reached(each.whole, arm, target) for each in there))


def turned(sets: Sequence[Measured], arm: Arm, by: str) -> Difference:
    """The angle to the maximum margin, cross-entropy's subtracted, at equal "norms", "losses" or "steps".

    It is the mean over the data sets that are separable.
    """
    number = ARMS.index(arm)
    return _difference([each for each in sets if each.separable], lambda result: _turned(result, number, by))


def stiffer(sets: Sequence[Measured], arm: Arm, *, there: bool = False) -> Difference:
    """The mean log ratio of the condition number to cross-entropy's, at equal cross-entropies.

    Args:
        sets: data sets over which the mean is taken.
        arm: a rooted loss.
        there: whether both have the weights that cross-entropy comes past, or each those on its own way.
    """
    objective = OBJECTIVES.index(arm)
    number, key = (0, "same weights") if there else (ARMS.index(arm), "path conditions")
    return _difference(sets, lambda result: _stiffer(result, objective, number, key))


def _difference(sets: Sequence[Measured], value: Callable[[Result], float], *, bound: bool = False) -> Difference:
    """The mean over data sets, whose resamples were drawn independently and so may be taken together by number."""
    if not sets:
        return Difference(math.nan, math.nan, math.nan)
    centre = float(np.mean([value(each.whole) for each in sets]))
    drawn = np.mean([[value(result) for result in each.drawn] for each in sets], 0)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < max(2, _ENOUGH * len(sets[0].drawn)) or not math.isfinite(centre):
        return Difference(centre, math.nan, math.nan, bound)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Difference(centre, float(low), float(high), bound)


def tolerance(result: Result, arm: Arm) -> float:
    """The largest learning rate that needs at most `LATE` times the fewest steps to the near target, by the smallest.

    NaN if no rate reached the target.
    """
    rates, _ = curve(result, arm)
    return float(rates.max() / rates.min()) if len(rates) else math.nan


def curve(result: Result, arm: Arm) -> NDArray[np.float64]:
    """The learning rates that need at most `LATE` times the fewest steps to the near target, and these steps."""
    found = result[f"curve {arm.name}"]
    good: NDArray[np.float64] = found[:, np.isfinite(found[1]) & (found[1] <= LATE * found[1].min())]
    return good


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
    angles = result["path angles"]
    if by == "steps":
        both = np.isfinite(angles[0]) & np.isfinite(angles[number])
        return float((angles[number] - angles[0])[both][-1])
    place = np.log(result["path norms"]) if by == "norms" else -np.log(np.maximum(result["path losses"], 1e-300))
    level = min(np.nanmax(place[0]), np.nanmax(place[number]))
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
