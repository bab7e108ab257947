"""Stages put examples aside for the choice of a winner, which a search never sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lossmith.data import DataError, DataSpec, load_dataset, make_splits
from lossmith.data.dataset import TEST, TRAIN, VALID
from lossmith.data.rows import Rows, choose_rows

STAGES = ("all", "search", "choice")


def staged(dataset, **options) -> dict[str, Rows]:
    spec = DataSpec(dataset.digest, task=dataset.task, **options)
    return {stage: choose_rows(dataset, replace(spec, stage=stage)) for stage in STAGES}


def rows_of(*parts) -> set[int]:
    """The rows of disjoint parts."""
    found = np.concatenate(parts)
    assert len(set(found.tolist())) == len(found)
    return set(found.tolist())


@pytest.mark.parametrize("folds", [0, 5])
@pytest.mark.parametrize("name", ["digits", "iris"])
def test_search_and_choice_share_out_what_is_not_tested(name, folds):
    dataset = load_dataset(name)
    found = staged(dataset, folds=folds, fold=max(0, folds - 2), split_seed=3)
    tested = set(found["all"].test.tolist())
    searched = rows_of(found["search"].train, found["search"].valid)
    chosen_on = set(found["choice"].valid.tolist())
    for rows in found.values():
        assert set(rows.test.tolist()) == tested
    assert tested.isdisjoint(searched | chosen_on)
    assert searched.isdisjoint(chosen_on)
    assert tested | searched | chosen_on == set(range(len(dataset)))
    assert rows_of(found["choice"].train) == searched
    assert searched | chosen_on == rows_of(found["all"].train, found["all"].valid)
    assert len(chosen_on) == pytest.approx(len(searched | chosen_on) / 4, abs=1)
    assert len(found["search"].valid) == pytest.approx(len(searched) / 5, abs=1)


def test_no_repeat_of_the_search_sees_an_example_of_the_choice():
    dataset = load_dataset("digits")
    found = [staged(dataset, repeat=repeat) for repeat in range(5)]
    chosen_on = {tuple(each["choice"].valid) for each in found}
    assert len(chosen_on) == 1
    for each in found:
        assert rows_of(each["search"].train, each["search"].valid).isdisjoint(next(iter(chosen_on)))
    assert len({tuple(each["search"].valid) for each in found}) == 5


def test_every_part_holds_each_class_by_its_share():
    dataset = load_dataset("digits")
    for stage, rows in staged(dataset).items():
        for part in (rows.train, rows.valid, rows.test):
            counts = np.bincount(dataset.targets[part], minlength=10)
            share = np.bincount(dataset.targets) * len(part) / len(dataset)
            assert np.abs(counts - share).max() <= 2, stage  # rounded once for each of at most three draws


def test_official_parts_stay_what_they_are(make_table):
    part = np.random.default_rng(0).choice([TRAIN, VALID, TEST], 200, p=[0.6, 0.2, 0.2])
    dataset = make_table([120, 80], part)
    found = staged(dataset)
    pool = set(np.flatnonzero(part != TEST).tolist())
    for rows in found.values():
        np.testing.assert_array_equal(rows.test, np.flatnonzero(part == TEST))
    searched = rows_of(found["search"].train, found["search"].valid)
    assert searched | set(found["choice"].valid.tolist()) == pool
    assert searched.isdisjoint(found["choice"].valid.tolist())


def test_the_smallest_classes_are_in_every_part(make_table):
    dataset = make_table([5, 40])  # 1 for the test, 1 for validation, and 3 to share out
    for rows in staged(dataset).values():
        for part in (rows.train, rows.valid, rows.test):
            assert set(dataset.targets[part]) == {0, 1}


def test_label_noise_reaches_what_is_trained_and_validated_on_but_not_the_test():
    dataset = load_dataset("digits")
    for stage in STAGES[1:]:
        splits = make_splits(dataset, DataSpec("digits", label_noise=0.4, stage=stage))
        wrong = {
            name: float(np.mean(part.targets.numpy() != dataset.targets[part.index.numpy()]))
            for name, part in (("train", splits.train), ("valid", splits.valid), ("test", splits.test))
        }
        assert wrong["train"] == pytest.approx(0.4, abs=1 / len(splits.train))
        assert wrong["valid"] == pytest.approx(0.4, abs=1 / len(splits.valid))
        assert wrong["test"] == 0


def test_train_size_valid_size_and_imbalance_thin_the_parts_of_a_stage():
    dataset = load_dataset("digits")
    whole = staged(dataset)
    thinned = staged(dataset, train_size=200, valid_size=50)
    tails = staged(dataset, imbalance=10)
    for stage in STAGES:
        assert len(thinned[stage].train) == 200
        assert len(thinned[stage].valid) == 50
        for less in (thinned[stage], tails[stage]):
            assert set(less.train.tolist()) <= set(whole[stage].train.tolist())
            assert set(less.valid.tolist()) <= set(whole[stage].valid.tolist())
            np.testing.assert_array_equal(less.test, whole[stage].test)
        counts = np.sort(np.bincount(dataset.targets[tails[stage].train]))
        assert counts[-1] / counts[0] == pytest.approx(10, rel=0.1)


def test_a_stage_that_cannot_be_is_refused_in_a_sentence(make_table, refusal):
    assert "'first'" in refusal(DataSpec, "digits", stage="first")
    few = make_table([3, 40])
    choose_rows(few, DataSpec(few.digest))
    said = refusal(choose_rows, few, DataSpec(few.digest, stage="search"))
    assert "'class 0'" in said or '"class 0"' in said
    assert "merge rare classes" in said
    digits = load_dataset("digits")
    said = refusal(choose_rows, digits, DataSpec("digits", stage="search", train_size=1000))
    assert "1,000" in said  # of 1,437 examples outside the test part 862 train a search


def test_a_clean_set_has_no_stages():
    from lossmith.data.spec import CleanSet

    with pytest.raises(DataError, match="leave the stage out"):
        DataSpec("digits", clean=CleanSet(20, 40), stage="search")


def test_the_encoding_knows_nothing_of_the_examples_put_aside(make_table):
    """The features of the choice and the test part do not move the scale of those trained on."""
    dataset = make_table([60, 60])
    spec = DataSpec(dataset.digest, stage="search")
    before = make_splits(dataset, spec)
    inputs = np.array(dataset.inputs)
    searched = rows_of(before.train.index.numpy(), before.valid.index.numpy())
    others = [row for row in range(len(dataset)) if row not in searched]
    inputs[others] *= 1e3
    after = make_splits(replace(dataset, inputs=inputs), spec)
    np.testing.assert_array_equal(before.train.inputs.numpy(), after.train.inputs.numpy())
