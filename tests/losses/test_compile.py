"""Every loss under torch.compile in one graph; a dynamical one without a second compilation as its schedule runs."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
from loss_cases import CASES, STATIC, C, Case, seeded
from torch import Tensor
from torch._inductor.utils import fresh_cache

from lossmith.losses import DynamicalLoss


@pytest.fixture(autouse=True)
def _no_cache() -> None:
    torch._dynamo.reset()


def inputs(soft: bool, shape: tuple[int, ...] = (5, C)) -> tuple[Tensor, Tensor]:
    logits = torch.randn(shape, generator=seeded(6), requires_grad=True)
    target = torch.randint(0, C, shape[:1] + shape[2:], generator=seeded(7))
    return logits, torch.rand(shape, generator=seeded(8)).softmax(1) if soft else target


def check(loss: torch.nn.Module, compiled: Any, logits: Tensor, target: Tensor, **call: Any) -> None:
    torch.testing.assert_close(compiled(logits, target, **call), loss(logits, target, **call), rtol=1e-5, atol=1e-6)
    (a,), (b,) = (torch.autograd.grad(each(logits, target, **call).sum(), logits) for each in (compiled, loss))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


# Tracing takes half a second, so of the cases those that take another path through the code.
OTHER_PATHS = {
    "focal:gamma=0",
    "symmetric:alpha=0,A=-6",
    "bi_tempered:t1=0.5,t2=2",
    "rooted:form=released",
    "logit_adjusted",
}
TRACED = [
    case for case in CASES if case.schedule or not case.arguments or case.text in OTHER_PATHS or case.name == "tempered"
]


@pytest.mark.parametrize("soft", [False, True], ids=["index", "soft"])
@pytest.mark.parametrize("case", TRACED, ids=[case.text for case in TRACED])
def test_one_graph_with_all_options(case: Case, soft: bool) -> None:
    own = {} if case.name == "label_smoothing" else {"label_smoothing": 0.1}
    loss = case.make(weight=[1.5, 0.25, 0.5, 2.0], **own)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    check(loss, compiled, *inputs(soft), sample_weight=torch.rand(5))


@pytest.mark.parametrize("case", TRACED, ids=[case.text for case in TRACED])
def test_one_graph_plain(case: Case) -> None:
    loss = case.make()
    check(loss, torch.compile(loss, fullgraph=True, backend="aot_eager"), *inputs(soft=False))


@pytest.mark.parametrize("text", ["rooted", "m_full", "ngl"])
@pytest.mark.parametrize("soft", [False, True], ids=["index", "soft"])
def test_dynamic_shapes_compile_once(text: str, soft: bool) -> None:
    loss, graphs = Case(text, {}).make(weight=[1.0, 2.0, 0.5, 1.0]), CountingBackend()
    compiled = torch.compile(loss, fullgraph=True, backend=graphs, dynamic=True)
    for size in (5, 8, 13, 6):
        logits, target = inputs(soft, (size, C, 2 * size + 7))
        torch.testing.assert_close(compiled(logits, target), loss(logits, target))
    assert graphs.count == 1


@pytest.mark.parametrize("order", [None, [2, 0, 3, 1]])
@pytest.mark.parametrize("base", ["cross_entropy", "m_full"])
def test_a_schedule_does_not_recompile(base: str, order: list[int] | None) -> None:
    """Twenty steps through several classes' turns and into the static tail."""
    loss, graphs = DynamicalLoss(Case(base, {}).make(), 20, 4, static_after=16, order=order), CountingBackend()
    compiled = torch.compile(loss, fullgraph=True, backend=graphs)
    logits, target = inputs(soft=False)
    values = []
    for _ in range(20):
        values.append(compiled(logits, target).item())
        assert values[-1] == pytest.approx(loss(logits, target).item(), rel=1e-5)
        loss.step()
    assert graphs.count == 1
    assert len(set(values)) > 5
    assert len(set(values[16:])) == 1


# Compiling one takes some seconds: in the normal run one of each shape, the rest with the slow tests.
QUICK = ("rooted", "m_full")
HAS_COMPILER = any(map(shutil.which, ("g++", "clang++", "c++"))) and (
    Path(sysconfig.get_paths()["include"], "Python.h").exists()
)


@pytest.mark.skipif(not HAS_COMPILER, reason="inductor needs a C++ compiler and Python's headers")
@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.text, marks=[] if case.text in QUICK else [pytest.mark.slow]) for case in STATIC],
)
def test_inductor(case: Case, tmp_path: Path) -> None:
    loss = case.make()
    logits, target = inputs(False, (64, C))
    with fresh_cache(dir=str(tmp_path)):  # the user's may hold code for another ATEN_CPU_CAPABILITY
        check(loss, torch.compile(loss, fullgraph=True), logits, target)


class CountingBackend:
    """Runs graphs as they are, and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph: torch.fx.GraphModule, example_inputs: list[Tensor]) -> Any:
        del example_inputs
        self.count += 1
        return graph.forward
