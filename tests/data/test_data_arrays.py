"""Keras-style .npz and MNIST-style idx."""

import gzip
import struct

import numpy as np
import pytest

from lossmith.data import DataSpec, load_dataset, make_splits

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 5, 4), dtype=np.uint8)
LABELS = np.arange(12) % 3


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def write_idx(folder, split, images, labels, dot="-", packed=False):
    folder.mkdir(exist_ok=True)
    for what, array in (("images", images), ("labels", labels)):
        content = (
            struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
        )
        name = f"{split}-{what}{dot}idx{array.ndim}-ubyte" + (".gz" if packed else "")
        (folder / name).write_bytes(gzip.compress(content) if packed else content)
    return folder


class TestNpz:
    @pytest.mark.parametrize("compress", [np.savez, np.savez_compressed])
    def test_keras_arrays_with_official_parts(self, tmp_path, compress):
        path = tmp_path / "toy.npz"
        arrays = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:6], "y_test": LABELS[:6]}
        compress(path, **arrays, x_val=IMAGES[6:], y_val=LABELS[6:].reshape(-1, 1))
        dataset = load_dataset(path)
        assert (dataset.name, dataset.kind, dataset.class_names) == ("toy", "image", ("0", "1", "2"))
        assert dataset.inputs.dtype == np.uint8
        np.testing.assert_array_equal(dataset.inputs[:12, 0], IMAGES)
        np.testing.assert_array_equal(dataset.part, [0] * 12 + [1] * 6 + [2] * 6)
        np.testing.assert_array_equal(dataset.targets, [*LABELS, *LABELS[6:], *LABELS[:6]])

    @pytest.mark.parametrize("x, y", [("x", "y"), ("X", "y"), ("X", "Y"), ("x_train", "y_train")])
    def test_arrays_without_parts(self, tmp_path, x, y):
        dataset = load_dataset(save(tmp_path / "t.npz", **{x: IMAGES, y: LABELS}))
        assert dataset.part is None
        assert make_splits(dataset, DataSpec(dataset.digest)).input_shape == (1, 5, 4)

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_channels_are_found_last_or_first(self, tmp_path, channels):
        first = np.random.default_rng(1).integers(0, 256, (12, channels, 8, 6), dtype=np.uint8)
        one = load_dataset(save(tmp_path / "first.npz", x=first, y=LABELS))
        two = load_dataset(save(tmp_path / "last.npz", x=first.transpose(0, 2, 3, 1), y=LABELS))
        np.testing.assert_array_equal(one.inputs, first)
        np.testing.assert_array_equal(two.inputs, first)

    def test_where_both_could_be_channels_they_are_last(self, tmp_path):
        images = np.arange(12 * 3 * 5 * 3).reshape(12, 3, 5, 3) % 255
        dataset = load_dataset(save(tmp_path / "t.npz", x=images, y=LABELS))
        np.testing.assert_array_equal(dataset.inputs, images.transpose(0, 3, 1, 2))

    @pytest.mark.parametrize(
        "images, dtype",
        [
            (IMAGES.astype(np.int64), np.uint8),
            (IMAGES > 100, np.uint8),
            (IMAGES.astype(np.uint16) * 100, np.float32),
            (IMAGES / 255, np.float32),
            (IMAGES.astype(np.float16), np.float32),
        ],
    )
    def test_pixels_become_bytes_where_they_are_and_floats_else(self, tmp_path, images, dtype):
        dataset = load_dataset(save(tmp_path / "t.npz", x=images, y=LABELS))
        assert dataset.inputs.dtype == dtype
        np.testing.assert_allclose(dataset.inputs[:, 0], images, rtol=1e-6)

    def test_two_dimensions_are_a_table_with_missing_numbers(self, tmp_path):
        table = np.arange(24.0).reshape(12, 2)
        table[3, 1] = np.nan
        dataset = load_dataset(save(tmp_path / "t.npz", x=table, y=LABELS))
        assert dataset.kind == "tabular"
        np.testing.assert_array_equal(dataset.inputs, table)
        assert make_splits(dataset, DataSpec(dataset.digest)).train.inputs.isfinite().all()

    @pytest.mark.parametrize("dtype", ["U", "S"])
    def test_one_dimension_of_texts_is_text(self, tmp_path, dtype):
        said = np.array(["good film", "bad film", "so so"] * 4, dtype)
        dataset = load_dataset(save(tmp_path / "t.npz", x=said, y=LABELS))
        assert dataset.kind == "text"
        assert dataset.inputs == ["good film", "bad film", "so so"] * 4

    @pytest.mark.parametrize(
        "labels, names",
        [
            (LABELS.astype(np.float32), ("0", "1", "2")),
            (LABELS * 10 - 5, ("-5", "5", "15")),
            (LABELS > 0, ("0", "1")),
            (np.array(["b", "a", "c"] * 4), ("a", "b", "c")),
            (np.array([b"10", b"9", b"8"] * 4), ("8", "9", "10")),
        ],
    )
    def test_labels_of_any_plain_type(self, tmp_path, labels, names):
        assert load_dataset(save(tmp_path / "t.npz", x=IMAGES, y=labels)).class_names == names

    def test_class_names_are_looked_up_by_label(self, tmp_path):
        names = np.array(["cat", "dog", "bird", "cow"])
        dataset = load_dataset(save(tmp_path / "t.npz", x=IMAGES, y=LABELS + 1, class_names=names))
        assert dataset.class_names == ("dog", "bird", "cow")

    def test_files_of_one_set_hold_x_and_y_each(self, tmp_path):
        save(tmp_path / "s_train.npz", x=IMAGES, y=LABELS)
        save(tmp_path / "s_test.npz", x=IMAGES[:6], y=LABELS[:6])
        dataset = load_dataset(tmp_path / "s")
        np.testing.assert_array_equal(dataset.part, [0] * 12 + [2] * 6)


class TestIdx:
    @pytest.mark.parametrize("dot", ["-", "."])
    @pytest.mark.parametrize("packed", [False, True])
    def test_mnist_files_are_read_back(self, tmp_path, dot, packed):
        folder = write_idx(tmp_path / "toy", "train", IMAGES, LABELS + 1, dot, packed)
        write_idx(folder, "t10k", IMAGES[:6], LABELS[:6] + 1, dot, packed)
        for source in (folder, next(folder.iterdir())):
            dataset = load_dataset(source)
            assert (dataset.name, dataset.kind, dataset.class_names) == ("toy", "image", ("1", "2", "3"))
            assert dataset.inputs.shape == (18, 1, 5, 4)
            np.testing.assert_array_equal(dataset.inputs[:12, 0], IMAGES)
            np.testing.assert_array_equal(dataset.targets, [*LABELS, *LABELS[:6]])
            np.testing.assert_array_equal(dataset.part, [0] * 12 + [2] * 6)

    def test_training_files_alone_have_no_official_split(self, tmp_path):
        dataset = load_dataset(write_idx(tmp_path / "toy", "train", IMAGES, LABELS))
        assert dataset.part is None
        assert len(dataset) == 12

    def test_labels_are_numbers_to_predict_if_asked_for(self, tmp_path):
        dataset = load_dataset(write_idx(tmp_path / "toy", "train", IMAGES, LABELS), task="regression")
        assert (dataset.kind, dataset.task, dataset.class_names) == ("image", "regression", ())
        np.testing.assert_array_equal(dataset.targets, LABELS)
        splits = make_splits(dataset, DataSpec(dataset.digest, task="regression"))
        assert abs(float(splits.train.targets.mean())) < 1e-6
