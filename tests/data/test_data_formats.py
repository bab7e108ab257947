"""Formats beside plain CSV, npz and idx: the same data in another format are the same data set."""

import csv
import gzip
import hashlib
import io
import json
import lzma
import struct

import numpy as np
import pytest

from lossmith.data import DataSpec, load_dataset, make_splits

RNG = np.random.default_rng(0)


class TestCsv:
    @pytest.mark.parametrize("size", [131_072, 131_073, 300_000])
    def test_a_cell_of_any_length_is_read(self, write_csv, size):
        limit = csv.field_size_limit()
        texts = ["word " * (size // 5) + "x" * (size % 5), "short text"] * 3
        path = write_csv("t.csv", [["text", "label"], *([text, i % 2] for i, text in enumerate(texts))])
        dataset = load_dataset(path)
        assert list(map(len, dataset.inputs)) == [size, 10] * 3
        assert csv.field_size_limit() == limit

    def test_xz_is_unpacked(self, tmp_path):
        content = "a,b,label\n" + "".join(f"{i},{i / 4},{i % 2}\n" for i in range(12))
        (tmp_path / "t.csv").write_text(content)
        (tmp_path / "u.csv.xz").write_bytes(lzma.compress(content.encode()))
        plain, packed = load_dataset(tmp_path / "t.csv"), load_dataset(tmp_path / "u.csv.xz")
        np.testing.assert_array_equal(plain.inputs, packed.inputs)
        assert packed.name == "u"

    @pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b"a,label\n1,0\n"], ids=["cut", "plain"])
    def test_damaged_xz_is_refused(self, tmp_path, refusal, damage):
        (tmp_path / "t.csv.xz").write_bytes(damage(lzma.compress(b"a,label\n" + b"1,0\n" * 999)))
        assert "t.csv.xz" in refusal(load_dataset, tmp_path / "t.csv.xz")


def test_idx_files_are_read_as_xz(tmp_path):
    images = RNG.integers(0, 256, (12, 3, 4), np.uint8)
    labels = np.arange(12, dtype=np.uint8) % 2
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
        (tmp_path / f"train-{name}-ubyte.xz").write_bytes(lzma.compress(head + array.tobytes()))
    dataset = load_dataset(tmp_path)
    np.testing.assert_array_equal(dataset.inputs[:, 0], images)
    np.testing.assert_array_equal(dataset.targets, labels)


class TestParquet:
    @pytest.fixture(autouse=True)
    def pyarrow(self):
        self.pa = pytest.importorskip("pyarrow")
        self.pq = pytest.importorskip("pyarrow.parquet")

    def write(self, path, columns, **more):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.pq.write_table(self.pa.table(columns, **more), path)
        return path

    def test_a_table_is_the_same_from_parquet_and_csv(self, tmp_path, write_csv):
        import datetime

        n = 40
        whole = [None if i == 3 else i % 5 for i in range(n)]
        columns = {
            "whole": self.pa.array(whole, "int32"),
            "real": self.pa.array(RNG.random(n)),
            "half": self.pa.array((np.arange(n) / 8).astype(np.float16)),
            "word": self.pa.array([None if i == 5 else "ab c"[i % 4] for i in range(n)]),
            "kind": self.pa.array(["x", "y"] * (n // 2)).dictionary_encode(),
            "flag": self.pa.array([bool(i % 3) for i in range(n)]),
            "day": self.pa.array([datetime.date(2024, 1, 1 + i % 9) for i in range(n)]),
            "label": self.pa.array([i % 3 for i in range(n)], "int64"),
        }
        read = load_dataset(self.write(tmp_path / "p.parquet", columns))
        cells = [["" if cell is None else cell for cell in column.to_pylist()] for column in columns.values()]
        same = load_dataset(write_csv("c.csv", [list(columns), *zip(*cells, strict=True)]))
        assert read.columns == same.columns
        np.testing.assert_array_equal(read.inputs, same.inputs)
        np.testing.assert_array_equal(read.targets, same.targets)
        assert (read.class_names, read.task, read.target) == (same.class_names, same.task, same.target)
        assert [n.replace("p.parquet", "c.csv") for n in read.notes] == list(same.notes)

    @pytest.mark.parametrize("labels, task", [([0.5, 1.5, 2.5] * 8, "regression"), ([1.0, 2.0] * 12, "classification")])
    def test_labels_of_numbers(self, tmp_path, labels, task):
        dataset = load_dataset(self.write(tmp_path / "t.parquet", {"x": list(range(24)), "label": labels}))
        assert dataset.task == task

    def test_columns_of_other_kinds_are_left_out_and_named(self, tmp_path):
        columns = {"x": [1.0, 2.0] * 6, "box": [[1, 2]] * 12, "label": [0, 1] * 6}
        dataset = load_dataset(self.write(tmp_path / "t.parquet", columns))
        assert [column.name for column in dataset.columns] == ["x"]
        assert any("'box' (list<" in note for note in dataset.notes)
        dropped = load_dataset(tmp_path / "t.parquet", drop=["box"])
        assert not any("'box'" in note for note in dropped.notes)

    def test_bad_files_are_refused(self, tmp_path, refusal):
        (tmp_path / "t.parquet").write_bytes(b"PAR1 and no more")
        assert "t.parquet" in refusal(load_dataset, tmp_path / "t.parquet")
        assert "no examples" in refusal(load_dataset, self.write(tmp_path / "e.parquet", {"x": [], "label": []}))
        missing = {"x": [1.0] * 12, "label": [0, None] * 6}
        assert "'label'" in refusal(load_dataset, self.write(tmp_path / "m.parquet", missing))

    def test_a_data_set_of_the_hub_is_read_from_the_cache(self, tmp_path, monkeypatch, refusal):
        """The cache as huggingface_hub lays it out, with names of classes as `datasets` writes them, and no network."""
        constants = pytest.importorskip("huggingface_hub.constants")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        repo, commit = tmp_path / "datasets--me--mail", "0" * 40
        (repo / "refs" / "refs" / "convert").mkdir(parents=True)
        (repo / "refs" / "refs" / "convert" / "parquet").write_text(commit)
        names = {"kind": {"names": ["spam", "ham"], "_type": "ClassLabel"}, "text": {"_type": "Value"}}
        metadata = {b"huggingface": json.dumps({"info": {"features": names}}).encode()}
        schema = self.pa.schema([("kind", "int64"), ("text", "string")], metadata=metadata)
        for split, size in (("train", 8), ("test", 6), ("unsupervised", 4)):
            texts = [f"{'see you' if i % 2 else 'buy now'} {i}" for i in range(size)]
            kinds = [-1 if split == "unsupervised" else i % 2 for i in range(size)]
            path = repo / "snapshots" / commit / "plain" / split / "0000.parquet"
            self.write(path, [kinds, texts], schema=schema)
        dataset = load_dataset("hf:me/mail")
        assert (dataset.kind, dataset.name, dataset.target) == ("text", "mail", "kind")
        assert [dataset.class_names[code] for code in dataset.targets[:2]] == ["spam", "ham"]
        assert np.bincount(dataset.part).tolist() == [8, 0, 6]
        assert any("'unsupervised'" in note for note in dataset.notes)
        assert load_dataset("hf:me/mail/plain").digest == dataset.digest
        assert "'plain'" in refusal(load_dataset, "hf:me/mail/fancy")
        assert "hf:me/other" in refusal(load_dataset, "hf:me/other")


class TestImages:
    @pytest.fixture(autouse=True)
    def pillow(self):
        self.Image = pytest.importorskip("PIL.Image")

    def save(self, path, pixels, **more):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.Image.fromarray(pixels).save(path, **more)
        return pixels

    def pixels(self, height=6, width=5, channels=3):
        return RNG.integers(0, 256, (height, width, channels)[: 2 if channels == 1 else 3], np.uint8)

    def test_a_folder_per_class(self, tmp_path):
        made = {
            f"{kind}/{i}.png": self.save(tmp_path / kind / f"{i}.png", self.pixels())
            for kind in ("dog", "cat")
            for i in range(4)
        }
        (tmp_path / "dog" / "notes.txt").write_text("no image")
        dataset = load_dataset(tmp_path)
        assert (dataset.kind, dataset.class_names, dataset.part) == ("image", ("cat", "dog"), None)
        expected = np.stack([made[name] for name in sorted(made)]).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(dataset.inputs, expected)
        np.testing.assert_array_equal(dataset.targets, [0] * 4 + [1] * 4)

    def test_official_parts(self, tmp_path):
        for part, size in (("train", 6), ("val", 3), ("test", 4)):
            for i in range(size):
                self.save(tmp_path / part / "ab"[i % 2] / f"{i}.png", self.pixels())
        assert np.bincount(load_dataset(tmp_path).part).tolist() == [6, 3, 4]

    def test_grey_images_have_one_channel_unless_one_is_coloured(self, tmp_path):
        for i in range(8):
            self.save(tmp_path / "ab"[i % 2] / f"{i}.png", self.pixels(channels=1))
        assert load_dataset(tmp_path).inputs.shape == (8, 1, 6, 5)
        self.save(tmp_path / "a" / "z.png", self.pixels())
        assert load_dataset(tmp_path).inputs.shape == (9, 3, 6, 5)

    def test_images_of_several_sizes_need_one(self, tmp_path, refusal):
        for i in range(8):
            self.save(tmp_path / "ab"[i % 2] / f"{i}.png", self.pixels(6 + i, 5))
        sentence = refusal(load_dataset, tmp_path)
        assert "5 x 6 pixels" in sentence
        assert "5 x 8" in sentence
        assert "--image-size" in sentence
        dataset = load_dataset(tmp_path, image_size=4)
        assert dataset.inputs.shape == (8, 3, 4, 4)
        assert "image_size" in refusal(make_splits, dataset, DataSpec(dataset.digest))
        make_splits(dataset, DataSpec(dataset.digest, image_size=4))

    def test_resizing_keeps_the_centre_and_the_proportions(self, tmp_path):
        """A wide image, black left and right of a white square, becomes white."""
        for i in range(4):
            wide = np.zeros((8, 24, 3), np.uint8)
            wide[:, 8:16] = 255
            self.save(tmp_path / "ab"[i % 2] / f"{i}.png", wide)
        np.testing.assert_array_equal(load_dataset(tmp_path, image_size=8).inputs, 255)

    def test_images_are_upright(self, tmp_path):
        for i in range(4):
            exif = self.Image.Exif()
            exif[0x0112] = 6  # to be turned by a quarter, as phones note
            made = self.pixels(8, 16)
            self.save(tmp_path / "ab"[i % 2] / f"{i}.png", made, exif=exif)
        dataset = load_dataset(tmp_path)
        assert dataset.inputs.shape == (4, 3, 16, 8)
        np.testing.assert_array_equal(dataset.inputs[3].transpose(1, 2, 0), np.rot90(made, -1))

    def test_what_is_no_image_is_refused_by_name(self, tmp_path, refusal):
        for i in range(4):
            self.save(tmp_path / "ab"[i % 2] / f"{i}.png", self.pixels())
        good = (tmp_path / "a" / "0.png").read_bytes()
        for bad in (b"no image", b"", good[:-40], good[:30]):
            (tmp_path / "a" / "0.png").write_bytes(bad)
            assert "a/0.png" in refusal(load_dataset, tmp_path)
        self.Image.fromarray(np.full((6, 5), 60_000, np.uint16)).save(tmp_path / "a" / "0.png")
        assert "8 bits" in refusal(load_dataset, tmp_path)

    def test_the_class_of_each_image_counts_in_the_digest(self, tmp_path):
        same = self.pixels()
        for i in range(4):
            self.save(tmp_path / "s" / "ab"[i % 2] / f"{i}.png", self.pixels())
            self.save(tmp_path / "t" / "ab"[i % 2] / f"{i}.png", same)
        before = load_dataset(tmp_path / "t").digest
        (tmp_path / "t" / "a").rename(tmp_path / "t" / "c")
        assert load_dataset(tmp_path / "t").digest != before

    def test_images_in_parquet(self, tmp_path):
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        made = [self.pixels() for _ in range(6)]
        encoded = []
        for each in made:
            self.Image.fromarray(each).save(content := io.BytesIO(), "png")
            encoded.append({"bytes": content.getvalue(), "path": "x.png"})
        pq.write_table(pa.table({"image": encoded, "label": [0, 1] * 3}), tmp_path / "t.parquet")
        dataset = load_dataset(tmp_path / "t.parquet")
        np.testing.assert_array_equal(dataset.inputs, np.stack(made).transpose(0, 3, 1, 2))


class TestOpenML:
    ARFF = "@RELATION t\n@ATTRIBUTE x REAL\n@ATTRIBUTE colour {red,blue}\n@ATTRIBUTE kind {b,a}\n@DATA\n"

    @pytest.fixture
    def cache(self, tmp_path, monkeypatch):
        """A data set as scikit-learn keeps what openml.org answers, and a network that is not there."""
        import urllib.error

        from sklearn.datasets import _openml

        def no_network(request):
            raise urllib.error.URLError("no network")

        monkeypatch.setattr(_openml, "urlopen", no_network)
        monkeypatch.setattr(_openml.time, "sleep", lambda seconds: None)
        monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
        data = self.ARFF + "".join(
            f"{'?' if i == 2 else i / 4},{'red' if i % 3 else '?'},{'ab'[i % 2]}\n" for i in range(20)
        )
        flags = {"is_ignore": "false", "is_row_identifier": "false", "number_of_missing_values": "0"}
        kinds = {"x": "numeric", "colour": "nominal", "kind": "nominal"}
        features = [
            {"index": str(i), "name": name, "data_type": kind, "is_target": str(name == "kind").lower(), **flags}
            for i, (name, kind) in enumerate(kinds.items())
        ]
        description = {
            "id": "7", "name": "tiny", "version": "3", "status": "active", "format": "ARFF", "description": "made",
            "url": "https://openml.org/data/v1/download/1/tiny.arff", "default_target_attribute": "kind",
            "md5_checksum": hashlib.md5(data.encode()).hexdigest(),
        }  # fmt: skip
        listed = {"data": {"dataset": [{"did": 7, "version": 3, "status": "active"}]}}
        answers = {
            "api/v1/json/data/list/data_name/tiny/limit/2/status/active/": listed,
            "api/v1/json/data/list/data_name/tiny/limit/2/data_version/3": listed,
            "api/v1/json/data/7": {"data_set_description": description},
            "api/v1/json/data/features/7": {"data_features": {"feature": features}},
            "api/v1/json/data/qualities/7": {
                "data_qualities": {"quality": [{"name": "NumberOfInstances", "value": "20"}]}
            },
            "data/v1/download/1/tiny.arff": data,
        }
        for path, answer in answers.items():
            file = tmp_path / "openml" / "openml.org" / f"{path}.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            text = answer if isinstance(answer, str) else json.dumps(answer)
            file.write_bytes(gzip.compress(text.encode()))

    @pytest.mark.parametrize("source", ["openml:tiny", "openml:tiny/3", "openml:7"])
    def test_a_data_set_is_read_from_the_cache(self, cache, source):
        dataset = load_dataset(source)
        assert (dataset.name, dataset.target, dataset.class_names) == ("tiny", "kind", ("a", "b"))
        np.testing.assert_array_equal(dataset.targets, np.arange(20) % 2)
        assert [column.values for column in dataset.columns] == [None, ("red",)]
        inputs = np.asarray(dataset.inputs)
        np.testing.assert_array_equal(inputs[:, 0], [np.nan if i == 2 else i / 4 for i in range(20)])
        np.testing.assert_array_equal(np.isnan(inputs[:, 1]), np.arange(20) % 3 == 0)
        assert "data set 7, tiny, version 3" in dataset.notes[0]
        assert dataset.digest == load_dataset("openml:tiny").digest

    def test_another_label_can_be_chosen(self, cache, refusal):
        assert "'x'" in refusal(load_dataset, "openml:tiny", label="x", task="regression")  # the cell of row 3 is empty

    def test_what_is_not_there_is_refused(self, cache, refusal):
        assert "openml:other" in refusal(load_dataset, "openml:other")
        assert "openml:tiny/1" in refusal(load_dataset, "openml:tiny/new")


def test_gaps_between_the_classes_of_masks(tmp_path, refusal):
    masks = RNG.integers(0, 4, (12, 5, 5))
    images = RNG.integers(0, 256, (12, 5, 5, 3), np.uint8)
    path = tmp_path / "t.npz"
    np.savez(path, x=images, y=np.where(masks == 3, 77, masks))
    sentence = refusal(load_dataset, path)
    assert "'0', '1', '2', '77'" in sentence
    np.savez(path, x=images, y=np.where(masks == 3, 4, masks))
    dataset = load_dataset(path)
    assert len(dataset.class_names) == 5
    assert any("class '3'" in note for note in dataset.notes)
    np.savez(path, x=images, y=np.where(masks == 3, 77, masks), class_names=np.array([f"c{i}" for i in range(80)]))
    assert len(load_dataset(path).class_names) == 80
