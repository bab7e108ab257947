"""Independent random generators, all derived from one split seed."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a generator draws; the numbers enter all splits, so they never change."""

    ORDER = 1
    TEST = 2
    VALID = 3
    FOLDS = 4
    SUBSAMPLE = 5
    TAIL_TRAIN = 6
    TAIL_VALID = 7
    NOISE_TRAIN = 8
    NOISE_VALID = 9
    CLEAN_ASIDE = 10
    CLEAN_SET = 11
    CLEAN_HALF = 12
    OUTLIERS_TRAIN = 13
    OUTLIERS_VALID = 14
    SUBSAMPLE_VALID = 15
    CHOICE = 16


def generator(split_seed: int, purpose: Purpose, fold: int = 0, repeat: int = 0) -> np.random.Generator:
    """Return the generator of one purpose: what one of them draws never shifts another."""
    return np.random.default_rng(np.random.SeedSequence([split_seed, int(purpose), fold, repeat]))
