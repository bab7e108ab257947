"""Whatever a file holds, reading it ends in a task or in one sentence."""

import csv
import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lossmith.data import DataError, DataSpec, load_dataset, make_splits

SETTINGS = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

CELL = st.one_of(
    st.sampled_from(["", "0", "1", "2", "nan", "NA", "?", "inf", "1e39", "-1.5", "1_0", "red", "two words", '"', "\n"]),
    st.floats().map(str),
    st.integers().map(str),
    st.text(max_size=6),
)


def read(path, **spec):
    """Read and build; anything but a task or a DataError fails the test."""
    try:
        dataset = load_dataset(path)
        task = make_splits(dataset, DataSpec(dataset.digest, task=dataset.task, **spec))
    except DataError as error:
        sentence, task = str(error), None
    if task is None:
        assert "\n" not in sentence
        return
    assert len(task.train) > 0
    assert task.train.inputs.isfinite().all()
    if task.task == "classification":
        assert task.class_counts.min() > 0
    else:
        assert task.train.targets.isfinite().all()


@SETTINGS
@given(content=st.binary(max_size=400))
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.npz"])
def test_random_bytes(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    read(path)


@SETTINGS
@given(text=st.text(alphabet=st.sampled_from('ab01,;\t"\n\r.?-e '), max_size=200))
def test_random_text_of_separators_and_quotes(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text("a,label\n" + text, newline="")
    read(path)


@SETTINGS
@given(data=st.data(), columns=st.integers(1, 4), rows=st.integers(0, 30))
def test_random_tables(tmp_path, data, columns, rows):
    header = data.draw(st.lists(st.text(max_size=4), min_size=columns, max_size=columns))
    cells = [[data.draw(CELL) for _ in range(columns)] for _ in range(rows)]
    labels = data.draw(st.lists(st.sampled_from(["0", "1", "x"]), min_size=rows, max_size=rows))
    table = [[*header, "label"], *([*row, label] for row, label in zip(cells, labels, strict=True))]
    written = io.StringIO()
    csv.writer(written, delimiter=data.draw(st.sampled_from(",;\t"))).writerows(table)
    path = tmp_path / "t.csv"
    path.write_text(written.getvalue(), encoding="utf-8", errors="replace", newline="")
    read(path, folds=data.draw(st.sampled_from([0, 2])), label_noise=0.1)


@SETTINGS
@given(
    column=st.lists(st.floats(width=64), min_size=20, max_size=40),
    seed=st.integers(0, 100),
)
def test_any_column_of_numbers_is_scaled_or_refused(tmp_path, column, seed):
    path = tmp_path / "t.csv"
    path.write_text("a,b,label\n" + "".join(f"{value},{i},{i % 2}\n" for i, value in enumerate(column)))
    read(path, split_seed=seed)


@SETTINGS
@given(labels=st.lists(st.floats(width=64), min_size=4, max_size=40), seed=st.integers(0, 100))
def test_any_labels_of_numbers_are_scaled_or_refused(tmp_path, labels, seed):
    path = tmp_path / "t.csv"
    path.write_text("a,label\n" + "".join(f"{i},{value}\n" for i, value in enumerate(labels)))
    read(path, split_seed=seed)


@SETTINGS
@given(
    masks=st.lists(st.integers(-2, 300), min_size=16, max_size=16),
    ignore=st.none() | st.integers(-2, 300),
    names=st.integers(0, 5),
)
def test_any_masks(tmp_path, masks, ignore, names):
    arrays = {"ignore_index": ignore, "class_names": np.array(["a"] * names)}
    given_ones = {name: value for name, value in arrays.items() if value is not None and np.size(value)}
    path = tmp_path / "t.npz"
    np.savez(path, x=np.arange(16).reshape(4, 2, 2), y=np.array(masks).reshape(4, 2, 2), **given_ones)
    read(path)


@SETTINGS
@given(place=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.integers(0, 10_000))
def test_damaged_archives(tmp_path, place, byte, cut):
    held = io.BytesIO()
    np.savez(held, x=np.arange(40.0).reshape(20, 2), y=np.arange(20) % 2)
    content = bytearray(held.getvalue())
    content[place % len(content)] = byte
    path = tmp_path / "t.npz"
    path.write_bytes(content[: max(cut % (2 * len(content)), 1)])
    read(path)
