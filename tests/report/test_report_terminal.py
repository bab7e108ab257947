"""The leaderboard reads well at every width, with and without colour."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_example import CANDIDATES, gap, make_run, row, summary, untrained, usual
from rich.cells import cell_len
from rich.console import Console

from lossmith.report.run import Run
from lossmith.report.terminal import Leaderboard


def printed(run: Run, width: int = 80, *, encoding: str = "utf-8", colour: bool = False) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    Console(
        file=file, width=width, force_terminal=colour, color_system="standard" if colour else None, legacy_windows=False
    ).print(Leaderboard(run))
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.fixture(name="run")
def _run(tmp_path: Path) -> Run:
    return make_run(tmp_path)


def table(text: str) -> list[str]:
    """The lines between the rule under the headings and the next empty line."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("──")) + 1
    return lines[start : next(i for i in range(start, len(lines)) if not lines[i].strip())]


@pytest.mark.parametrize("width", [40, 60, 80, 90, 100, 120, 140, 160, 200])
@pytest.mark.parametrize("count", [1, 5, 30])
def test_no_line_is_too_long_and_no_cell_is_cut(tmp_path: Path, width: int, count: int) -> None:
    names = [f"loss_{i}:alpha=0.{i},beta={i}" for i in range(count - 1)]
    text = printed(make_run(tmp_path, usual((*names, CANDIDATES[3]))), width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    for name in (*names, CANDIDATES[3]):
        assert name in names_shown(text)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
@pytest.mark.parametrize(
    "name", ["formula(0.8 - exp(p)*" + "softplus(" * 9 + "p" + ")" * 10, "formula(y*c, " + "p*" * 40]
)
def test_a_name_with_nothing_to_break_it_at_is_broken_all_the_same(tmp_path: Path, width: int, name: str) -> None:
    text = printed(make_run(tmp_path, usual((name, CANDIDATES[3]))), width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert name.replace(" ", "") in names_shown(text)


def names_shown(text: str) -> str:
    """What stands in the column of names, put together again; scores, six characters wide with their gap, follow it."""
    heads = text.splitlines()[text.splitlines().index(table(text)[0]) - 2]
    start, end = heads.index("loss"), heads.index("%") - 5
    return re.sub(r"\s+", "", "".join(line[start:end] for line in table(text)))


@pytest.mark.parametrize(
    "width, shown, hidden",
    [
        (72, ["[95 % interval]", "Holm"], ["AUC", "MDE", "ECE", "learning", "steps"]),
        (80, ["[95 % interval]", "Holm", "bal.", "AUC", "NLL"], ["MDE", "ECE", "learning", "steps"]),
        (100, ["AUC", "MDE", "steps"], ["learning"]),
        (120, ["AUC", "MDE", "steps", "ECE"], ["train-", "learning"]),
        (140, ["AUC", "MDE", "steps", "ECE", "train-", "learning"], ["verdict"]),
        (190, ["AUC", "label smoothing", "learning", "verdict"], []),
    ],
)
def test_a_wider_terminal_shows_more_columns(run: Run, width: int, shown: list[str], hidden: list[str]) -> None:
    text = printed(run, width)
    rule = next(i for i, line in enumerate(text.splitlines()) if line.startswith("──"))
    head = "\n".join(text.splitlines()[rule - 2 : rule])
    assert all(word in head for word in shown)
    assert not any(word in head for word in hidden)


def test_every_number_promised_stands_in_a_wide_table(run: Run) -> None:
    line = next(line for line in table(printed(run, 200)) if " ngl " in line)
    for cell in ("98.60", "+0.60 [+0.20, +1.00]", "0.046", "+0.10 [-0.30, +0.50]", "0.57", "0.87", "3.1 → 1.3", "48"):
        assert cell in line
    assert "0.004 " in line


def test_cross_entropy_and_label_smoothing_are_references(run: Run) -> None:
    lines = table(printed(run, 200))
    assert "reference" in next(line for line in lines if " cross_entropy *" in line)
    assert "reference" in next(line for line in lines if " label_smoothing (tuned)  " in line)


def test_a_loss_that_could_not_be_trained_stands_last_without_rank(tmp_path: Path) -> None:
    rows = [row("cross_entropy", 0.98), row("m", 0.97), untrained(row("mae", 0.99), "3 of its 10 trainings diverged")]
    text = printed(make_run(tmp_path, summary(rows)), 100)
    assert not any("mae" in line for line in table(text))
    assert "Not ranked: mae, 3 of its 10 trainings diverged." in text


def test_nothing_could_be_trained(tmp_path: Path) -> None:
    text = printed(make_run(tmp_path, summary([untrained(row("mae", 0.1), "it diverged")])))
    assert "Not ranked: mae, it diverged." in text


def test_piped_output_has_no_colour_and_a_terminal_has(run: Run) -> None:
    assert "\x1b" not in printed(run)
    assert "\x1b[1m" in printed(run, colour=True)


def test_colour_changes_no_character(run: Run) -> None:
    assert re.sub(r"\x1b\[[\d;]*m", "", printed(run, colour=True)) == printed(run)


def test_names_are_not_read_as_markup(tmp_path: Path) -> None:
    assert "[red]x[/red] :smile: $y$" in printed(make_run(tmp_path, usual(("[red]x[/red] :smile: $y$", "m"))), 120)


def test_an_ascii_terminal_is_enough(run: Run) -> None:
    text = printed(run, 120, encoding="ascii")
    assert "3.1 -> 1.3" in text
    assert max(map(len, text.splitlines())) <= 120


def test_how_often_the_test_split_was_scored_and_where_the_report_lies(run: Run) -> None:
    assert "No report.html" in printed(run, 300)
    run.report.write_text("")
    text = printed(run, 300)
    assert "23 trained models have been scored on each of these test folds so far" in text
    assert f"Report: {run.report}" in text


def test_a_difference_without_interval_says_why(tmp_path: Path) -> None:
    bare = replace(
        gap(0.001),
        interval=None,
        simultaneous=None,
        p=None,
        holm_p=None,
        mde=None,
        se=None,
        reason="fewer than 3 final runs",
    )
    rows = [row("cross_entropy", 0.98), replace(row("m", 0.981), against_reference=bare)]
    text = printed(make_run(tmp_path, summary(rows)))
    assert "+0.10 (no interval)" in text
    assert "No interval, as fewer than 3 final runs: m." in text


@pytest.mark.parametrize(
    "metric, shown, hidden",
    [
        ("accuracy", ["bal.", "AUC", "NLL"], ["acc.", "Brier"]),
        ("balanced accuracy", ["acc.", "AUC", "NLL"], ["bal.", "Brier"]),
        ("AUC", ["acc.", "bal.", "NLL"], ["AUC", "Brier"]),
        ("Brier skill", ["acc.", "bal.", "AUC", "NLL", "Brier"], []),
        ("cost.py:saved#0123", ["acc.", "bal.", "AUC", "NLL"], ["Brier"]),
    ],
)
def test_accuracy_balanced_accuracy_auc_and_nll_stand_beside_each_other(
    run: Run, metric: str, shown: list[str], hidden: list[str]
) -> None:
    task = replace(run.design.task, metric=metric)
    text = printed(replace(run, design=replace(run.design, task=task, metric_reason="as asked for")), 120)
    assert f"judged by {metric.removeprefix('cost.py:').removesuffix('#0123')}, as asked for" in text
    rule = next(i for i, line in enumerate(text.splitlines()) if line.startswith("──"))
    heads = text.splitlines()[rule - 2].split()
    assert all(word in heads for word in shown)
    assert not any(word in heads for word in hidden)
