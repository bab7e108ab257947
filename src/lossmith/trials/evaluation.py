"""How often a training is evaluated, and on how many validation examples, so that this costs little of its time."""

from __future__ import annotations

from typing import Final, NamedTuple

from lossmith.data import Examples
from lossmith.trials.trial import Engine

SHARE: Final = 0.15
"""What evaluating may cost at most, of a whole training; scoring the test part of a final training comes on top."""
_COST: Final[dict[Engine, float]] = {"single": 0.6, "stacked": 0.35}  # of evaluating an example, over training on it
_FOR_CURVE: Final = 0.6  # of what may be spent; the rest is for judging the validation part at the end
_POINTS: Final = (10, 30, 60)  # of a learning curve: at least, aimed at, at most
_ROWS: Final = (64, 1024)  # of a point: at least and at most
_TARGETS: Final = 2**21  # of a point at most: masks have one for each pixel
_LEAST_VALID: Final = 500


class Evaluation(NamedTuple):
    """How a training is evaluated.

    Attributes:
        points: number of points of its learning curve.
        rows: validation examples of each point.
        valid: validation examples that are judged at its end.
    """

    points: int
    rows: int
    valid: int


def affordable_evaluation(engine: Engine, steps: int, batch_size: int, valid: Examples) -> Evaluation:
    """Choose points and examples such that evaluating costs at most `SHARE` of a training.

    The choice follows from counts alone, never from measured times, so that it is the same on every machine. Very short
    trainings cost more: a curve has at least 10 points of 64 examples, and 500 examples are judged at the end.

    Args:
        engine: what trains.
        steps: number of optimiser steps.
        batch_size: examples per step.
        valid: the validation part.

    Returns:
        The choice; a learning curve has 30 points if they fit, then up to 1,024 examples each, then up to 60 points.
    """
    examples = SHARE / (1 - SHARE) / _COST[engine] * steps * batch_size
    for_curve = _FOR_CURVE * examples
    least, usual, most = _POINTS
    rows = max(_ROWS[0], int(for_curve / usual))
    rows = min(rows, _ROWS[1], len(valid), max(1, _TARGETS // valid.targets[0].numel()))
    points = min(steps, most, max(least, int(for_curve / rows)))
    return Evaluation(points, rows, min(len(valid), max(_LEAST_VALID, int(examples - for_curve))))
