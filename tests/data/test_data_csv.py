import math

import numpy as np
import pytest
import torch

from lossmith.data import DataSpec, load_dataset, make_splits

SENTENCES = [f"the {size} {animal} runs" for size in ("big", "small") for animal in ("cat", "dog", "cow")]


def plain(n=10):
    return [["a", "b", "label"]] + [[i, i / 4, i % 2] for i in range(n)]


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "T.CSV"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_is_read_back(write_csv, name, delimiter):
    dataset = load_dataset(write_csv(name, plain(), delimiter))
    assert dataset.name == name.split(".")[0]
    assert dataset.kind == "tabular"
    assert dataset.part is None
    assert [column.name for column in dataset.columns] == ["a", "b"]
    np.testing.assert_array_equal(dataset.inputs, [[i, i / 4] for i in range(10)])
    np.testing.assert_array_equal(dataset.targets, [i % 2 for i in range(10)])
    assert dataset.class_names == ("0", "1")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n\n"])
def test_line_ends_byte_order_marks_and_blank_lines_do_not_matter(tmp_path, newline, start):
    text = newline.join(["a, b ,label", ' 1, "2",x', "", "3,4,y", "5,6,x", "7,8,y", ""])
    path = tmp_path / "t.csv"
    path.write_bytes((start + text).encode())
    dataset = load_dataset(str(path))
    np.testing.assert_array_equal(dataset.inputs, [[1, 2], [3, 4], [5, 6], [7, 8]])
    assert [column.name for column in dataset.columns] == ["a", "b"]
    assert dataset.class_names == ("x", "y")


@pytest.mark.parametrize(
    "header, chosen",
    [
        ("x1 label y", 1),
        ("y x1 Target", 2),
        ("CLASS y x1", 0),
        ("y x1 x2", 0),
        ("x1 x2 x3", 2),
    ],
)
def test_the_label_column_by_default(write_csv, header, chosen):
    rows = [[10, 20, 30], [11, 21, 31]] * 3
    dataset = load_dataset(write_csv("t.csv", [header.split(), *rows]))
    assert dataset.class_names == (str(rows[0][chosen]), str(rows[1][chosen]))
    assert dataset.label is None


def test_the_label_column_can_be_chosen_and_binds_the_spec(write_csv, refusal):
    path = write_csv("t.csv", [["kind", "x", "label"]] + [["ab"[i % 2], i, i % 3] for i in range(30)])
    dataset = load_dataset(path, "kind")
    assert dataset.class_names == ("a", "b")
    assert len(make_splits(dataset, DataSpec(dataset.digest, label="kind")).test) == 6
    refusal(make_splits, dataset, DataSpec(dataset.digest))


@pytest.mark.parametrize(
    "labels, names",
    [
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["2.0", "1", "+1"], ("1", "2.0")),
        (["10", "9", "b"], ("10", "9", "b")),
        (["yes", "no", "Maybe"], ("Maybe", "no", "yes")),
        (["True", "False", "True"], ("False", "True")),
        ([" <=50K", ">50K", "<=50K"], ("<=50K", ">50K")),
        (["12345678901234567890", "12345678901234567891", "0"], ("0", "12345678901234567890", "12345678901234567891")),
    ],
)
def test_classes_are_sorted_numerically_or_alphabetically(write_csv, labels, names):
    rows = [[i, label] for i, label in enumerate(labels * 3)]
    dataset = load_dataset(write_csv("t.csv", [["x", "label"], *rows]))
    assert dataset.class_names == names
    for label, code in zip(labels, dataset.targets, strict=False):
        assert label.strip().removeprefix("+") == names[code]


@pytest.mark.parametrize("missing", ["", "?", "NA", "nan", "NaN", " "])
def test_missing_numbers_are_nan(write_csv, missing):
    rows = plain()
    rows[3][1] = missing
    inputs = np.asarray(load_dataset(write_csv("t.csv", rows)).inputs)
    assert math.isnan(inputs[2, 1])
    assert np.isfinite(np.delete(inputs, 2, axis=0)).all()


def test_a_column_of_words_is_a_category_with_missing_cells(write_csv):
    colours = ["red", "blue", "?", "red", "", "blue", "green", "green"] * 4
    path = write_csv("t.csv", [["colour", "x", "label"]] + [[c, i, i % 2] for i, c in enumerate(colours)])
    dataset = load_dataset(path)
    assert dataset.columns[0].values == ("blue", "green", "red")
    codes = np.asarray(dataset.inputs)[:8, 0]
    np.testing.assert_array_equal(codes, [2, 0, math.nan, 2, math.nan, 0, 1, 1])
    task = make_splits(dataset, DataSpec(dataset.digest))
    assert task.input_shape == (4,)


def test_one_thousand_in_python_is_no_number_in_a_table(write_csv):
    rows = [["x", "z", "label"]] + [["1_000" if i % 3 else "7", i, i % 2] for i in range(12)]
    assert load_dataset(write_csv("t.csv", rows)).columns[0].values == ("1_000", "7")


class TestText:
    def test_a_table_with_one_column_of_words_is_text(self, write_csv):
        dataset = load_dataset(
            write_csv("t.csv", [["label", "text"]] + [[i % 2, s] for i, s in enumerate(SENTENCES * 4)])
        )
        assert dataset.kind == "text"
        assert dataset.inputs == SENTENCES * 4
        task = make_splits(dataset, DataSpec(dataset.digest))
        assert task.vocabulary is not None
        assert task.input_shape == (4,)

    def test_quotes_separators_and_line_ends_inside_texts_are_kept(self, write_csv):
        said = ['he said "no", twice', "two\nlines", "semi;colon", "  lead"] * 3
        dataset = load_dataset(write_csv("t.csv", [["text", "label"]] + [[s, i % 2] for i, s in enumerate(said)]))
        assert [text.strip() for text in dataset.inputs] == [text.strip() for text in said]

    def test_running_text_beside_numbers_is_text_and_says_what_is_not_used(self, write_csv):
        rows = [[i, f"item number {i} is here", i % 2] for i in range(60)]
        path = write_csv("t.csv", [["id", "text", "label"], *rows])
        dataset = load_dataset(path)
        assert any("'text'" in note and "'id'" in note for note in dataset.notes)
        assert dataset.kind == "text"
        assert dataset.inputs[3] == "item number 3 is here"

    def test_two_columns_of_running_text_are_refused_by_name(self, write_csv, refusal):
        rows = [[f"title of {i}", f"body of {i}", i % 2] for i in range(60)]
        assert "'title'" in refusal(load_dataset, write_csv("t.csv", [["title", "body", "label"], *rows]))

    def test_an_empty_text_is_one_unknown_token(self, write_csv):
        rows = [["a a" if i % 3 else "", i % 2] for i in range(12)]
        dataset = load_dataset(write_csv("t.csv", [["text", "label"], *rows]))
        task = make_splits(dataset, DataSpec(dataset.digest))
        empty = torch.tensor([dataset.inputs[row] == "" for row in task.train.index])
        assert task.train.inputs[empty].tolist() == [[1, 0]] * int(empty.sum())


class TestSets:
    @pytest.mark.parametrize("valid", ["valid", "val", "dev"])
    @pytest.mark.parametrize("asked", ["s_train.csv", "s_{valid}.csv", "s_test.csv", "s", "s.csv"])
    def test_files_of_a_set_are_found_by_any_of_them_or_their_common_name(self, write_csv, valid, asked):
        for part, size in (("train", 6), (valid, 4), ("test", 8)):
            path = write_csv(f"s_{part}.csv", plain(size))
        dataset = load_dataset(path.parent / asked.format(valid=valid))
        assert dataset.name == "s"
        assert np.bincount(dataset.part).tolist() == [6, 4, 8]
        np.testing.assert_array_equal(np.asarray(dataset.inputs)[:, 0], [*range(6), *range(4), *range(8)])

    def test_a_file_of_the_common_name_itself_stands_alone(self, write_csv):
        write_csv("s_train.csv", plain(6))
        write_csv("s_test.csv", plain(6))
        dataset = load_dataset(write_csv("s.csv", plain(8)))
        assert dataset.part is None
        assert len(dataset) == 8

    @pytest.mark.parametrize("name", ["ab_test.csv", "s_train.csv", "_train.csv"])
    def test_a_suffix_without_company_is_part_of_the_name(self, write_csv, name):
        dataset = load_dataset(write_csv(name, plain(8)))
        assert dataset.part is None
        assert dataset.name == name[:-4]

    def test_columns_are_matched_by_name(self, write_csv):
        write_csv("s_train.csv", plain(6))
        path = write_csv("s_test.csv", [row[::-1] for row in plain(6)])
        dataset = load_dataset(path)
        np.testing.assert_array_equal(dataset.inputs[:6], dataset.inputs[6:])
        np.testing.assert_array_equal(dataset.targets[:6], dataset.targets[6:])

    def test_files_of_another_extension_are_not_of_the_set(self, write_csv):
        write_csv("s_train.csv.gz", plain(6))
        assert load_dataset(write_csv("s_test.csv", plain(8))).part is None


class TestDigest:
    def test_it_follows_the_contents_and_not_the_place(self, write_csv, tmp_path):
        one = load_dataset(write_csv("a.csv", plain()))
        two = load_dataset(write_csv("b.csv", plain()))
        other = load_dataset(write_csv("c.csv", plain(12)))
        assert one.digest.startswith("sha256:")
        assert len(one.digest) == 7 + 64
        assert one.digest == two.digest != other.digest

    def test_every_file_of_a_set_and_its_role_count(self, write_csv):
        write_csv("s_train.csv", plain(6))
        digests = {load_dataset(write_csv("s_test.csv", plain(n))).digest for n in (4, 6, 8)}
        write_csv("s_train.csv", plain(8))
        digests.add(load_dataset(write_csv("s_test.csv", plain(6))).digest)
        assert len(digests) == 4
