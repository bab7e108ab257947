"""Builds the documentation site: `make docs`.

Collects the pages in ``.docs/``: those under ``docs/``, the changelog and the contributor's guide, and the pages that
are made from the code (losses, examples, commands). Zensical builds them strictly, so that a broken link is an error.
At last every file of the site is searched for anything that a browser would load from another server.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
STAGE: Final = ROOT / ".docs"
SITE: Final = ROOT / "site"
CONFIG: Final = ROOT / "zensical.toml"
LOSSES: Final = '    "LOSSES", # the generated pages\n'
GENERATED: Final = ("examples.md", "commands.md", "contributing.md", "changelog.md")
# Where pages of the repository that lie outside docs/ stand on the site.
_MOVED: Final = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_LINK: Final = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
_LOADING: Final = {
    ("script", "src"), ("img", "src"), ("img", "srcset"), ("iframe", "src"), ("source", "src"), ("source", "srcset"),
    ("video", "src"), ("video", "poster"), ("audio", "src"), ("track", "src"), ("embed", "src"), ("object", "data"),
    ("use", "href"), ("image", "href"), ("image", "xlink:href"), ("use", "xlink:href"), ("input", "src"),
}  # fmt: skip
_RELATIONS: Final = {"canonical", "alternate", "next", "prev", "license", "author"}  # of <link>: named, not loaded
_IN_STYLE: Final = re.compile(r"""(?:url\(|@import)\s*["']?((?:https?:)?//[^"')\s;]+)""")


def main() -> None:
    """Build the site, or say on one page after the other what is wrong with it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--without-losses", action="store_true", help="leave out the pages of the losses: a minute less"
    )
    arguments = parser.parse_args()
    stage(losses=not arguments.without_losses)
    build()
    outside = [f"{file.relative_to(SITE)}: {found}" for file in sorted(SITE.rglob("*")) for found in requests_of(file)]
    if outside:
        sys.exit("These pages ask another server for something:\n" + "\n".join(outside))
    print(f"written to {SITE.relative_to(ROOT)}/index.html")


def stage(*, losses: bool = True) -> None:
    """Collect the pages in ``.docs/pages``, with the links between them as they are on the site."""
    shutil.rmtree(STAGE, ignore_errors=True)
    pages = STAGE / "pages"
    shutil.copytree(ROOT / "docs", pages)
    for page in pages.rglob("*.md"):
        page.write_text(_relinked(page, ROOT / "docs" / page.relative_to(pages)), encoding="utf-8")
    for source in ("CONTRIBUTING.md", "CHANGELOG.md"):
        page = pages / _MOVED[source]
        page.write_text((ROOT / source).read_text(encoding="utf-8"), encoding="utf-8")
        page.write_text(_relinked(page, ROOT / source), encoding="utf-8")
    (pages / "examples.md").write_text(_examples(), encoding="utf-8")
    (pages / "commands.md").write_text(_commands(), encoding="utf-8")
    entries = _write_losses(pages / "losses") if losses else ""
    config = CONFIG.read_text(encoding="utf-8").replace(LOSSES, entries)
    (STAGE / CONFIG.name).write_text(config, encoding="utf-8")


def build() -> None:
    """Build ``.docs`` into ``site``; a warning, such as a link that leads nowhere, is an error."""
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean"]
    done = subprocess.run(command, cwd=STAGE, check=False, env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
    if done.returncode:
        sys.exit("The documentation could not be built: see above.")
    shutil.rmtree(SITE, ignore_errors=True)
    (STAGE / "site").rename(SITE)


def pages_in_navigation() -> list[str]:
    """The pages that `nav` names, in its order, without the generated pages of the losses."""
    config = tomllib.loads(CONFIG.read_text(encoding="utf-8").replace(LOSSES, ""))
    return list(_named(config["project"]["nav"]))


def requests_of(file: Path) -> list[str]:
    """What a browser would load from another server for this file of the site."""
    if file.suffix == ".css":
        return _IN_STYLE.findall(file.read_text(encoding="utf-8"))
    if file.suffix not in {".html", ".svg"}:
        return []
    parser = _Requests()
    parser.feed(file.read_text(encoding="utf-8"))
    return parser.found


class _Requests(HTMLParser):
    """Collects addresses of other servers from tags that load what they name, and from styles."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at the attributes of a tag."""
        self._in_style = tag == "style"
        values = {name: value or "" for name, value in attrs}
        loaded = [value for name, value in values.items() if (tag, name) in _LOADING]
        if tag == "link" and not set(values.get("rel", "").split()) <= _RELATIONS:
            loaded.append(values.get("href", ""))
        self.found += [value for value in loaded if re.search(r"(^|\s|,)(https?:)?//", value)]
        self.found += _IN_STYLE.findall(values.get("style", ""))

    def handle_data(self, data: str) -> None:
        """Look at a style sheet inside the page."""
        if self._in_style:
            self.found += _IN_STYLE.findall(data)


def _relinked(page: Path, source: Path) -> str:
    """The text of a page, whose links out of docs/ lead to where that stands on the site."""
    pages = STAGE / "pages"

    def moved(match: re.Match[str]) -> str:
        target = (source.parent / match[1]).resolve()
        if target.is_relative_to(ROOT / "docs"):
            found = pages / target.relative_to(ROOT / "docs")
        elif target.parent == ROOT / "examples":
            heading = "" if target.suffix == ".md" else f"#{target.stem}"
            return os.path.relpath(pages / "examples.md", page.parent) + heading
        else:
            found = pages / _MOVED.get(target.relative_to(ROOT).as_posix(), target.relative_to(ROOT).as_posix())
        return os.path.relpath(found, page.parent) + (match[2] or "")

    return _LINK.sub(moved, page.read_text(encoding="utf-8"))


def _examples() -> str:
    """The scripts of ``examples/``, with the text of its README."""
    folder = ROOT / "examples"
    listed = (folder / "README.md").read_text(encoding="utf-8").rstrip()
    parts = [listed]
    for name in re.findall(r"^\| \[(\w+)\.py\]", listed, re.MULTILINE):
        text = (folder / f"{name}.py").read_text(encoding="utf-8")
        parts.append(f"## {name} {{ #{name} }}\n\n```python\n{text}```")
    return "\n\n".join(parts) + "\n"


def _commands() -> str:
    """What ``lossmith COMMAND --help`` prints, for every command."""
    command = [
        sys.executable,
        "-m",
        "typer",
        "lossmith.cli",
        "utils",
        "docs",
        "--name",
        "lossmith",
        "--title",
        "Commands",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return re.sub(r"(?<!`)``(?!`)", "`", done.stdout)  # as in docstrings


def _write_losses(folder: Path) -> str:
    """Write the pages of the losses, and return their entries in the navigation."""
    from loss_pages import KINDS, index_page, page_of
    from lossmith.catalog import available

    index = folder / "index.md"
    index.write_text(index_page(index.read_text(encoding="utf-8")), encoding="utf-8")
    entries = []
    for kind, title in KINDS.items():
        names = ", ".join(f'"losses/{info.name}.md"' for info in available(kind))
        entries.append(f'    {{ "{title}" = [{names}] }},\n')
    for info in available():
        print(f"certificate of {info.name}", flush=True)
        (folder / f"{info.name}.md").write_text(page_of(info), encoding="utf-8")
    return "".join(entries)


def _named(entries: list[Any]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, dict):
            yield from _named(list(entry.values()))
        else:
            yield from _named(entry)


if __name__ == "__main__":
    main()
