"""What the command line says without torch, whose import takes seconds."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

_PROGRAM = """
import sys
from lossmith.cli import main
try:
    main()
except SystemExit as ended:
    heavy = {"torch", "scipy", "matplotlib", "sklearn"} & set(sys.modules)
    print(f"loaded {sorted(heavy)}", file=sys.stderr)
    raise
"""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("list", "--help"), 0),
        (("compare", "--help"), 0),
        (("compare", "digitz"), 2),
        (("compare", "--lrs", "fast"), 2),
        (("compare", "--optimizer", "adamm"), 2),
        (("train", "--epochs", "3", "--steps", "9"), 2),
        (("train", "--steps", "0"), 2),
        (("show", "nowhere"), 2),
        (("show", "."), 2),
        (("predict", "nowhere", "new.csv"), 2),
        (("compare", "--no-such-option"), 2),
    ],
)
def test_help_and_mistakes_do_not_wait_for_torch(tmp_path: Path, arguments: tuple[str, ...], code: int) -> None:
    command = [sys.executable, "-c", _PROGRAM, *arguments]
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.endswith("loaded []\n")


def test_names_of_the_package_are_there_without_being_imported_first() -> None:
    program = (
        "import lossmith, sys; assert 'torch' not in sys.modules; lossmith.losses, lossmith.learned; lossmith.create"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    import lossmith

    assert set(lossmith.__all__) <= set(dir(lossmith))
    with pytest.raises(AttributeError, match="no attribute 'los'"):
        lossmith.los  # noqa: B018


_WITHOUT = """
import sys
from importlib import metadata

def distribution(name, find=metadata.distribution):
    if name in {absent!r}:
        raise metadata.PackageNotFoundError(name)
    return find(name)

metadata.distribution = distribution
sys.modules.update(dict.fromkeys(["typer", "rich", "sklearn"]))
"""


@pytest.mark.parametrize(
    ("program", "code", "said"),
    [
        ("from lossmith.__main__ import main; main()", 2, "lossmith: the command needs"),
        ("import lossmith; lossmith.compare", 1, "ImportError: lossmith.compare needs"),
    ],
)
def test_a_missing_extra_is_named(program: str, code: int, said: str) -> None:
    absent = ("typer", "rich", "scikit-learn")
    command = [sys.executable, "-c", _WITHOUT.format(absent=absent) + program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.endswith(f'{said} rich, scikit-learn, typer: pip install "lossmith[compare]"\n')
    assert (code == 2) == (len(done.stderr.splitlines()) == 1)


def test_a_missing_package_that_no_extra_holds_is_no_missing_extra() -> None:
    command = [sys.executable, "-c", _WITHOUT.format(absent=()) + "from lossmith.__main__ import main; main()"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_the_command_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "lossmith", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"lossmith {version('lossmith')}\n"


def test_one_version_is_said_everywhere() -> None:
    root = Path(__file__).parents[1]
    told = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"\nversion: {told}\n" in (root / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version = {{{told}}}" in (root / "docs" / "cite.md").read_text(encoding="utf-8")
    assert f"\n## [{told}]" in (root / "CHANGELOG.md").read_text(encoding="utf-8")
