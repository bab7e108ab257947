"""The Triton kernels against float64 and the passes in plain torch: on a GPU, else in Triton's interpreter.

The interpreter is chosen when Triton is imported, so these tests run once more in a process of their own.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import subprocess
import sys
from types import ModuleType

import pytest
import torch
from test_rows import CUBIC, IGNORED, gradients
from torch import Tensor

import lossmith
from lossmith.kernels import Polynomial, cuda, row_terms, rows
from lossmith.kernels.batch import NOTHING, Batch
from lossmith.losses import linear_loss

INSTALLED = importlib.util.find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
ON_GPU = torch.cuda.is_available() and not INTERPRETED
DEVICE = "cuda" if ON_GPU else "cpu"
# NumPy, in which the interpreter computes, warns of inf - inf.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow|divide by zero) encountered:RuntimeWarning")

needs_triton = pytest.mark.skipif(not INSTALLED, reason="triton is not installed")
needs_gpu = pytest.mark.skipif(not ON_GPU, reason="no GPU")
runs_kernels = pytest.mark.skipif(not (INSTALLED and (ON_GPU or INTERPRETED)), reason="neither GPU nor interpreter")
# p log(p), p log(p)^2, sqrt(p) (1 + p) and -(1 - p) log(p), from the definitions at `Polynomial`
SINGULAR = (
    Polynomial((0.0, -1.0), (1.0, -1.0), 0.0, power=1.0, logs=1),
    Polynomial((0.0, 0.0, 1.0), (0.0, -2.0, 1.0), 0.0, power=1.0, logs=2),
    Polynomial((1.0, 1.0), (0.5, 1.5), 0.0, power=0.5, logs=0),
    Polynomial((0.0, 0.0, 1.0, -1.0), (-1.0, 1.0, 0.0, -1.0), 0.0, power=0.0, logs=1),
)
FORMULAS = (
    "formula((1-y)*p*log(p) - y*log(p))",
    "formula((1-y)*sqrt(p)*log(p) + y*c)",
    "formula(-(0.9*y + 0.01)*log(p))",
)


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="this is the interpreter")
def test_in_the_interpreter() -> None:
    """All of this file that needs no GPU."""
    command = [sys.executable, "-m", "pytest", __file__, "-p", "no:xdist"]
    finished = subprocess.run(
        command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=600, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The kernels, a few classes at a time so that every row takes several steps; they serve the interpreter too."""
    from lossmith.kernels import triton_rows

    monkeypatch.setattr(triton_rows, "WIDEST", 16)
    monkeypatch.setattr(rows, "SMALLEST", 0)
    if INTERPRETED:
        monkeypatch.setattr(rows, "kernels_for", lambda _: triton_rows)
    return triton_rows


@runs_kernels
@pytest.mark.parametrize("classes", [2, 3, 16, 17, 77])
@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
def test_values_and_gradients_against_float64(kernels: ModuleType, classes: int, spread: float) -> None:
    logits, target, weights = some_rows(classes, spread)
    terms, gradient = gradients(logits, target, weights, fused=True)
    right, right_gradient = gradients(logits, target, weights, fused=False)
    for ours, true in zip(terms[:3], right[:3], strict=True):
        torch.testing.assert_close(ours.double(), true, rtol=2e-6, atol=1e-6)
    assert torch.equal(terms.top, right.top)
    torch.testing.assert_close(gradient.double(), right_gradient, rtol=5e-6, atol=2e-6)


@runs_kernels
@pytest.mark.parametrize("polynomial", [NOTHING, CUBIC, *SINGULAR])
def test_both_passes_and_what_they_hand_over_against_plain_torch(
    kernels: ModuleType, monkeypatch: pytest.MonkeyPatch, polynomial: Polynomial
) -> None:
    logits, target, weights = some_rows(40, 3.0)
    logits[2, 3] = logits[4, 1:] = -math.inf
    batch = Batch(logits, target, IGNORED, polynomial)
    ours = rows.forward(batch)
    gradient, in_place = torch.empty_like(logits), logits.clone()
    for z, made in ((logits, gradient), (in_place, in_place)):
        rows.backward(batch._replace(logits=z), *ours[3:], list(weights), made)
    assert torch.equal(in_place, gradient)
    monkeypatch.setattr(rows, "kernels_for", lambda _: None)
    monkeypatch.setattr(rows, "library", lambda: None)
    plain = rows.forward(batch)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-6, atol=1e-6)
    expected = torch.empty_like(logits)
    rows.backward(batch, *plain[3:], list(weights), expected)
    torch.testing.assert_close(gradient, expected, rtol=5e-6, atol=1e-6)


@runs_kernels
@pytest.mark.parametrize("p", [0.9995, 1 - 1e-7, 1 - 1e-30])
@pytest.mark.parametrize("is_target", [True, False])
def test_the_gradient_of_a_class_that_is_almost_certain_keeps_its_digits(
    kernels: ModuleType, p: float, is_target: bool
) -> None:
    odds = math.log1p(-p) if p < 1 else math.log(1e-30)
    logits = torch.full((1, 40), -math.inf)
    logits[0, 20], logits[0, 3], logits[0, 39] = 0.0, odds - 1.0, odds + math.log(1 - math.exp(-1.0))
    target = torch.tensor([20 if is_target else 3])
    weights = torch.tensor([[1.0], [0.25], [2.0]])
    _, gradient = gradients(logits.to(DEVICE), target.to(DEVICE), weights.to(DEVICE), fused=True)
    _, right = gradients(logits[:, [20, 3, 39]], target.new_tensor([0 if is_target else 1]), weights, fused=False)
    torch.testing.assert_close(gradient[:, [20, 3, 39]].cpu().double(), right, rtol=1e-5, atol=0)


@runs_kernels
def test_many_equal_classes_keep_the_digits_of_the_top_class(kernels: ModuleType) -> None:
    """Sums of many equal terms drift in float32."""
    classes = 1000
    terms = row_terms(torch.zeros(1, classes, device=DEVICE), torch.zeros(1, dtype=torch.int64, device=DEVICE), IGNORED)
    assert float(terms.odds) == pytest.approx(-math.log(classes - 1), rel=1e-7)
    assert float(terms.c) == pytest.approx(math.log(classes), rel=1e-6)


@runs_kernels
def test_huge_logits_masks_and_ties(kernels: ModuleType) -> None:
    inf = math.inf
    logits = torch.full((7, 20), -inf)
    logits[:, [0, 5, 17, 19]] = torch.tensor([
        [1e4, -1e4, 0.0, 9999.0],
        [-1e4, -1e4, -1e4, -1e4],
        [-inf, 1.0, 2.0, -inf],
        [-inf, 5.0, -inf, -inf],
        [3.0, 3.0, 3.0, -inf],
        [2e38, 0.0, -1e38, -inf],
        [2e38, -2e38, -inf, -inf],
    ])
    target = torch.tensor([5, 17, 5, 5, 0, 17, 0])
    made = logits.to(DEVICE).requires_grad_()
    terms = row_terms(made, target.to(DEVICE), IGNORED, CUBIC)
    log_p = logits.double().log_softmax(1)
    torch.testing.assert_close(terms.c.cpu().double(), -log_p[range(7), target], rtol=1e-6, atol=0)
    assert terms.top.tolist() == [0, 0, 17, 5, 0, 0, 0]
    assert terms.odds[3] == inf
    terms.c.sum().backward()
    assert made.grad is not None
    onehot = torch.nn.functional.one_hot(target, 20)
    torch.testing.assert_close(made.grad.cpu(), (log_p.exp() - onehot).float(), rtol=1e-6, atol=1e-7)


@runs_kernels
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("at", [[0], [3], [39], [3, 39], list(range(40))])
def test_what_is_not_finite_does_not_vanish(kernels: ModuleType, bad: float, at: list[int]) -> None:
    logits = torch.zeros(1, 40, device=DEVICE)
    logits[0, at] = bad
    logits.requires_grad_()
    terms = row_terms(logits, torch.tensor([3], device=DEVICE), IGNORED, CUBIC)
    assert terms.c.isnan().all()
    assert terms.odds.isnan().all()
    (terms.c + terms.others).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isnan().all()


@runs_kernels
def test_rows_of_minus_infinity_alone_have_no_probabilities(kernels: ModuleType) -> None:
    logits = torch.full((1, 20), -math.inf, device=DEVICE)
    assert row_terms(logits, torch.tensor([3], device=DEVICE), IGNORED).odds.isnan().all()


@runs_kernels
def test_ignored_rows_have_no_gradient(kernels: ModuleType) -> None:
    logits = torch.randn(3, 40, device=DEVICE, requires_grad=True)
    terms = row_terms(logits, torch.tensor([IGNORED, 7, IGNORED], device=DEVICE), IGNORED)
    assert terms.c[[0, 2]].tolist() == [0.0, 0.0]
    terms.c.sum().backward()
    assert logits.grad is not None
    assert logits.grad.count_nonzero(1).tolist() == [0, 40, 0]


@runs_kernels
def test_rows_that_do_not_lie_side_by_side_and_none_at_all(kernels: ModuleType) -> None:
    wide, target = torch.randn(4, 40, device=DEVICE), torch.arange(4, device=DEVICE)
    assert torch.equal(row_terms(wide[:, :20], target, IGNORED).c, row_terms(wide[:, :20].clone(), target, IGNORED).c)
    assert row_terms(wide[:0], target[:0], IGNORED).c.shape == (0,)


@runs_kernels
@pytest.mark.parametrize("name", ["cross_entropy", "rooted", "focal", "ngl", "brier", "m_full", *FORMULAS])
def test_fused_losses_equal_those_on_the_cpu(kernels: ModuleType, name: str) -> None:
    logits, target, _ = some_rows(40, 3.0)
    loss, reference = (lossmith.create(name, implementation=how) for how in ("auto", "reference"))
    ours = value_and_gradient(loss, logits, target)
    torch.testing.assert_close(ours, value_and_gradient(reference, logits.cpu(), target.cpu()), rtol=1e-5, atol=1e-6)


@runs_kernels
def test_the_linear_head(kernels: ModuleType) -> None:
    hidden, weight = torch.randn(6, 5, device=DEVICE), torch.randn(40, 5, device=DEVICE)
    target, loss = torch.randint(0, 40, (6,), device=DEVICE), lossmith.create("rooted")
    results = []
    for dtype in (torch.float32, torch.float64):
        made = [of.detach().to(dtype).requires_grad_() for of in (hidden, weight)]
        value = linear_loss(*made, target, loss) if dtype == torch.float32 else loss(made[0] @ made[1].T, target)
        value.backward()
        results.append([value.detach().double(), *(of.grad.double() for of in made)])
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(not INTERPRETED, reason="on a GPU it is an assertion, and ends the process")
def test_labels_out_of_range_are_nan_where_the_assertion_is_not_compiled(kernels: ModuleType) -> None:
    terms = row_terms(torch.zeros(3, 40), torch.tensor([40, -1, 2]), IGNORED)
    assert terms.c.isnan().tolist() == [True, True, False]


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="nothing is compiled")
@pytest.mark.parametrize("degree, logs, power", [(-1, 0, 1.0), (9, 0, 2.0), (4, 2, 1.0), (4, 0, 0.5), (4, 1, 0.0)])
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", ["_forward", "_backward"])
def test_compiles_to_machine_code_that_refuses_bad_labels(
    name: str, capability: int, degree: int, logs: int, power: float
) -> None:
    """Triton needs no GPU to compile for one."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from lossmith.kernels import triton_rows

    kernel = getattr(triton_rows, name)
    kinds: dict[str, str | tuple[str, ...]] = dict.fromkeys(kernel.arg_names, "*fp32")
    kinds |= (
        dict.fromkeys(("target", "top"), "*i64")
        | {"odds_of_top": "*fp64"}
        | dict.fromkeys(("ignored", "classes", "stride"), "i32")
    )
    kinds |= dict.fromkeys(("value", "slope"), ("fp32",) * max((degree + 1) * (logs + 1), 1))
    kinds |= dict.fromkeys(("DEGREE", "LOGS", "POWER", "BLOCK"), "constexpr")
    layout = triton_rows._layout(32000)
    constants = {"DEGREE": degree, "LOGS": logs, "POWER": power, "BLOCK": layout.pop("BLOCK")}
    source = ASTSource(kernel, {name: kinds[name] for name in kernel.arg_names}, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=layout)
    assert compiled.asm["cubin"]
    assert ("Target is out of bounds." in compiled.asm["ttir"]) == (name == "_forward")
    assert ("assertfail" in compiled.asm["ptx"]) == (name == "_forward")


@needs_gpu
@needs_triton
def test_labels_out_of_range_trip_an_assertion_on_the_card() -> None:
    program = (
        "import torch; from lossmith.kernels import row_terms\n"
        "row_terms(torch.zeros(40, 10, device='cuda'), torch.full((40,), 10, device='cuda'), -100)\n"
        "torch.cuda.synchronize()"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode
    assert "assert" in finished.stderr


@needs_gpu
@needs_triton
@pytest.mark.parametrize("name", ["rooted", "ngl", "m_full"])
@pytest.mark.parametrize("shape", [(256, 1000), (64, 32000), (8, 128256)])
def test_large_logits_on_the_card_and_compiled_whole(name: str, shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, target = 3 * torch.randn(shape, generator=generator), torch.randint(0, shape[1], shape[:1])
    right = value_and_gradient(lossmith.create(name, implementation="reference"), logits.double(), target)
    loss = lossmith.create(name)
    for function in (loss, torch.compile(loss, fullgraph=True)):
        ours = value_and_gradient(function, logits.cuda(), target.cuda())
        for a, b in zip(ours, right, strict=True):
            torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-6)


def test_without_triton_or_where_it_fails_plain_torch_serves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="lossmith")
    find = cuda._tried.__wrapped__
    with monkeypatch.context() as absent:
        absent.delattr("lossmith.kernels.triton_rows", raising=False)
        absent.setitem(sys.modules, "lossmith.kernels.triton_rows", None)  # its import fails
        assert find(0) is None
    assert "no triton" in caplog.text

    class Failing(ModuleType):
        @staticmethod
        def try_on(device: torch.device) -> None:
            raise RuntimeError(f"no C compiler for {device}")

    monkeypatch.setitem(sys.modules, "lossmith.kernels.triton_rows", Failing("failing"))
    monkeypatch.setattr("lossmith.kernels.triton_rows", Failing("failing"), raising=False)
    assert find(0) is None
    assert "triton does not run on cuda:0, losses run in plain torch: no C compiler for cuda:0" in caplog.text


def test_the_cpu_has_no_use_for_triton() -> None:
    assert cuda.kernels_for(torch.zeros(2, 3)) is None
    program = (
        "import sys, torch, lossmith\n"
        "loss = lossmith.create('ngl')\n"
        "loss(torch.randn(200, 1000, requires_grad=True), torch.arange(200)).backward()\n"
        "assert 'triton' not in sys.modules and 'lossmith.kernels.triton_rows' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], timeout=300, check=True)


def some_rows(classes: int, spread: float) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, targets of which one is ignored and one the top class, and upstream gradients."""
    generator = torch.Generator().manual_seed(classes)
    logits = spread * torch.randn(7, classes, generator=generator)
    target = torch.randint(0, classes, (7,), generator=generator)
    target[3] = IGNORED
    target[5] = logits[5].argmax()
    weights = torch.randn(3, 7, generator=generator)
    return logits.to(DEVICE), target.to(DEVICE), weights.to(DEVICE)


def value_and_gradient(function: object, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    made = logits.clone().requires_grad_()
    assert callable(function)
    value = function(made, target)
    value.backward()
    assert made.grad is not None
    return value.detach().cpu(), made.grad.cpu()
