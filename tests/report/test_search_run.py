"""The run folder of a search comes from other people: it is read whole or refused in one sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from search_example import write_search
from typer.testing import CliRunner

from lossmith.cli import app
from lossmith.export import export
from lossmith.report.evolution.search_run import load_search
from lossmith.report.folder import RunError
from made_search import CONTROL_WINNER, WINNER, found, stopped, write_found


def test_findings_come_back_as_they_were_written(tmp_path: Path) -> None:
    of = stopped()
    write_found(tmp_path, of)
    assert load_search(tmp_path).found == of


def test_a_score_that_was_not_finite_comes_back_as_nan(tmp_path: Path) -> None:
    write_found(tmp_path, found(comparisons=()))
    assert math.isnan(load_search(tmp_path).found.choices[2].score)


def test_the_losses_found_have_short_names_in_the_comparisons(tmp_path: Path) -> None:
    run = load_search(write_search(tmp_path))
    names = {row.loss: row.name for row in run.comparisons[0].results.rows}
    assert names[WINNER] == "the winner"
    assert names[CONTROL_WINNER] == "random search's winner"
    assert names["cross_entropy"] == "cross_entropy"


def test_the_headline_of_a_comparison_calls_them_by_these_names(tmp_path: Path) -> None:
    one, other = "formula(y*c + p)", "formula(y*c + p + p)"
    folder = write_search(tmp_path, found(winner=one, control_winner=other, comparisons=("comparisons/digits",)))
    file = folder / "comparisons" / "digits" / "summary.json"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(kept | {"headline": f"{other} and {one} are better than y*c."}))
    said = load_search(folder).comparisons[0].results.headline
    assert said == "random search's winner and the winner are better than y*c."


def test_a_control_keeps_its_name_even_if_it_won(tmp_path: Path) -> None:
    folder = write_search(tmp_path, found(comparisons=("comparisons/digits",)))
    write_found(folder, found(winner="cross_entropy", comparisons=("comparisons/digits",)))
    assert "the winner" not in [row.name for row in load_search(folder).comparisons[0].results.rows]


def test_a_search_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    write_found(tmp_path, found())
    (tmp_path / "evolution.json").unlink()
    with pytest.raises(RunError, match="is not finished"):
        load_search(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b'{"searches": []}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    write_found(tmp_path, found())
    (tmp_path / "evolution.json").write_bytes(content)
    with pytest.raises(RunError, match=r"evolution\.json is damaged") as error:
        load_search(tmp_path)
    assert "\n" not in str(error.value)


def no_search(of: dict[str, Any]) -> None:
    of["searches"] = []


def no_such_rung(of: dict[str, Any]) -> None:
    of["searches"][0]["hall_of_fame"][0]["rung"] = 3


def references_of_other_rungs(of: dict[str, Any]) -> None:
    of["reference_score"] = [0.1]


def elsewhere(of: dict[str, Any]) -> None:
    of["comparisons"] = ["comparisons/../../secret"]


def above(of: dict[str, Any]) -> None:
    of["comparisons"] = ["comparisons/.."]


def absolute(of: dict[str, Any]) -> None:
    of["comparisons"] = ["/etc"]


def a_file(of: dict[str, Any]) -> None:
    of["winner"] = "@/etc/passwd"


def a_word(of: dict[str, Any]) -> None:
    of["searches"][0]["rescued"] = "many"


@pytest.mark.parametrize(
    "spoil", [no_search, no_such_rung, references_of_other_rungs, elsewhere, above, absolute, a_file, a_word]
)
def test_damaged_findings_are_refused(tmp_path: Path, spoil: Callable[[dict[str, Any]], None]) -> None:
    write_found(tmp_path, found())
    file = tmp_path / "evolution.json"
    content = json.loads(file.read_text())
    spoil(content)
    file.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"evolution\.json is damaged") as error:
        load_search(tmp_path)
    assert "\n" not in str(error.value)


def test_the_commands_take_the_folder_of_a_search(tmp_path: Path) -> None:
    folder = write_search(tmp_path / "run")
    shown = CliRunner().invoke(app, ["show", str(folder)])
    assert shown.exit_code == 0
    assert "On digits the evolved loss is better" in shown.stdout
    assert export(str(folder), tmp_path / "my_loss.py") == WINNER
    write_found(tmp_path / "stopped", stopped())
    with pytest.raises(RunError, match="before it chose a loss"):
        export(str(tmp_path / "stopped"), tmp_path / "my_loss.py")
