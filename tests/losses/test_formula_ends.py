"""Formulas at the ends p = 0 and p = 1, against 60 digits: classes that are masked out, alone, certain, or excluded."""

from __future__ import annotations

import math
import runpy
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from mpmath import exp, expm1, fsum, log, log1p, mp, mpf, sqrt, tanh
from torch import Tensor

import lossmith
from lossmith.export import export
from lossmith.kernels import rows

Part = Callable[[Any, Any, Any, Any], Any]
"""A function of p, 1 - p, c and d."""
CASES: dict[str, tuple[Part, Part]] = {
    "y*c + y*p*c": (lambda p, q, c, d: c + p * c, lambda p, q, c, d: 0),
    "-y*c + y*p*square(c)": (lambda p, q, c, d: p * c * c - c, lambda p, q, c, d: 0),
    "y*c - y*sqrt(c)": (lambda p, q, c, d: c - sqrt(c), lambda p, q, c, d: 0),
    "y*log(1 + c) + y*p*c": (lambda p, q, c, d: log(1 + c) + p * c, lambda p, q, c, d: 0),
    "y*c/(1 + c)": (lambda p, q, c, d: c / (1 + c), lambda p, q, c, d: 0),
    "y*c*pow(p, 0.001)": (lambda p, q, c, d: c * exp(-c / 1000), lambda p, q, c, d: 0),
    "y*c*log(c)": (lambda p, q, c, d: c * log(c), lambda p, q, c, d: 0),
    "y*(1 - p)*log(1 - p) - y*p": (lambda p, q, c, d: -q * d - p, lambda p, q, c, d: 0),
    "y*n*c*sqrt(c) + y*p*c": (lambda p, q, c, d: 3 * c * sqrt(c) + p * c, lambda p, q, c, d: 0),
    "y*c*sqrt(c) + (1 - y)*p*c": (lambda p, q, c, d: c * sqrt(c), lambda p, q, c, d: p * c),
    "y*c + p*sqrt(c)": (lambda p, q, c, d: c + p * sqrt(c), lambda p, q, c, d: p * sqrt(c)),
    "y*c + (1 - y)*(1 + p)*c": (lambda p, q, c, d: c, lambda p, q, c, d: (1 + p) * c),
    "y*c + y*p*c + (1 - y)*p": (lambda p, q, c, d: c + p * c, lambda p, q, c, d: p),
    "y*c + (1 - y)*sqrt(-log(1 - p))": (lambda p, q, c, d: c, lambda p, q, c, d: sqrt(d)),
    "y*c + (1 - y)*sqrt(sin(p))": (lambda p, q, c, d: c, lambda p, q, c, d: sqrt(mp.sin(p))),
    "y*c + (1 - y)*sqrt(p*c)": (lambda p, q, c, d: c, lambda p, q, c, d: sqrt(p * c)),
    "y*sqrt(2 - 2*p) + (1 - y)*p": (lambda p, q, c, d: sqrt(2 * q), lambda p, q, c, d: p),
    "y*(sqrt(c) + log(1 - p)) + (1 - y)*p": (lambda p, q, c, d: sqrt(c) - d, lambda p, q, c, d: p),
    "y*c + (1 - y)*(1 - p)*log(1 - p)": (lambda p, q, c, d: c, lambda p, q, c, d: -q * d),
    "y*log(1 - p)*(1 - p) + p*p": (lambda p, q, c, d: p * p - q * d, lambda p, q, c, d: p * p),
    "y*sqrt(2 - 2*square(p)) + p*tanh(c)": (
        lambda p, q, c, d: sqrt(2 * q * (1 + p)) + p * tanh(c),
        lambda p, q, c, d: p * tanh(c),
    ),
    "y*expm1(-c)*c - (1 - y)*square(p)*log(p)": (lambda p, q, c, d: expm1(-c) * c, lambda p, q, c, d: p * p * c),
}
DEL = -math.inf
ROWS = [
    [DEL, 0.0, 1.0],
    [0.0, DEL, 1.0],
    [0.0, DEL, DEL],
    [DEL, 0.0, DEL],
    [40.0, 0.0, 0.5],
    [0.0, 40.0, 0.5],
    [0.0, 0.5, -200.0],
    [-200.0, 0.5, 0.0],
    [0.0, 1000.0, -1000.0],
    [0.3, -0.2, 0.9],
]


def exact(text: str, logits: Sequence[Any]) -> Any:
    """The loss of target 0."""
    weights = [exp(z - max(logits)) for z in logits]
    total, value = fsum(weights), mpf(0)
    for j, (z, weight) in enumerate(zip(logits, weights, strict=True)):
        p, q = weight / total, fsum(weights[:j] + weights[j + 1 :]) / total
        c = log(total) + max(logits) - z if p < 0.5 else -log1p(-q)
        d = -log(q) if p > 0.5 else -log1p(-p)
        value += CASES[text][0 if j == 0 else 1](p, q, c, d)
    return value


def limit(text: str, logits: list[float]) -> float:
    """As what is masked out tends to p = 0; infinite if it is still growing then."""
    near, far = (exact(text, [-(mpf(10) ** k) if z == DEL else mpf(z) for z in logits]) for k in (8, 12))
    if abs(near) > 10 and abs(far - near) > 1:
        return math.copysign(math.inf, far)
    return float(far)


def slopes(text: str, logits: list[float]) -> list[float]:
    """Of the limit in the logits that are not masked out."""
    points, h = [-(mpf(10) ** 8) if z == DEL else mpf(z) for z in logits], mpf(10) ** -20
    moved = ([[*points[:j], points[j] + sign * h, *points[j + 1 :]] for sign in (1, -1)] for j in range(3))
    return [float((exact(text, a) - exact(text, b)) / (2 * h)) for a, b in moved]


@cache
def oracle(text: str) -> list[tuple[float, list[float]]]:
    """For each row the loss and its gradient."""
    with mp.workdps(60):
        return [(limit(text, row), slopes(text, row)) for row in ROWS]


def computed(loss: torch.nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    logits = torch.tensor(ROWS, dtype=dtype, requires_grad=True)
    values = loss(logits, torch.zeros(len(ROWS), dtype=torch.int64))
    values.sum().backward()
    assert logits.grad is not None
    return values.detach(), logits.grad


@pytest.mark.parametrize("how", ["float64", "float32", "fused", "exported"])
@pytest.mark.parametrize("text", CASES)
def test_the_limit_with_a_finite_gradient(text: str, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rows, "SMALLEST", 0)
    implementation = "auto" if how == "fused" else "reference"
    loss: torch.nn.Module = lossmith.create(f"formula({text})", reduction="none", implementation=implementation)
    if how == "exported":
        export(f"formula({text})", tmp_path / "exported.py")
        loss = runpy.run_path(str(tmp_path / "exported.py"))["Loss"](reduction="none")
    values, gradients = computed(loss, torch.float64 if how == "float64" else torch.float32)
    near = 1e-8 if how == "float64" else 2e-5
    for i, (expected, expected_slopes) in enumerate(oracle(text)):
        assert values[i].item() == pytest.approx(expected, rel=near, abs=near), ROWS[i]
        if math.isfinite(expected):
            assert gradients[i].tolist() == pytest.approx(expected_slopes, rel=near, abs=near), ROWS[i]
    assert gradients.isfinite().all()


def test_a_second_derivative_where_a_class_is_certain() -> None:
    """Where c is rounded to 0 the slope of ``sqrt(c)`` counts as 0, and so does the slope of that."""
    logits = torch.tensor([40.0, 0.0, 0.5], requires_grad=True)
    loss = lossmith.create("formula(y*sqrt(c) + p)")(logits, torch.tensor(0))
    (slope,) = torch.autograd.grad(loss, logits, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), logits)
    assert slope.abs().max() < 1e-6
    assert curvature.abs().max() < 1e-6


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.device("meta")])
def test_a_formula_is_read_in_any_mode(mode: Callable[[], Any]) -> None:
    with mode():
        loss = lossmith.create("formula(y*c + y*p*sqrt(c) + (1 - y)*p*c)")
    assert loss(torch.tensor([-math.inf, 0.0]), torch.tensor(0)) == math.inf


@pytest.mark.parametrize("gap", [5.0, 18.0, 60.0, 1e9])
@pytest.mark.parametrize("text", ["formula(y*c - 0.1*y*log(1 - p))", "sparse_label_smoothing"])
@pytest.mark.parametrize("how", ["called", "exported"])
def test_the_other_classes_tell_how_far_a_certain_one_is_from_1(
    text: str, gap: float, how: str, tmp_path: Path
) -> None:
    """``-log(1-p)`` has the gradient p in the target's logit and minus the others' shares of the rest in theirs."""
    share = 0.1 if text.startswith("formula") else 0.1 * 4 / 5
    kept = 1 if text.startswith("formula") else 1 - share
    added = 0.0 if text.startswith("formula") else share * math.log(4)
    loss = lossmith.create(text)
    if how == "exported":
        export(text, tmp_path / "exported.py")
        loss = runpy.run_path(str(tmp_path / "exported.py"))["Loss"]()
    logits = torch.tensor([[gap, 0.0, 1.0, 0.0, 0.0]], requires_grad=True)
    value = loss(logits, torch.tensor([0]))
    value.backward()
    z = [mpf(each) for each in logits[0].tolist()]
    others, total = fsum(map(exp, z[1:])), fsum(map(exp, z))
    c, d = log1p(others / exp(z[0])), log(total / others)
    assert value.item() == pytest.approx(float(kept * c + share * d + added), rel=1e-5)
    p = [exp(each) / total for each in z]
    expected = [
        kept * (p[0] - 1) + share * p[0],
        *(kept * p[j] + share * (p[j] - exp(z[j]) / others) for j in range(1, 5)),
    ]
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([float(each) for each in expected], rel=1e-4, abs=1e-8)
