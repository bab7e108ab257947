"""The documentation site: every page has its place, every loss a page, and nothing is loaded from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from documentation import GENERATED, ROOT, pages_in_navigation, requests_of
from loss_pages import KINDS, example_of, index_page, page_of
from lossmith.catalog import LossInfo, available

LOSSES = {info.name: info for info in available()}


def test_every_page_has_one_place_in_the_navigation() -> None:
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(pages_in_navigation()) == sorted([*pages, *GENERATED])


def test_every_extra_is_documented() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    table = (ROOT / "docs" / "install.md").read_text(encoding="utf-8").partition("| extra |")[2]
    told = [
        name for line in re.findall(r"^\| (`[^|]*`) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", line)
    ]
    assert sorted(told) == sorted(project["optional-dependencies"])


@pytest.mark.parametrize("info", available(), ids=lambda info: info.name)
def test_the_example_of_a_loss_runs(info: LossInfo) -> None:
    names: dict[str, object] = {}
    exec(example_of(info), names)
    assert isinstance(names["loss"], info.loss_class)


@pytest.mark.parametrize("name", ["brier", "huber", "soft_dice"])
def test_the_page_of_a_loss_has_its_example_its_certificate_and_its_docstring(name: str) -> None:
    info = LOSSES[name]
    page = page_of(info)
    assert re.findall(r"```python\n(.*?)\n```", page, re.DOTALL) == [example_of(info)]
    assert info.summary in page
    assert page.rstrip().endswith(f"::: lossmith.losses.{info.loss_class.__name__}")
    if name == "soft_dice":
        assert "There is no certificate" in page
    else:
        assert "<svg" in page
        assert "lossmith describe" in page


def test_the_table_has_every_loss() -> None:
    assert {info.kind for info in available()} == set(KINDS)
    linked = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\)", index_page("# All losses"), re.MULTILINE)
    assert sorted(linked) == sorted((name, name) for name in LOSSES)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("page.html", '<script src="https://cdn.example/x.js"></script>', ["https://cdn.example/x.js"]),
        ("page.html", '<link rel="stylesheet" href="//fonts.example/css">', ["//fonts.example/css"]),
        ("page.html", '<link rel="preconnect" href="https://fonts.example">', ["https://fonts.example"]),
        ("page.html", '<img srcset="a.png, https://cdn.example/b.png 2x">', ["a.png, https://cdn.example/b.png 2x"]),
        ("page.html", "<style>@import url('https://fonts.example/css');</style>", ["https://fonts.example/css"]),
        ("page.html", '<p style="background: url(https://cdn.example/i.png)">', ["https://cdn.example/i.png"]),
        ("main.css", '@font-face { src: url("//cdn.example/f.woff2") }', ["//cdn.example/f.woff2"]),
        ("page.html", '<a href="https://example.org">a link</a><script src="x.js"></script><img src="i.png">', []),
        ("page.html", '<link rel="canonical" href="https://example.org"><style>a { color: red }</style>', []),
        ("main.css", "a { background: url(data:image/svg+xml;utf8,<svg xmlns='http://www.w3.org/2000/svg'/>) }", []),
    ],
)  # fmt: skip
def test_what_a_browser_would_load_from_elsewhere_is_found(
    tmp_path: Path, name: str, text: str, found: list[str]
) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    assert requests_of(file) == found


@pytest.mark.slow
def test_the_site_is_built() -> None:
    pytest.importorskip("zensical", reason="the site needs the extra docs")
    pytest.importorskip("mkdocstrings_handlers.python", reason="the site needs the extra docs")
    command = [sys.executable, ROOT / "tools" / "documentation.py", "--without-losses"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (ROOT / "site" / "reference.html").read_text(encoding="utf-8")
    assert "from its text form" in page  # of the docstring of `create`
