"""``hall_of_fame.csv`` holds both halls of fame."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import pytest

from lossmith.evolution.hall_csv import hall_of_fame_csv, write_hall_of_fame
from made_search import candidate, control, strategy


def test_every_member_has_a_row(tmp_path: Path) -> None:
    searches = (strategy(), control())
    write_hall_of_fame(searches, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["hall_of_fame.csv"]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "hall_of_fame.csv").read_text())))
    wanted = [(search.strategy, rank, of) for search in searches for rank, of in enumerate(search.hall_of_fame, 1)]
    assert len(rows) == len(wanted)
    for row, (name, rank, of) in zip(rows, wanted, strict=True):
        assert (row["strategy"], row["rank"], row["formula"]) == (name, str(rank), of.formula)
        assert float(row["score"]) == of.scores[0]
        assert float(row["error"]) == pytest.approx(of.error, rel=1e-6)
        assert float(row["lr_factor"]) == of.lr_factor
        assert row["rung"] == str(of.rung + 1)
        assert (row["complexity"], row["operator"], row["number"]) == (str(of.complexity), of.operator, str(of.number))
        assert row["on_front"] == str(of.on_front).lower()


def test_what_is_not_finite_is_left_empty_and_no_member_is_no_row() -> None:
    odd = replace(strategy(), hall_of_fame=(candidate(0, 1, scores=(math.inf,), error=math.nan),))
    (row,) = csv.DictReader(io.StringIO(hall_of_fame_csv([odd])))
    assert (row["score"], row["error"]) == ("", "")
    header = hall_of_fame_csv([odd]).splitlines()[0]
    assert hall_of_fame_csv([]) == header + "\n"
