import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lossmith.data import Dataset, DataSpec, load_dataset, make_splits

PARTS = ("train", "valid", "test")


def index_of(task, part):
    return getattr(task, part).index.numpy()


def counts_of(dataset, index):
    return np.bincount(dataset.targets[index], minlength=len(dataset.class_names))


@pytest.mark.parametrize("name", ["digits", "wine", "iris"])
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_hold_out_is_60_20_20_of_every_class_within_one_example(name, seed):
    dataset = load_dataset(name)
    task = make_splits(dataset, DataSpec(name, split_seed=seed))
    sizes = np.bincount(dataset.targets)
    for part, share in zip(PARTS, (0.6, 0.2, 0.2), strict=True):
        counts = counts_of(dataset, index_of(task, part))
        # train takes up the rounding of both other parts
        assert np.abs(counts - share * sizes).max() <= (2 if part == "train" else 1)
        assert abs(counts.sum() - share * sizes.sum()) <= 1


@pytest.mark.parametrize("folds", [0, 2, 5])
def test_parts_are_disjoint_and_cover_everything(folds):
    dataset = load_dataset("wine")
    task = make_splits(dataset, DataSpec("wine", folds=folds))
    together = np.concatenate([index_of(task, part) for part in PARTS])
    np.testing.assert_array_equal(np.sort(together), np.arange(178))


@pytest.mark.parametrize("folds", [2, 3, 5, 10])
def test_every_example_is_tested_exactly_once_over_the_folds(folds):
    dataset = load_dataset("wine")
    tested, validated = [], []
    for fold in range(folds):
        task = make_splits(dataset, DataSpec("wine", folds=folds, fold=fold, split_seed=3))
        tested.append(index_of(task, "test"))
        validated.append(index_of(task, "valid"))
        share = counts_of(dataset, tested[-1]) - np.bincount(dataset.targets) / folds
        assert np.abs(share).max() <= 1
        rest = np.setdiff1d(np.arange(178), tested[-1])
        inner = counts_of(dataset, validated[-1]) - 0.2 * counts_of(dataset, rest)
        assert np.abs(inner).max() <= 1
    np.testing.assert_array_equal(np.sort(np.concatenate(tested)), np.arange(178))
    assert np.ptp([len(each) for each in tested]) <= 1


def test_each_example_carries_its_own_row():
    dataset = load_dataset("spirals")
    task = make_splits(dataset, DataSpec("spirals"))
    for part in PARTS:
        examples = getattr(task, part)
        raw = np.asarray(dataset.inputs, np.float32)[examples.index]
        np.testing.assert_array_equal(examples.inputs, raw)
        np.testing.assert_array_equal(examples.targets, dataset.targets[examples.index])


def test_same_spec_gives_the_same_task_and_another_seed_another():
    dataset = load_dataset("digits")
    spec = DataSpec("digits", train_size=200, label_noise=0.2, imbalance=5, split_seed=4, folds=5, fold=2)
    one, two = make_splits(dataset, spec), make_splits(load_dataset("digits"), spec)
    other = make_splits(dataset, dataclasses.replace(spec, split_seed=5))
    for part in PARTS:
        for name in ("inputs", "targets", "index"):
            assert torch.equal(getattr(getattr(one, part), name), getattr(getattr(two, part), name))
    assert not torch.equal(one.train.index, other.train.index)


def test_training_rows_of_a_sorted_set_are_shuffled():
    task = make_splits(load_dataset("iris"), DataSpec("iris"))
    first = task.train.targets[:30]
    assert set(first.tolist()) == {0, 1, 2}
    assert not torch.equal(task.train.index, task.train.index.sort().values)


@pytest.mark.parametrize("size", [3, 10, 50, 107])
def test_train_size_keeps_exactly_so_many_by_class_share_and_leaves_the_rest_alone(size):
    dataset = load_dataset("wine")
    full = make_splits(dataset, DataSpec("wine"))
    size = min(size, len(full.train))
    small = make_splits(dataset, DataSpec("wine", train_size=size))
    assert len(small.train) == size
    assert set(index_of(small, "train")) <= set(index_of(full, "train"))
    share = full.class_counts * size / len(full.train)
    assert (small.class_counts - share).abs().max() <= 1
    for part in ("valid", "test"):
        np.testing.assert_array_equal(index_of(small, part), index_of(full, part))


def test_a_smaller_training_set_lies_inside_a_larger_one():
    dataset = load_dataset("iris")
    sizes = [set(index_of(make_splits(dataset, DataSpec("iris", train_size=n)), "train")) for n in (9, 30, 60)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_train_size_beyond_the_training_rows_says_how_many_there_are(refusal):
    dataset = load_dataset("digits")
    available = len(make_splits(dataset, DataSpec("digits")).train)
    sentence = refusal(make_splits, dataset, DataSpec("digits", train_size=available + 1))
    assert f"{available:,}" in sentence
    assert "10 classes" in refusal(make_splits, dataset, DataSpec("digits", train_size=9))


class TestOfficialParts:
    def test_an_official_test_part_is_the_test_and_validation_is_a_fifth_of_train(self, make_table):
        dataset = make_table([50, 50], part=[0] * 40 + [2] * 10 + [0] * 40 + [2] * 10)
        task = make_splits(dataset, DataSpec("made"))
        np.testing.assert_array_equal(index_of(task, "test"), np.flatnonzero(dataset.part == 2))
        np.testing.assert_array_equal(counts_of(dataset, index_of(task, "valid")), [8, 8])
        assert len(task.train) == 64

    def test_all_three_official_parts_are_kept(self, make_table):
        part = ([0] * 30 + [1] * 10 + [2] * 10) * 2
        task = make_splits(make_table([50, 50], part=part), DataSpec("made", split_seed=9))
        for code, name in enumerate(PARTS):
            np.testing.assert_array_equal(np.sort(index_of(task, name)), np.flatnonzero(np.array(part) == code))

    def test_without_an_official_test_it_is_a_fifth_of_the_official_train(self, make_table):
        dataset = make_table([50, 50], part=([0] * 40 + [1] * 10) * 2)
        task = make_splits(dataset, DataSpec("made"))
        np.testing.assert_array_equal(index_of(task, "valid"), np.flatnonzero(dataset.part == 1))
        np.testing.assert_array_equal(counts_of(dataset, index_of(task, "test")), [8, 8])
        assert (dataset.part[index_of(task, "test")] == 0).all()

    def test_folds_pool_the_official_parts(self, make_table):
        dataset = make_table([50, 50], part=([0] * 30 + [1] * 10 + [2] * 10) * 2)
        tested = [index_of(make_splits(dataset, DataSpec("made", folds=5, fold=f)), "test") for f in range(5)]
        np.testing.assert_array_equal(np.sort(np.concatenate(tested)), np.arange(100))


def test_classes_too_small_for_the_split_are_named(make_table, refusal):
    assert "'class 1'" in refusal(make_splits, make_table([30, 2]), DataSpec("made"))
    assert "5 folds" in refusal(make_splits, make_table([30, 4]), DataSpec("made", folds=5))
    assert make_splits(make_table([30, 3]), DataSpec("made")).class_counts.tolist()[1] == 1
    assert len(make_splits(make_table([30, 5]), DataSpec("made", folds=5)).test) == 7


@given(
    sizes=st.lists(st.integers(3, 40), min_size=2, max_size=8),
    seed=st.integers(0, 2**32),
    folds=st.sampled_from([0, 2, 3]),
)
def test_any_class_sizes_leave_every_class_something_to_train_on(sizes, seed, folds):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    names = tuple(str(code) for code in range(len(sizes)))
    dataset = Dataset("made", "made", "image", np.zeros((len(labels), 1, 2, 2), np.uint8), labels, names)
    task = make_splits(dataset, DataSpec("made", split_seed=seed, folds=folds))
    assert task.class_counts.min() >= 1
    assert (torch.bincount(task.test.targets, minlength=len(sizes)) >= 1).all()
    together = torch.cat([task.train.index, task.valid.index, task.test.index])
    assert torch.equal(together.sort().values, torch.arange(len(labels)))


class TestSpec:
    def test_a_spec_is_json_and_equal_specs_are_equal_json(self):
        one = DataSpec("digits", label_noise=0, imbalance=2, split_seed=np.int64(3), folds=5)
        two = DataSpec("digits", label_noise=0.0, imbalance=2.0, split_seed=3, folds=5)
        assert one == two
        assert hash(one) == hash(two)
        assert json.dumps(dataclasses.asdict(one)) == json.dumps(dataclasses.asdict(two))
        assert DataSpec(**json.loads(json.dumps(dataclasses.asdict(one)))) == one

    @pytest.mark.parametrize(
        "wrong",
        [
            {"train_size": 0},
            {"train_size": 2.5},
            {"train_size": True},
            {"label_noise": -0.1},
            {"label_noise": 1.0},
            {"label_noise": float("nan")},
            {"label_noise": "much"},
            {"imbalance": 0.5},
            {"imbalance": float("inf")},
            {"split_seed": -1},
            {"split_seed": "a"},
            {"folds": 1},
            {"folds": -2},
            {"folds": 5, "fold": 5},
            {"fold": 1},
        ],
        ids=str,
    )
    def test_arguments_out_of_range_are_named(self, wrong, refusal):
        assert list(wrong)[-1] in refusal(DataSpec, "digits", **wrong)

    def test_a_spec_of_another_data_set_is_refused(self, refusal):
        assert "'wine'" in refusal(make_splits, load_dataset("wine"), DataSpec("iris"))
        assert "'kind'" in refusal(make_splits, load_dataset("wine"), DataSpec("wine", label="kind"))


@pytest.mark.parametrize("folds", [0, 5])
def test_repeats_share_the_test_part_and_draw_their_validation_parts_anew(folds):
    dataset = load_dataset("digits")
    first, second = (
        make_splits(dataset, DataSpec(dataset.digest, folds=folds, repeat=repeat, split_seed=3)) for repeat in (0, 1)
    )
    np.testing.assert_array_equal(index_of(first, "test"), index_of(second, "test"))
    valid = set(index_of(first, "valid").tolist()), set(index_of(second, "valid").tolist())
    assert len(valid[0]) == len(valid[1])
    assert len(valid[0] & valid[1]) < 0.4 * len(valid[0])  # a fifth of the rest, drawn twice: .2 on average
    counts = [np.bincount(dataset.targets[index_of(of, "valid")], minlength=10) for of in (first, second)]
    np.testing.assert_array_equal(*counts)
    for of in (first, second):
        assert not set(index_of(of, "train").tolist()) & set(index_of(of, "valid").tolist())


def test_an_official_validation_part_is_that_of_every_repeat(make_table):
    dataset = make_table([20, 20], [0] * 10 + [1] * 5 + [2] * 5 + [0] * 10 + [1] * 5 + [2] * 5)
    first, second = (make_splits(dataset, DataSpec(dataset.digest, repeat=repeat)) for repeat in (0, 1))
    np.testing.assert_array_equal(np.sort(index_of(first, "valid")), np.sort(index_of(second, "valid")))
