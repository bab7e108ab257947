"""Every classification loss at (N, C, H, W) with ignored pixels, against the same loss on a flat list of pixels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from loss_cases import CASES, IDS, C, Case, seeded
from torch import Tensor

import lossmith
from lossmith.losses import ClassificationLoss, DynamicalLoss

LOGITS = 3 * torch.randn(3, C, 5, 7, dtype=torch.float64, generator=seeded(1))
TARGET = torch.randint(0, C, (3, 5, 7), generator=seeded(2))
IGNORED = torch.rand(3, 5, 7, generator=seeded(3)) < 0.3
WEIGHT = [0.5, 2.0, 0.0, 1.5]


def value_and_gradient(loss: Any, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.detach().requires_grad_()
    value = loss(logits, target)
    return value.detach(), torch.autograd.grad(value, logits)[0]


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("each", CASES, ids=IDS)
def test_pixels_are_samples_and_ignored_ones_are_left_out(each: Case, weight: list[float] | None) -> None:
    loss = each.make(weight=weight)
    value, gradient = value_and_gradient(loss, LOGITS, TARGET.masked_fill(IGNORED, -100))
    flat_value, flat_gradient = value_and_gradient(loss, LOGITS.movedim(1, -1)[~IGNORED], TARGET[~IGNORED])
    torch.testing.assert_close(value, flat_value)
    torch.testing.assert_close(gradient.movedim(1, -1)[~IGNORED], flat_gradient)
    assert not gradient.movedim(1, -1)[IGNORED].any()


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("each", CASES, ids=IDS)
def test_fractions_add_up_to_the_mean(each: Case, weight: list[float] | None) -> None:
    loss, target = each.make(weight=weight), TARGET.masked_fill(IGNORED, -100)
    assert isinstance(loss, (ClassificationLoss, DynamicalLoss))
    mean = sum(values.sum() / masses.sum() for values, masses in loss.fractions(LOGITS, target))
    torch.testing.assert_close(mean, loss(LOGITS, target))


def test_learned_losses_take_pixels_too() -> None:
    loss = lossmith.create("adaptive").double()
    target = TARGET.masked_fill(IGNORED, -100)
    value, gradient = value_and_gradient(loss, LOGITS, target)
    flat_value, _ = value_and_gradient(loss, LOGITS.movedim(1, -1)[~IGNORED], TARGET[~IGNORED])
    torch.testing.assert_close(value, flat_value)
    assert not gradient.movedim(1, -1)[IGNORED].any()
