"""Exported files: plain torch, the same loss."""

from __future__ import annotations

import ast
import importlib.util
import math
import subprocess
import sys
from collections.abc import Callable
from math import exp, expm1, inf, log, sqrt
from pathlib import Path
from typing import Any

import mpmath
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


MASKED = [[0.3, -1.2, inf, 0.8], [inf, 0.5, 2.0, -0.1], [1.0, inf, inf, -2.0], [0.2, 0.9, -0.4, 0.1]]
"""Logits, inf standing for -inf: a class that is masked out."""
TARGETS = [1, 2, 0, 3]


def cross_entropies(logits: list[float]) -> list[float]:
    """-log softmax in plain Python; infinite for a class that is masked out."""
    finite = [z for z in logits if z != -inf]
    total = log(math.fsum(exp(z - max(finite)) for z in finite)) + max(finite)
    return [total - z for z in logits]


def rows(scale: float = 1.0) -> list[list[float]]:
    return [[-inf if z == inf else scale * z for z in row] for row in MASKED]


@pytest.mark.parametrize("weight", [None, [1.0, 0.5, 2.0, 3.0]])
@pytest.mark.parametrize(
    "text, epsilon, phi",
    [
        ("cross_entropy:label_smoothing=0.2", 0.2, lambda c: c),
        ("rooted:k=3,label_smoothing=0.3", 0.3, lambda c: 3 * expm1(c / 3)),
        ("gce:label_smoothing=0.5", 0.5, lambda c: -expm1(-0.7 * c) / 0.7),
        ("formula(y*sqrt(c)):label_smoothing=0.1", 0.1, sqrt),
        ("formula(y*c/n + y):label_smoothing=0.1", 0.1, lambda c: c / 4 + 1),
    ],
)
def test_smoothing_spreads_over_the_classes_that_are_not_masked(
    text: str, epsilon: float, phi: Callable[[float], float], weight: list[float] | None, tmp_path: Path
) -> None:
    """``(1 - e) w_t phi(c_t) + e/K sum_k w_k phi(c_k)``, K being how many classes the row has left."""
    export(text, tmp_path / "my_loss.py")
    w = weight or [1.0] * C
    expected = []
    for logits, target in zip(rows(), TARGETS, strict=True):
        c = cross_entropies(logits)
        left = [k for k in range(C) if c[k] < inf]
        spread = math.fsum(w[k] * phi(c[k]) for k in left) / len(left)
        expected.append((1 - epsilon) * w[target] * phi(c[target]) + epsilon * spread)
    given = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    made = load(tmp_path / "my_loss.py")
    logits = torch.tensor(rows(), dtype=torch.float64, requires_grad=True)
    target = torch.tensor(TARGETS)
    assert made(weight=given, reduction="none")(logits, target).tolist() == pytest.approx(expected, rel=1e-12)
    mean = made(weight=given)(logits, target)
    assert mean.item() == pytest.approx(math.fsum(expected) / math.fsum(w[t] for t in TARGETS), rel=1e-12)
    mean.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    grid = logits.detach().T.reshape(1, C, 2, 2)  # the same rows as the places of one image
    values = made(weight=given, reduction="none")(grid, target.view(1, 2, 2))
    assert values.flatten().tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "text, at_zero, at_one, between",
    [
        ("formula(y*sqrt(c))", inf, 0.0, sqrt),
        ("formula(y*(sqrt(c) + 2))", inf, 2.0, lambda c: sqrt(c) + 2),
        ("formula(y*(sqrt(c)*n + log(n)))", inf, log(3), lambda c: 3 * sqrt(c) + log(3)),
        ("formula(-y*square(c))", -inf, 0.0, lambda c: -c * c),
        ("formula(y*c*exp(p) + (1 - y)*p)", inf, 0.0, lambda c: c * exp(exp(-c)) - expm1(-c)),
        ("formula(-y*c*exp(p) + (1 - y)*p)", -inf, 0.0, lambda c: -c * exp(exp(-c)) - expm1(-c)),
        ("formula(y*p*c)", 0.0, 0.0, lambda c: c * exp(-c)),
        ("formula(y*p*c + (1 - y)*square(p))", 2 / 4, 0.0, None),
    ],
)
def test_the_ends_p_0_and_p_1(
    text: str, at_zero: float, at_one: float, between: Callable[[float], float] | None, tmp_path: Path
) -> None:
    """The limits, with finite gradients; three classes, the target's logit between masked out and alone."""
    export(text, tmp_path / "my_loss.py")
    loss = load(tmp_path / "my_loss.py")(reduction="none")
    logits = torch.tensor(
        [[-inf, 0, 0], [0, -inf, -inf], [1000, 0, 0], [0.5, -0.3, 1.1]], dtype=torch.float64, requires_grad=True
    )
    values = loss(logits, torch.zeros(4, dtype=torch.int64))
    assert values[:3].tolist() == pytest.approx([at_zero, at_one, at_one], abs=1e-15)
    if between is not None:
        assert values[3].item() == pytest.approx(between(cross_entropies([0.5, -0.3, 1.1])[0]), rel=1e-12)
    (gradient,) = torch.autograd.grad(values[values.isfinite()].sum(), logits)
    assert gradient.isfinite().all()
    assert (gradient[1:3] == 0).all()


@pytest.mark.parametrize("make", [lambda text: lossmith.create(text, reduction="none"), None])
def test_other_classes_at_p_0_are_infinite_and_the_target_is_not(make: Any, tmp_path: Path) -> None:
    """``(1 - y) c^2 (1 - p)``: infinite where another class is masked out; the target's own part is left out."""
    text = "formula((1 - y)*square(c)*(1 - p))"
    export(text, tmp_path / "my_loss.py")
    loss = make(text) if make else load(tmp_path / "my_loss.py")(reduction="none")
    logits = torch.tensor([[-inf, 0.0, 1.0], [0.0, -inf, 1.0]], dtype=torch.float64, requires_grad=True)
    values = loss(logits, torch.zeros(2, dtype=torch.int64))
    c = cross_entropies([0.0, 1.0])
    assert values.tolist() == pytest.approx([math.fsum(each**2 * -expm1(-each) for each in c), inf], rel=1e-12)
    assert torch.autograd.grad(values[0], logits)[0].isfinite().all()


def test_a_class_that_is_left_alone_has_p_1(tmp_path: Path) -> None:
    """``-log(1 - p)`` of the only class that is not masked out is infinite, that of the others 0."""
    export("formula(y*p - (1 - y)*log(1 - p))", tmp_path / "my_loss.py")
    loss = load(tmp_path / "my_loss.py")(reduction="none")
    logits = torch.tensor([[-inf, 0.0, -inf]] * 2, dtype=torch.float64)
    assert loss(logits, torch.tensor([0, 1])).tolist() == [inf, 1.0]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_one_minus_p_does_not_cancel(dtype: torch.dtype, tolerance: float, tmp_path: Path) -> None:
    """``-log(1 - p)`` of each class, where one holds nearly everything, against 50 digits."""
    export("formula(y*log(1 - p) - (1 - y)*log(1 - p))", tmp_path / "my_loss.py")
    loss = load(tmp_path / "my_loss.py")(reduction="none")
    logits = torch.tensor([[30.0, 0, 1], [0.75, 0, 0], [0.6, 0, 0], [60, 59, 0], [-40, 0, -inf]], dtype=dtype)
    for target in range(3):
        values = loss(logits, torch.full((5,), target))
        for row, value in zip(logits.tolist(), values.tolist(), strict=True):
            with mpmath.workdps(50):
                weights = [mpmath.e**z for z in row]
                parts = [mpmath.log(1 - w / mpmath.fsum(weights)) for w in weights if w]
                parts += [mpmath.mpf(0)] * (3 - len(parts))
                expected = float(2 * parts[target] - mpmath.fsum(parts))
            assert value == pytest.approx(expected, rel=tolerance), (row, target)


def test_reductions_divide_by_the_weights_of_the_targets_that_count(tmp_path: Path) -> None:
    export("mae", tmp_path / "my_loss.py")
    made = load(tmp_path / "my_loss.py")
    logits = torch.tensor([[0.0, 0.0], [log(3), 0.0], [0.0, log(3)], [5.0, 1.0]], dtype=torch.float64)
    target, weight = torch.tensor([0, 0, 1, -1]), torch.tensor([2.0, 5.0], dtype=torch.float64)
    # 1 - p of the target, or twice that: the scale is in the formula.
    scale = made(reduction="sum")(logits[:1], target[:1]).item() / 0.5
    expected = [scale * v for v in (2 * 0.5, 2 * 0.25, 5 * 0.25, 0.0)]
    arguments: Any = {"weight": weight, "ignore_index": -1}
    assert made(**arguments, reduction="none")(logits, target).tolist() == pytest.approx(expected)
    assert made(**arguments, reduction="sum")(logits, target).item() == pytest.approx(sum(expected))
    assert made(**arguments)(logits, target).item() == pytest.approx(sum(expected) / 9)
    nothing = torch.zeros(2, dtype=torch.float64)
    assert made(weight=nothing)(logits[:3], target[:3]).item() == 0.0
    with pytest.raises(ValueError, match="mean, sum or none, not 'average'"):
        made(reduction="average")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    export("rooted", tmp_path / "my_loss.py")
    loss = load(tmp_path / "my_loss.py")(weight=WEIGHT)
    logits, target = torch.tensor([[0.5, 3.0, -2.0, 1.5]], dtype=dtype), torch.tensor([3])
    value = loss(logits, target)
    assert value.dtype == torch.float32
    assert value == loss(logits.float(), target)


def test_a_schedule_runs_from_0_to_1_and_stays(tmp_path: Path) -> None:
    """``y*c*t`` at two equal logits is t log 2."""
    export("formula(y*c*t):steps=4", tmp_path / "my_loss.py")
    made = load(tmp_path / "my_loss.py")
    for loss, steps in ((made(), 4), (made(steps=2), 2)):
        seen = []
        for _ in range(6):
            seen.append(loss(torch.zeros(1, 2), torch.tensor([0])).item() / log(2))
            loss.step()
        assert seen == pytest.approx([min(i / steps, 1) for i in range(6)])
        assert loss.eval()(torch.zeros(1, 2), torch.tensor([0])).item() == pytest.approx(log(2))
        assert list(loss.state_dict()) == ["steps_taken"]
    export("formula(y*c*t)", tmp_path / "my_loss.py")
    with pytest.raises(TypeError, match="steps"):
        load(tmp_path / "my_loss.py")()


def test_the_formula_is_in_the_docstring(tmp_path: Path) -> None:
    export("rooted:k=2", tmp_path / "my_loss.py")
    documentation = ast.get_docstring(ast.parse((tmp_path / "my_loss.py").read_text()))
    assert documentation is not None
    assert "2*y*expm1(c/2)" in documentation
    assert "rooted:k=2" in documentation
    assert "beyond c = 40;" in documentation  # where the slope exp(c/2) is e^20


@pytest.mark.parametrize(
    "text, present, absent",
    [
        (
            "formula(y*c/n)",
            [
                "where y is 1 for the target",
                "c is -log(p), n is the number of classes.",
                "only the target's is computed",
            ],
            ["p is the softmax", "t is the progress", "steps", "tangent"],
        ),
        ("formula(y*c*t):steps=3", ["t is the progress of training from 0 to 1.", "steps: how many"], ["n is the"]),
        (
            "ngl",
            ["where p is the softmax probability of the class, y is 1"],
            ["c is -log(p), ", "only the target's", "tangent", "complement", "analytic_quotient", "import torch.nn"],
        ),
        ("formula(aq(p, y))", ["def analytic_quotient("], ["def softmax_complement("]),
        (
            "formula(y*c - (1 - y)*log(1 - p))",
            ["def softmax_complement(", "import math import torch"],
            ["def analytic_quotient("],
        ),
        ("mae", ["mae: a loss"], ["import math", "tangent"]),
        ("cross_entropy:label_smoothing=0.2", ["(0.8*y + 0.2/n)*c", "import math import torch"], ["only the target's"]),
        (f"formula({'y*c + ' * 12}y*c)", ['"""formula: a loss'], []),
    ],
)
def test_a_file_says_what_it_needs_to_and_no_more(
    text: str, present: list[str], absent: list[str], tmp_path: Path
) -> None:
    export(text, tmp_path / "my_loss.py")
    source = (tmp_path / "my_loss.py").read_text()
    text = " ".join(source.split())
    assert [words for words in present if words not in text] == []
    assert [words for words in absent if words in text] == []
    assert source.startswith('"""')
    assert "\n\n\n\n" not in source


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
        ("smooth_absolute_error", "cannot be exported"),
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
