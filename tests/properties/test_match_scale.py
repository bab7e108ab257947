"""Scaled losses, and the scale that gives a loss cross-entropy's first gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import lossmith
from lossmith.losses import CrossEntropyLoss, DynamicalLoss, NextGenerationLoss, RootedGANLoss, ScaledLoss

LOGITS = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
TARGET = torch.tensor([0, 1, 2, 3, 4, 0, 1, 255])


def first_gradient(loss: torch.nn.Module, num_classes: int) -> torch.Tensor:
    logits = torch.zeros(1, num_classes, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(loss(logits, torch.tensor([1])), logits)[0]


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
@pytest.mark.parametrize(
    "text", ["ngl", "rooted:k=2", "parabolic", "m_full", "gce", "dynamical(focal)", "scaled:factor=7"]
)
def test_a_matched_loss_starts_like_cross_entropy(text: str, num_classes: int) -> None:
    matched = lossmith.match_scale(lossmith.create(text), num_classes)
    assert first_gradient(matched.eval(), num_classes).norm().item() == pytest.approx(
        first_gradient(CrossEntropyLoss(), num_classes).norm().item(), rel=1e-7
    )
    assert torch.equal(lossmith.create(matched.text).eval()(LOGITS, TARGET % 5), matched(LOGITS, TARGET % 5))


def test_closed_forms() -> None:
    """Seed 0, DERIVED: a rooted loss starts C^(1/k) as steep as cross-entropy."""
    matched = lossmith.match_scale(lossmith.create("rooted:k=2"), 10)
    assert isinstance(matched, ScaledLoss)
    assert matched.factor == pytest.approx(10**-0.5, rel=1e-7)
    assert matched.text.startswith("scaled(rooted:k=2):factor=0.316227")


def test_matching_twice_is_matching_once_and_leaves_the_loss_alone() -> None:
    loss = NextGenerationLoss()
    once = lossmith.match_scale(loss, 10)
    assert lossmith.match_scale(once, 10).text == once.text
    assert loss.reduction == "mean"
    assert loss.text == "ngl"


def test_a_dynamical_loss_stays_one() -> None:
    matched = lossmith.match_scale(lossmith.create("dynamical(ngl):amplitude=5"), 10)
    assert isinstance(matched, DynamicalLoss)
    assert matched.text == "dynamical(scaled(ngl):factor=12.269208):amplitude=5"


def test_scaled_is_a_drop_in() -> None:
    common = {"weight": [1.0, 2.0, 3.0, 4.0, 5.0], "ignore_index": 255, "label_smoothing": 0.2}
    for reduction in ("mean", "sum", "none"):
        plain = lossmith.create("m_full", reduction=reduction, **common)
        scaled = lossmith.create("scaled(m_full):factor=2.5", reduction=reduction, **common)
        torch.testing.assert_close(scaled(LOGITS, TARGET), 2.5 * plain(LOGITS, TARGET))
        assert lossmith.create(scaled.text).text == scaled.text
    soft = LOGITS.softmax(1)
    torch.testing.assert_close(
        lossmith.create("scaled(brier):factor=3")(LOGITS, soft), 3 * lossmith.create("brier")(LOGITS, soft)
    )
    binary = lossmith.create("scaled(rooted):factor=3", task="binary")
    torch.testing.assert_close(binary(LOGITS, soft), 3 * lossmith.create("rooted", task="binary")(LOGITS, soft))
    torch.testing.assert_close(
        lossmith.create("scaled:factor=0.5")(LOGITS, TARGET % 5), 0.5 * F.cross_entropy(LOGITS, TARGET % 5)
    )


def test_scaled_compiles_whole() -> None:
    loss = lossmith.create("scaled(ngl):factor=12")
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(LOGITS, TARGET % 5), loss(LOGITS, TARGET % 5))


def test_scaled_says_where_it_is_continued_and_takes_class_counts() -> None:
    assert lossmith.create("scaled(m):factor=2").can_extend
    assert not lossmith.create("scaled(gce):factor=2").can_extend
    loss = lossmith.create("scaled(logit_adjusted):factor=2")
    loss.bind(class_counts=[5, 4, 3, 2, 1])
    own = lossmith.create("logit_adjusted", class_counts=[5, 4, 3, 2, 1])
    torch.testing.assert_close(loss(LOGITS, TARGET % 5), 2 * own(LOGITS, TARGET % 5))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="smooth_absolute_error is a loss for regression"):
        lossmith.match_scale(lossmith.create("smooth_absolute_error"), 10)
    with pytest.raises(ValueError, match="rooted_gan is a loss for gan"):
        lossmith.match_scale(RootedGANLoss(), 2)
    with pytest.raises(ValueError, match="num_classes must be at least 2, not 1"):
        lossmith.match_scale(lossmith.create("m"), 1)
    with pytest.raises(ValueError, match="its gradient at equal probabilities is 0"):
        lossmith.match_scale(lossmith.create("label_smoothing:epsilon=1"), 10)
    with pytest.raises(ValueError, match="factor must be a number > 0"):
        lossmith.create("scaled:factor=0")
    with pytest.raises(ValueError, match="weight has 3 values"):
        lossmith.match_scale(lossmith.create("m", weight=[1.0, 2.0, 3.0]), 10)
