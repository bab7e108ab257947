from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from html_page import Page

from lossmith import studies
from lossmith.cli import main
from lossmith.report.study import Said, write_study
from lossmith.studies.bench import Bench
from lossmith.studies.findings import MOST_NAMED, Claim, Findings, Line, Plot, Section, Table

X = [1.0, 10.0, 100.0]
PLOT = Plot(
    "Loss against updates",
    "updates",
    "loss, nats",
    (
        Line(X, [3.0, 2.0, 1.0], "static"),
        Line(X, [3.0, 1.0, 0.5], "dynamical", [2.0, 0.5, 0.2], [4.0, 2.0, 1.0]),
        Line(X, X),
    ),
    log="xy",
    level=0.7,
)
FOUND = Findings(
    "A title",
    "Does it work? No.",
    "Somebody, 2021.",
    (Claim("It works.", "does not hold", "The difference is -0.5 [-0.7, -0.3]."), Claim("<b>", "undecided", "5 < 6.")),
    (
        Section("How", ("One paragraph.", "Another with `code`.")),
        Section("Numbers", (), (Table(("arm", "score"), (("one", "-1.5"), ("two", "2"))),), (PLOT, PLOT)),
    ),
)


def test_both_pages_hold_claims_tables_and_plots(tmp_path: Path) -> None:
    page = Page(write_study(FOUND, Said("lossmith study x", 744.0, quick=False), tmp_path).read_text())
    text = (tmp_path / "report.md").read_text()
    for said in (
        "It works.",
        "Does not hold. The difference is",
        "One paragraph.",
        "lossmith study x",
        "Somebody, 2021.",
    ):
        assert said in page.text
        assert said.replace("Does not hold.", "Does not hold.") in text
    assert "12 min of one core" in page.text
    assert "took 12 min of one core" in text
    assert "\n| arm | score |\n|---|---|\n| one | -1.5 |\n| two | 2 |\n" in text
    assert "<b>" not in page.text.replace("<b>", "", 1)  # once, as text
    assert not any(tag == "b" for tag, _ in page.tags)
    assert sum(tag == "svg" and "swatch" not in str(of.get("class")) for tag, of in page.tags) == 2
    assert "static" in page.text
    assert "at 0.7" in text
    for name in ("2-1.png", "2-2.png"):
        assert f"]({name})" in text
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert "prove" not in text


def test_a_trial_run_says_that_it_proves_nothing(tmp_path: Path) -> None:
    page = Page(write_study(FOUND, Said("lossmith study x --quick", 6.0, quick=True), tmp_path).read_text())
    assert "prove nothing" in page.text
    assert "prove nothing" in (tmp_path / "report.md").read_text()


def test_equal_findings_give_equal_pages(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_study(FOUND, Said("lossmith study x", 60.0, quick=False), tmp_path / name)
    for file in ("report.html", "report.md"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_plot_has_no_more_names_than_looks() -> None:
    lines = tuple(Line(X, X, f"line {k}") for k in range(MOST_NAMED + 1))
    Plot("", "", "", lines[1:])
    with pytest.raises(ValueError, match="at most 6"):
        Plot("too many", "", "", lines)


def test_the_command_prints_the_verdicts_and_writes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def study(bench: Bench) -> Findings:
        asked.append((bench.quick, bench.workers, bench.data))
        bench.seconds = 120.0
        return FOUND

    made = ModuleType("lossmith.studies.made_up")
    made.study = study  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, made.__name__, made)
    monkeypatch.setitem(studies.STUDIES, "made-up", "made_up")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sets").mkdir()
    monkeypatch.setattr(sys, "argv", ["lossmith", "study", "made-up", "--quick", "--workers", "2", "--data", "sets"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert asked == [(True, 2, Path("sets"))]
    said = capsys.readouterr().out
    assert said.startswith("A trial run with few and short trainings: its verdicts prove nothing.")
    assert "It works. Does not hold. The difference is -0.5 [-0.7, -0.3]." in said
    assert "runs/study-made-up-quick/report.html" in said.replace("\n", "")
    assert (
        "lossmith study made-up --data sets/ --quick" in (tmp_path / "runs/study-made-up-quick/report.md").read_text()
    )
