"""Which column is the label, what is left out, and what a user is told of a table's columns."""

import numpy as np
import pytest

from lossmith.data import DataError, DataSpec, load_dataset, make_splits

N = 60
RNG = np.random.default_rng(0)
COLUMNS = {
    "species": ["cat", "dog", "cow"] * 20,
    "colour": ["red", "blue"] * 30,
    "rooms": [i % 4 for i in range(N)],
    "sex": [i // 30 for i in range(N)],
    "survived": [i // 30 for i in range(N)],
    "price": [round(1e5 * x, 2) for x in RNG.random(N)],
    "weight": [round(float(x), 3) for x in RNG.random(N)],
    "said": [f"item number {i} is here" for i in range(N)],
    "day": [f"2024-01-{1 + i % 28:02d}" for i in range(N)],
    "cost": [f"${i % 7}.50" for i in range(N)],
    "id": RNG.permutation(N).tolist(),
    "row": list(range(100, 100 + N)),
    "code": [f"c{i:x}" for i in range(N)],
    "y": [i % 2 for i in range(N)],
    "target": [i % 2 for i in range(N)],
    "label": [i % 2 for i in range(N)],
}


@pytest.fixture
def read(write_csv):
    def read(header, **asked):
        names = header.split()
        rows = list(zip(*(COLUMNS[name] for name in names), strict=True))
        return load_dataset(write_csv("t.csv", [names, *rows]), **asked)

    return read


@pytest.mark.parametrize(
    "header, label, why",
    [
        ("weight rooms species", "species", "the last one"),
        ("weight price", "price", "the last one"),
        ("rooms weight sex", "sex", "the last one"),
        ("sex survived", "survived", "the last one"),
        ("id weight species", "species", "the last one"),
        ("row survived", "survived", "the last one"),
        ("weight species id", "species", "no identifier"),
        ("said species", "species", "the last one"),
        ("species said", "species", "holds texts"),
        ("survived said", "survived", "holds texts"),
        ("species weight y", "y", "by its name"),
        ("y weight target", "target", "by its name"),
        ("label weight y species", "label", "by its name"),
    ],
)
def test_the_label_is_told_with_the_reason(read, header, label, why):
    dataset = read(header)
    assert dataset.target == label
    told = [note for note in dataset.notes if note.startswith("the label is")]
    assert len(told) == 1
    assert repr(label) in told[0]
    assert why in told[0]


@pytest.mark.parametrize(
    "header, rivals",
    [
        ("species weight rooms", ("species", "rooms")),
        ("species weight price", ("species", "price")),
        ("species weight colour", ("species", "colour")),
        ("survived weight price", ("survived", "price")),
        ("id survived weight species", ("survived", "species")),
        ("row survived weight species", ("survived", "species")),
        ("target weight label", ("label", "target")),
    ],
)
def test_where_two_columns_could_be_the_label_it_is_asked_for(read, refusal, header, rivals):
    sentence = refusal(read, header)
    assert "--label" in sentence
    for rival in rivals:
        assert repr(rival) in sentence
        dataset = read(header, label=rival)
        assert dataset.target == rival
        assert not any(note.startswith("the label is") for note in dataset.notes)


def test_words_that_never_repeat_are_no_rival_of_the_last_column(read, refusal):
    """The first column is refused as a feature, not as a possible label."""
    sentence = refusal(read, "code weight survived")
    assert "--drop 'code'" in sentence
    assert "--label" not in sentence


def test_an_asked_and_a_found_label_are_one_trial(read):
    """What is trained does not depend on whether the user named the column."""
    found = read("weight rooms species")
    asked = read("weight rooms species", label=found.target)
    assert found.digest == asked.digest
    np.testing.assert_array_equal(found.targets, asked.targets)


class TestDrop:
    def test_dropped_columns_are_gone_and_bind_the_spec(self, read, refusal):
        dataset = read("weight price code species", drop=["price", "code"])
        assert [column.name for column in dataset.columns] == ["weight"]
        spec = DataSpec(dataset.digest, drop=["price", "code", "code"])
        assert spec == DataSpec(dataset.digest, drop=("code", "price"))
        assert make_splits(dataset, spec).input_shape == (1,)
        assert "drop" in refusal(make_splits, dataset, DataSpec(dataset.digest))

    def test_a_dropped_column_is_no_label(self, read):
        assert read("weight rooms label", drop=["label"]).target == "rooms"

    def test_what_cannot_be_dropped_is_refused(self, read, refusal, tmp_path):
        assert refusal(read, "weight species", drop=["wieght"]).endswith("did you mean 'weight'?")
        assert "single column" in refusal(read, "weight species", drop=["weight"])
        assert "'species'" in refusal(read, "weight species rooms", drop=["species"], label="species")
        assert "--drop" in refusal(load_dataset, "iris", drop=["sepal length (cm)"])
        assert "list" in refusal(read, "weight species", drop="weight")


class TestHints:
    @pytest.mark.parametrize(
        "name, why",
        [("id", "by its name"), ("row", "whole numbers that ascend"), ("code", "different value in each row")],
    )
    def test_identifiers_are_named(self, read, name, why):
        if name == "code":  # over 50 words are no category at all
            with pytest.raises(DataError, match="--drop 'code'"):
                read("weight code label")
            return
        notes = [note for note in read(f"weight {name} label").notes if "identifier" in note]
        assert len(notes) == 1
        assert f"{name!r} ({why}" in notes[0]
        assert f"--drop {name}" in notes[0]
        assert not any("identifier" in note for note in read(f"weight {name} label", drop=[name]).notes)

    def test_few_words_of_their_own_are_an_identifier(self, write_csv):
        path = write_csv("t.csv", [["name", "x", "label"], *([f"n{i}", i % 3, i % 2] for i in range(20))])
        assert any("'name' (a different value in each row)" in note for note in load_dataset(path).notes)

    @pytest.mark.parametrize("name", ["PassengerId", "customer_id", "UUID", "Unnamed: 0", "store.idx"])
    def test_names_of_identifiers(self, write_csv, name):
        path = write_csv("t.csv", [[name, "x", "label"], *([i % 7, i % 3, i % 2] for i in range(40))])
        assert any(f"{name!r} (by its name)" in note for note in load_dataset(path).notes)

    @pytest.mark.parametrize("name", ["width", "humid", "Covid", "paid", "rooms"])
    def test_other_names_and_measurements_are_no_identifiers(self, write_csv, name):
        draw = np.random.default_rng(1)
        path = write_csv("t.csv", [[name, "x", "label"], *([draw.normal(), i % 3, i % 2] for i in range(40))])
        assert not any("identifier" in note for note in load_dataset(path).notes)

    def test_rows_are_counted_in_each_file_of_a_set(self, write_csv):
        for part in ("train", "test"):
            rows = [[i, i % 3, i % 2] for i in range(20)]
            path = write_csv(f"s_{part}.csv", [["n", "x", "label"], *rows])
        assert any("'n' (whole numbers that ascend" in note for note in load_dataset(path).notes)

    @pytest.mark.parametrize("name, word", [("day", "dates"), ("cost", "amounts with a unit")])
    def test_quantities_read_as_categories_are_named(self, read, name, word):
        notes = [note for note in read(f"weight {name} label").notes if "categories" in note]
        assert len(notes) == 1
        assert f"{name!r} holds {word} ({COLUMNS[name][0]!r} in data row 1" in notes[0]


class TestParts:
    def test_the_files_taken_for_the_parts_are_announced(self, write_csv):
        for part in ("train", "dev", "test"):
            path = write_csv(f"s_{part}.csv", [["x", "label"], *([i % 5, i % 2] for i in range(12))])
        notes = load_dataset(path.with_name("s_train.csv")).notes
        expected = (
            "the training part is 's_train.csv'; the validation part is 's_dev.csv'; the test part is 's_test.csv'"
        )
        assert notes[0] == expected
        assert not any(
            "part is" in note
            for note in load_dataset(write_csv("alone.csv", [["x", "label"], *[[1, 0], [2, 1]] * 4])).notes
        )

    @pytest.mark.parametrize(
        "test_rows", [[["x"], [1], [2]], [["x", "label"], [1, ""], [2, "?"]]], ids=["none", "empty"]
    )
    def test_a_part_without_labels_is_left_out_and_said_so(self, write_csv, test_rows):
        write_csv("s_train.csv", [["x", "label"], *([i % 5, i % 2] for i in range(12))])
        dataset = load_dataset(write_csv("s_test.csv", test_rows))
        assert dataset.part is None
        assert len(dataset) == 12
        assert any("'s_test.csv' holds no labels in the column 'label'" in note for note in dataset.notes)

    def test_a_training_part_needs_labels(self, write_csv, refusal):
        write_csv("s_test.csv", [["x", "label"], *([i % 5, i % 2] for i in range(12))])
        path = write_csv("s_train.csv", [["x", "label"], *([i % 5, ""] for i in range(12))])
        assert "data row 1 of 's_train.csv'" in refusal(load_dataset, path)
