"""Which examples of a data set a trial sees, as a value."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from lossmith.data.dataset import TaskName, check_task
from lossmith.data.errors import DataError

NoiseKind = Literal["symmetric", "asymmetric"]
Stage = Literal["all", "search", "choice"]


@dataclass(frozen=True)
class CleanSet:
    """A few examples whose labels are right, beside noisy ones; they replace the validation part.

    A stratified sample of `aside` examples is drawn from the training and the validation part together. The first
    `size` of them are the clean set; all examples outside the sample are the noisy training examples. Sets of different
    sizes drawn with one seed therefore lie inside each other and leave the same noisy examples.

    Args:
        size: Number of clean examples, even and at least 2.
        aside: Number of examples put aside, at least `size`.
        seed: Decides which examples are clean, which are kept under `train_size`, and the label noise.
        half: 0 or 1: this half of the clean set is the validation part, the other half belongs to the training part.
            None: the whole set is both, so that a validation score says nothing.

    Raises:
        DataError: If an argument is out of its range.
    """

    size: int
    aside: int
    seed: int = 0
    half: int | None = None

    def __post_init__(self) -> None:
        if self.size < 2 or self.size % 2:
            raise DataError(f"a clean set has {self.size} examples; give an even number of at least 2.")
        if self.aside < self.size:
            raise DataError(
                f"{self.aside} examples are put aside for a clean set of {self.size}; give at least as many."
            )
        if self.seed < 0:
            raise DataError(f"the seed of a clean set is {self.seed}; it is at least 0.")
        if self.half not in {None, 0, 1}:
            raise DataError(f"half of a clean set is {self.half}; it is 0, 1 or None.")


def sorted_columns(names: Iterable[str]) -> tuple[str, ...]:
    """Names of columns in the one order that a spec holds them in."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise DataError(f"drop is {names!r}; it is a list of columns' names.")
    return tuple(sorted(set(names)))


@dataclass(frozen=True)
class DataSpec:
    """Which examples a trial sees; part of a trial's hash, and JSON-able by `dataclasses.asdict`.

    Rows are chosen in this order: split, `train_size`, `imbalance`, `valid_size`; then `label_noise` or `outliers`
    alter targets. The test part is never thinned or altered.

    An outlier is a target plus 10 standard deviations of the training targets times a standard normal number. The
    result is the contaminated normal of Tukey, "A survey of sampling from contaminated distributions" (1960), with
    exactly the share asked for; the factor of 10 is ours.

    Args:
        source: `Dataset.digest`: a bundled name or "sha256:<hex>".
        label: The label column that `load_dataset` was asked for; None for the default.
        train_size: How many training examples to keep, stratified by class; None for all.
        label_noise: Share of training and of validation labels replaced by a different class, in [0, 1).
        noise: "symmetric": all other classes are equally likely; "asymmetric": class c becomes (c + 1) mod C.
        imbalance: Ratio of the largest to the smallest class after exponential thinning of the training and the
            validation part; 1 leaves the classes as they are.
        split_seed: Seed of everything that is drawn here, not negative.
        folds: 0 for a hold-out: the official test part, else 20 %. From 2: that many outer folds over all examples,
            official parts pooled. Both are stratified by class in a classification.
        fold: Which of the folds is the test part, from 0.
        repeat: Which draw of the validation part, from 0; an official validation part is always the same.
        valid_size: How many validation examples to keep at most, stratified by class; None for all.
        clean: Examples without label noise that judge a trial; None for a validation part as noisy as the rest.
        task: What the targets are. `label_noise`, `imbalance` and `clean` are for classification alone.
        outliers: Share of the training and of the validation targets of a regression that become outliers, in [0, 1).
        drop: The columns of a table that are left out.
        image_size: The side in pixels to which images of files are brought; None for their own size.
        stage: Which of the examples outside the test part are used. "all": all of them. A search for losses puts a
            quarter aside: "search" trains and validates on the rest, "choice" trains on the rest and validates on what
            was put aside.

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
    noise: NoiseKind = "symmetric"
    clean: CleanSet | None = None
    task: TaskName = "classification"
    outliers: float = 0.0
    repeat: int = 0
    valid_size: int | None = None
    drop: tuple[str, ...] = ()
    image_size: int | None = None
    stage: Stage = "all"

    def __post_init__(self) -> None:
        for name in ("train_size", "valid_size", "image_size"):
            if getattr(self, name) is not None:
                self._check_whole(name, at_least=1)
        object.__setattr__(self, "drop", sorted_columns(self.drop))
        self._check_whole("split_seed", at_least=0)
        self._check_whole("folds", at_least=0)
        self._check_whole("fold", at_least=0)
        self._check_whole("repeat", at_least=0)
        self._check_real("label_noise")
        self._check_real("imbalance")
        self._check_real("outliers")
        if not 0 <= self.label_noise < 1:
            raise DataError(f"label_noise is {self.label_noise:g}; it is a share, at least 0 and below 1.")
        if not 0 <= self.outliers < 1:
            raise DataError(f"outliers is {self.outliers:g}; it is a share, at least 0 and below 1.")
        if not self.imbalance >= 1:
            raise DataError(f"imbalance is {self.imbalance:g}; it is the ratio of class sizes, at least 1.")
        if self.folds == 1:
            raise DataError("folds is 1; give 0 for a hold-out, or at least 2 folds.")
        if self.fold >= max(self.folds, 1):
            raise DataError(f"fold is {self.fold} of {self.folds} folds; they are counted from 0.")
        if self.noise not in get_args(NoiseKind):
            raise DataError(f"noise is {self.noise!r}; it is one of {', '.join(get_args(NoiseKind))}.")
        if self.stage not in get_args(Stage):
            raise DataError(f"stage is {self.stage!r}; it is one of {', '.join(get_args(Stage))}.")
        if self.clean is not None and self.stage != "all":
            raise DataError("a clean set takes the place of the validation part; leave the stage out.")
        if self.clean is not None and self.imbalance > 1:
            raise DataError("a clean set cannot be drawn from thinned classes; leave imbalance out.")
        self._check_task()

    def _check_task(self) -> None:
        check_task(self.task)
        altered = {
            "label_noise": ("classification", self.label_noise > 0),
            "imbalance": ("classification", self.imbalance > 1),
            "a clean set": ("classification", self.clean is not None),
            "outliers": ("regression", self.outliers > 0),
        }
        for name, (task, used) in altered.items():
            if used and self.task != task:
                raise DataError(f"{name} works for {task} only, but the task is {self.task}; leave it out.")

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
