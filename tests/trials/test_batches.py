from __future__ import annotations

import itertools

import pytest
import torch

from lossmith.data import DataSpec
from lossmith.trials.batches import batches, pad_rows, trial_batches
from lossmith.trials.trial import CleanUse, OptimizerSpec
from made_trials import changed, made

CLEAN, NOISY = 6, 24


def taken(size: int, batch_size: int, count: int, seed: int = 1) -> list[list[int]]:
    return [rows.tolist() for rows in itertools.islice(batches(size, batch_size, seed), count)]


def joined(drawn: list[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(drawn))


@pytest.mark.parametrize(("size", "batch_size"), [(20, 5), (23, 5), (24, 5), (7, 7), (5, 4), (3, 1)])
def test_an_epoch_shows_no_example_twice_and_drops_what_is_left_over(size: int, batch_size: int) -> None:
    """Every batch is full, so that a mean over it weighs as much as any other; the next epoch starts anew."""
    whole = size // batch_size
    drawn = taken(size, batch_size, 3 * whole)
    assert {len(rows) for rows in drawn} == {batch_size}
    for epoch in range(3):
        seen = joined(drawn[epoch * whole : (epoch + 1) * whole])
        assert len(set(seen)) == whole * batch_size
        assert set(seen) <= set(range(size))


def test_fewer_examples_than_a_batch_are_one_batch() -> None:
    for rows in taken(7, 16, 3):
        assert sorted(rows) == list(range(7))


def test_each_epoch_has_an_order_of_its_own_and_leaves_out_others() -> None:
    drawn = taken(23, 5, 40)
    epochs = [tuple(joined(drawn[4 * k : 4 * k + 4])) for k in range(10)]
    assert len(set(epochs)) == 10
    assert {row for epoch in epochs for row in epoch} == set(range(23))


def test_the_seed_alone_decides_and_no_other_random_number_is_touched() -> None:
    state = torch.get_rng_state()
    first = taken(20, 5, 8)
    torch.rand(3)
    assert taken(20, 5, 8) == first
    assert taken(20, 5, 8, seed=2) != first
    torch.set_rng_state(state)
    taken(20, 5, 8)
    assert torch.equal(torch.get_rng_state(), state)


def test_row_numbers_index_a_tensor() -> None:
    assert next(batches(5, 2, 0)).dtype == torch.int64


def trial_rows(clean: CleanUse, share: float, count: int, seed: int = 3) -> torch.Tensor:
    """The rows of the first steps of a trial of 10 steps with batches of 8, beside 6 clean examples."""
    optimizer = OptimizerSpec("sgd", 0.1)
    trial = made(DataSpec("digits"), "linear", "cross_entropy", optimizer, 10, 8, seed, clean=clean, clean_share=share)
    rows = list(itertools.islice(trial_batches(trial, CLEAN + NOISY, CLEAN), count))
    assert all(batch.dtype == torch.int64 and batch.shape == (8,) for batch in rows)
    return torch.stack(rows)


def assert_permutations(rows: list[int], of: int) -> None:
    """Whole passes over the clean examples, and part of one; their orders differ."""
    passes = [rows[k : k + of] for k in range(0, len(rows), of)]
    assert len(passes) > 2
    assert all(sorted(one) == list(range(of)) for one in passes[:-1])
    assert len(set(passes[-1])) == len(passes[-1])
    assert set(passes[-1]) <= set(range(of))
    assert passes[0] != passes[1]


def test_unused_clean_examples_are_never_met() -> None:
    rows = trial_rows("unused", 0.5, 12)
    for epoch in rows.reshape(4, NOISY).tolist():
        assert sorted(epoch) == list(range(CLEAN, CLEAN + NOISY))
    assert not torch.equal(rows, trial_rows("unused", 0.5, 12, seed=4))


def test_mixed_clean_examples_stand_in_for_the_first_of_each_batch() -> None:
    """A quarter of a batch of 8 is 2; all else is what would have been there without them."""
    rows, without = trial_rows("mixed", 0.25, 12), trial_rows("unused", 0.0, 12)
    assert torch.equal(rows[:, 2:], without[:, 2:])
    assert_permutations(rows[:, :2].flatten().tolist(), CLEAN)
    assert not torch.equal(rows[:, :2], trial_rows("mixed", 0.25, 12, seed=4)[:, :2])


def test_clean_examples_come_last_when_asked_for() -> None:
    """The last 30 % of 10 steps are 3, and they hold nothing else; before, nothing is different."""
    rows, without = trial_rows("last", 0.3, 10), trial_rows("unused", 0.0, 10)
    assert torch.equal(rows[:7], without[:7])
    assert_permutations(rows[7:].flatten().tolist(), CLEAN)


def test_the_order_of_clean_examples_is_not_that_of_noisy_ones() -> None:
    """As many of both: one seed for both would pair the same two examples in every trial."""
    trial = made(DataSpec("digits"), "linear", "cross_entropy", OptimizerSpec("sgd", 0.1), 10, 8, 3)
    noisy, clean = (
        next(trial_batches(changed(trial, clean=use, clean_share=1.0), 16, 8)) for use in ("unused", "mixed")
    )
    assert sorted(clean.tolist()) == list(range(8))
    assert not torch.equal(noisy - 8, clean)


def test_training_on_clean_examples_needs_some() -> None:
    trial = made(DataSpec("digits"), "linear", "cross_entropy", OptimizerSpec("sgd", 0.1), 10, 8, 3, clean="mixed")
    with pytest.raises(ValueError, match="needs a clean set"):
        next(trial_batches(trial, 16, 0))


def test_padding_repeats_the_last_row() -> None:
    rows = torch.arange(12).view(3, 2, 2)
    assert pad_rows(rows, 5).tolist() == [*rows.tolist(), rows[2].tolist(), rows[2].tolist()]
    assert pad_rows(rows, 2).shape == (4, 2, 2)
    assert pad_rows(rows[:1], 4).tolist() == [rows[0].tolist()] * 4


def test_rows_that_need_no_padding_are_not_copied() -> None:
    rows = torch.arange(6).view(3, 2)
    assert pad_rows(rows, 3) is rows
    assert pad_rows(rows, 1) is rows
