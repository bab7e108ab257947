"""A clean set beside noisy labels: who is clean, who judges, and that the test part has nothing to do with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lossmith.data import CleanSet, DataError, DataSpec, load_dataset, make_splits
from lossmith.data.dataset import TEST, TRAIN

SPEC = DataSpec("digits", label_noise=0.4, folds=3, clean=CleanSet(50, 200, seed=7))


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def rows(part) -> set[int]:
    return set(part.index.tolist())


@pytest.mark.parametrize("half", [None, 0, 1])
@pytest.mark.parametrize("size", [50, 200])
def test_clean_noisy_and_test_examples_are_apart(digits, size, half):
    task = make_splits(digits, replace(SPEC, clean=CleanSet(size, 200, 7, half)))
    clean, noisy = rows(task.train) - rows_from(task, task.clean), rows_from(task, task.clean)
    assert task.clean == len(clean) == (size if half is None else size // 2)
    assert not (clean | noisy | rows(task.valid)) & rows(task.test)
    assert not noisy & (clean | rows(task.valid))
    assert len(noisy) == len(digits) - len(task.test) - 200
    if half is None:
        assert rows(task.valid) == clean
    else:
        assert len(task.valid) == size // 2
        assert not rows(task.valid) & clean


def rows_from(task, start: int) -> set[int]:
    return set(task.train.index[start:].tolist())


@pytest.mark.parametrize("share", [0.2, 0.4])
@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
def test_exactly_the_noisy_examples_are_noisy_and_at_the_rate_asked_for(digits, kind, share):
    spec = replace(SPEC, label_noise=share, noise=kind, clean=CleanSet(50, 200, 7, 0))
    task = make_splits(digits, spec)
    truth = digits.targets[task.train.index]
    wrong = task.train.targets.numpy() != truth
    assert not wrong[: task.clean].any()
    assert abs(wrong.sum() - share * (len(task.train) - task.clean)) <= 0.5
    shift = (task.train.targets.numpy() - truth)[wrong] % 10
    assert set(shift) == ({1} if kind == "asymmetric" else set(range(1, 10)))
    for part in (task.valid, task.test):
        np.testing.assert_array_equal(part.targets, digits.targets[part.index])


def test_halves_swap_and_larger_sets_hold_smaller_ones(digits):
    first, second, whole = (
        make_splits(digits, replace(SPEC, clean=CleanSet(50, 200, 7, half))) for half in (0, 1, None)
    )
    assert rows(first.valid) == rows(second.train) - rows_from(second, second.clean)
    assert rows(second.valid) == rows(first.train) - rows_from(first, first.clean)
    assert rows(first.valid) | rows(second.valid) == rows(whole.valid)
    large = make_splits(digits, replace(SPEC, clean=CleanSet(200, 200, 7)))
    assert rows(whole.valid) < rows(large.valid)
    assert torch.equal(whole.train.index[50:], large.train.index[200:])
    assert torch.equal(whole.train.targets[50:], large.train.targets[200:])


def test_the_seed_draws_anew_all_but_the_test_part(digits):
    one, other = (make_splits(digits, replace(SPEC, train_size=300, clean=CleanSet(50, 200, seed))) for seed in (7, 8))
    assert torch.equal(one.test.index, other.test.index)
    assert rows(one.valid) != rows(other.valid)
    assert rows_from(one, 50) != rows_from(other, 50)
    assert len(one.train) == len(other.train) == 350
    wrong = [task.train.targets.numpy() != digits.targets[task.train.index] for task in (one, other)]
    assert (wrong[0] != wrong[1]).any()


def test_with_an_official_test_part_the_split_seed_draws_nothing(digits):
    part = np.where(np.arange(len(digits)) < 1400, TRAIN, TEST).astype(np.int8)
    dataset = replace(digits, part=part)
    spec = replace(SPEC, folds=0, train_size=300)
    one, other = (make_splits(dataset, replace(spec, split_seed=seed)) for seed in (1, 2))
    for part in ("train", "valid", "test"):
        assert rows(getattr(one, part)) == rows(getattr(other, part))


@pytest.mark.parametrize(
    "make",
    [
        lambda: CleanSet(51, 200),
        lambda: CleanSet(0, 200),
        lambda: CleanSet(50, 40),
        lambda: CleanSet(50, 50, -1),
        lambda: CleanSet(50, 50, half=2),
        lambda: replace(SPEC, imbalance=2.0),
        lambda: replace(SPEC, noise="pairs"),
        lambda: make_splits(load_dataset("digits"), replace(SPEC, clean=CleanSet(10, 200))),
        lambda: make_splits(load_dataset("digits"), replace(SPEC, clean=CleanSet(50, 1195))),
    ],
)
def test_what_does_not_fit_is_refused(make):
    with pytest.raises(DataError):
        make()
