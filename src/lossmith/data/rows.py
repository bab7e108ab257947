"""Which rows train, validate and test: splits, folds, subsamples and long tails."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lossmith.data.dataset import TEST, TRAIN, VALID, Dataset
from lossmith.data.errors import DataError, quoted
from lossmith.data.generators import Purpose, generator
from lossmith.data.spec import CleanSet, DataSpec

Index = NDArray[np.int64]

HELD_OUT = 0.2
FOR_CHOICE = 0.25
"""Of the examples outside the test part: what a search for losses never sees, on which its winner is chosen."""
LEAST = 4
"""So many examples leave one for validation and one for training in any split without classes."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Row numbers of the data set: train in the order of training, the others ascending.

    With a clean set, `clean` holds those of its rows that a trial may train on, and `train` the noisy rows alone.
    """

    train: Index
    valid: Index
    test: Index
    clean: Index = field(default_factory=lambda: np.empty(0, np.int64))


def choose_rows(dataset: Dataset, spec: DataSpec) -> Rows:
    """Choose the rows a trial sees.

    Hold-out: an official test part is the test, an official validation part the validation. What is missing is 20 % of
    all examples where there are no official parts at all, else of the official training part. Folds: the outer folds
    are dealt from all examples; validation is 20 % of the rest. Each repeat has the same test part and draws its
    validation part anew, unless that is official. All draws are stratified by class in a classification and plain in
    other tasks. The parts are disjoint, but for a clean set that is not halved, which is both clean and valid.
    """
    rows = _fold(dataset, spec) if spec.folds else _hold_out(dataset, spec)
    if spec.clean is not None:
        rows = _with_clean_set(rows, dataset, spec.clean)
    if spec.stage != "all":
        rows = _of_stage(rows, dataset, spec)
    if spec.train_size is not None:
        rows = _subsample(rows, dataset, spec, spec.train_size)
    if spec.imbalance > 1:
        rows = _long_tail(rows, dataset, spec)
    if spec.valid_size is not None and spec.valid_size < len(rows.valid):
        draw = generator(spec.split_seed, Purpose.SUBSAMPLE_VALID, spec.fold, spec.repeat)
        kept, _ = _take(_strata(dataset), rows.valid, spec.valid_size, draw, leave_one=False)
        rows = replace(rows, valid=kept)
    order = generator(spec.split_seed, Purpose.ORDER).permutation(len(dataset))
    return replace(rows, train=rows.train[np.argsort(order[rows.train])])


def _strata(dataset: Dataset) -> Index:
    """What each part holds by its share: the classes; for other tasks a single stratum."""
    return dataset.targets if dataset.task == "classification" else np.zeros(len(dataset), np.int64)


def _hold_out(dataset: Dataset, spec: DataSpec) -> Rows:
    strata, part = _strata(dataset), dataset.part
    everything = np.arange(len(strata))
    train = everything if part is None else np.flatnonzero(part == TRAIN)
    given = {each: train[:0] if part is None else np.flatnonzero(part == each) for each in (VALID, TEST)}
    missing = [each for each in (TEST, VALID) if not len(given[each])]
    _check_counts(dataset, train, 1 + len(missing), "the split into training, validation and test part")
    size = round(HELD_OUT * len(train))
    for each in missing:
        purpose = Purpose.TEST if each == TEST else Purpose.VALID
        draw = generator(spec.split_seed, purpose, repeat=spec.repeat if each == VALID else 0)
        given[each], train = _take(strata, train, size, draw, leave_one=True)
    return Rows(train, given[VALID], given[TEST])


def _fold(dataset: Dataset, spec: DataSpec) -> Rows:
    strata = _strata(dataset)
    _check_counts(dataset, np.arange(len(strata)), spec.folds, f"{spec.folds} folds")
    draw = generator(spec.split_seed, Purpose.FOLDS)
    fold_of = np.empty(len(strata), np.int64)
    dealt = 0
    for code in range(int(strata.max()) + 1):
        members = draw.permutation(np.flatnonzero(strata == code))
        fold_of[members] = (dealt + np.arange(len(members))) % spec.folds
        dealt += len(members)
    test, rest = np.flatnonzero(fold_of == spec.fold), np.flatnonzero(fold_of != spec.fold)
    draw = generator(spec.split_seed, Purpose.VALID, spec.fold, spec.repeat)
    valid, train = _take(strata, rest, round(HELD_OUT * len(rest)), draw, leave_one=True)
    return Rows(train, valid, test)


def _of_stage(rows: Rows, dataset: Dataset, spec: DataSpec) -> Rows:
    """Keep a quarter of the training and validation examples for the choice, and split the rest for the search."""
    strata, pool = _strata(dataset), np.sort(np.concatenate([rows.train, rows.valid]))
    _check_counts(dataset, pool, 3, "a search, a choice and their training")
    draw = generator(spec.split_seed, Purpose.CHOICE, spec.fold)
    aside, rest = _take(strata, pool, round(FOR_CHOICE * len(pool)), draw, leave_one=True)
    if spec.stage == "choice":
        return replace(rows, train=rest, valid=aside)
    draw = generator(spec.split_seed, Purpose.VALID, spec.fold, spec.repeat)
    valid, train = _take(strata, rest, round(HELD_OUT * len(rest)), draw, leave_one=True)
    return replace(rows, train=train, valid=valid)


def _check_counts(dataset: Dataset, rows: Index, needed: int, what: str) -> None:
    if dataset.task != "classification":
        needed = max(needed, LEAST)
        if len(rows) < needed:
            raise DataError(
                f"{dataset.name!r} has {len(rows)} examples, too few for {what}, which needs {needed}; add examples."
            )
        return
    counts = np.bincount(dataset.targets[rows], minlength=len(dataset.class_names))
    rarest = int(counts.argmin())
    if counts[rarest] < needed:
        raise DataError(
            f"the class {quoted(dataset.class_names[rarest])} of {dataset.name!r} has {counts[rarest]} examples"
            f" outside the test part, too few for {what}, which needs {needed} of every class; add examples or merge"
            " rare classes."
        )


def _with_clean_set(rows: Rows, dataset: Dataset, clean: CleanSet) -> Rows:
    labels, pool = dataset.targets, np.sort(np.concatenate([rows.train, rows.valid]))
    classes = len(dataset.class_names)
    if not 2 * classes <= clean.size <= clean.aside <= len(pool) - classes:
        raise DataError(
            f"a clean set of {clean.size:,} out of {clean.aside:,} examples put aside does not fit {dataset.name!r};"
            f" give a set of at least {2 * classes}, two of each class, and put aside at most {len(pool) - classes:,}."
        )

    def take(source: Index, size: int, purpose: Purpose, *, leave_one: bool) -> tuple[Index, Index]:
        return _take(labels, source, size, generator(clean.seed, purpose), leave_one=leave_one)

    aside, noisy = take(pool, clean.aside, Purpose.CLEAN_ASIDE, leave_one=True)
    chosen, _ = take(aside, clean.size, Purpose.CLEAN_SET, leave_one=False)
    if clean.half is None:
        return replace(rows, train=noisy, valid=chosen, clean=chosen)
    halves = take(chosen, clean.size // 2, Purpose.CLEAN_HALF, leave_one=False)
    return replace(rows, train=noisy, valid=halves[clean.half], clean=halves[1 - clean.half])


def _subsample(rows: Rows, dataset: Dataset, spec: DataSpec, size: int) -> Rows:
    if size > len(rows.train):
        raise DataError(
            f"train_size is {size:,}, but {dataset.name!r} has {len(rows.train):,} training examples after the split;"
            f" give at most {len(rows.train):,}."
        )
    if dataset.task == "classification" and size < len(dataset.class_names):
        raise DataError(
            f"train_size is {size:,}, but {dataset.name!r} has {len(dataset.class_names)} classes;"
            " give at least one training example for each."
        )
    seed = spec.split_seed if spec.clean is None else spec.clean.seed
    draw = generator(seed, Purpose.SUBSAMPLE, spec.fold)
    taken, _ = _take(_strata(dataset), rows.train, size, draw, leave_one=False)
    return replace(rows, train=taken)


def _long_tail(rows: Rows, dataset: Dataset, spec: DataSpec) -> Rows:
    """Thin the class of rank r, the largest first, to n ratio^(-r/(C-1)) examples, with the largest n that exists."""
    classes = len(dataset.class_names)
    available = np.bincount(dataset.targets[rows.train], minlength=classes)
    ranks = np.empty(classes, np.int64)
    ranks[np.argsort(-available, kind="stable")] = np.arange(classes)
    profile = spec.imbalance ** (-ranks / (classes - 1))
    if (available / profile).min() * profile.min() < 1 - 1e-9:
        raise DataError(
            f"imbalance is {spec.imbalance:g}, but the classes of {dataset.name!r} have at most {available.max():,}"
            f" training examples, which leaves less than one for the rarest class; give at most"
            f" {_largest_ratio(available)}."
        )
    thinned = []
    for purpose, part in ((Purpose.TAIL_TRAIN, rows.train), (Purpose.TAIL_VALID, rows.valid)):
        labels = dataset.targets[part]
        counts = np.bincount(labels, minlength=classes)
        largest = (counts / profile)[counts > 0].min()
        sizes = np.clip(np.floor(largest * profile + 0.5).astype(np.int64), 1, None)
        draw = generator(spec.split_seed, purpose, spec.fold)
        kept = [draw.permutation(part[labels == code])[: sizes[code]] for code in range(classes)]
        thinned.append(np.sort(np.concatenate(kept)))
    return replace(rows, train=thinned[0], valid=thinned[1])


def _largest_ratio(available: Index) -> int:
    """Return the largest whole ratio whose profile leaves every class an example."""
    counts = np.sort(available)[::-1]
    steps = 1 - np.arange(len(counts)) / (len(counts) - 1)
    with np.errstate(divide="ignore"):
        return int(np.floor(np.min(counts[:-1].astype(np.float64) ** (1 / steps[:-1])) + 1e-9))


def _take(strata: Index, rows: Index, size: int, draw: np.random.Generator, *, leave_one: bool) -> tuple[Index, Index]:
    """Take `size` of `rows`, each stratum by its share; return the taken and the left rows, ascending.

    Within a stratum the rows are drawn in one order, so that the smaller of two samples lies inside the larger one.
    """
    counts = np.bincount(strata[rows])
    quotas = _quotas(counts, size, leave_one=leave_one)
    orders = [draw.permutation(rows[strata[rows] == code]) for code in range(len(counts))]
    taken = np.concatenate([order[:quota] for order, quota in zip(orders, quotas, strict=True)])
    left = np.concatenate([order[quota:] for order, quota in zip(orders, quotas, strict=True)])
    return np.sort(taken), np.sort(left)


def _quotas(counts: Index, size: int, *, leave_one: bool) -> Index:
    """Share `size` out over the classes by largest remainders, with at least one of each class that can give one."""
    exact = counts * (size / counts.sum())
    most = counts - 1 if leave_one else counts
    quotas: Index = np.minimum(np.maximum(np.floor(exact), 1), np.maximum(most, 0)).astype(np.int64)
    most = np.minimum(np.ceil(exact), most)
    while quotas.sum() < size and (quotas < most).any():
        quotas[np.argmax(np.where(quotas < most, exact - quotas, -np.inf))] += 1
    while quotas.sum() > size and (quotas > 1).any():
        quotas[np.argmax(np.where(quotas > 1, quotas - exact, -np.inf))] -= 1
    return quotas
