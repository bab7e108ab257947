"""Numbers with their uncertainty, and what is read off the watched runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from lossmith.dynamics import Instability, instabilities, sharpness_around
from lossmith.studies.spirals.plan import Outcome, Outcomes
from lossmith.studies.spirals.problem import Run

Array = NDArray[np.float64]

NEAR: Final = 0.1
"""How near to 2/lr the sharpness is to be, as a share of it."""
_MOMENTS: Final = 500
"""Quiet moments that are drawn per run."""


@dataclass(frozen=True)
class Mean:
    """A mean with its 95 % interval by Student's t.

    Attributes:
        value: the mean.
        low: the lower end of the interval.
        high: its upper end.
        count: of the values.
    """

    value: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: ArrayLike) -> Mean:
        """The mean of independent values; those that are NaN are left out."""
        row = np.asarray(values, np.float64)
        row = row[~np.isnan(row)]
        if not len(row):
            return cls(math.nan, math.nan, math.nan, 0)
        value, half = float(row.mean()), math.inf
        if len(row) > 1:
            half = float(stats.t.ppf(0.975, len(row) - 1) * row.std(ddof=1) / math.sqrt(len(row)))
        return cls(value, value - half, value + half, len(row))

    def text(self, digits: int = 3, *, sign: bool = False) -> str:
        """As ``0.987 [0.974, 1.000]``; without the interval if there is but one value."""
        form = f"{'+' if sign else ''}.{digits}f"
        value, low, high = (f"{round(number, digits) + 0.0:{form}}" for number in (self.value, self.low, self.high))
        return value if self.count < 2 else f"{value} [{low}, {high}]"  # adding 0.0 turns -0.0 into 0.0


def column(outcomes: Outcomes, runs: Sequence[Run], name: str) -> Array:
    """A final number of each run."""
    return np.array([float(outcomes[run][name]) for run in runs])


def independent(outcomes: Outcomes, runs: Sequence[Run], name: str) -> Array:
    """A final number of each run; or of each draw, as a mean over its runs, where there are several draws."""
    values, draws = column(outcomes, runs, name), np.array([run.draw for run in runs])
    each = np.unique(draws)
    return values if len(each) == 1 else np.array([values[draws == draw].mean() for draw in each])


def gap(outcomes: Outcomes, runs: Sequence[Run], others: Sequence[Run], name: str) -> Mean:
    """The mean difference between two arms, paired by seed and draw."""
    return Mean.of(independent(outcomes, runs, name) - independent(outcomes, others, name))


@dataclass(frozen=True)
class Onsets:
    """Where instabilities of watched runs began, and what the sharpness was there and elsewhere.

    Attributes:
        threshold: 2/lr.
        found: the instabilities of each run.
        at_onset: per run, the sharpness around each onset, over the threshold.
        first: per run, the same for the first onset in each period.
        before: per run, the same over the 50 updates before the first onset in each period.
        periods: per run, the numbers of these periods, from 0.
        quiet: per run, the same around random updates outside all instabilities, before the static tail.
    """

    threshold: float
    found: tuple[tuple[Instability, ...], ...]
    at_onset: tuple[Array, ...]
    first: tuple[Array, ...]
    before: tuple[Array, ...]
    periods: tuple[Array, ...]
    quiet: tuple[Array, ...]

    @classmethod
    def of(cls, outcomes: Outcomes, runs: Sequence[Run]) -> Onsets:
        """Find them."""
        rows = [cls._of_run(run, outcomes[run]) for run in runs]
        return cls(2 / runs[0].lr, *zip(*rows, strict=True))

    @staticmethod
    def _of_run(run: Run, outcome: Outcome) -> tuple[tuple[Instability, ...], Array, Array, Array, Array, Array]:
        shaken = instabilities(outcome["losses"])
        starts = np.array([each.start for each in shaken], int)
        periods, index = np.unique(starts // (run.period + 1), return_index=True)

        def around(updates: NDArray[Any], within: int = 50) -> Array:
            sharp = [sharpness_around(int(each), outcome["at"], outcome["sharpness"], within) for each in updates]
            return np.array(sharp) * run.lr / 2

        quiet = around(_quiet_moments(run, shaken))
        return shaken, around(starts), around(starts[index]), around(starts[index] - 25, 25), periods, quiet

    @staticmethod
    def shares(rows: Sequence[Array]) -> Array:
        """Of each run, the share that is near the threshold; NaN where a run has none."""
        return np.array([np.mean(np.abs(row - 1) <= NEAR) if len(row) else math.nan for row in rows])

    @property
    def kinds(self) -> Mapping[int | None, int]:
        """How many instabilities have each period."""
        every = [each.period for row in self.found for each in row]
        return {period: every.count(period) for period in (2, 4, None)}


def _quiet_moments(run: Run, shaken: Sequence[Instability]) -> NDArray[Any]:
    free = np.ones(min(run.static_after, run.updates), bool)
    for each in shaken:
        free[each.start : each.stop] = False
    moments = np.flatnonzero(free)
    return np.random.RandomState(run.seed).choice(moments, _MOMENTS) if len(moments) else moments


def per_period(run: Run, outcome: Outcome) -> Array:
    """The median sharpness in each period before the static tail."""
    period = outcome["at"] // (run.period + 1)
    count = min(run.static_after // (run.period + 1), int(period[-1]) + 1)
    return np.array([np.median(outcome["sharpness"][period == number]) for number in range(count)])


def ratio_of_rounds(run: Run, outcome: Outcome) -> float:
    """The median sharpness of the last three full periods over that of the first three, a geometric mean."""
    each = np.log(per_period(run, outcome))
    return float(np.exp(each[-3:].mean() - each[:3].mean()))
