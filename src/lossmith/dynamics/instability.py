"""Instabilities of a training: where the loss begins to jump between updates, and in which period."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_REPEATS: Final = 0.1
"""A sequence repeats if it misses itself by at most this share of its change per update."""
FLIPS: Final = 20
"""Successive flips that begin an instability."""
_TURNS: Final = 0.5
"""The share of updates at which a sequence that repeats turns at least; one that only falls repeats nothing."""
_MOST: Final = 0.9
"""The share of windows that decides on the period of an instability."""


@dataclass(frozen=True)
class Instability:
    """A stretch of updates over which the loss jumps up and down.

    Attributes:
        start: its first update.
        stop: the update after its last.
        period: the number of updates after which the loss repeats, 2 or 4; ``None``: it does not, which is chaos.
    """

    start: int
    stop: int
    period: int | None


def instabilities(losses: ArrayLike, *, flips: int = FLIPS, smallest: float = 1e-3) -> tuple[Instability, ...]:
    """Find the instabilities of gradient descent in the losses of its updates.

    The change of the loss *flips* at an update where the changes before and after it have opposite signs and are both
    larger than ``smallest``. An instability begins with the first of ``flips`` flips at successive updates, and ends
    before the first ``flips`` successive updates without a flip, or with the last loss.

    Its period is the smaller of 2 and 4 in which nine tenths of its windows repeat. The windows are consecutive ones
    of ``flips`` updates. A window repeats in period p if ``x[t + p] - x[t]``, less its mean (the slow drift of the
    loss), is on average at most a tenth of ``|x[t + 1] - x[t]|``.

    The rule is for full batches: the noise of mini-batches flips the sign of two changes in three. It finds what begins
    with a period doubling: a sequence that is chaotic from its first update on may never flip so often in a row.

    Args:
        losses: the loss before each update, shape (updates,). A loss that is not finite takes part in no flip.
        flips: how many successive flips begin an instability.
        smallest: a change that counts.

    Returns:
        The instabilities, in order; none for fewer than ``flips + 2`` losses.

    Raises:
        ValueError: if the losses are not in one row, or ``flips`` is below 4.

    Source: the period doublings are those of Ruiz-Garcia, Zhang, Schoenholz and Liu, "Tilting the playing field:
    Dynamical loss functions for machine learning", 2021, arXiv 2102.03793, who find them by eye; the rule is ours.
    """
    row = np.asarray(losses, np.float64)
    if row.ndim != 1:
        raise ValueError(f"the losses have shape {row.shape}: give one loss per update")
    if flips < 4:
        raise ValueError(f"flips is {flips}: give at least 4")
    flipped = _flipped(row, smallest)
    counts = np.concatenate([[0], flipped.cumsum()])
    in_window = counts[flips:] - counts[:-flips]  # of the window of updates that begins here
    begins, quiets = np.flatnonzero(in_window == flips), np.flatnonzero(in_window == 0)
    found, past = [], 0
    for begin in begins:
        if begin < past:
            continue
        later = quiets[np.searchsorted(quiets, begin) :]
        past = int(later[0]) if len(later) else len(row) - 1
        start, stop = int(begin) + 1, past + 1  # the first change has no change before it
        found.append(Instability(start, stop, _period(row[start - 1 : stop + 1], flips)))
    return tuple(found)


def _flipped(row: Array, smallest: float) -> NDArray[np.bool_]:
    """Whether the change flips at each update but the first and the last."""
    with np.errstate(invalid="ignore"):  # of infinite losses
        change = np.diff(row)
    large = np.abs(change) > smallest
    rises: NDArray[np.bool_] = change > 0
    flipped: NDArray[np.bool_] = large[1:] & large[:-1] & (rises[1:] != rises[:-1])
    return flipped


def _period(row: Array, flips: int) -> int | None:
    """The smallest of 2 and 4 in which most windows of a row repeat."""
    count = max(len(row) // (flips + 4), 1)
    windows = np.array_split(row, count)
    for period in (2, 4):
        if np.mean([_repeats(window, period) for window in windows]) >= _MOST:
            return period
    return None


def _repeats(window: Array, period: int) -> bool:
    """Whether it turns at half of its updates or more, and is the same after a period but for a drift."""
    if not np.isfinite(window).all():
        return False
    change, missed = np.diff(window), window[period:] - window[:-period]
    turns = np.mean(np.sign(change[1:]) != np.sign(change[:-1])) >= _TURNS
    return bool(turns and np.abs(missed - missed.mean()).mean() <= _REPEATS * np.abs(change).mean())


def sharpness_around(update: int, steps: ArrayLike, sharpness: ArrayLike, within: int = 50) -> float:
    """Average the sharpness around an update.

    Where the loss alternates, so does the sharpness. The mean over the even steps and the mean over the odd ones
    therefore count the same. Measure the sharpness at an odd stride: an even one meets one branch alone.

    Args:
        update: the number of the update.
        steps: at which the sharpness was measured, shape (n,).
        sharpness: its values, shape (n,).
        within: how many updates away a measurement may be.

    Returns:
        The mean; NaN where no measurement is near.
    """
    at, values = np.asarray(steps), np.asarray(sharpness, np.float64)
    near = np.abs(at - update) <= within
    branches = [values[near & (at % 2 == parity)] for parity in (0, 1)]
    means = [float(branch.mean()) for branch in branches if len(branch)]
    return sum(means) / len(means) if means else math.nan


@dataclass(frozen=True, eq=False)
class Bifurcation:
    """A bifurcation diagram: what a sequence visits in the end, for each value of a parameter.

    Attributes:
        values: of the parameter, shape (n,).
        visited: the last losses of each run, shape (n, tail).
        periods: of each tail: 1 where it is at rest, 2, 4, or ``None`` for any other.
    """

    values: Array
    visited: Array
    periods: tuple[int | None, ...]


def bifurcation(
    run: Callable[[float], ArrayLike], values: Sequence[float], *, tail: int = 200, smallest: float = 1e-3
) -> Bifurcation:
    """Follow what a sequence of losses visits in the end as a parameter is swept.

    Args:
        run: returns the losses of a run with a value of the parameter, at least ``tail`` of them.
        values: of the parameter: an amplitude, a period, a learning rate.
        tail: how many of the last losses are kept.
        smallest: a run is at rest if its loss changes by at most this from one update to the next.

    Returns:
        The diagram.

    Raises:
        ValueError: if a run is shorter than ``tail``, or ``tail`` is below 8.
    """
    if tail < 8:
        raise ValueError(f"tail is {tail}: give at least 8, to tell a period")
    visited = np.empty((len(values), tail))
    for row, value in zip(visited, values, strict=True):
        losses = np.asarray(run(value), np.float64)
        if losses.ndim != 1 or len(losses) < tail:
            raise ValueError(f"the run with {value:g} has losses of shape {losses.shape}: {tail} are kept of each")
        row[:] = losses[-tail:]
    with np.errstate(invalid="ignore"):
        rests = [bool((np.abs(np.diff(row)) <= smallest).all()) for row in visited]
    periods = [1 if rest else _period(row, tail - 4) for rest, row in zip(rests, visited, strict=True)]
    return Bifurcation(np.asarray(values, np.float64), visited, tuple(periods))
