"""The real data sets that lie beside a developer's checkout, against their published facts."""

import numpy as np
import pytest

from lossmith.data import DataSpec, load_dataset, make_splits

pytestmark = pytest.mark.data


def splits_of(dataset, **spec):
    return make_splits(dataset, DataSpec(dataset.digest, **spec))


def sizes(task):
    return len(task.train), len(task.valid), len(task.test)


def test_fashion_mnist(unpacked):
    dataset = load_dataset(unpacked("fashion_mnist") / "fashion_mnist")
    train = np.asarray(dataset.inputs)[dataset.part == 0] / np.float32(255)
    assert train.shape == (60_000, 1, 28, 28)
    np.testing.assert_allclose([train.mean(dtype=float), train.std(dtype=float)], [0.28604, 0.35302], atol=5e-6)
    task = splits_of(dataset, train_size=10_000)
    assert sizes(task) == (10_000, 12_000, 10_000)
    assert task.class_counts.tolist() == [1000] * 10
    assert task.test.targets.bincount().tolist() == [1000] * 10


@pytest.mark.slow
def test_cifar10(unpacked):
    dataset = load_dataset(unpacked("cifar10") / "cifar10.npz")
    train = np.asarray(dataset.inputs)[dataset.part == 0]
    means = train.mean(axis=(0, 2, 3)) / 255
    np.testing.assert_allclose(means, [0.4913, 0.4821, 0.4465], atol=5e-5)
    assert dataset.class_names[0] == "airplane"
    task = splits_of(dataset)
    assert sizes(task) == (40_000, 10_000, 10_000)
    assert task.input_shape == (3, 32, 32)


@pytest.mark.slow
def test_camvid(unpacked, refusal):
    path = unpacked("camvid") / "camvid.npz"
    dataset = load_dataset(path)
    assert (dataset.task, dataset.kind) == ("segmentation", "image")
    assert dataset.class_names[0] == "Sky"
    assert dataset.class_names[-1] == "Bicyclist"
    task = splits_of(dataset, task="segmentation")
    assert sizes(task) == (367, 101, 233)
    assert task.input_shape == (3, 180, 240)
    share = task.class_counts / (367 * 180 * 240)
    published = [16.9, 23.3, 1.0, 31.5, 4.5, 9.7, 1.2, 1.1, 5.9, 0.6, 0.3]
    np.testing.assert_allclose(share * 100, published, atol=0.05)
    assert abs(float((task.train.targets == task.ignore).double().mean()) - 0.039) < 5e-4
    assert "'segmentation'" in refusal(load_dataset, path, task="classification")


def test_ag_news(unpacked):
    dataset = load_dataset(unpacked("text") / "text" / "ag_news")
    assert dataset.kind == "text"
    task = splits_of(dataset)
    assert sizes(task) == (7998, 2000, 7600)
    assert task.test.targets.bincount().tolist() == [1900] * 4
    assert task.class_counts.max() - task.class_counts.min() <= 1
    assert {"the", "reuters"} < set(task.vocabulary)


@pytest.mark.parametrize("name, classes, expected", [("sst2", 2, (6920, 872, 1821)), ("sst5", 5, (8544, 1101, 2210))])
def test_stanford_sentiment(unpacked, name, classes, expected):
    task = splits_of(load_dataset(unpacked("text") / "text" / f"{name}_dev.csv.gz"))
    assert (task.kind, len(task.class_names), sizes(task)) == ("text", classes, expected)


@pytest.mark.parametrize(
    "name, shape, counts",
    [
        ("wine.csv.gz", (178, 13), [59, 71, 48]),
        ("ionosphere.csv.gz", (351, 34), [126, 225]),
        ("madelon", (2600, 500), [1300, 1300]),
        ("spect", (267, 22), [55, 212]),
        ("spectf_test.csv.gz", (267, 44), [55, 212]),
    ],
)
def test_tables(unpacked, name, shape, counts):
    dataset = load_dataset(unpacked("tabular") / "tabular" / name)
    assert dataset.kind == "tabular"
    assert np.shape(dataset.inputs) == shape
    assert np.bincount(dataset.targets).tolist() == counts
    assert splits_of(dataset).train.inputs.isfinite().all()


def test_ionospheres_constant_column_is_zero(unpacked):
    task = splits_of(load_dataset(unpacked("tabular") / "tabular" / "ionosphere.csv.gz"), folds=5, fold=3)
    for examples in (task.train, task.valid, task.test):
        assert (examples.inputs[:, 1] == 0).all()
    assert sizes(task) == (225, 56, 70)


def test_official_parts_of_the_tables(unpacked):
    folder = unpacked("tabular") / "tabular"
    assert sizes(splits_of(load_dataset(folder / "spect"))) == (64, 16, 187)
    assert sizes(splits_of(load_dataset(folder / "madelon_train.csv.gz"))) == (1600, 600, 400)


@pytest.mark.parametrize(
    "name, rows, bounds", [("diabetes", 442, (25, 346)), ("california_housing", 20640, (14999, 500001))]
)
def test_regressions(unpacked, refusal, name, rows, bounds):
    path = unpacked("tabular") / "tabular" / f"{name}.csv.gz"
    dataset = load_dataset(path, task="regression")
    assert len(dataset) == rows
    assert (dataset.targets.min(), dataset.targets.max()) == bounds
    assert "'regression'" in refusal(load_dataset, path, task="classification")


def test_a_label_of_thousands_of_numbers_is_a_regression_unasked(unpacked):
    path = unpacked("tabular") / "tabular" / "california_housing.csv.gz"
    assert load_dataset(path).task == "regression"


def test_diabetes_from_a_file_is_the_bundled_diabetes(unpacked):
    ours = load_dataset(unpacked("tabular") / "tabular" / "diabetes.csv.gz", task="regression")
    bundled = load_dataset("diabetes")
    np.testing.assert_allclose(ours.inputs, bundled.inputs, rtol=1e-4)
    np.testing.assert_array_equal(ours.targets, bundled.targets)


def test_wine_from_a_file_is_the_bundled_wine(unpacked):
    ours = load_dataset(unpacked("tabular") / "tabular" / "wine.csv.gz")
    bundled = load_dataset("wine")
    np.testing.assert_allclose(ours.inputs, bundled.inputs)
    np.testing.assert_array_equal(ours.targets, bundled.targets)
    one, two = splits_of(ours), splits_of(bundled)
    np.testing.assert_allclose(one.test.inputs, two.test.inputs, atol=1e-5)
