"""Descent on free logits: whether a loss, known by its slopes alone, teaches the labels."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

CLASSES: Final = 10
"""Classes of the free logits at most; data with fewer have as many."""
SAMPLES: Final = 20
LEARNED: Final = 0.9  # accuracy
_STEPS: Final = 100
_CHECK: Final = 10  # steps between two looks at the accuracy
_RATE: Final = 0.1
_MOMENTS: Final = (0.9, 0.999)
_EPSILON: Final = 1e-8
_SEED: Final = 20240419


class Grid(NamedTuple):
    """The values of u = log p - log(1 - p) at which slopes are tabulated.

    Attributes:
        low: the smallest.
        high: the largest.
        size: how many, at equal distances.
    """

    low: float
    high: float
    size: int

    @property
    def points(self) -> Array:
        """All of them."""
        return np.linspace(self.low, self.high, self.size)


def starting_logits(classes: int = CLASSES) -> Array:
    """Standard normal logits of shape (samples, classes), the same for every loss; the target of each is class 0."""
    return np.random.default_rng(_SEED).standard_normal((SAMPLES, classes))


def learns(slopes: Array, grid: Grid, classes: int = CLASSES) -> NDArray[np.bool_]:
    """Descend on free logits with each loss, and see whether the labels are learned.

    The logits of 20 samples are trained by Adam (learning rate .1, 100 steps). A loss learns the labels
    if the accuracy is at least .9 after 10, 20, ... or 100 steps.

    Args:
        slopes: ``h = p dl/dp`` at the points of the grid, of shape (losses, phases, 2, points): the phases of training
            one after another, then y = 0 and y = 1. Between points it is interpolated linearly, beyond them constant.
        grid: the points.
        classes: the number of classes.

    Returns:
        One boolean per loss.
    """
    learned = np.zeros(len(slopes), dtype=bool)
    left = np.arange(len(slopes))
    phases = slopes.shape[1]
    state = np.zeros((3, len(slopes), SAMPLES, classes))
    state[0] = starting_logits(classes)
    with np.errstate(all="ignore"):
        for first in range(0, _STEPS, _CHECK):
            table = np.ascontiguousarray(slopes[left, first * phases // _STEPS])
            for step in range(first + 1, first + _CHECK + 1):
                _step(state, table, grid, step)
            logits = state[0]
            accuracy = (logits[..., 0] > logits[..., 1:].max(axis=-1)).mean(axis=-1)
            learned[left[accuracy >= LEARNED]] = True
            keep = accuracy < LEARNED
            left, state = left[keep], state[:, keep]
            if not len(left):
                break
    return learned


def _step(state: Array, table: Array, grid: Grid, step: int) -> None:
    """One step of Adam on the logits, in place; ``state`` holds the logits and both moments."""
    logits, mean, square = state
    gradient = _gradient(logits, table, grid)
    first, second = _MOMENTS
    mean += (1 - first) * (gradient - mean)
    square += (1 - second) * (gradient * gradient - square)
    size = np.sqrt(square / (1 - second**step))
    logits -= (_RATE / (1 - first**step)) * mean / (size + _EPSILON)


def _gradient(logits: Array, table: Array, grid: Grid) -> Array:
    """The gradient ``h_k - p_k sum_j h_j`` of the loss of each sample, of shape (losses, samples, classes)."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    total = exponentials.sum(axis=-1, keepdims=True)
    u = np.log(exponentials / (total - exponentials))
    place = (u - grid.low) * ((grid.size - 1) / (grid.high - grid.low))
    place = np.fmax(np.fmin(place, grid.size - 1.000001), 0.0)  # NaN goes to the end of the table
    below = place.astype(np.intp)
    rows = 2 * np.arange(len(table))[:, None, None] + (np.arange(logits.shape[-1]) == 0)
    index = rows * grid.size + below
    flat = table.reshape(-1)
    slope = flat[index]
    slope += (place - below) * (flat[index + 1] - slope)
    gradient: Array = slope - exponentials / total * slope.sum(axis=-1, keepdims=True)
    return gradient
