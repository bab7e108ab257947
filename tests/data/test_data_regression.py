"""Regression: which labels are numbers to predict, how they are split and scaled, and what outliers are."""

import numpy as np
import pytest
import torch
from scipy import stats

from lossmith.data import CleanSet, Column, Dataset, DataSpec, load_dataset, make_splits

PARTS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def diabetes():
    return load_dataset("diabetes")


def spec(**asked):
    return DataSpec("diabetes", task="regression", **asked)


def made(targets, part=None):
    targets = np.asarray(targets, np.float64)
    inputs = np.arange(2.0 * len(targets)).reshape(-1, 2)
    part = None if part is None else np.asarray(part, np.int8)
    columns = (Column("a"), Column("b"))
    return Dataset("made", "made", "tabular", inputs, targets, (), part, columns, task="regression")


class TestInference:
    @pytest.mark.parametrize(
        "labels, task",
        [
            ([0.5, 1.5] * 20, "regression"),
            ([1e-3 * i for i in range(40)], "regression"),
            (list(range(40)), "regression"),
            ([0, 1] * 20, "classification"),
            (["0.0", "1.0"] * 20, "classification"),
            (["0.5", "x"] * 20, "classification"),
            (["low", "high"] * 20, "classification"),
        ],
    )
    def test_numbers_are_predicted_unless_they_look_like_classes(self, write_csv, labels, task):
        dataset = load_dataset(write_csv("t.csv", [["x", "label"], *enumerate(labels)]))
        assert dataset.task == task
        if task == "regression":
            assert dataset.targets.dtype == np.float64
            assert dataset.class_names == ()
            np.testing.assert_array_equal(dataset.targets, labels)

    @pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_arrays_of_fractions(self, tmp_path, shape, dtype):
        y = np.linspace(-1, 1, 24).astype(dtype)
        np.savez(tmp_path / "t.npz", x=np.arange(48.0).reshape(24, 2), y=y.reshape(shape))
        dataset = load_dataset(tmp_path / "t.npz")
        assert dataset.task == "regression"
        np.testing.assert_array_equal(dataset.targets, y)

    def test_images_and_texts_can_have_numbers_too(self, tmp_path, write_csv):
        y = np.linspace(0, 1, 24)
        images = np.arange(24 * 16).reshape(24, 4, 4) % 256
        np.savez(tmp_path / "t.npz", x_train=images, y_train=y, x_test=images[:6], y_test=y[:6])
        dataset = load_dataset(tmp_path / "t.npz")
        assert (dataset.kind, dataset.task, dataset.part.tolist()) == ("image", "regression", [0] * 24 + [2] * 6)
        rows = [[f"word other {i % 5}", f"{i / 7:.3f}"] for i in range(24)]
        dataset = load_dataset(write_csv("t.csv", [["text", "label"], *rows]))
        assert (dataset.kind, dataset.task) == ("text", "regression")
        splits = make_splits(dataset, DataSpec(dataset.digest, task="regression"))
        assert splits.vocabulary is not None

    def test_numbers_have_no_class_names(self, tmp_path):
        np.savez(tmp_path / "t.npz", x=np.ones((9, 2)), y=np.arange(9) / 2, class_names=np.array(["a", "b"]))
        assert load_dataset(tmp_path / "t.npz").class_names == ()

    def test_whole_numbers_are_predicted_if_asked_for(self, write_csv, tmp_path):
        path = write_csv("t.csv", [["x", "label"]] + [[i, i % 5] for i in range(40)])
        assert load_dataset(path).task == "classification"
        dataset = load_dataset(path, task="regression")
        np.testing.assert_array_equal(dataset.targets, np.arange(40) % 5)
        np.savez(tmp_path / "t.npz", x=np.ones((9, 2)), y=np.arange(9) % 3)
        assert load_dataset(tmp_path / "t.npz", task="regression").targets.tolist() == [0.0, 1.0, 2.0] * 3


class TestRefusals:
    @pytest.mark.parametrize(
        "labels, task, names",
        [
            ([i + 0.5 for i in range(12)], "classification", "'regression'"),
            (list(range(100)), "classification", "100 distinct"),
            (list(range(24)) * 3 + [99], None, "'regression'"),
            ([f"c{i // 3}" for i in range(3006)], None, "1,002 distinct"),
            ([0.5] * 39 + [""], None, "data row 40"),
            ([0.5] * 39 + ["?"], "regression", "data row 40"),
            ([0.5, 1] * 20 + ["x"], "regression", "data row 41 of 't.csv' ('x')"),
            ([0.5, 1] * 20 + ["1_000"], "regression", "'1_000'"),
            ([0.5, 1] * 20 + ["inf"], None, "data row 41"),
            ([0.5, 1] * 20 + ["1e39"], None, "too large"),
            ([0.5] * 40, None, "0.5 in all 40"),
            ([3] * 40, "regression", "3 in all 40"),
            ([0, 1] * 20, "segmentation", "masks"),
            ([0, 1] * 20, "ranking", "'ranking'"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:.*if it is a quantity")
    def test_tables(self, write_csv, refusal, labels, task, names):
        path = write_csv("t.csv", [["x", "label"], *enumerate(labels)])
        assert names in refusal(load_dataset, path, task=task)

    @pytest.mark.parametrize(
        "y, task, names",
        [
            (np.arange(12) + 0.5, "classification", "'regression'"),
            (np.where(np.arange(12) == 5, np.nan, 0.5), None, "example 5 of y"),
            (np.where(np.arange(12) == 5, np.nan, 0.5), "regression", "example 5 of y"),
            (np.where(np.arange(12) == 5, np.inf, 0.5), "regression", "example 5 of y"),
            (np.arange(12).astype("M8[s]"), "regression", "datetime64"),
            (np.where(np.arange(12) == 5, 1e39, 0.5), None, "example 5 of y"),
            (np.full(12, 0.5), None, "0.5 in all 12"),
            (np.arange(24.0).reshape(12, 2) / 7, "regression", "shape (12, 2)"),
            (np.array(["a", "b"] * 6), "regression", "'a'"),
            (np.arange(12) % 2, "segmentation", "masks"),
        ],
    )
    def test_arrays(self, tmp_path, refusal, y, task, names):
        np.savez(tmp_path / "t.npz", x=np.arange(24.0).reshape(12, 2), y=y)
        assert names in refusal(load_dataset, tmp_path / "t.npz", task=task)

    @pytest.mark.parametrize("source, task", [("iris", "regression"), ("diabetes", "classification")])
    def test_bundled_sets_have_one_task(self, refusal, source, task):
        assert task in refusal(load_dataset, source, task=task)
        assert load_dataset(source, task=load_dataset(source).task).digest == source

    @pytest.mark.parametrize(
        "asked",
        [
            {"task": "ranking"},
            {"outliers": 0.1},
            {"task": "segmentation", "outliers": 0.1},
            {"task": "regression", "outliers": 1.0},
            {"task": "regression", "outliers": -0.1},
            {"task": "regression", "outliers": float("nan")},
            {"task": "regression", "label_noise": 0.1},
            {"task": "segmentation", "label_noise": 0.1},
            {"task": "regression", "imbalance": 2.0},
            {"task": "segmentation", "imbalance": 2.0},
        ],
        ids=str,
    )
    def test_specs_ask_for_what_the_task_knows(self, refusal, asked):
        assert list(asked)[-1] in refusal(DataSpec, "made", **asked)

    @pytest.mark.parametrize("task", ["regression", "segmentation"])
    def test_a_clean_set_is_for_classification(self, refusal, task):
        assert "clean" in refusal(DataSpec, "made", task=task, clean=CleanSet(2, 4))

    def test_a_spec_of_another_task(self, refusal, diabetes):
        assert "regression" in refusal(make_splits, diabetes, DataSpec("diabetes"))

    def test_training_targets_that_do_not_vary(self, refusal):
        dataset = made([1.0] * 10 + [2.0] * 5, part=[0] * 10 + [2] * 5)
        assert "training targets" in refusal(make_splits, dataset, DataSpec("made", task="regression"))
        assert "training targets" in refusal(
            make_splits, made(np.arange(10)), DataSpec("made", task="regression", train_size=1)
        )

    def test_targets_that_scaling_makes_infinite(self, refusal):
        dataset = made([*1e-30 * np.arange(10), 1e30, 1e30], part=[0] * 10 + [2] * 2)
        assert "finite" in refusal(make_splits, dataset, DataSpec("made", task="regression"))

    @pytest.mark.parametrize("count, folds", [(2, 0), (3, 2), (4, 5)])
    def test_too_few_examples(self, refusal, count, folds):
        sentence = refusal(make_splits, made(np.arange(count)), DataSpec("made", task="regression", folds=folds))
        assert f"{count} examples" in sentence


class TestSplits:
    @pytest.mark.parametrize("seed", [0, 1, 7])
    def test_targets_are_standardised_by_the_training_part(self, diabetes, seed):
        splits = make_splits(diabetes, spec(split_seed=seed))
        train = splits.train.targets.double()
        assert splits.task == "regression"
        assert abs(float(train.mean())) < 1e-6
        assert abs(float(train.square().mean()) - 1) < 1e-6
        for part in PARTS:
            examples = getattr(splits, part)
            assert examples.targets.dtype == torch.float32
            raw = examples.targets[:, 0].double() * splits.target_std + splits.target_mean
            np.testing.assert_allclose(raw, diabetes.targets[examples.index], rtol=1e-6)

    def test_a_squared_error_of_1_is_the_variance_of_the_training_targets(self, diabetes):
        splits = make_splits(diabetes, spec())
        train = diabetes.targets[splits.train.index]
        test = diabetes.targets[splits.test.index]
        guess = float(splits.test.targets.double().square().mean())  # of predicting the training mean
        assert guess == pytest.approx(np.mean((test - train.mean()) ** 2) / train.var(), rel=1e-6)

    def test_hold_out_is_60_20_20(self, diabetes):
        splits = make_splits(diabetes, spec())
        assert [len(getattr(splits, part)) for part in PARTS] == [266, 88, 88]
        together = torch.cat([getattr(splits, part).index for part in PARTS])
        assert torch.equal(together.sort().values, torch.arange(442))
        assert not torch.equal(splits.train.index, splits.train.index.sort().values)

    @pytest.mark.parametrize("folds", [2, 3, 5])
    def test_every_row_is_tested_once_over_folds_of_equal_size(self, diabetes, folds):
        tests = [make_splits(diabetes, spec(folds=folds, fold=fold)).test.index for fold in range(folds)]
        assert torch.equal(torch.cat(tests).sort().values, torch.arange(442))
        assert np.ptp([len(test) for test in tests]) <= 1

    def test_rows_are_shuffled_whatever_their_order(self):
        # Sorted targets: the mean of 20 % of them, drawn at random, lies within 5 standard errors of that of all.
        dataset = made(np.arange(1000))
        error = np.sqrt(0.8) * dataset.targets.std() / np.sqrt(200)
        for part in ("valid", "test"):
            index = getattr(make_splits(dataset, DataSpec("made", task="regression")), part).index
            assert abs(float(index.double().mean()) - 499.5) < 5 * error

    def test_official_parts_are_kept(self):
        part = np.arange(60) % 3
        splits = make_splits(made(np.arange(60), part), DataSpec("made", task="regression"))
        for code, name in enumerate(PARTS):
            np.testing.assert_array_equal(getattr(splits, name).index.sort().values, np.flatnonzero(part == code))

    def test_a_smaller_training_set_lies_inside_a_larger_one(self, diabetes):
        parts = [make_splits(diabetes, spec(train_size=n)) for n in (20, 100)]
        assert [len(each.train) for each in parts] == [20, 100]
        assert set(parts[0].train.index.tolist()) < set(parts[1].train.index.tolist())
        assert torch.equal(parts[0].test.index, parts[1].test.index)
        assert abs(float(parts[0].train.targets.double().square().mean()) - 1) < 1e-6

    def test_there_are_no_classes(self, diabetes):
        splits = make_splits(diabetes, spec())
        assert splits.class_names == ()
        assert splits.class_counts.tolist() == []
        assert splits.ignore is None


class TestOutliers:
    @pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
    @pytest.mark.parametrize("folds", [0, 5])
    def test_exactly_the_share_of_training_and_validation_targets_is_altered(self, diabetes, share, folds):
        clean, harmed = (make_splits(diabetes, spec(folds=folds, outliers=each)) for each in (0.0, share))
        for part in PARTS:
            before, after = getattr(clean, part), getattr(harmed, part)
            assert torch.equal(before.index, after.index)
            assert torch.equal(before.inputs, after.inputs)
            altered = int((before.targets != after.targets).sum())
            assert altered == 0 if part == "test" else abs(altered - share * len(before)) <= 0.5
        assert (harmed.target_mean, harmed.target_std) == (clean.target_mean, clean.target_std)

    def test_what_is_added_is_normal_with_ten_training_deviations(self):
        dataset = made(np.random.default_rng(0).normal(50, 3, 20_000))
        clean, harmed = (
            make_splits(dataset, DataSpec("made", task="regression", outliers=each)) for each in (0.0, 0.5)
        )
        for part in ("train", "valid"):
            added = (getattr(harmed, part).targets - getattr(clean, part).targets).double().numpy()
            drawn, before = added[added != 0], getattr(clean, part).targets.numpy()[added != 0]
            assert stats.kstest(drawn, "norm", args=(0, 10)).pvalue > 1e-3
            assert stats.pearsonr(drawn, before).pvalue > 1e-3

    def test_more_outliers_keep_the_fewer_ones(self, diabetes):
        clean, few, many = (make_splits(diabetes, spec(outliers=share)).train.targets for share in (0.0, 0.1, 0.3))
        altered = few != clean
        assert torch.equal(few[altered], many[altered])

    def test_parts_folds_and_seeds_draw_anew_and_specs_alike(self):
        dataset = made(np.random.default_rng(0).normal(size=300), part=np.arange(300) % 3)

        def added(part, **asked):
            clean, harmed = (
                make_splits(dataset, DataSpec("made", task="regression", outliers=share, **asked))
                for share in (0.0, 0.2)
            )
            difference = getattr(harmed, part).targets - getattr(clean, part).targets
            return tuple(difference[:, 0].round(decimals=3).tolist())

        drawn = [added("train"), added("valid"), added("train", split_seed=1)]
        drawn += [added("train", folds=2, fold=fold) for fold in (0, 1)]
        assert len({len(each) for each in drawn}) == 2  # parts of one size, where alike draws would show
        assert len(set(drawn)) == 5
        assert added("train") == added("train")

    def test_the_data_set_is_left_as_it_is(self, diabetes):
        before = diabetes.targets.copy()
        make_splits(diabetes, spec(outliers=0.5))
        np.testing.assert_array_equal(diabetes.targets, before)


def test_a_missing_feature_is_no_missing_target(write_csv):
    rows = [["" if i == 3 else i, i / 4 + 0.1] for i in range(30)]
    dataset = load_dataset(write_csv("t.csv", [["x", "label"], *rows]))
    splits = make_splits(dataset, DataSpec(dataset.digest, task="regression"))
    assert all(getattr(splits, part).inputs.isfinite().all() for part in PARTS)


@pytest.mark.parametrize(("rows", "folds"), [(5, 0), (7, 0), (6, 5)])
def test_r2_of_a_single_row_is_refused(write_csv, refusal, rows, folds):
    dataset = load_dataset(write_csv("t.csv", [["a", "y"], *([i, i + 0.5] for i in range(rows))]), task="regression")
    spec = DataSpec(dataset.digest, task="regression", folds=folds)
    assert "R2 is undefined below 2" in refusal(make_splits, dataset, spec)


def test_two_rows_have_an_r2(write_csv):
    dataset = load_dataset(write_csv("t.csv", [["a", "y"], *([i, i + 0.5] for i in range(8))]), task="regression")
    splits = make_splits(dataset, DataSpec(dataset.digest, task="regression"))
    assert (len(splits.valid), len(splits.test)) == (2, 2)
