import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn import datasets

from lossmith.data import BUNDLED, DataSpec, load_dataset, make_splits


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_sets_need_no_file_and_make_a_task(name):
    dataset = load_dataset(name)
    task = make_splits(dataset, DataSpec(name, task=dataset.task))
    assert dataset.digest == dataset.name == name
    assert BUNDLED[name]
    assert len(task.train) + len(task.valid) + len(task.test) == len(dataset)
    assert task.train.inputs.dtype == torch.float32
    assert task.train.targets.dtype == (torch.float32 if dataset.task == "regression" else torch.int64)
    assert task.train.index.dtype == torch.int64
    assert task.train.inputs.shape[1:] == task.input_shape


@pytest.mark.parametrize("name", ["wine", "breast_cancer", "iris"])
def test_bundled_tables_are_scikit_learns(name):
    features, labels = getattr(datasets, f"load_{name}")(return_X_y=True)
    dataset = load_dataset(name)
    assert dataset.kind == "tabular"
    np.testing.assert_array_equal(dataset.inputs, features)
    np.testing.assert_array_equal(dataset.targets, labels)


def test_diabetes_holds_measurements_in_their_units():
    dataset = load_dataset("diabetes")
    age, sex, bmi = np.asarray(dataset.inputs)[:, :3].T
    assert (age.min(), age.max(), *np.unique(sex)) == (19, 79, 1, 2)
    assert (bmi.min(), bmi.max()) == (18.0, 42.2)
    assert (dataset.targets.min(), dataset.targets.max()) == (25, 346)


def test_digits_are_images_of_eight_by_eight():
    dataset = load_dataset("digits")
    assert dataset.kind == "image"
    np.testing.assert_array_equal(np.asarray(dataset.inputs).reshape(1797, 64), datasets.load_digits().data)
    assert make_splits(dataset, DataSpec("digits")).input_shape == (1, 8, 8)


def test_scikit_learn_is_imported_only_by_a_set_that_needs_it():
    code = (
        "import sys; from lossmith.data import load_dataset; load_dataset('spirals');"
        " assert 'sklearn' not in sys.modules; load_dataset('iris'); assert 'sklearn' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_spirals_are_those_of_the_dynamical_loss_notebook():
    # Seed 1, section 2.1, written out as the notebook has it; RandomState(0) draws what np.random.seed(0) does.
    legacy = np.random.RandomState(0)
    N, C = 100, 3
    points, labels = np.zeros((N * C, 2)), np.zeros(N * C)
    for j in range(C):
        r = np.linspace(0.0, 1, N)
        theta = np.linspace(2 * np.pi * j / C, 2 * np.pi * j / C + 4 * np.pi, N) + legacy.randn(N) * 0.2
        points[N * j : N * (j + 1)] = np.c_[r * np.cos(theta), r * np.sin(theta)]
        labels[N * j : N * (j + 1)] = j
    dataset = load_dataset("spirals")
    np.testing.assert_allclose(dataset.inputs, points, rtol=1e-14, atol=1e-15)
    np.testing.assert_array_equal(dataset.targets, labels)
    origin = (np.asarray(dataset.inputs) == 0).all(axis=1)
    assert sorted(dataset.targets[origin]) == [0, 1, 2]
    task = make_splits(dataset, DataSpec("spirals"))
    torch.testing.assert_close(task.train.inputs, torch.from_numpy(points[task.train.index]).float())
