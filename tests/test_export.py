"""Exported files: plain torch, the same loss."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import lossmith
from lossmith.export import export

C = 4
WEIGHT = torch.tensor([1.0, 0.5, 0.0, 3.0], dtype=torch.float64)
NAMED = [
    info.name for info in lossmith.available("classification") if "(" not in info.text and info.name != "logit_adjusted"
]
FORMULAS = [
    "rooted:form=released,k=4",
    "focal:gamma=0.5",
    "ngl:class_reduction=sum",
    "cross_entropy:label_smoothing=0.2",
    "formula(exp(2.4092 - p*(1+y)) - cos(cos(sin(p))))",
    "formula(y*max(c, 0.3) + 2)",
    "formula(aq(p*c, y + p) - plog(p - 0.3) + psqrt(p*y) + log(n)*min(2, p))",
    "formula(tanh(c)*sigmoid(p - y) + softplus(n*p)/n + sign(p - 0.2)*abs(p)**1.5 - 2**p)",
    "formula(y*c - (1 - y)*log(1 - p))",
    "formula(p*log(p) + y*c)",
]


def load(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location("exported", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Loss


@pytest.mark.parametrize("text", NAMED + FORMULAS)
@pytest.mark.parametrize("shape", [(9, C), (5, C, 2, 3)])
def test_the_file_is_the_loss(text: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    name = export(text, tmp_path / "my_loss.py")
    source = (tmp_path / "my_loss.py").read_text()
    exported = load(tmp_path / "my_loss.py")
    assert lossmith.create(text).text == name
    imported = {
        alias.name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in (node.names if isinstance(node, ast.Import) else [ast.alias(node.module or "")])
    }
    assert imported <= {"torch", "math"}
    generator = torch.Generator().manual_seed(3)
    target = torch.randint(0, C, shape[:1] + shape[2:], generator=generator)
    target.flatten()[::4] = 1
    for common in ({}, {"weight": WEIGHT, "ignore_index": 1}, {"reduction": "sum"}, {"reduction": "none"}):
        for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 3e-4)):
            logits = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
            logits = logits.to(dtype).requires_grad_()
            ours = lossmith.create(text, **common)(logits, target)
            theirs = exported(**common)(logits, target)
            torch.testing.assert_close(theirs, ours, rtol=tolerance, atol=tolerance / 30)
            slopes = [torch.autograd.grad(value.sum(), logits)[0] for value in (theirs, ours)]
            torch.testing.assert_close(*slopes, rtol=tolerance, atol=tolerance / 30)


def test_the_formula_is_in_the_docstring(tmp_path: Path) -> None:
    export("rooted:k=2", tmp_path / "my_loss.py")
    documentation = ast.get_docstring(ast.parse((tmp_path / "my_loss.py").read_text()))
    assert documentation is not None
    assert "2*y*expm1(c/2)" in documentation
    assert "rooted:k=2" in documentation
    assert "beyond c = 40;" in documentation  # where the slope exp(c/2) is e^20


def test_a_schedule_is_exported_with_its_steps(tmp_path: Path) -> None:
    text = "formula(y*c*(1 - t) + t*square(y - p)):steps=4"
    export(text, tmp_path / "my_loss.py")
    ours, theirs = lossmith.create(text), load(tmp_path / "my_loss.py")()
    logits, target = torch.randn(6, C), torch.randint(0, C, (6,))
    for _ in range(6):
        torch.testing.assert_close(theirs(logits, target), ours(logits, target))
        ours.step()
        theirs.step()
    theirs.steps_taken.zero_()
    torch.testing.assert_close(theirs.eval()(logits, target), ours.eval()(logits, target))


def test_nothing_valid_gives_zero(tmp_path: Path) -> None:
    export("focal", tmp_path / "my_loss.py")
    logits = torch.randn(3, C, requires_grad=True)
    value = load(tmp_path / "my_loss.py")()(logits, torch.full((3,), -100))
    value.backward()
    assert value == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize(
    "text, words",
    [
        ("dynamical", "cannot be exported"),
        ("logit_adjusted", "has no formula"),
        ("bi_tempered:t2=2", "has no formula"),
        ("smae", "cannot be exported"),
        ("brier:label_smoothing=0.1", "label_smoothing"),
        ("rooted:reduction=sum", "leave them out"),
        ("cross_entropy:task=binary", "cannot be exported"),
        ("formula(p*log(1 - 1))", "no finite value"),
        ("rootd", "did you mean"),
    ],
)
def test_refusals(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        export(text, tmp_path / "my_loss.py")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "my_loss.py").exists()


def test_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from lossmith.cli import main; main()", "export", "formula(y*c)"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "formula(y*c)" in done.stdout
    load(tmp_path / "my_loss.py")
