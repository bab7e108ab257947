"""Every loss through the kernels gives what its reference path gives in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import lossmith
from lossmith.formulas import parse
from lossmith.kernels import rows
from lossmith.losses import ClasswiseLoss
from lossmith.losses.entries import Prepared, Probability

C = 11
NAMES = [info.name for info in lossmith.available("classification") if info.text == info.name or "(" not in info.text]
FURTHER = ["ngl:scaling=sigmoid", "ngl:class_reduction=sum", "rooted:form=released", "dynamical(ngl)", "dynamical(m)"]
NEVER = {"bi_tempered": "its probabilities are no softmax"}


def results(text: str, logits: Tensor, target: Tensor, call: dict[str, Any], **common: Any) -> tuple[Tensor, Tensor]:
    if text == "logit_adjusted":
        common["class_counts"] = list(range(1, C + 1))
    loss = lossmith.create(text, **common)
    made = logits.clone().requires_grad_()
    value = loss(made, target, **{key: of.to(logits.dtype) for key, of in call.items()})
    value.sum().backward()
    assert made.grad is not None
    return value.detach(), made.grad


@pytest.mark.parametrize("text", [*NAMES, *FURTHER])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_fused_is_reference(text: str, reduction: str, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SMALLEST", 0)
    used: list[bool] = []
    fused = rows.forward
    monkeypatch.setattr(rows, "forward", lambda *of: used.append(True) or fused(*of))
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(60, C, generator=generator)
    logits[1, 4] += 40
    logits[2, 0] += 200
    target = torch.randint(0, C, (60,), generator=generator)
    target[1], target[2], target[7] = 4, 3, -100
    weight = torch.rand(C, generator=generator) if weighted else None
    call = {"sample_weight": torch.rand(60, generator=generator)} if weighted else {}
    common = {"reduction": reduction, "weight": weight}
    ours, gradient = results(text, logits, target, call, **common)
    assert bool(used) == (text not in NEVER)
    true, true_gradient = results(text, logits.double(), target, call, implementation="reference", **common)
    torch.testing.assert_close(ours.double(), true, rtol=2e-5, atol=2e-6)
    largest = float(true_gradient.abs().max())
    torch.testing.assert_close(gradient.double(), true_gradient, rtol=2e-5, atol=2e-6 * largest)


class Learnable(ClasswiseLoss):
    """``y c + (1 - y) a p**2``, whose expression knows a as a number only."""

    name = "learnable"

    def __init__(self, a: Tensor, **common: Any) -> None:
        super().__init__(**common)
        self.a = a
        self.expression = parse(f"y*c + (1 - y)*{float(a.detach())}*square(p)")

    def positive(self, p: Any, entries: object) -> Tensor:
        return p.c

    def negative(self, p: Any, entries: object) -> Tensor:
        return self.a * p.value**2


@pytest.mark.parametrize("text", ["rooted", "brier", "learnable", "learned"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "normalized"])
def test_the_gradient_of_everything_that_may_need_one(
    text: str, reduction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of logits, sample and class weights, normalizer and the loss's own tensor, from the definition in float64."""
    monkeypatch.setattr(rows, "SMALLEST", 0)
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, C, (20,), generator=generator)
    target[7] = -100
    values = [torch.randn(20, C, generator=generator), *(torch.rand(size, generator=generator) for size in (20, C))]
    values += [torch.tensor(7.0), torch.tensor(0.7)]
    own: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
        "rooted": lambda p, a: (3 * (p ** (-1 / 3) - 1), 0 * p),
        "brier": lambda p, a: ((1 - p) ** 2, p**2),
        "learnable": lambda p, a: (-p.log(), a.detach() * p**2),
        "learned": lambda p, a: (-p.log(), a * p**2),
    }
    results = []
    for dtype in (torch.float32, torch.float64):
        leaves = [value.detach().to(dtype, copy=True).requires_grad_() for value in values]
        logits, s, w, divisor, a = leaves
        if dtype == torch.float32:
            common: Any = {"reduction": "sum" if reduction == "sum" else "mean", "weight": [1.0] * C}
            learnable = Learnable(a if text == "learned" else a.detach(), **common)
            loss = learnable if text.startswith("learn") else lossmith.create(text, **common)
            loss.weight = w
            value = loss(logits, target, sample_weight=s, normalizer=divisor if reduction == "normalized" else None)
        else:
            label = target.clamp(min=0)
            yes, no = own[text](logits.softmax(1), a)
            mass = s * w[label] * (target >= 0)
            total = (mass * (no.scatter(1, label[:, None], 0.0).sum(1) + yes[range(20), label])).sum()
            value = total / {"sum": 1.0, "mean": mass.sum(), "normalized": divisor}[reduction]
        value.backward()
        results.append([
            value.detach().double(),
            *(torch.zeros_like(of) if of.grad is None else of.grad for of in leaves),
        ])
    for ours, true in zip(*results, strict=True):
        torch.testing.assert_close(
            ours.double(), true.double(), rtol=2e-5, atol=2e-6 * max(1.0, float(true.abs().max()))
        )


@pytest.mark.parametrize("text", ["rooted", "brier", "ngl"])
def test_soft_targets_get_their_gradient(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss is linear in its target up to the class it leaves: the slope of a class is that of its own terms."""
    monkeypatch.setattr(rows, "SMALLEST", 0)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, C, generator=generator)
    q = torch.rand(20, C, generator=generator).requires_grad_()
    lossmith.create(text, reduction="sum")(logits, q).backward()
    p, share = logits.double().softmax(1), q.detach().double().requires_grad_()
    mass = share.sum(1, keepdim=True)
    exponential = [torch.exp(2.4092 - factor * p) - torch.cos(torch.cos(torch.sin(p))) for factor in (2, 1)]
    terms = {
        "rooted": share * 3 * (p ** (-1 / 3) - 1),
        "brier": mass * (share * (1 - p) ** 2 + (1 - share) * p**2),
        "ngl": mass * (share * exponential[0] + (1 - share) * exponential[1]) / C,
    }
    (right,) = torch.autograd.grad(terms[text].sum(), share)
    assert q.grad is not None
    torch.testing.assert_close(q.grad.double(), right, rtol=1e-5, atol=1e-5)


def test_a_loss_of_ones_own_without_expression_takes_the_reference_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SMALLEST", 0)
    monkeypatch.setattr(rows, "forward", lambda *_: pytest.fail("the kernels ran"))
    loss = lossmith.losses.BrierLoss()
    loss.expression = None
    loss(torch.randn(9, C), torch.zeros(9, dtype=torch.int64))


@pytest.mark.parametrize("text", ["brier", "ngl", "m_full"])
def test_label_smoothing_spreads_as_for_soft_targets(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SMALLEST", 0)
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(9, C, generator=generator), torch.randint(0, C, (9,), generator=generator)
    shares = torch.full((9, C), 0.2 / C).scatter(1, target[:, None], 0.8 + 0.2 / C)
    smoothed = lossmith.create(text, label_smoothing=0.2)(logits, target)
    torch.testing.assert_close(smoothed, lossmith.create(text)(logits, shares))


class OfHalfTheLogits(lossmith.losses.BrierLoss):
    """With probabilities of its own."""

    def probability(self, prepared: Prepared) -> Probability:
        return Probability.softmax(prepared.logits / 2, prepared.entries.dim)


def test_probabilities_of_its_own_take_the_reference_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SMALLEST", 0)
    logits, target = torch.linspace(-3, 3, 9 * C).view(9, C), torch.arange(9)
    torch.testing.assert_close(OfHalfTheLogits()(logits, target), lossmith.create("brier")(logits / 2, target))


@pytest.mark.parametrize("text", ["cross_entropy", "rooted", "brier"])
def test_the_reference_never_runs_the_kernels(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SMALLEST", 0)
    monkeypatch.setattr(rows, "forward", lambda *_: pytest.fail("the kernels ran"))
    lossmith.create(text, implementation="reference")(torch.randn(9, C), torch.zeros(9, dtype=torch.int64))
