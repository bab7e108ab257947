"""Every loss through the kernels gives what its reference path gives in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import lossmith
from lossmith.kernels import rows
from lossmith.losses import ClassificationLoss

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


def test_a_loss_of_ones_own_without_expression_takes_the_reference_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SMALLEST", 0)
    monkeypatch.setattr(ClassificationLoss, "expression", lambda _self, _y: None)
    monkeypatch.setattr(lossmith.losses.BrierLoss, "expression", ClassificationLoss.expression)
    monkeypatch.setattr(rows, "forward", lambda *_: pytest.fail("the kernels ran"))
    lossmith.create("brier")(torch.randn(9, C), torch.zeros(9, dtype=torch.int64))
