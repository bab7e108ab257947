"""Whether the reference learned anything at all: if not, that is the finding, whatever other losses do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from lossmith.tasks.task import Judged, Scores

_ONE_SIDED: Final = 1.645  # the .95 quantile of the normal distribution


def beats_guessing(runs: Sequence[tuple[Judged, Scores]], guess: float) -> bool:
    """Whether the mean validation score of trainings is above that of guessing, one-sided p < .05.

    The variance of the mean has two parts, of which each may contain some of the other, so that the test errs on the
    side of no: that between trainings, and that between units, of which units that several trainings score count once.

    Args:
        runs: of each training what was judged and the score of each unit.
        guess: the score of guessing.
    """
    means = np.array([scores.mean() for _, scores in runs])
    units = len(np.unique(np.concatenate([judged.index for judged, _ in runs])))
    between_units = float(np.mean([scores.var() for _, scores in runs])) / units
    between_runs = float(means.var(ddof=1)) / len(means) if len(means) > 1 else 0.0
    return bool(means.mean() - guess > _ONE_SIDED * math.sqrt(between_units + between_runs))
