"""The examples: short, listed, and they run."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))
SAID = {  # part of what a script prints
    "compare_dataframe": "brier is ",
    "huggingface": "focal",
    "own_training_loop": "symmetric is ",
    "segmentation": "soft_dice",
    "swap_a_loss": "test accuracy",
}


def imported(script: Path) -> Iterator[str]:
    """The packages that a script imports."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


@pytest.mark.slow  # `make test-integrations` runs them, the one that needs transformers too
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_runs(script: Path, tmp_path: Path) -> None:
    absent = sorted({name for name in imported(script) if importlib.util.find_spec(name) is None})
    if absent:
        pytest.skip(f"needs {', '.join(absent)}")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "96"}
    command = [sys.executable, script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert SAID[script.stem] in done.stdout


def test_the_examples_are_short_and_listed() -> None:
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    for script in SCRIPTS:
        lines = script.read_text(encoding="utf-8").splitlines()
        assert len(lines) < 60
        assert lines[0].startswith('"""')
        assert f"[{script.name}]({script.name})" in listed
