"""Every bad input ends in one sentence that names the thing."""

import gzip
import os
import struct

import numpy as np
import pytest

from lossmith.data import load_dataset

N = 12
X = np.arange(N * 4.0).reshape(N, 4)
Y = np.arange(N) % 2


def table(*columns, header="a b label"):
    """Text of a table from its columns, each a list of cells or one cell for every row."""
    columns = [[column] * N if isinstance(column, str) else column for column in columns]
    lines = [",".join(str(cell) for cell in row) for row in zip(*columns, strict=True)]
    return "\n".join([",".join(header.split()), *lines]) + "\n"


COUNT = [str(i) for i in range(N)]
BITS = [str(i % 2) for i in range(N)]

CSV = {
    "empty file": ("", "no examples"),
    "blank lines only": ("\n\n\n", "no examples"),
    "header only": ("a,b,label\n", "no examples"),
    "one column": ("label\n1\n2\n", "single column"),
    "no header": (table(COUNT, COUNT, BITS, header="0.5 1 0"), "header"),
    "no header, named classes": (table(COUNT, COUNT, ["iris", "rose"] * 6, header="5 3 iris"), "header"),
    "unnamed column": (",a,label\n" + "1,2,0\n1,3,1\n" * 4, "column 1"),
    "one name twice": (table(COUNT, COUNT, BITS, header="a a label"), "'a'"),
    "short line": (table(COUNT, COUNT, BITS) + "1,2\n", "line 14"),
    "long line": (table(COUNT, COUNT, BITS) + "1,2,0,4\n", "line 14"),
    "open quote": (table(COUNT, COUNT, BITS) + '1,"2,0\n', "quotes"),
    "stray quote": (table(COUNT, COUNT, BITS) + '1,"2"3,0\n', "line 14"),
    "infinite cell": (table(COUNT, [*COUNT[:-1], "inf"], BITS), "'b'"),
    "cell beyond float32": (table(COUNT, [*COUNT[:-1], "1e39"], BITS), "data row 12"),
    "column of nothing": (table(COUNT, "", BITS), "'b'"),
    "missing label": (table(COUNT, COUNT, [*BITS[:-1], ""]), "data row 12"),
    "label nan": (table(COUNT, COUNT, [*BITS[:-1], "nan"]), "data row 12"),
    "label infinite": (table(COUNT, COUNT, [*BITS[:-1], "inf"]), "'label'"),
    "one class": (table(COUNT, COUNT, "1"), "single class"),
    "class of one": (table(COUNT, COUNT, [*BITS[:-1], "2"]), "'2'"),
    "classes all of one": (table(COUNT, COUNT, COUNT), "fewer than 2"),
    "over a thousand classes": ("a,label\n" + "".join(f"{i},c{i // 3}\n" for i in range(3006)), "1,002 distinct"),
}


@pytest.mark.parametrize("text, names", CSV.values(), ids=CSV)
def test_bad_tables(tmp_path, refusal, text, names):
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    assert names in refusal(load_dataset, path)


def test_a_word_among_numbers_is_shown_with_its_row(tmp_path, refusal):
    cells = [str(i) for i in range(60)]
    cells[7] = "seven"
    path = tmp_path / "t.csv"
    path.write_text("a,b,label\n" + "".join(f"{cell},{i},{i % 2}\n" for i, cell in enumerate(cells)))
    sentence = refusal(load_dataset, path)
    assert "'a'" in sentence
    assert "data row 8" in sentence
    assert "'seven'" in sentence


def test_an_unknown_label_column_brings_the_nearest(tmp_path, refusal):
    path = tmp_path / "t.csv"
    path.write_text(table(COUNT, COUNT, BITS, header="size weight species"))
    assert refusal(load_dataset, path, "Specie").endswith("did you mean 'species'?")
    assert "'size', 'weight', 'species'" in refusal(load_dataset, path, "zzz")


@pytest.mark.parametrize(
    "content, names",
    [
        (b"a,label\n\xff\xfe,1\n", "UTF-8"),
        ("a,label\n1,0\n".encode("utf-16"), "UTF-8"),
        (bytes(range(256)), "UTF-8"),
    ],
    ids=["latin", "utf-16", "bytes"],
)
def test_files_that_are_no_utf8(tmp_path, refusal, content, names):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    assert names in refusal(load_dataset, path)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "plain", "empty"])
def test_damaged_gzip(tmp_path, refusal, damage):
    packed = gzip.compress(table(COUNT, COUNT, BITS).encode() * 50)
    content = {
        "truncated": packed[:-20],
        "flipped": packed[:40] + bytes(255 - byte for byte in packed[40:60]) + packed[60:],
        "plain": b"a,label\n1,0\n",
        "empty": b"",
    }[damage]
    path = tmp_path / "t.csv.gz"
    path.write_bytes(content)
    assert "t.csv.gz" in refusal(load_dataset, path)


NPZ = {
    "no x": ({"y": Y}, "no x;"),
    "no y": ({"x": X}, "no y;"),
    "no y_test": ({"x_train": X, "y_train": Y, "x_test": X}, "no y_test"),
    "test alone": ({"x_test": X, "y_test": Y}, "no x_train"),
    "other names": ({"images": X, "labels": Y}, "'images'"),
    "no arrays": ({}, "no arrays"),
    "both kinds": ({"x": X, "y": Y, "x_train": X, "y_train": Y}, "both"),
    "two validation parts": (
        {"x_train": X, "y_train": Y, "x_val": X, "y_val": Y, "x_valid": X, "y_valid": Y},
        "x_valid",
    ),
    "names by case": ({"x": X, "X": X, "y": Y}, "two arrays"),
    "unequal lengths": ({"x": X, "y": Y[:-1]}, "12 examples but y has 11"),
    "scalar": ({"x": np.float64(1), "y": np.int64(1)}, "a single value"),
    "empty": ({"x": X[:0], "y": Y[:0]}, "empty"),
    "no features": ({"x": X[:, :0], "y": Y}, "empty"),
    "empty test": ({"x_train": X, "y_train": Y, "x_test": X[:0], "y_test": Y[:0]}, "x_test"),
    "one-hot": ({"x": X, "y": np.eye(2)[Y]}, "one-hot"),
    "vector": ({"x": X[:, 0], "y": Y}, "shape (12,)"),
    "five dimensions": ({"x": np.zeros((N, 1, 2, 2, 2)), "y": Y}, "shape"),
    "complex": ({"x": X * 1j, "y": Y}, "complex128"),
    "dates": ({"x": X.astype("M8[s]"), "y": Y}, "datetime64"),
    "objects": ({"x": np.array([{}] * N), "y": Y}, "pickled"),
    "object labels": ({"x": X, "y": np.array(["a", 1] * 6, object)}, "pickled"),
    "date labels": ({"x": X, "y": Y.astype("M8[s]")}, "datetime64"),
    "infinite": ({"x": np.where(X == 5, np.inf, X), "y": Y}, "example 1, column 1"),
    "column of nothing": ({"x": np.where(np.arange(4) == 2, np.nan, X), "y": Y}, "column 2"),
    "nan pixel": ({"x": np.where(X == 5, np.nan, X).reshape(N, 2, 2), "y": Y}, "image 1"),
    "pixel beyond float32": ({"x": np.where(X == 5, 1e300, X).reshape(N, 2, 2), "y": Y}, "image 1"),
    "channels": ({"x": np.zeros((N, 5, 5, 5)), "y": Y}, "channels"),
    "sizes differ": ({"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y}, "do not match"),
    "kinds differ": ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y.astype(str)}, "do not match"),
    "nan label": ({"x": X, "y": np.where(Y, np.nan, 0)}, "example 1 of y"),
    "one class": ({"x": X, "y": Y * 0}, "single class"),
    "class of one": ({"x": X, "y": np.array([0] * 6 + [1] * 5 + [7])}, "'7'"),
    "class met in test only": (
        {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1},
        "'2' of the data set 'bad' is in the test part",
    ),
    "class met in validation only": (
        {"x_train": X, "y_train": Y, "x_val": X, "y_val": Y + 1, "x_test": X, "y_test": Y},
        "validation part",
    ),
    "class of one in train": (
        {"x_train": X[:11], "y_train": np.array([0] * 10 + [1]), "x_test": X, "y_test": Y},
        "fewer than 2",
    ),
    "too few names": ({"x": X, "y": Y, "class_names": np.array(["a"])}, "class_names"),
    "names of negatives": ({"x": X, "y": Y - 1, "class_names": np.array(["a", "b"])}, "class_names"),
}


@pytest.mark.parametrize("arrays, names", NPZ.values(), ids=NPZ)
def test_bad_arrays(tmp_path, refusal, arrays, names):
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    assert names in refusal(load_dataset, path)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "npy", "pickle"])
def test_damaged_npz(tmp_path, refusal, damage):
    path = tmp_path / "bad.npz"
    np.savez_compressed(path, x=X, y=Y)
    if damage == "npy":
        with path.open("wb") as handle:
            np.save(handle, X)
    else:
        path.write_bytes(
            {
                "truncated": path.read_bytes()[:-50],
                "text": b"x,y\n1,2\n",
                "empty": b"",
                "pickle": b"\x80\x04N.",
            }[damage]
        )
    assert "bad.npz" in refusal(load_dataset, path)


def idx(*sizes, data=None, mark=(0, 0, 8)):
    data = bytes(int(np.prod(sizes))) if data is None else data
    return bytes((*mark, len(sizes))) + struct.pack(f">{len(sizes)}I", *sizes) + data


LABEL_BYTES = bytes(i % 2 for i in range(N))
IDX = {
    "wrong magic": (idx(N, 2, 2, mark=(0, 0, 13)), idx(N, data=LABEL_BYTES), "00000d03"),
    "labels for images": (idx(N, data=LABEL_BYTES), idx(N, data=LABEL_BYTES), "00000801"),
    "text": (b"hello", idx(N, data=LABEL_BYTES), "68656c6c"),
    "empty": (b"", idx(N, data=LABEL_BYTES), "nothing"),
    "half a header": (idx(N, 2, 2)[:9], idx(N, data=LABEL_BYTES), "header"),
    "truncated": (idx(N, 2, 2)[:-1], idx(N, data=LABEL_BYTES), "47 bytes"),
    "too long": (idx(N, 2, 2) + b"x", idx(N, data=LABEL_BYTES), "49 bytes"),
    "absurd sizes": (idx(2**32 - 1, 2**32 - 1, 2**32 - 1, data=b"x"), idx(N, data=LABEL_BYTES), "1 bytes"),
    "no examples": (idx(0, 2, 2), idx(0), "no examples"),
    "unequal lengths": (idx(N, 2, 2), idx(N - 1, data=LABEL_BYTES[1:]), "12 images"),
    "one class": (idx(N, 2, 2), idx(N), "single class"),
}


@pytest.mark.parametrize("images, labels, names", IDX.values(), ids=IDX)
@pytest.mark.parametrize("packed", [False, True])
def test_bad_idx_files(tmp_path, refusal, images, labels, names, packed):
    for what, content in (("images-idx3", images), ("labels-idx1", labels)):
        name = f"train-{what}-ubyte" + (".gz" if packed else "")
        (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    assert names in refusal(load_dataset, tmp_path)


def test_idx_folders_that_lack_a_file(tmp_path, refusal):
    assert "neither idx files nor folders of images" in refusal(load_dataset, tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(N, 2, 2))
    assert "train-labels" in refusal(load_dataset, tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(N, data=LABEL_BYTES))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(N, data=LABEL_BYTES))
    assert "t10k-images" in refusal(load_dataset, tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(N, 3, 3))
    assert "different sizes" in refusal(load_dataset, tmp_path)


class TestPaths:
    def test_a_missing_file_brings_near_names(self, tmp_path, refusal):
        (tmp_path / "flowers.csv.gz").touch()
        assert refusal(load_dataset, tmp_path / "flower.csv").endswith("flowers.csv.gz'?")
        assert refusal(load_dataset, "diggits").endswith("did you mean 'digits'?")
        assert "digits, wine" in refusal(load_dataset, tmp_path / "qqqqqq.csv")
        assert "does not exist" in refusal(load_dataset, tmp_path / "nowhere" / "x.csv")

    @pytest.mark.parametrize("source", ["", "a\0b", "x" * 5000, "~nobody_of_this_name/x.csv", "."])
    def test_paths_that_no_file_can_have(self, refusal, source, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        refusal(load_dataset, source)

    def test_files_of_another_kind(self, tmp_path, refusal):
        (tmp_path / "t.xlsx").write_bytes(b"PK")
        assert ".csv" in refusal(load_dataset, tmp_path / "t.xlsx")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
    def test_a_pipe_is_not_waited_for(self, tmp_path, refusal):
        os.mkfifo(tmp_path / "t.csv")
        assert "regular file" in refusal(load_dataset, tmp_path / "t.csv")

    def test_ambiguous_sets(self, tmp_path, refusal):
        for name in ("s_train.csv", "s_train.npz", "s_val.csv", "s_dev.csv", "u_valid.csv", "u_test.csv"):
            (tmp_path / name).write_text(table(COUNT, COUNT, BITS))
        assert "two validation files" in refusal(load_dataset, tmp_path / "s.csv")
        assert "several extensions" in refusal(load_dataset, tmp_path / "s")
        assert "no training part" in refusal(load_dataset, tmp_path / "u_test.csv")

    def test_files_of_a_set_that_do_not_fit(self, tmp_path, refusal):
        (tmp_path / "s_train.csv").write_text(table(COUNT, COUNT, BITS))
        (tmp_path / "s_test.csv").write_text(table(COUNT, BITS, header="a label"))
        assert "'b'" in refusal(load_dataset, tmp_path / "s")
        (tmp_path / "s_test.csv").write_text(table(COUNT, COUNT, ["0", "5"] * 6))
        assert "'5'" in refusal(load_dataset, tmp_path / "s")
        np.savez(tmp_path / "z_train.npz", x_train=X, y_train=Y)
        np.savez(tmp_path / "z_test.npz", x=X, y=Y)
        assert "one part of a set" in refusal(load_dataset, tmp_path / "z")

    def test_a_label_column_where_there_are_no_columns(self, tmp_path, refusal):
        np.savez(tmp_path / "t.npz", x=X, y=Y)
        assert "'kind'" in refusal(load_dataset, tmp_path / "t.npz", "kind")
        assert "'kind'" in refusal(load_dataset, "digits", "kind")


@pytest.mark.parametrize(
    ("cells", "word", "fix"),
    [
        (["0,36", "1,25", "-7,5", "3"], "comma", "0.36"),
        (["1,234", "93,404", "1.234,56"], "comma", "1234"),
        (["2024-02-01", "2024-02-02", "2024-02-03"], "dates", "days"),
        (["01.02.2024", "3.2.2024", "28.02.24"], "dates", "days"),
        (["2024-02-01T10:00", "2024-02-02 11:30:05", "2024-02-02"], "dates", "days"),
        (["98%", "3 %", "0.5%"], "unit", "12.5"),
        (["$7", "$1,200.50", "-$3"], "unit", "12.5"),
    ],
)
def test_quantities_not_written_as_numbers_are_told_how_to_become_a_regression(
    write_csv, refusal, cells, word: str, fix: str
):
    """They are neither silently classes nor refused without a way out; asked for as classes, they are classes."""
    rows = [[i, cells[i % len(cells)]] for i in range(12 * len(cells))]
    path = write_csv("data.csv", [["a", "price"], *rows], delimiter=";")
    sentence = refusal(load_dataset, path)
    for part in (word, "'price'", "--task regression", fix, f"({cells[0]!r} in data row 1"):
        assert part in sentence
    told = refusal(load_dataset, path, task="regression")
    assert fix in told
    assert "--task" not in told
    assert len(load_dataset(path, task="classification").class_names) == len(cells)


@pytest.mark.parametrize(
    "cells", [["5-6", "7-8", "1,x"], ["red, blue", "red"], ["1,2", "low"], ["1.0", "2"], ["M", "%"]]
)
def test_texts_that_are_no_quantities_stay_classes(write_csv, cells):
    rows = [[i, cells[i % len(cells)]] for i in range(12 * len(cells))]
    assert load_dataset(write_csv("data.csv", [["a", "kind"], *rows], delimiter=";")).task == "classification"


@pytest.mark.parametrize(
    ("label", "warned"),
    [
        (lambda i: f"{i % 40}.0", True),
        (lambda i: i % 40 * 50, True),
        (lambda i: 18 + i % 40, True),
        (lambda i: i % 40, False),
        (lambda i: i % 40 + 1, False),
        (lambda i: f"{i % 20}.0", False),
        (lambda i: f"word {i % 40}", False),
    ],
)
def test_many_numbers_read_as_classes_are_told_of_regression(write_csv, label, warned):
    path = write_csv("data.csv", [["a", "y"], *([i % 9, label(i)] for i in range(400))])
    dataset = load_dataset(path)
    assert dataset.task == "classification"
    told = [note for note in dataset.notes if "different numbers" in note]
    assert [("40 different" in note, "--task regression" in note) for note in told] == [(True, True)] * warned
    asked = load_dataset(path, task="classification")
    assert not any("different numbers" in note for note in asked.notes)


def test_a_quantity_with_rare_values_names_the_option(write_csv, refusal):
    path = write_csv("data.csv", [["a", "y"], *([i, f"{i % 30 if i < 90 else 100 + i}.0"] for i in range(100))])
    assert "--task regression" in refusal(load_dataset, path)
