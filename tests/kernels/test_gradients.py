"""The relative error of each row's gradient, over formulas and logits, against float64 and against the reference path.

Where a row's gradient is a small difference of large terms no float32 path keeps its digits, so that the yardstick is
what plain torch operations leave, times 4.
"""

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import mpmath
import pytest
import torch
from test_triton import INTERPRETED, needs_triton
from torch import Tensor

import lossmith
from lossmith.kernels import rows
from lossmith.kernels.compiler import library
from lossmith.losses import fused

LIMIT = 1e-5
FORMULAS = [
    "formula(3*pow(p,4) - 4*y*pow(p,3))",
    "formula(pow(p,4))",
    "formula(y*c + square(p)*p)",
    "formula(square(p) - 2*y*p + 0.3*p)",
    "formula((1-y)*(5*p + pow(p,4)) + y*square(1-p))",
    "formula((1-y)*(exp(2*p) - cos(p)) - y*sin(p))",
    "formula((1-y)*p*log(p) - y*p)",
    "formula((1-y)*square(p)*log(p) + y*square(1-p))",
    "formula((1-y)*pow(p,1.7) + y*exp(-p))",
    "formula((1-y)*sqrt(p) - y*p)",
    "formula(-(1-y)*log(1-p) - y*square(p))",
    "formula(-square(1-p)*log(p) + y*p)",
    *("ngl", "ngl:scaling=sigmoid", "brier", "l_full", "m_full", "symmetric"),
]
KINDS = ["random", "wide", "peaked", "one-hot", "nearly tied", "tied"]


@pytest.fixture(params=["triton"] if INTERPRETED else ["compiled", "chunks"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ways to compute the passes, at any size."""
    if request.param == "compiled" and library() is None:
        pytest.skip("no C++ compiler")
    if request.param != "compiled":
        monkeypatch.setattr(rows, "library", lambda: None)
    if request.param == "triton":
        from lossmith.kernels import triton_rows

        monkeypatch.setattr(rows, "kernels_for", lambda _: triton_rows)
    monkeypatch.setattr(rows, "SMALLEST", 0)
    return str(request.param)


@functools.cache
def some_logits(kind: str, count: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(classes)
    z = torch.randn(count, classes, generator=generator)
    target = torch.randint(0, classes, (count,), generator=generator)
    favourite = torch.where(torch.arange(count) % 2 == 0, target, (target + 1) % classes)
    added = torch.zeros(count, classes).scatter(1, favourite.unsqueeze(1), 1.0)
    return {
        "random": z,
        "wide": 8 * z,
        "peaked": z + (2 + math.log(classes)) * added,
        "one-hot": 12 * added,
        "nearly tied": 0.1 * z,
        "tied": torch.full((count, classes), 0.1),
    }[kind], target


create = functools.cache(lossmith.create)


def gradient(text: str, logits: Tensor, target: Tensor, how: str = "reference") -> Tensor:
    made = logits.detach().clone().requires_grad_()
    create(text, implementation=how)(made, target).backward()
    assert made.grad is not None
    return made.grad.double()


def worst(ours: Tensor, right: Tensor) -> float:
    """The largest relative error of a row; one whose gradient is 0 but for rounding has none."""
    size = right.norm(dim=1)
    off = (ours - right).norm(dim=1) / size
    return float(off.masked_fill(size < 1e-12 * size.max().clamp(min=1e-30), 0.0).max())


@functools.cache
def right_and_limit(text: str, kind: str, count: int, classes: int) -> tuple[Tensor, float]:
    logits, target = some_logits(kind, count, classes)
    right = gradient(text, logits.double(), target)
    return right, max(LIMIT, 4 * worst(gradient(text, logits, target), right))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", FORMULAS)
def test_every_row_keeps_its_digits(text: str, kind: str, path: str) -> None:
    for classes in (3, 40) if INTERPRETED else (3, 30, 1000):
        if kind == "tied" and text == "formula(pow(p,4))":
            continue  # its gradient is 0
        count = 2 if INTERPRETED else 6
        right, limit = right_and_limit(text, kind, count, classes)
        assert worst(gradient(text, *some_logits(kind, count, classes), "auto"), right) <= limit


@pytest.mark.parametrize(
    ("text", "kind", "shape"),
    [
        ("formula(3*pow(p,4) - 4*y*pow(p,3))", "random", (8, 32000)),
        ("formula(3*pow(p,4) - 4*y*pow(p,3))", "random", (2, 128256)),
        ("formula(pow(p,4))", "nearly tied", (20 if INTERPRETED else 200, 1000)),
        ("ngl", "tied", (2, 128256)),
    ],
)
def test_as_many_classes_as_language_models_have(text: str, kind: str, shape: tuple[int, int], path: str) -> None:
    """These were off by 0.97, 50, 3.7 and 1e-3."""
    logits, target = some_logits(kind, *shape)
    assert worst(gradient(text, logits, target, "auto"), gradient(text, logits.double(), target)) < LIMIT


# f' for the target and for another class
SLOPES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "formula(y*c + square(p)*p)": (lambda p: -1 / p + 3 * p**2, lambda p: 3 * p**2),
    "formula(y*c + (1-y)*p*log(p))": (lambda p: -1 / p, lambda p: mpmath.log(p) + 1),
    "formula((1-y)*sqrt(p) - y*p)": (lambda p: -1, lambda p: 1 / (2 * mpmath.sqrt(p))),
}


@pytest.mark.parametrize("text", SLOPES)
@pytest.mark.parametrize("gap", [20.0, 40.0, 80.0])
def test_a_row_that_is_nearly_certain_keeps_its_digits(text: str, gap: float, path: str) -> None:
    """Against ``p_j (f'_j - sum_k p_k f'_k)`` with 100 digits: float64 has none left of a norm of 1e-35."""
    logits, target = some_logits("random", 2, 5)
    logits = logits.scatter(1, target[:, None], gap)
    expected = []
    with mpmath.workdps(100):
        for row, label in zip(logits.tolist(), target.tolist(), strict=True):
            weights = [mpmath.exp(z) for z in row]
            p = [weight / mpmath.fsum(weights) for weight in weights]
            slopes = [SLOPES[text][j != label](p_j) for j, p_j in enumerate(p)]
            mean = mpmath.fsum(a * b for a, b in zip(p, slopes, strict=True))
            expected.append([float(p_j * (slope - mean) / len(logits)) for p_j, slope in zip(p, slopes, strict=True)])
    assert worst(gradient(text, logits, target, "auto"), torch.tensor(expected, dtype=torch.float64)) < LIMIT


@pytest.mark.parametrize("text", FORMULAS)
def test_these_formulas_take_the_kernels(text: str) -> None:
    expression = lossmith.create(text).expression  # type: ignore[attr-defined]
    assert fused.negative_part(expression, 1000, 1.0) is not None


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
def test_in_the_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", __file__, "-p", "no:xdist", "-q"]
    finished = subprocess.run(
        command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=600, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
