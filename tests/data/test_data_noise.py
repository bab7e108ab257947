import numpy as np
import pytest
import torch

from lossmith.data import DataSpec, load_dataset, make_splits


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.mark.parametrize("share", [0.01, 0.2, 0.4, 0.9])
def test_exactly_the_share_of_labels_is_another_class(digits, share):
    clean = make_splits(digits, DataSpec("digits"))
    noisy = make_splits(digits, DataSpec("digits", label_noise=share))
    for part in ("train", "valid"):
        before, after = getattr(clean, part), getattr(noisy, part)
        assert torch.equal(before.index, after.index)
        assert torch.equal(before.inputs, after.inputs)
        assert abs(int((before.targets != after.targets).sum()) - share * len(before)) <= 0.5
        assert after.targets.min() >= 0
        assert after.targets.max() <= 9


def test_noise_moves_a_label_to_every_other_class_alike(make_table):
    dataset = make_table([40_000, 40_000, 40_000, 40_000])
    task = make_splits(dataset, DataSpec("made", label_noise=0.6))
    clean = dataset.targets[task.train.index]
    moved = np.bincount((task.train.targets.numpy() - clean) % 4, minlength=4)[1:]
    expected = moved.sum() / 3
    assert moved.sum() == round(0.6 * len(clean))
    # chi-square with 2 degrees of freedom: 20 is met with probability 5e-5
    assert ((moved - expected) ** 2 / expected).sum() < 20


@pytest.mark.parametrize("folds", [0, 5])
def test_the_test_part_is_never_touched(digits, folds):
    clean = make_splits(digits, DataSpec("digits", folds=folds))
    harmed = make_splits(digits, DataSpec("digits", folds=folds, label_noise=0.5, imbalance=20, train_size=500))
    assert torch.equal(clean.test.targets, harmed.test.targets)
    assert torch.equal(clean.test.index, harmed.test.index)
    np.testing.assert_array_equal(harmed.test.targets, digits.targets[harmed.test.index])


@pytest.mark.parametrize("ratio", [1.5, 4, 10, 100])
def test_imbalance_leaves_the_ratio_and_an_exponential_tail(digits, ratio):
    task = make_splits(digits, DataSpec("digits", imbalance=ratio))
    for part in (task.train, task.valid):
        counts = np.sort(torch.bincount(part.targets, minlength=10).numpy())[::-1]
        assert counts.min() >= 1
        tail = counts[0] * float(ratio) ** (-np.arange(10) / 9)
        assert np.abs(counts - tail).max() <= 1
    train = task.class_counts
    assert abs(int(train.max()) - ratio * int(train.min())) <= ratio / 2 + 1


def test_imbalance_keeps_a_subset_and_makes_one_class_of_both_parts_the_rarest(digits):
    full = make_splits(digits, DataSpec("digits"))
    thin = make_splits(digits, DataSpec("digits", imbalance=10))
    assert set(thin.train.index.tolist()) < set(full.train.index.tolist())
    assert set(thin.valid.index.tolist()) < set(full.valid.index.tolist())
    assert thin.class_counts.argmin() == torch.bincount(thin.valid.targets).argmin()


def test_imbalance_comes_from_the_class_that_is_already_rare(make_table):
    counts = make_splits(make_table([100, 500]), DataSpec("made", imbalance=20)).class_counts
    assert counts.tolist() == [15, 300]


def test_no_imbalance_leaves_an_unequal_set_as_it_is(make_table):
    assert make_splits(make_table([100, 500]), DataSpec("made", imbalance=1)).class_counts.tolist() == [60, 300]


def test_imbalance_out_of_reach_says_what_is_in_reach(make_table, refusal):
    dataset = make_table([50, 50])
    sentence = refusal(make_splits, dataset, DataSpec("made", imbalance=31))
    assert "at most 30." in sentence
    assert make_splits(dataset, DataSpec("made", imbalance=30)).class_counts.tolist() == [30, 1]


def test_noise_does_not_depend_on_the_subsample_nor_rows_on_noise(digits):
    thin = make_splits(digits, DataSpec("digits", imbalance=10, train_size=300))
    both = make_splits(digits, DataSpec("digits", imbalance=10, train_size=300, label_noise=0.3))
    assert torch.equal(thin.train.index, both.train.index)
    assert torch.equal(thin.valid.index, both.valid.index)


def test_noise_that_empties_a_class_is_refused(make_table, refusal):
    # 60/20/20 of three examples leaves one to train on; half of two labels is one, and it can only become the other's.
    assert "less noise" in refusal(make_splits, make_table([3, 3]), DataSpec("made", label_noise=0.5))
