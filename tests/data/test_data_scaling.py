import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from lossmith.data import Column, Dataset, DataSpec, load_dataset, make_splits


def numeric(inputs, labels=None, part=None, columns=None):
    inputs = np.asarray(inputs, np.float64)
    labels = np.arange(len(inputs)) % 2 if labels is None else np.asarray(labels)
    columns = columns or tuple(Column(f"c{j}") for j in range(inputs.shape[1]))
    return Dataset("made", "made", "tabular", inputs, labels, ("no", "yes"), part, columns)


def normal(rows=200, columns=3, seed=0):
    return np.random.default_rng(seed).normal(5, 3, (rows, columns))


@pytest.mark.parametrize("name", ["wine", "breast_cancer", "iris"])
def test_training_columns_have_mean_0_and_deviation_1(name):
    inputs = make_splits(load_dataset(name), DataSpec(name)).train.inputs.double()
    torch.testing.assert_close(inputs.mean(0), torch.zeros(inputs.shape[1]).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(inputs.std(0, correction=0), torch.ones(inputs.shape[1]).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_training_channels_have_mean_0_and_deviation_1(dtype):
    images = np.random.default_rng(0).integers(0, 200, (100, 3, 5, 4)) * np.array([1, 0.5, 0.1])[:, None, None]
    dataset = Dataset("made", "made", "image", images.astype(dtype), np.arange(100) % 2, ("no", "yes"))
    inputs = make_splits(dataset, DataSpec("made")).train.inputs
    assert inputs.dtype == torch.float32
    for statistic, value in ((inputs.double().mean((0, 2, 3)), 0), (inputs.double().std((0, 2, 3), correction=0), 1)):
        torch.testing.assert_close(statistic, torch.full((3,), value).double(), atol=1e-5, rtol=0)


def test_bytes_and_floats_of_the_same_images_are_scaled_alike():
    images = np.random.default_rng(0).integers(0, 256, (60, 1, 4, 4))
    tasks = [
        make_splits(Dataset("m", "m", "image", images.astype(dtype), np.arange(60) % 2, ("n", "y")), DataSpec("m"))
        for dtype in (np.uint8, np.float32)
    ]
    torch.testing.assert_close(tasks[0].test.inputs, tasks[1].test.inputs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_statistics_come_from_the_training_rows_alone(part):
    dataset = numeric(normal())
    before = make_splits(dataset, DataSpec("made"))
    row = int(getattr(before, part).index[0])
    changed = np.array(dataset.inputs)
    changed[row] = 1e6
    after = make_splits(replace(dataset, inputs=changed), DataSpec("made"))
    for name in ("train", "valid", "test"):
        same = (getattr(before, name).inputs == getattr(after, name).inputs).all(1)
        assert same.tolist() == [index != row for index in getattr(before, name).index.tolist()]


def test_a_test_image_changes_nothing_else():
    dataset = load_dataset("digits")
    before = make_splits(dataset, DataSpec("digits"))
    changed = np.array(dataset.inputs)
    changed[before.test.index[0]] = 255
    after = make_splits(replace(dataset, inputs=changed), DataSpec("digits"))
    assert torch.equal(before.train.inputs, after.train.inputs)
    assert torch.equal(before.valid.inputs, after.valid.inputs)
    assert torch.equal(before.test.inputs[1:], after.test.inputs[1:])


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e8, -1e-30])
def test_a_constant_column_becomes_zero_even_where_it_varies_outside_train(constant):
    inputs = normal()
    inputs[:, 1] = constant
    dataset = numeric(inputs)
    rows = make_splits(dataset, DataSpec("made")).test.index
    inputs[rows[:2], 1] = 17.0
    task = make_splits(replace(dataset, inputs=inputs), DataSpec("made"))
    for examples in (task.train, task.valid, task.test):
        assert (examples.inputs[:, 1] == 0).all()
        assert (examples.inputs[:, 0] != 0).all()


def test_a_blank_image_channel_becomes_zero():
    images = np.random.default_rng(0).integers(0, 256, (60, 2, 4, 4)).astype(np.uint8)
    images[:, 1] = 7
    dataset = Dataset("m", "m", "image", images, np.arange(60) % 2, ("n", "y"))
    for each in (dataset, replace(dataset, inputs=images.astype(np.float32))):
        assert (make_splits(each, DataSpec("m")).valid.inputs[:, 1] == 0).all()


def test_missing_numbers_become_the_training_mean():
    inputs = normal()
    inputs[::7, 2] = math.nan
    task = make_splits(numeric(inputs), DataSpec("made"))
    known = inputs[task.train.index, 2]
    mean = known[~np.isnan(known)].mean()
    for examples in (task.train, task.valid, task.test):
        column, raw = examples.inputs[:, 2].numpy(), inputs[examples.index, 2]
        assert np.isfinite(column).all()
        # A mean is scaled to 0; larger values lie above, smaller below.
        np.testing.assert_allclose(column[np.isnan(raw)], 0, atol=1e-6)
        assert (np.sign(column[~np.isnan(raw)]) == np.sign(raw[~np.isnan(raw)] - mean)).all()


def test_a_column_known_in_no_training_row_becomes_zero():
    inputs = normal()
    dataset = numeric(inputs)
    test = make_splits(dataset, DataSpec("made")).test.index.numpy()
    inputs[np.setdiff1d(np.arange(len(inputs)), test), 0] = math.nan
    task = make_splits(replace(dataset, inputs=inputs), DataSpec("made"))
    assert (task.test.inputs[:, 0] == 0).all()


def test_categories_are_one_hot_over_the_training_values():
    labels = np.arange(100) % 2
    codes = np.random.default_rng(0).integers(0, 3, 100).astype(float)
    inputs = np.stack([normal(100, 1)[:, 0], codes], axis=1)
    columns = (Column("size"), Column("colour", ("blue", "green", "red", "yellow")))
    dataset = numeric(inputs, labels, columns=columns)
    test = make_splits(dataset, DataSpec("made")).test.index.numpy()
    inputs[test[0], 1] = 3  # yellow is unknown to train
    inputs[test[1], 1] = math.nan
    task = make_splits(replace(dataset, inputs=inputs), DataSpec("made"))
    assert task.input_shape == (4,)
    np.testing.assert_array_equal(task.train.inputs[:, 1:], np.eye(3)[codes[task.train.index].astype(int)])
    assert task.test.inputs[:2, 1:].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert (task.test.inputs[2:, 1:].sum(1) == 1).all()


def test_large_numbers_with_small_differences_keep_them():
    seconds = 1.7e9 + np.arange(100.0)
    task = make_splits(numeric(seconds[:, None]), DataSpec("made"))
    order = task.train.index.argsort()
    assert (task.train.inputs[order, 0].diff() > 0).all()


def test_values_that_scaling_makes_infinite_are_refused_by_column(refusal):
    inputs = normal()
    dataset = numeric(inputs)
    row = make_splits(dataset, DataSpec("made")).test.index[0]
    inputs[:, 1] = 1e-30 * np.arange(len(inputs))
    inputs[row, 1] = 1e30
    assert "'c1'" in refusal(make_splits, replace(dataset, inputs=inputs), DataSpec("made"))


def test_extreme_but_finite_columns_are_scaled():
    inputs = normal() * [1e-200, 1e37, 1]
    task = make_splits(numeric(inputs), DataSpec("made"))
    assert task.train.inputs.isfinite().all()
    assert math.isclose(task.train.inputs[:, 1].std(correction=0), 1, rel_tol=1e-5)
