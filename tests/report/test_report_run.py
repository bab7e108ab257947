"""A run folder comes from other people: it is read whole or refused in one sentence."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from report_example import CANDIDATES, changed, row, summary, usual, write_run

from lossmith.comparison.files import Number
from lossmith.comparison.options import Options
from lossmith.comparison.plan import make_plan
from lossmith.export import export
from lossmith.report.folder import RunError
from lossmith.report.reading import ReadError, clean, read
from lossmith.report.run import Design, load_run
from lossmith.trials.trial import Sources


def test_a_summary_comes_back_as_it_was_written(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path, usual()))
    assert run.results == usual()


def test_all_that_a_report_says_of_a_plan_is_in_every_plan() -> None:
    sources = Sources()
    plan = make_plan(Options(data="iris", losses=("m",)), sources)
    own = {"function", "folds"}  # of a plan with a training function
    assert {field.name for field in fields(Design)} - own <= tomllib.loads(plan.text).keys()


def test_a_number_that_was_not_finite_comes_back_as_nan(tmp_path: Path) -> None:
    odd = changed(row("cross_entropy", 0.98), gradient_ratio=math.inf)
    assert math.isnan(load_run(write_run(tmp_path, summary([odd]))).results.rows[0].training.gradient_ratio)


def test_names_lose_characters_that_act_on_a_terminal_or_break_xml(tmp_path: Path) -> None:
    assert clean("a\x1b[2Jb\x00c\nd\u202ee") == "a\ufffd[2Jb\ufffdc d\ufffde"
    run = load_run(write_run(tmp_path, usual((*CANDIDATES, "evil\x1b[2J"))))
    assert "evil\ufffd[2J" in [row.name for row in run.results.rows]


def one_sentence(error: pytest.ExceptionInfo[RunError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert message
    return message


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError) as error:
        load_run(tmp_path / "nowhere")
    assert "nowhere is not a folder" in one_sentence(error)


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is not a folder"):
        load_run(tmp_path / "file")


def test_a_folder_that_is_not_of_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunError) as error:
        load_run(tmp_path)
    assert "plan.toml" in one_sentence(error)


def test_a_run_that_is_not_finished(tmp_path: Path) -> None:
    (write_run(tmp_path) / "summary.json").unlink()
    with pytest.raises(RunError) as error:
        load_run(tmp_path)
    assert "not finished" in one_sentence(error)


@pytest.mark.parametrize("file", ["plan.toml", "summary.json"])
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"1" * 5000, b'{"rows": []}', b"rows = []"],
    ids=["empty", "cut off", "not text", "deep", "list", "long", "no losses", "no losses in TOML"],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: bytes) -> None:
    (write_run(tmp_path) / file).write_bytes(content)
    with pytest.raises(RunError) as error:
        load_run(tmp_path)
    assert f"{file} is damaged" in one_sentence(error)


def spoil_a_type(of: dict[str, Any]) -> None:
    of["rows"][1]["score"] = "high"


def spoil_a_truth(of: dict[str, Any]) -> None:
    of["rows"][0]["tuning"]["trainings"] = True


def forget_a_field(of: dict[str, Any]) -> None:
    del of["rows"][2]["training"]["gradient_ratio"]


def cut_a_curve(of: dict[str, Any]) -> None:
    del of["rows"][0]["training"]["curve"]["valid"]["nll"][0]


def forget_a_loss(of: dict[str, Any]) -> None:
    del of["rows"][3]


def spoil_an_interval(of: dict[str, Any]) -> None:
    of["rows"][0]["against_reference"]["interval"] = [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    "spoil", [spoil_a_type, spoil_a_truth, forget_a_field, cut_a_curve, forget_a_loss, spoil_an_interval]
)
def test_a_damaged_summary_is_refused(tmp_path: Path, spoil: Callable[[dict[str, Any]], None]) -> None:
    file = write_run(tmp_path) / "summary.json"
    content = json.loads(file.read_text())
    spoil(content)
    file.write_text(json.dumps(content))
    with pytest.raises(RunError) as error:
        load_run(tmp_path)
    assert "summary.json is damaged" in one_sentence(error)


def test_a_key_that_a_later_version_added_is_passed_over(tmp_path: Path) -> None:
    file = write_run(tmp_path) / "summary.json"
    content = json.loads(file.read_text())
    content["news"] = {"of": "tomorrow"}
    file.write_text(json.dumps(content))
    assert load_run(tmp_path).results.headline == usual().headline


@pytest.mark.parametrize("kind, value", [(int, 1.5), (int, True), (Number, True), (str, 1), (dict[str, Number], [1])])
def test_types_are_taken_strictly(kind: Any, value: object) -> None:
    with pytest.raises(ReadError, match=r"^Expected [^\n]*$"):
        read(kind, value)


@pytest.mark.parametrize("value", [None, math.inf, -math.inf, math.nan, 10**400, 1e300])
def test_what_no_table_can_show_is_no_number(value: object) -> None:
    assert math.isnan(read(Number, value))


def test_a_run_folder_is_exported_as_the_loss_it_recommends(tmp_path: Path) -> None:
    recommended = replace(row("best of all", 0.99), shape_of="focal:gamma=3")
    write_run(tmp_path / "run", summary([row("cross_entropy", 0.98), recommended, row("m", 0.97)], "best of all"))
    assert export(str(tmp_path / "run"), tmp_path / "my_loss.py") == "focal:gamma=3"
    assert (tmp_path / "my_loss.py").read_text().startswith('"""focal:gamma=3: a loss')
