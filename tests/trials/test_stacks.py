"""Every slice of a stack is bit for bit what it is alone, on every kind of processor that ATen knows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

GRID = Path(__file__).with_name("stack_grid.py")
CAPABILITIES = {
    "default": True,
    "avx2": torch.cpu._is_avx2_supported(),
    "avx512": torch.cpu._is_avx512_supported(),
}
every_capability = pytest.mark.parametrize(
    "capability",
    [
        pytest.param(name, marks=pytest.mark.skipif(not has, reason=f"this processor has no {name}"))
        for name, has in CAPABILITIES.items()
    ],
)


def run_grid(capability: str, *arguments: str) -> list[str]:
    """What differs, as the grid prints it."""
    environment = os.environ | {
        "ATEN_CPU_CAPABILITY": capability,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, str(GRID), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    used, *differing, count = done.stdout.splitlines()
    assert used.lower() == capability
    assert int(count) >= 40
    return differing


@every_capability
def test_a_slice_of_a_stack_is_bitwise_what_it_is_alone(capability: str) -> None:
    """7 rows of 3 classes fill no vector."""
    arguments = ["--classes", "3", "--batch-sizes", "7", "--stacks", "3", "--alone", "1"]
    assert run_grid(capability, *arguments) == []


@pytest.mark.slow
@every_capability
def test_neither_stacks_nor_workers_nor_resuming_change_a_bit(capability: str, tmp_path: Path) -> None:
    """All losses; 3 and 10 classes; batches of 1 to 64 rows; stacks of 3 and 26; one and three workers."""
    assert run_grid(capability, "--runners", str(tmp_path)) == []
