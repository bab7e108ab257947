"""Tables of a run folder: the same numbers in every format."""

from __future__ import annotations

import csv
import importlib.util
import math
from pathlib import Path

import pandas as pd
import pytest
from report_example import row, summary, untrained, write_run

from lossmith.comparison.rows import Summary


def results() -> Summary:
    return summary([row("cross_entropy", 0.98), untrained(row("ngl", math.nan), "diverged"), row("rooted", 0.97)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", results())


def test_parquet_holds_the_numbers_of_the_csv_with_their_types(folder: Path) -> None:
    with (folder / "results.csv").open() as file:
        texts = list(csv.DictReader(file))
    table = pd.read_parquet(folder / "results.parquet")
    assert list(table.columns) == list(texts[0])
    assert len(table) == len(texts) == 3
    for i, cells in enumerate(texts):
        for name, text in cells.items():
            value = table[name][i]
            if text == "":
                assert pd.isna(value) or not value, name
            elif isinstance(value, str):
                assert value == text
            else:
                assert f"{value:.6g}" == f"{float(text):.6g}", name
    assert table["score"].dtype == float
    assert table["trainings"].dtype == int
    assert table["holm_p"].dtype == float


def test_equal_results_give_equal_bytes(folder: Path, tmp_path: Path) -> None:
    again = write_run(tmp_path / "again", results())
    assert (again / "results.parquet").read_bytes() == (folder / "results.parquet").read_bytes()


def test_without_pyarrow_there_is_no_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyarrow" else find(name))
    folder = write_run(tmp_path / "run")
    assert (folder / "results.csv").is_file()
    assert not (folder / "results.parquet").exists()
