"""What the tests of the data side share: data sets of given class sizes, and the shape of a good refusal."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lossmith.data import Column, DataError, Dataset

REAL_DATA = Path(__file__).resolve().parents[4] / "shared" / "data"

Refusal = Callable[..., str]


@pytest.fixture
def refusal() -> Refusal:
    """Call something that must be refused, and return the sentence it is refused by."""

    def refuse(call: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
        with pytest.raises(DataError) as caught:
            call(*args, **kwargs)
        sentence = str(caught.value)
        assert "\n" not in sentence
        assert sentence[-1] in ".?"
        assert ". " not in sentence
        assert len(sentence.split()) >= 5
        return sentence

    return refuse


@pytest.fixture
def make_table() -> Callable[..., Dataset]:
    """Make a table with two normal features and classes of the given sizes, sorted by class."""

    def make(sizes: Sequence[int], part: Sequence[int] | None = None, seed: int = 0) -> Dataset:
        labels = np.repeat(np.arange(len(sizes)), sizes)
        inputs = np.random.default_rng(seed).normal(3, 2, (len(labels), 2))
        names = tuple(f"class {code}" for code in range(len(sizes)))
        columns = (Column("a"), Column("b"))
        parts = None if part is None else np.array(part, np.int8)
        return Dataset("made", "made", "tabular", inputs, labels, names, parts, columns)

    return make


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[..., Path]:
    """Write rows (the header first) to a file of the test's folder."""

    def write(name: str, rows: Sequence[Sequence[object]], delimiter: str = ",") -> Path:
        path = tmp_path / name
        text = io.StringIO()
        csv.writer(text, delimiter=delimiter).writerows(rows)
        content = text.getvalue().encode()
        path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
        return path

    return write


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Unpack one of the real data sets, once a session, and return the folder it was unpacked to."""
    if not (REAL_DATA / "unpack.py").is_file():
        pytest.skip("the real data sets are not at ../shared/data beside this checkout")
    pytest.importorskip("PIL", reason="the real data sets are unpacked by pillow")
    spec = importlib.util.spec_from_file_location("unpack", REAL_DATA / "unpack.py")
    assert spec is not None
    assert spec.loader is not None
    unpack = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unpack)
    folder = tmp_path_factory.mktemp("real")
    done: set[str] = set()

    def get(name: str) -> Path:
        if name not in done:
            unpack.SETS[name](folder)
            done.add(name)
        return folder

    return get
