"""Tables as people have them: codes with leading zeros, dates and units, a bad cell, texts too long."""

import numpy as np
import pytest

from lossmith.data import DataError, DataSpec, load_dataset, make_splits
from lossmith.trials import options


def read(write_csv, name, cells, n=120, beside=True, label=None, **choices):
    """A table of a column of the given cells over and over, a column of numbers beside it, and labels."""
    rows = [
        [
            cells[i % len(cells)],
            *([i * 0.25] if beside else []),
            "pq"[i % 2] if label is None else label[i % len(label)],
        ]
        for i in range(n)
    ]
    header = [name, *(["width"] if beside else []), "label"]
    return load_dataset(write_csv("t.csv", [header, *rows]), **choices)


class TestLabels:
    @pytest.mark.parametrize(
        "label, names",
        [
            (("01", "02", "10"), ("01", "02", "10")),
            (("2E3", "1E2", "1E3"), ("1E2", "1E3", "2E3")),
            (("1.0", "2.0", "3.0"), ("1.0", "2.0", "3.0")),
            (("+1", "-1"), ("-1", "+1")),
        ],
    )
    def test_classes_are_named_as_the_file_writes_them(self, write_csv, label, names):
        dataset = read(write_csv, "x", [1, 2, 3, 4], label=label)
        assert dataset.class_names == names
        assert [dataset.class_names[code] for code in dataset.targets[:3]] == [label[i % len(label)] for i in range(3)]
        assert not any("spell" in note or "several ways" in note for note in dataset.notes)

    @pytest.mark.parametrize("label", [("01", "1", "1", "2"), ("0.0", "0", "0", "3")])
    def test_two_spellings_of_a_number_are_one_class_and_are_named(self, write_csv, label):
        dataset = read(write_csv, "x", [1, 2, 3, 4, 5], label=label)
        assert dataset.class_names == (label[1], label[3])  # the spelling that is met most often
        assert any(repr(label[0]) in note and repr(label[1]) in note for note in dataset.notes)

    def test_decimals_make_a_regression_and_a_note_says_how_to_make_them_classes(self, write_csv):
        label = ("2.0", "1.5", "2.5")
        dataset = read(write_csv, "x", [1, 2, 3, 4], label=label)
        assert dataset.task == "regression"
        (note,) = [note for note in dataset.notes if "--task classification" in note]
        assert "'1.5'" in note
        dataset = read(write_csv, "x", [1, 2, 3, 4], label=label, task="classification")
        assert dataset.class_names == ("1.5", "2.0", "2.5")

    def test_decimals_of_an_array_can_be_classes(self, tmp_path):
        values = np.array([2.0, 1.5, 2.5] * 20, np.float32)
        np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=(60, 2)), y=values)
        assert load_dataset(tmp_path / "a.npz").task == "regression"
        assert load_dataset(tmp_path / "a.npz", task="classification").class_names == ("1.5", "2", "2.5")

    def test_a_class_may_be_called_none_but_no_number_is(self, write_csv, refusal):
        assert read(write_csv, "x", [1, 2, 3, 4], label=("none", "mild")).class_names == ("mild", "none")
        for task in (None, "regression"):
            said = refusal(read, write_csv, "x", [1, 2, 3, 4], label=("0.5", "1", "2", "None"), task=task)
            assert "data row 4" in said

    def test_an_infinite_label_is_quoted_as_written(self, write_csv, refusal):
        assert "'1e400'" in refusal(read, write_csv, "x", [1, 2], label=("1.5", "1e400", "3"), task="regression")


QUANTITIES = {
    "day": [f"2024-01-{1 + i % 28:02} 12:{i % 60:02}:00" for i in range(120)],
    "german day": [f"{1 + i % 28}.{1 + i % 12}.2024 12:00" for i in range(120)],
    "birthday": [f"{1 + i % 28} Jan {1900 + i}" for i in range(120)],
    "long": [f"Monday, {['January', 'March', 'May'][i % 3]} {1 + i % 28}, {1900 + i} at 10 AM" for i in range(120)],
    "phone": [f"030 {10037 + i}" for i in range(120)],
    "amount": [f"1 {100 + i}" for i in range(120)],
    "weight": [f"{i / 7:.3f} kg" for i in range(120)],
    "height": [f"5 ft {i} in" for i in range(120)],
    "euros": [f"{i} €" for i in range(120)],
}


class TestQuantities:
    @pytest.mark.parametrize("name", QUANTITIES)
    def test_a_quantity_with_a_space_is_no_running_text(self, write_csv, refusal, name):
        sentence = refusal(read, write_csv, name, QUANTITIES[name])
        assert repr(name) in sentence
        assert "--drop" in sentence

    @pytest.mark.parametrize("name, said", [("day", "dates"), ("birthday", "dates"), ("amount", "with a space")])
    def test_few_of_them_are_categories_with_a_note(self, write_csv, name, said):
        dataset = read(write_csv, name, QUANTITIES[name][:20])
        assert dataset.kind == "tabular"
        assert any(said in note and repr(name) in note for note in dataset.notes)

    def test_alone_they_are_texts_with_a_note(self, write_csv):
        dataset = read(write_csv, "day", QUANTITIES["day"], beside=False)
        assert any("dates" in note for note in dataset.notes)

    @pytest.mark.parametrize(
        "text", ["item number {} is here", "Toyota Corolla {}", "12 Main Street {}a b", "so {0!r:.0} it is"]
    )
    def test_texts_with_numbers_stay_texts(self, write_csv, text):
        cells = [text.format(i) + " x" * (i % 60) for i in range(120)]
        assert read(write_csv, "said", cells).kind == "text"


class TestBadCells:
    @pytest.mark.parametrize("cell", ["unknown", "12a", "3+"])
    def test_a_bad_cell_in_a_column_of_numbers_is_named(self, write_csv, refusal, cell):
        few, many = [*range(20, 26), cell, *range(30, 60)], [*range(20, 26), cell, *range(30, 100)]
        dataset = read(write_csv, "age", few)
        (note,) = [note for note in dataset.notes if "'age'" in note]
        assert repr(cell) in note
        assert "data row 7 of 't.csv'" in note
        assert "empty" in note
        sentence = refusal(read, write_csv, "age", many)
        assert repr(cell) in sentence
        assert "data row 7 of 't.csv'" in sentence
        assert "empty" in sentence

    @pytest.mark.parametrize("cell", ["null", "NULL", "None", "none"])
    def test_null_and_none_are_missing(self, write_csv, cell):
        dataset = read(write_csv, "age", [*range(20, 26), cell, *range(30, 60)])
        assert dataset.columns[0].values is None
        assert np.isnan(dataset.inputs[6, 0])
        assert np.isnan(dataset.inputs[:37, 0]).sum() == 1

    def test_words_beside_some_numbers_are_categories_without_a_note(self, write_csv):
        dataset = read(write_csv, "size", ["S", "M", "L", "36", "38"])
        assert not any("'size'" in note for note in dataset.notes)

    def test_an_infinite_cell_is_quoted_as_written(self, write_csv, refusal):
        assert "'1e400'" in refusal(read, write_csv, "x", ["1", "1e400", "3"])


class TestTexts:
    def test_texts_that_are_cut_are_counted(self, write_csv):
        dataset = read(write_csv, "text", ["word " * 300, "a word", "a a b b"], n=60, beside=False)
        (note,) = make_splits(dataset, DataSpec(dataset.digest)).notes
        assert "256 tokens" in note
        assert "the longest 300" in note

    def test_tokens_that_are_left_out_are_counted(self, write_csv):
        cells = [" ".join(f"w{i}" for i in range(start, start + 200)) for start in range(0, 32_000, 200)]
        rows = [["text", "label"], *[[cell, "pq"[i % 2]] for i, cell in enumerate(cells * 4)]]
        dataset = load_dataset(write_csv("t.csv", rows))
        splits = make_splits(dataset, DataSpec(dataset.digest))
        (note,) = splits.notes
        assert "20,000" in note
        assert len(splits.vocabulary) == 20_002

    def test_short_texts_need_no_note(self, write_csv):
        dataset = read(write_csv, "text", ["a word", "a a b b"], n=60, beside=False)
        assert make_splits(dataset, DataSpec(dataset.digest)).notes == ()

    def test_empty_texts_are_counted(self, write_csv):
        dataset = read(write_csv, "text", ["a word is here", "", " "], n=60, beside=False)
        assert "40 of the 60 texts are empty" in dataset.notes


@pytest.mark.parametrize("name", ["x", "y"])
def test_an_array_that_is_a_single_number_is_named(tmp_path, refusal, name):
    arrays = {"x": np.zeros((4, 2)), "y": np.arange(4) % 2, name: np.float64(3)}
    np.savez(tmp_path / "z.npz", **arrays)
    sentence = refusal(load_dataset, tmp_path / "z.npz")
    assert sentence.startswith(f"{name} of ")
    assert "a single value" in sentence


def test_images_of_a_folder_without_a_name_are_named_by_its_path(tmp_path, monkeypatch, refusal):
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "only").mkdir()
    for i in range(6):
        image.new("L", (4, 4), i).save(tmp_path / "only" / f"{i}.png")
    assert repr(str(tmp_path)) in refusal(load_dataset, tmp_path)


def test_a_data_set_is_read_once_when_its_label_and_task_are_named(write_csv, monkeypatch):
    path = str(write_csv("t.csv", [["x", "kind"], *[[i, "pq"[i % 2]] for i in range(20)]]))
    read_files = []

    def counted(*args, **kwargs):
        read_files.append(args)
        return load_dataset(*args, **kwargs)

    monkeypatch.setattr(options, "load_dataset", counted)
    first = options.Request(data=path).dataset()
    second = options.read_dataset(path, "kind", "classification", (), None)
    assert len(read_files) == 1
    assert second.label == "kind"
    assert second.inputs is first.inputs
    with pytest.raises(DataError):
        options.read_dataset(path, "none such", None, (), None)
