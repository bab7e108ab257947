"""`lossmith describe`: the terminal's 80 columns, the page, JSON, and mistakes."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console
from typer.testing import CliRunner

import lossmith
from lossmith.cli import app
from lossmith.properties import Certificate, RegressionCertificate, certify
from lossmith.report.describe_page import render_description
from lossmith.report.describe_terminal import Description

SOME = [
    "ngl",
    "l",
    "smooth_absolute_error",
    "m_full",
    "formula(y*exp(1/p))",
    "scaled(ngl):factor=12.269208",
    "rooted_gan",
]


@functools.cache
def certified(text: str) -> Certificate | RegressionCertificate:
    return certify(lossmith.create(text))


def printed(text: str, width: int = 80) -> str:
    out = StringIO()
    Console(file=out, width=width).print(Description(certified(text)))
    return out.getvalue()


@pytest.mark.parametrize("text", SOME)
def test_80_columns_hold_it(text: str) -> None:
    lines = printed(text).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(lossmith.create(text).text)


def test_the_terminal_says_what_the_seed_derived_for_ngl() -> None:
    """Seed 4, 1.3: p*, the label smoothing that has it, and how many times smaller the first gradient is."""
    said = [line.split() for line in printed("ngl").splitlines()]
    rows = {words[0]: words for words in said if words and words[0] in {"2", "10", "100", "1,000"}}
    assert [rows[C][3] for C in ("2", "10", "100", "1,000")] == ["0.566", "0.391", "0.362", "0.359"]
    assert [rows[C][4] for C in ("2", "10", "100", "1,000")] == ["0.87", "0.68", "0.64", "0.64"]
    assert [rows[C][2] for C in ("2", "10", "100", "1,000")] == ["2.78", "12.3", "926", "90,157"]


def test_the_terminal_says_the_crossings_of_l_and_the_slope_of_smae() -> None:
    assert "Strict for p < 0.1168, liberal above (proved" in " ".join(printed("l").split())
    assert "1.1997 at |e| = 2.3994" in printed("smooth_absolute_error")


@pytest.mark.parametrize("text", ["ngl", "smooth_absolute_error", "formula(y*exp(1/p))", "logit_adjusted"])
def test_the_page_is_whole_loads_nothing_and_is_the_same_again(text: str) -> None:
    certificate = certified(text)
    page = render_description(certificate)
    assert page == render_description(certificate)
    assert not re.search(r"(?:src|href)=[\"'](?!#)|url\((?!#)|@import", page)
    assert "<script" not in page
    assert all(ElementTree.fromstring(svg).tag.endswith("svg") for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_the_page_escapes_what_comes_from_the_loss() -> None:
    hostile = replace(certified("l"), loss="<b>", formula="<i>", remarks=("<u>",))
    page = render_description(hostile)
    assert not re.search("<[biu]>", page)
    assert "&lt;b&gt;" in page


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke(app, ["describe", "m", "--classes", "5", "--html", "m.html"])
    assert run.exit_code == 0
    assert run.stdout.startswith("m, 5 classes")
    assert (tmp_path / "m.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    run = CliRunner().invoke(app, ["describe", "m", "--json"])
    assert json.loads(run.stdout)["formula"] == "y*expm1(c)"
