"""Data in memory are read as the same data in a file would be; the oracle is the reader of CSV files."""

from __future__ import annotations

import random
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset

from lossmith.data import DataError, load_dataset
from lossmith.data import Dataset as Read
from lossmith.data.in_memory import store

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")


def read(data: object, folder: Path, **given: Any) -> Read:
    stored = store(data, folder / "in_memory", **given)
    return load_dataset(stored.source, stored.label, stored.task)


def assert_equal(one: Read, other: Read) -> None:
    """The same examples, whatever the data sets are called."""
    assert (one.kind, one.task, one.class_names) == (other.kind, other.task, other.class_names)
    assert [column.name for column in one.columns] == [column.name for column in other.columns]
    np.testing.assert_array_equal(np.asarray(one.inputs), np.asarray(other.inputs))
    np.testing.assert_array_equal(one.targets, other.targets)
    if one.part is None or other.part is None:
        assert one.part is other.part
    else:
        np.testing.assert_array_equal(one.part, other.part)


@pytest.fixture
def frame() -> Any:
    """A frame with columns of nearly every type that pandas has."""
    draw, n = np.random.default_rng(0), 90
    dates = pd.Series(pd.date_range("2024-01-01", periods=3).to_numpy()[draw.integers(0, 3, n)])
    found = pd.DataFrame({
        "number": draw.normal(size=n),
        "gaps": np.where(draw.random(n) < 0.2, np.nan, draw.normal(size=n)),
        "whole": draw.integers(-5, 5, n),
        "nullable": pd.array([None if draw.random() < 0.3 else int(v) for v in draw.integers(0, 9, n)], "Int64"),
        "category": pd.Categorical(draw.choice(["red", "green", "blue"], n)),
        "ordered": pd.Categorical(draw.choice(["s", "m", "l"], n), ["s", "m", "l"], ordered=True),
        "levels": pd.Categorical(draw.choice([10, 20, 30], n)),
        "flag": draw.random(n) > 0.5,
        "maybe": pd.array([None if draw.random() < 0.3 else bool(v) for v in draw.integers(0, 2, n)], "boolean"),
        "words": draw.choice(np.array(["a", "b", "", None], object), n),
        "mixed": draw.choice(np.array([1, 2.5, "x", True], object), n),
        "date": dates,
        "zone": dates.dt.tz_localize("UTC"),
        "binned": pd.cut(pd.Series(draw.normal(size=n)), 3),
        "month": pd.PeriodIndex(draw.choice(["2024-01", "2024-02"], n), freq="M"),
        "sparse": pd.arrays.SparseArray(draw.integers(0, 2, n)),
        3: draw.normal(size=n),
    })
    found["out"] = draw.choice(["yes", "no", "perhaps"], n)
    return found


def test_every_column_is_read_as_from_csv(frame: Any, tmp_path: Path) -> None:
    frame.to_csv(tmp_path / "frame.csv", index=False)
    assert_equal(read(frame, tmp_path, label="out"), load_dataset(tmp_path / "frame.csv", "out"))


@pytest.mark.parametrize("label", ["flag", "category", "whole", "number", 3])
def test_labels_of_any_type_are_read_as_from_csv(frame: Any, label: Any, tmp_path: Path) -> None:
    frame.to_csv(tmp_path / "frame.csv", index=False)
    assert_equal(read(frame, tmp_path, label=label), load_dataset(tmp_path / "frame.csv", str(label)))


def test_a_label_of_a_categorical_type_is_a_class(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.arange(40.0), "y": np.tile([1.5, 2.5], 20)})
    assert read(frame, tmp_path, label="y").task == "regression"
    assert read(frame.astype({"y": "category"}), tmp_path, label="y").task == "classification"


def test_small_floats_are_read(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.arange(12, dtype=np.float16) / 4, "y": ["a", "b"] * 6})
    np.testing.assert_array_equal(np.asarray(read(frame, tmp_path).inputs)[:, 0], np.arange(12) / 4)


def test_equal_data_have_one_file_named_by_its_content(frame: Any, tmp_path: Path) -> None:
    first, again = (store(frame, tmp_path, label="out") for _ in range(2))
    assert first.source == again.source
    assert re.fullmatch(r"dataframe-[0-9a-f]{8}\.parquet", Path(first.source).name)
    assert (len(first.written), len(again.written)) == (1, 0)
    shuffled = store(frame.sample(frac=1, random_state=0), tmp_path)
    assert shuffled.source != first.source
    named = store(frame, tmp_path, name="my patients/2024_train")
    assert Path(named.source).name.startswith("my-patients-2024_train-")
    assert load_dataset(named.source, "out").part is None
    assert not list(tmp_path.glob("*.part"))


def test_an_index_that_holds_something_is_noted(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.arange(20.0), "y": ["a", "b"] * 10})
    assert store(frame, tmp_path).notes == ()
    assert store(frame[frame.x > 4].sample(frac=1, random_state=0), tmp_path).notes == ()
    assert "'who'" in store(frame.rename_axis("who"), tmp_path).notes[0]
    assert "reset_index()" in store(frame.set_index(frame.y + frame.index.astype(str)), tmp_path).notes[0]
    assert "who" not in [column.name for column in read(frame.rename_axis("who"), tmp_path).columns]


REFUSED = {
    "no rows": (lambda f: f[:0], {}, "the DataFrame holds no examples"),
    "wrong label": (lambda f: f, {"label": "outt"}, "did you mean 'out'?"),
    "label in the index": (lambda f: f.rename_axis("who"), {"label": "who"}, "reset_index()"),
    "one name twice": (lambda f: pd.concat([f, f["flag"]], axis=1), {}, "several columns named 'flag'"),
    "names that print alike": (lambda f: f.assign(**{"3": 1}), {}, "several columns named '3'"),
    "two levels": (lambda f: pd.concat({"a": f}, axis=1), {}, "2 levels"),
    "objects": (lambda f: f.assign(o=[object()] * len(f)), {}, "the column 'o' of the DataFrame holds objects of type"),
    "a loader": (lambda f: torch.utils.data.DataLoader(TensorDataset(torch.ones(2))), {}, "loader.dataset"),
    "a set": (lambda f: {1, 2}, {}, "data is of type set"),
    "one array": (lambda f: np.ones((3, 2)), {}, "data is of type ndarray"),
    "four arrays": (lambda f: (np.ones(3),) * 4, {}, "data is of type tuple of 4"),
    "columns in a dict": (lambda f: {"a": [1], "b": [2]}, {}, "pandas.DataFrame(data)"),
    "labels missing": (lambda f: {"x_train": np.ones((3, 2))}, {}, "has x_train but no y_train"),
    "a label of arrays": (lambda f: (np.ones((4, 2)), [0, 1, 0, 1]), {"label": "out"}, "leave it out"),
    "ragged": (lambda f: ([[1, 2], [3]], [0, 1]), {}, "differ in shape"),
    "mixed arrays": (lambda f: (np.array([[1, "a"]], object), [0]), {}, "objects of type str"),
    "one text": (lambda f: ("some text", [0]), {}, "a sequence of texts"),
    "lengths": (lambda f: (f[["number"]], f["out"][:5]), {}, "X has 90 examples but y has 5"),
    "no length": (lambda f: Endless(), {}, "map-style"),
    "items alone": (lambda f: TensorDataset(torch.ones(5, 2)), {}, "pairs of an input and a label"),
    "sizes": (lambda f: Sizes(), {}, "differ in shape ((2,) at 0, (3,) at 1)"),
}


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield from ()


class Sizes(Dataset[Any]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        return torch.ones(2 + place % 2), place % 2


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_in_a_sentence(case: str, frame: Any, tmp_path: Path) -> None:
    make, given, words = REFUSED[case]
    with pytest.raises(DataError, match=re.escape(words)) as refused:
        store(make(frame), tmp_path / "in_memory", **given)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.rglob("*.*"))


def test_inputs_and_labels_apart_are_a_table_too(frame: Any, tmp_path: Path) -> None:
    whole = read(frame, tmp_path, label="out")
    x, y = frame.drop(columns="out"), frame["out"]
    for labels in (y, y.set_axis(range(7, 97)), y.to_frame()):
        assert_equal(read((x, labels), tmp_path), whole)
    bare = read((x, y.tolist()), tmp_path)
    np.testing.assert_array_equal(bare.targets, whole.targets)


def test_parts_are_an_official_split(frame: Any, tmp_path: Path) -> None:
    for name, rows in (("train", slice(0, 60)), ("valid", slice(60, 75)), ("test", slice(75, 90))):
        frame[rows].to_csv(tmp_path / f"set_{name}.csv", index=False)
    wanted = load_dataset(tmp_path / "set", "out")
    parts = frame[:60], frame[60:75], frame[75:]
    assert_equal(read(parts, tmp_path, label="out"), wanted)
    assert_equal(read(dict(zip(("train", "val", "test"), parts, strict=True)), tmp_path, label="out"), wanted)


def test_arrays_are_read_as_from_npz(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(40, 3)), draw.integers(0, 3, 40)
    np.savez(tmp_path / "plain.npz", x=x, y=y)
    wanted = load_dataset(tmp_path / "plain.npz")
    requiring = torch.tensor(x, requires_grad=True)
    for data in ((x, y), [x, y], (requiring, torch.tensor(y)), {"X": x, "y": y[:, None]}, (x.tolist(), y.tolist())):
        assert_equal(read(data, tmp_path), wanted)
    np.savez(tmp_path / "split.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    keras = (x[:30], y[:30]), (x[30:], y[30:])
    named = {"x_train": x[:30], "y_train": y[:30], "x_test": x[30:], "y_test": y[30:]}
    for split in (keras, named):
        assert_equal(read(split, tmp_path), load_dataset(tmp_path / "split.npz"))


def test_labels_may_be_words(tmp_path: Path) -> None:
    x, y = np.arange(8.0)[:, None], ["a", "b"] * 4
    for labels in (y, np.array(y), np.array(y, object), pd.Series(y, dtype="category")):
        assert read((x, labels), tmp_path).class_names == ("a", "b")


def test_a_bunch_of_scikit_learn(tmp_path: Path) -> None:
    for as_frame in (False, True):
        found = read(load_iris(as_frame=as_frame), tmp_path)
        np.testing.assert_array_equal(found.targets, load_iris().target)
        np.testing.assert_array_equal(np.asarray(found.inputs), load_iris().data)


def test_texts_of_any_length_are_one_column(tmp_path: Path) -> None:
    texts = ["good, really\r\ngood", "bad", 'a "quoted" one', "x" * 5000, "", None] * 4
    for data in (texts, np.array(texts, object), pd.Series(texts)):
        found = read((data, [0, 1] * 12), tmp_path)
        assert found.kind == "text"
        assert found.inputs == [text or "" for text in texts]


@pytest.mark.parametrize("side", [1, 3, 4, 6])
def test_tensors_of_images_have_their_channels_first(side: int, tmp_path: Path) -> None:
    x = torch.arange(10 * 3 * 5 * side).reshape(10, 3, 5, side) % 256
    y = torch.arange(10) % 2
    for data in ((x, y), TensorDataset(x, y)):
        np.testing.assert_array_equal(read(data, tmp_path).inputs, x.numpy())


def test_masks_make_a_segmentation(tmp_path: Path) -> None:
    x, y = torch.rand(6, 3, 5, 7), torch.arange(6 * 5 * 7).reshape(6, 5, 7) % 3
    for data in ((x, y), TensorDataset(x, y)):
        found = read(data, tmp_path)
        assert found.task == "segmentation"
        np.testing.assert_array_equal(found.targets, y)


class Pictures(Dataset[Any]):
    """As those of torchvision: images of Pillow and class numbers."""

    classes = ("cat", "dog")

    def __len__(self) -> int:
        return 6

    def __getitem__(self, place: int) -> tuple[Any, int]:
        image = pytest.importorskip("PIL.Image")
        return image.fromarray(np.full((4, 5, 3), 10 * place, np.uint8)), place % 2


def test_datasets_are_read_item_by_item(tmp_path: Path) -> None:
    whole = read(Pictures(), tmp_path)
    assert (whole.name[:9], whole.class_names, whole.inputs.shape) == ("pictures-", ("cat", "dog"), (6, 3, 4, 5))
    parts = Subset(Pictures(), [0, 1, 2, 3]), Subset(Pictures(), [4, 5])
    split = read(parts, tmp_path)
    assert split.part is not None
    assert split.part.tolist() == [0, 0, 0, 0, 2, 2]
    np.testing.assert_array_equal(split.inputs, whole.inputs)
    assert read(ConcatDataset(parts), tmp_path).targets.tolist() == whole.targets.tolist()


class Augmenting(Dataset[Any]):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        return torch.randn(3) + random.random(), place % 2


def test_a_dataset_that_changes_is_noted(tmp_path: Path) -> None:
    assert "differ from read to read" in store(Augmenting(), tmp_path).notes[0]
    assert store(Pictures(), tmp_path).notes == ()


def test_nan_is_no_change(tmp_path: Path) -> None:
    assert store(TensorDataset(torch.full((6, 2), torch.nan), torch.arange(6) % 2), tmp_path).notes == ()


def test_nothing_is_warned_of(frame: Any, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store(frame, tmp_path)


def test_labels_in_another_order_than_their_inputs_are_refused(tmp_path: Path) -> None:
    x = pd.DataFrame({"a": np.arange(20.0)}, index=range(100, 120))
    y = pd.Series(["low"] * 10 + ["high"] * 10, index=x.index)
    mixed = y.sample(frac=1, random_state=0)
    for labels in (mixed, mixed.to_frame("out")):
        with pytest.raises(DataError, match=re.escape("y = y.loc[X.index]")) as refused:
            store((x, labels), tmp_path)
        assert "\n" not in str(refused.value)
    fixed = read((x, mixed.loc[x.index]), tmp_path)
    assert np.asarray(fixed.inputs)[:, 0].tolist() == x.a.tolist()
    names = np.array(fixed.class_names)
    assert names[fixed.targets].tolist() == y.tolist()


def test_labels_of_another_index_match_by_position_with_a_note(tmp_path: Path) -> None:
    x, y = pd.DataFrame({"a": np.arange(20.0)}), pd.Series(["low"] * 10 + ["high"] * 10)
    assert store((x, y), tmp_path).notes == ()
    assert store((x, y.to_numpy()), tmp_path).notes == ()
    (note,) = store((x, y.set_axis(range(50, 70))), tmp_path).notes
    assert "row i of y" in note
    (note,) = store(((x, y), (x, y.set_axis(range(50, 70)))), tmp_path).notes
    assert "row i of y" in note


@pytest.mark.parametrize("label", ["out", None])
def test_parts_match_by_the_names_of_their_columns(label: str | None, frame: Any, tmp_path: Path) -> None:
    frame = frame.rename(columns={"out": label or "target"})
    train, test = frame[:60], frame[60:]
    wanted = read((train, test), tmp_path, label=label)
    assert_equal(read((train, test[test.columns[::-1]]), tmp_path, label=label), wanted)
    valid = test[:15][test.columns[::-1]]
    parts = read((train, valid, test[15:]), tmp_path, label=label).part
    assert parts is not None
    assert np.bincount(parts).tolist() == [60, 15, 15]


def test_parts_that_differ_in_a_column_name_it(frame: Any, tmp_path: Path) -> None:
    for train, test in ((frame[:60], frame[60:].drop(columns="gaps")), (frame[:60].drop(columns="gaps"), frame[60:])):
        with pytest.raises(DataError, match="has no column 'gaps', as ") as refused:
            read((train, test), tmp_path, label="out")
        assert "\n" not in str(refused.value)


def test_a_part_of_two_columns_is_known_by_its_label(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(20.0), "out": ["u", "v"] * 10})
    with pytest.raises(DataError, match="has no column 'a', as "):
        read((frame, frame[["out"]]), tmp_path, label="out")
    with pytest.raises(DataError, match=re.escape("y['p']")):
        read((frame[["a"]], frame.assign(p=1, q=2)[["p", "q"]]), tmp_path)
