"""Which examples of a data set a trial sees, as a value."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

from lossmith.trials.data.errors import DataError


@dataclass(frozen=True)
class DataSpec:
    """Which examples a trial sees; part of a trial's hash, and JSON-able by `dataclasses.asdict`.

    Rows are chosen in this order: split, `train_size`, `imbalance`; then `label_noise` alters labels.  The test part is
    never thinned or altered.

    Args:
        source: `Dataset.digest`: a bundled name or "sha256:<hex>".
        label: The label column that `load_dataset` was asked for; None for the default.
        train_size: How many training examples to keep, stratified; None for all.
        label_noise: Share of training and of validation labels replaced by a different class, in [0, 1).
        imbalance: Ratio of the largest to the smallest class after exponential thinning of the training and the
            validation part; 1 leaves the classes as they are.
        split_seed: Seed of everything that is drawn here, not negative.
        folds: 0 for a hold-out: the official test part, else a stratified 20 %.  From 2: that many stratified outer
            folds over all examples, official parts pooled.
        fold: Which of the folds is the test part, from 0.

    Raises:
        DataError: If an argument is out of its range.
    """

    source: str
    label: str | None = None
    train_size: int | None = None
    label_noise: float = 0.0
    imbalance: float = 1.0
    split_seed: int = 0
    folds: int = 0
    fold: int = 0

    def __post_init__(self) -> None:
        if self.train_size is not None:
            self._check_whole("train_size", at_least=1)
        self._check_whole("split_seed", at_least=0)
        self._check_whole("folds", at_least=0)
        self._check_whole("fold", at_least=0)
        self._check_real("label_noise")
        self._check_real("imbalance")
        if not 0 <= self.label_noise < 1:
            raise DataError(f"label_noise is {self.label_noise:g}; it is a share, at least 0 and below 1.")
        if not self.imbalance >= 1:
            raise DataError(f"imbalance is {self.imbalance:g}; it is the ratio of class sizes, at least 1.")
        if self.folds == 1:
            raise DataError("folds is 1; give 0 for a hold-out, or at least 2 folds.")
        if self.fold >= max(self.folds, 1):
            raise DataError(f"fold is {self.fold} of {self.folds} folds; they are counted from 0.")

    def _check_whole(self, name: str, at_least: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not hasattr(value, "__index__") or value < at_least:
            raise DataError(f"{name} is {value!r}; it is a whole number, at least {at_least}.")
        object.__setattr__(self, name, operator.index(value))

    def _check_real(self, name: str) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise DataError(f"{name} is {value!r}; it is a finite number.")
        object.__setattr__(self, name, float(value))  # 0 and 0.0 are one spec, also as JSON
