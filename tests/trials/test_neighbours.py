"""Modules beside a user's file: found without running it, part of its hash, imported like those of a script."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lossmith.trials.fingerprint import fingerprint
from lossmith.trials.neighbours import files_of, neighbours
from lossmith.trials.parcel import pack
from lossmith.trials.trial import Sources
from lossmith.trials.user_code import canonical_function, load_function

MAIN = """
import numpy as np
import helpers_of_mine
from package_of_mine.part import value

def make():
    from lazy_of_mine import later
    return helpers_of_mine.number + value + later
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "main.py": MAIN,
        "helpers_of_mine.py": "import deeper_of_mine\nnumber = deeper_of_mine.number",
        "deeper_of_mine.py": "number = 1",
        "lazy_of_mine.py": "later = 100",
        "unused_of_mine.py": "raise RuntimeError",
        "package_of_mine/__init__.py": "",
        "package_of_mine/part.py": "from .inner import value",
        "package_of_mine/inner.py": "value = 10",
    }
    for name, text in files.items():
        (tmp_path / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "code" / name).write_text(text)
    return tmp_path / "code"


def test_those_that_are_imported_are_found(folder: Path) -> None:
    found = {path.relative_to(folder).as_posix() for path in neighbours(folder / "main.py")}
    package = {f"package_of_mine/{name}.py" for name in ("__init__", "part", "inner")}
    assert found == {"helpers_of_mine.py", "deeper_of_mine.py", "lazy_of_mine.py"} | package
    assert neighbours(folder / "deeper_of_mine.py") == ()


def test_a_folder_of_modules_needs_no_init_file(folder: Path, tmp_path: Path) -> None:
    """Such a folder can be imported from, and a changed module in it is another training."""
    for name, text in {"net": "from .layers import width", "layers": "width = 4", "unused": "1 / 0"}.items():
        (folder / "models_of_mine").mkdir(exist_ok=True)
        (folder / "models_of_mine" / f"{name}.py").write_text(text)
    (folder / "main.py").write_text("from models_of_mine import net\ndef make(): return net.width")
    found = [path.relative_to(folder).as_posix() for path in neighbours(folder / "main.py")]
    assert found == ["models_of_mine/layers.py", "models_of_mine/net.py"]
    sources, text = Sources(), {}
    for width in (4, 5):
        (folder / "models_of_mine" / "layers.py").write_text(f"width = {width}")
        text[width] = canonical_function(f"{folder}/main.py:make", "model", sources)
        assert load_function(text[width], "model", sources)() == width
    assert text[4] != text[5]
    elsewhere = pack(sources).unpack(tmp_path / "node")
    folder.rename(tmp_path / "gone")
    assert load_function(text[5], "model", elsewhere)() == 5


def test_modules_of_a_package_import_from_each_other(folder: Path) -> None:
    part = folder / "package_of_mine" / "part.py"
    part.write_text("from . import inner\nfrom package_of_mine.inner import value\nimport deeper_of_mine")
    found = {path.relative_to(folder).as_posix() for path in files_of(["package_of_mine.part"], folder)}
    package = {f"package_of_mine/{name}.py" for name in ("__init__", "part", "inner")}
    assert found == {"deeper_of_mine.py"} | package


def test_a_function_imports_them_wherever_it_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    before, sources = list(sys.path), Sources()
    text = canonical_function(f"{folder}/main.py:make", "model", sources)
    function = load_function(text, "model", sources)
    from lossmith.trials.user_code import guarded

    with guarded("it failed", sources.code[text.rpartition("#")[2]]):
        assert function() == 111
    assert sys.path == before


def test_their_content_is_part_of_the_hash(folder: Path) -> None:
    first = canonical_function(f"{folder}/main.py:make", "model", Sources())
    (folder / "unused_of_mine.py").write_text("changed = 1")
    assert canonical_function(f"{folder}/main.py:make", "model", Sources()) == first
    (folder / "deeper_of_mine.py").write_text("number = 2")
    sources = Sources()
    second = canonical_function(f"{folder}/main.py:make", "model", sources)
    assert second != first
    assert load_function(second, "model", sources).__globals__["helpers_of_mine"].number == 2


def test_they_travel_with_it(folder: Path, tmp_path: Path) -> None:
    sources = Sources()
    text = canonical_function(f"{folder}/main.py:make", "model", sources)
    elsewhere = pack(sources).unpack(tmp_path / "node")
    folder.rename(tmp_path / "gone")
    function = load_function(text, "model", elsewhere)
    assert str(tmp_path / "node") in function.__globals__["helpers_of_mine"].__file__


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("def f(): import helpers_of_mine", "deeper_of_mine.py"),
        ("def f():\n    def g(): from package_of_mine.part import value", "package_of_mine/inner.py"),
        ("from package_of_mine import part\ndef f(): return part.value", "package_of_mine/inner.py"),
        ("from lazy_of_mine import later\ndef f(): return later", None),  # a number, whose file no longer matters
        ("def f(): import helpers_of_mine", None),
    ],
)
def test_a_function_kept_by_value_counts_with_the_modules_that_it_imports(
    folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, changed: str | None
) -> None:
    monkeypatch.syspath_prepend(folder)
    for name in [name for name in sys.modules if name.partition(".")[0].endswith("_of_mine")]:
        del sys.modules[name]  # from another folder
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(code, names)
    first = fingerprint(names["f"]).digest
    for name in ("unused_of_mine.py", "lazy_of_mine.py") if changed is None else (changed,):
        (folder / name).write_text("value = number = later = -1")
    assert (fingerprint(names["f"]).digest == first) == (changed is None)


def test_two_files_may_have_neighbours_of_one_name(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "main.py").write_text("from helpers_of_mine import number\ndef make(): return number")
    (other / "helpers_of_mine.py").write_text("number = -1")
    sources = Sources()
    for _ in range(2):
        assert load_function(canonical_function(f"{other}/main.py:make", "model", sources), "model", sources)() == -1
        load_function(canonical_function(f"{folder}/main.py:make", "model", sources), "model", sources)
        assert Path(sys.modules["helpers_of_mine"].__file__ or "").parent == folder
