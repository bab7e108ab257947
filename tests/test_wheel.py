"""The wheel: what is in it, and that a fresh environment with nothing else runs what the README begins with."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = os.environ.get("WHEEL_PYTHONS", "").split() or [sys.executable]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive, and the wheel that was built from it."""
    pytest.importorskip("build", reason="the wheel is built by the package build")
    pytest.importorskip("hatchling", reason="the wheel is built by hatchling")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT], check=True)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return next(dist.glob("*.whl"))


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(f"{_info()}/METADATA"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    package = [path for path in (ROOT / "src").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    wanted = {path.relative_to(ROOT / "src").as_posix() for path in package}
    info = {f"{_info()}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    with zipfile.ZipFile(wheel) as archive:
        assert set(archive.namelist()) == wanted | info
    uplot = "lossmith/report/templates/uplot"
    assert {"lossmith/py.typed", "lossmith/kernels/rows.cpp", f"{uplot}/LICENSE", f"{uplot}/uPlot.min.css"} <= wanted


def test_the_source_archive_holds_the_tests(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"tests/test_wheel.py", "pyproject.toml", "LICENSE", "CITATION.cff"} <= names
    assert not any(name.startswith((".", "site/", "runs/", "dist/")) for name in names - {".gitignore"})


def test_the_metadata_says_what_the_project_does(metadata: Message) -> None:
    assert metadata["Name"] == "lossmith"
    assert metadata["Version"] == PROJECT["version"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    plain = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(re.split(r"[<>=]", line)[0] for line in plain) == ["torch", "typing-extensions"]


@pytest.mark.parametrize("python", PYTHONS)
def test_a_fresh_environment_runs_the_first_screen_of_the_readme(wheel: Path, tmp_path: Path, python: str) -> None:
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True)
    programs = tmp_path / "venv" / "bin"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(program: str, *arguments: str | Path, code: int = 0) -> str:
        command = [programs / program, *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    run("pip", "install", "--no-cache-dir", "-c", ROOT / "constraints.txt", wheel)
    run("pip", "check")
    said = run("lossmith", "compare", code=2)
    assert said.endswith('pip install "lossmith[compare]"\n')
    assert len(said.splitlines()) == 1
    assert run("python", "-c", "import lossmith; lossmith.compare", code=1).endswith(
        'pip install "lossmith[compare]"\n'
    )
    snippet = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    run("python", "-c", snippet)

    run("pip", "install", "--no-cache-dir", "-c", ROOT / "constraints.txt", f"{wheel}[compare]")
    assert run("lossmith", "--version") == f"lossmith {PROJECT['version']}\n"
    assert run("python", "-c", "import lossmith; print(lossmith.__version__)") == f"{PROJECT['version']}\n"
    found = run("lossmith", "compare", "digits", "--label-noise", "0.4", "--losses", "symmetric", "--quick")
    assert "symmetric" in found
    assert [page.stat().st_size > 0 for page in tmp_path.glob("runs/*/report.html")] == [True]


def _info() -> str:
    return f"lossmith-{PROJECT['version']}.dist-info"
