from __future__ import annotations

import itertools

import pytest
import torch

from lossmith.trials.batches import batches, pad_rows


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


def test_padding_repeats_the_last_row() -> None:
    rows = torch.arange(12).view(3, 2, 2)
    assert pad_rows(rows, 5).tolist() == [*rows.tolist(), rows[2].tolist(), rows[2].tolist()]
    assert pad_rows(rows, 2).shape == (4, 2, 2)
    assert pad_rows(rows[:1], 4).tolist() == [rows[0].tolist()] * 4


def test_rows_that_need_no_padding_are_not_copied() -> None:
    rows = torch.arange(6).view(3, 2)
    assert pad_rows(rows, 3) is rows
    assert pad_rows(rows, 1) is rows
