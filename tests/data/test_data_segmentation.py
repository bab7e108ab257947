"""Segmentation: masks as files hold them, and as a training consumes them."""

import numpy as np
import pytest
import torch

from lossmith.data import DataSpec, load_dataset, make_splits

PARTS = ("train", "valid", "test")
N, H, W = 20, 6, 5
RNG = np.random.default_rng(0)
MASKS = RNG.integers(0, 3, (N, H, W))
MASKS[:, 0, 0] = 255
# The blue channel of each image shows its mask, the red one its row.
IMAGES = np.stack([np.broadcast_to(np.arange(N)[:, None, None], MASKS.shape), 0 * MASKS, MASKS], axis=-1).astype(
    np.uint8
)


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


def read(tmp_path, **arrays):
    return load_dataset(saved(tmp_path / "t.npz", **arrays))


def splits_of(dataset, **asked):
    return make_splits(dataset, DataSpec(dataset.digest, task="segmentation", **asked))


class TestReading:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64])
    @pytest.mark.parametrize("channel", [False, True])
    def test_masks_of_any_integers_are_a_segmentation(self, tmp_path, dtype, channel):
        masks = MASKS.astype(dtype)
        dataset = read(tmp_path, x=IMAGES, y=masks[..., None] if channel else masks)
        assert (dataset.task, dataset.kind, dataset.class_names) == ("segmentation", "image", ("0", "1", "2"))
        assert dataset.targets.dtype == np.uint8
        np.testing.assert_array_equal(dataset.targets, MASKS)

    @pytest.mark.parametrize(
        "images", [IMAGES[..., 2], IMAGES.transpose(0, 3, 1, 2), IMAGES / 255], ids=["2d", "first", "float"]
    )
    def test_images_of_any_layout_have_masks(self, tmp_path, images):
        dataset = read(tmp_path, x=images, y=MASKS)
        assert dataset.inputs.shape[2:] == dataset.targets.shape[1:] == (H, W)

    def test_truth_values_are_two_classes(self, tmp_path):
        dataset = read(tmp_path, x=IMAGES, y=MASKS == 1)
        assert dataset.class_names == ("0", "1")
        np.testing.assert_array_equal(dataset.targets, MASKS == 1)

    @pytest.mark.parametrize("ignore", [-1, -100, 3, 11, 254, 255, 1000])
    def test_the_ignored_value_of_the_file_becomes_255(self, tmp_path, ignore):
        dataset = read(tmp_path, x=IMAGES, y=np.where(MASKS == 255, ignore, MASKS), ignore_index=ignore)
        np.testing.assert_array_equal(dataset.targets, MASKS)
        assert dataset.class_names == ("0", "1", "2")

    def test_255_is_ignored_beside_the_value_of_the_file(self, tmp_path):
        dataset = read(tmp_path, x=IMAGES, y=np.where(MASKS == 2, 11, MASKS), ignore_index=11)
        np.testing.assert_array_equal(dataset.targets, np.where(MASKS == 2, 255, MASKS))

    @pytest.mark.parametrize("names", [["sky", "road", "car"], ["sky", "road", "car", "void"]])
    def test_names_are_by_index_and_a_last_one_of_the_ignored_value_is_left_out(self, tmp_path, names):
        masks = np.where(MASKS == 255, 3, MASKS)
        dataset = read(tmp_path, x=IMAGES, y=masks, class_names=np.array(names), ignore_index=np.array([3]))
        assert dataset.class_names == ("sky", "road", "car")

    def test_a_named_class_need_not_occur(self, tmp_path):
        dataset = read(tmp_path, x=IMAGES, y=MASKS, class_names=np.array(["a", "b", "c", "never"]))
        assert splits_of(dataset).class_counts[3] == 0

    def test_official_parts_in_one_file_and_in_three(self, tmp_path):
        arrays = {"x_train": IMAGES[:10], "x_val": IMAGES[10:14], "x_test": IMAGES[14:]}
        arrays |= {"y_train": MASKS[:10], "y_val": MASKS[10:14], "y_test": MASKS[14:]}
        one = read(tmp_path, **arrays)
        for part, name in (("train", "train"), ("val", "val"), ("test", "test")):
            ignored = {"train": 255, "val": -1, "test": 9}[part]  # each file says what it ignores
            y = np.where(arrays[f"y_{name}"] == 255, ignored, arrays[f"y_{name}"])
            saved(tmp_path / f"s_{part}.npz", x=arrays[f"x_{name}"], y=y, ignore_index=ignored)
        three = load_dataset(tmp_path / "s")
        for dataset in (one, three):
            np.testing.assert_array_equal(dataset.targets, MASKS)
            np.testing.assert_array_equal(dataset.part, [0] * 10 + [1] * 4 + [2] * 6)

    @pytest.mark.parametrize(
        "arrays, task, names",
        [
            ({}, "classification", "'segmentation'"),
            ({}, "regression", "'segmentation'"),
            ({"y": MASKS / 2}, None, "integers"),
            ({"y": np.zeros_like(MASKS)}, None, "single class, 0"),
            ({"y": np.where(MASKS == 1, 255, 0)}, None, "single class, 0"),
            ({"y": np.where(MASKS == 1, -1, 0)}, None, "class -1"),
            ({"y": np.where(MASKS == 1, 256, 0)}, None, "class 256"),
            ({"y": np.where(np.arange(N)[:, None, None] == 7, 255, MASKS)}, None, "image 7"),
            ({"y": np.where(np.arange(N)[:, None, None] == 7, 255, MASKS), "ignore_index": 11}, None, "image 7"),
            ({"y": MASKS[:, :-1]}, None, "height and width"),
            ({"y": np.eye(3, dtype=int)[MASKS % 3]}, None, "one-hot"),
            ({"x": np.ones((N, 5))}, None, "shape (20, 6, 5)"),
            ({"class_names": np.array(["a", "b"])}, None, "classes up to 2"),
            ({"class_names": np.array([["a", "b", "c"]])}, None, "class_names"),
            ({"ignore_index": np.array([1, 2])}, None, "ignore_index"),
            ({"ignore_index": np.array("void")}, None, "ignore_index"),
        ],
    )
    def test_what_is_no_mask_is_refused(self, tmp_path, refusal, arrays, task, names):
        path = saved(tmp_path / "t.npz", **({"x": IMAGES, "y": MASKS} | arrays))
        assert names in refusal(load_dataset, path, task=task)

    def test_what_has_no_masks_is_refused(self, tmp_path, refusal):
        path = saved(tmp_path / "t.npz", x_train=IMAGES, y_train=MASKS, x_test=IMAGES, y_test=np.arange(N))
        assert "do not match" in refusal(load_dataset, path)
        assert "masks" in refusal(load_dataset, saved(path, x=IMAGES, y=np.arange(N) % 2), task="segmentation")


class TestSplits:
    @pytest.fixture
    def dataset(self, tmp_path):
        return read(tmp_path, x=IMAGES, y=MASKS)

    @pytest.mark.parametrize("asked", [{}, {"split_seed": 5}, {"folds": 4, "fold": 1}, {"train_size": 2}], ids=str)
    def test_every_image_keeps_its_mask(self, dataset, asked):
        splits = splits_of(dataset, **asked)
        assert (splits.task, splits.ignore, splits.input_shape) == ("segmentation", -100, (3, H, W))
        assert (splits.target_mean, splits.target_std) == (None, None)
        for part in PARTS:
            examples = getattr(splits, part)
            truth = np.where(MASKS == 255, -100, MASKS)[examples.index]
            assert examples.targets.dtype == torch.int16
            np.testing.assert_array_equal(examples.targets, truth)
            inputs, targets = examples.batch(torch.tensor([1, 0]))
            assert targets.dtype == torch.int64
            np.testing.assert_array_equal(targets, truth[[1, 0]])
            assert torch.equal(inputs, examples.inputs[[1, 0]])
            # Scaling keeps the order of the blue channel's values, which are those of the mask.
            blue = examples.inputs[:, 2]
            assert torch.equal(
                blue[:, None, 1:].argsort(stable=True), examples.targets[:, None, 1:].argsort(stable=True)
            )

    def test_parts_are_20_percent_of_the_images_and_cover_them(self, dataset):
        splits = splits_of(dataset)
        assert [len(getattr(splits, part)) for part in PARTS] == [12, 4, 4]
        together = torch.cat([getattr(splits, part).index for part in PARTS])
        assert torch.equal(together.sort().values, torch.arange(N))

    def test_images_are_scaled_by_the_training_images(self, dataset):
        train = splits_of(dataset).train.inputs.double()
        torch.testing.assert_close(train[:, 2].mean(), torch.tensor(0.0).double(), atol=1e-6, rtol=0)
        torch.testing.assert_close(train[:, 2].std(correction=0), torch.tensor(1.0).double(), atol=1e-6, rtol=0)
        assert (train[:, 1] == 0).all()

    def test_class_counts_are_those_of_the_training_pixels(self, dataset):
        splits = splits_of(dataset)
        masks = MASKS[splits.train.index]
        assert splits.class_counts.tolist() == [int((masks == code).sum()) for code in range(3)]
        assert int(splits.class_counts.sum()) == len(splits.train) * (H * W - 1)

    def test_a_class_may_be_in_the_test_part_alone(self, tmp_path):
        rare = MASKS.copy()
        rare[-1, 3, 3] = 4
        dataset = read(tmp_path, x_train=IMAGES[:-4], y_train=MASKS[:-4], x_test=IMAGES[-4:], y_test=rare[-4:])
        splits = splits_of(dataset)
        assert splits.class_names == ("0", "1", "2", "3", "4")
        assert splits.class_counts[3:].tolist() == [0, 0]

    def test_too_few_images(self, tmp_path, refusal):
        dataset = read(tmp_path, x=IMAGES[:2], y=MASKS[:2])
        assert "2 examples" in refusal(splits_of, dataset)
