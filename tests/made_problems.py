"""Problems of a search on which nothing has to be trained, and results made up for their trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lossmith.data import DataSpec
from lossmith.evolution.problem import Problem
from lossmith.tasks import Judged
from lossmith.trials.result import Curve, TrialResult
from lossmith.trials.trial import OptimizerSpec
from made_trials import made


def problem(optimizer: str = "adam", steps: int = 1000, **changes: object) -> Problem:
    """A problem of three classes, judged after balancing."""
    data = DataSpec("iris", valid_size=7, label_noise=0.1)
    trial = made(data, "mlp", "cross_entropy", OptimizerSpec(optimizer, 0.5, 1e-3), steps, 32, seed=5, select="best")
    return replace(Problem("iris:mlp", trial, 3, False, True, 900, 11), **changes)


def scored(nll: float, units: Sequence[float] | None = None) -> TrialResult:
    """A result with a score and the nats of each validation example."""
    valid = None if units is None else Judged(np.arange(len(units)), -np.array(units, float))
    return TrialResult(Curve((1,), {}, {"nll": (nll,)}), {"nll": nll}, {}, {}, math.nan, 0.0, False, (), 0.0, valid)
