"""Golden numbers and identities of NGL, sparse label smoothing and logit adjustment."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from loss_cases import seeded
from scipy.optimize import brentq
from torch import Tensor

from lossmith.losses import LabelSmoothingLoss, LogitAdjustedLoss, NextGenerationLoss, SparseLabelSmoothingLoss

FIRST = torch.tensor([0])


def two_level(classes: int, p: float) -> Tensor:
    """Logits that give the first class probability p and the others equal shares."""
    z = torch.zeros(1, classes, dtype=torch.float64)
    z[0, 0] = math.log(p / (1 - p) * (classes - 1))
    return z.requires_grad_()


def slope(loss: torch.nn.Module, z: Tensor) -> float:
    """The derivative along the target's logit."""
    return torch.autograd.grad(loss(z, FIRST), z)[0][0, 0].item()


# --- NGL, seed 4 section 1 -------------------------------------------------------------------------------------------


def test_ngl_values_at_the_corners() -> None:
    """g_y(p), p in {0, 1}, from one-hot predictions for two and three classes; g_0(0) = g_1(0)."""
    loss = NextGenerationLoss(class_reduction="sum")
    certain = torch.tensor([[1e4, 0.0, 0.0]], dtype=torch.float64)
    right, wrong = loss(certain[:, :2], FIRST).item(), loss(certain[:, :2], FIRST + 1).item()
    at_zero = loss(certain, FIRST).item() - right
    assert at_zero == pytest.approx(10.585, abs=5e-4)
    assert right - at_zero == pytest.approx(0.7195, abs=5e-5)
    assert wrong - at_zero == pytest.approx(3.3066, abs=5e-5)


def test_ngl_slopes_at_the_corners() -> None:
    """Differences of g'_y, all that acts: g'_1 from -22.250 to -3.260, g'_0 from -11.125 to -4.342."""
    loss, p = NextGenerationLoss(class_reduction="sum"), 1e-9
    assert slope(loss, two_level(2, p)) / p == pytest.approx(-22.250 + 4.342, abs=1e-3)
    assert slope(loss, two_level(2, 1 - 1e-7)) / 1e-7 == pytest.approx(-3.260 + 11.125, abs=1e-3)
    z = torch.tensor([[0.0, 0.0, -math.log(p)]], dtype=torch.float64, requires_grad=True)
    other = torch.autograd.grad(loss(z, FIRST), z)[0][0, 1].item()
    assert other / p == pytest.approx(-11.125 + 4.342, abs=1e-3)


@pytest.mark.parametrize(
    "classes, optimum, sigmoid_optimum, epsilon",
    [(2, 0.566, 0.558, 0.87), (10, 0.391, 0.363, 0.68), (100, 0.362, 0.338, 0.64), (1000, 0.359, 0.335, 0.64)],
)
def test_ngl_optimum(classes: int, optimum: float, sigmoid_optimum: float, epsilon: float) -> None:
    for scaling, expected in (("none", optimum), ("sigmoid", sigmoid_optimum)):
        loss = NextGenerationLoss(scaling=scaling)
        found = brentq(lambda p, loss=loss: slope(loss, two_level(classes, p)), 0.1, 0.9, xtol=1e-10)
        assert found == pytest.approx(expected, abs=6e-4)
        assert slope(loss, two_level(classes, found - 0.01)) < 0 < slope(loss, two_level(classes, found + 0.01))
    softmax_optimum = brentq(lambda p: slope(NextGenerationLoss(), two_level(classes, p)), 0.1, 0.9)
    assert (1 - softmax_optimum) * classes / (classes - 1) == pytest.approx(epsilon, abs=6e-3)
    smoothed = LabelSmoothingLoss(epsilon=(1 - softmax_optimum) * classes / (classes - 1))
    assert slope(smoothed, two_level(classes, softmax_optimum)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "classes, ratio, sigmoid_ratio", [(2, 3, 39), (10, 12, 333), (100, 926, 28_000), (1000, 90_000, 2.8e6)]
)
def test_ngl_gradient_at_the_start(classes: int, ratio: float, sigmoid_ratio: float) -> None:
    z = torch.zeros(1, classes, dtype=torch.float64, requires_grad=True)
    cross_entropy = torch.autograd.grad(F.cross_entropy(z, FIRST), z)[0][0, 0].item()
    for scaling, expected in (("none", ratio), ("sigmoid", sigmoid_ratio)):
        found = cross_entropy / slope(NextGenerationLoss(scaling=scaling), z)
        assert found == pytest.approx(expected, rel=0.04, abs=0.5)
        assert found / classes == pytest.approx(
            cross_entropy / slope(NextGenerationLoss(scaling=scaling, class_reduction="sum"), z)
        )


def test_ngl_gradient_changes_sign_above_its_optimum() -> None:
    assert slope(NextGenerationLoss(), two_level(10, 0.9)) == pytest.approx(0.063, abs=5e-4)


def test_ngl_descent_on_free_logits_reaches_full_accuracy_at_its_own_confidence() -> None:
    target = torch.arange(10).repeat(20)
    logits = torch.randn(200, 10, generator=seeded(20), requires_grad=True)
    optimizer, loss = torch.optim.Adam([logits], lr=0.1), NextGenerationLoss()
    for _ in range(300):
        optimizer.zero_grad()
        loss(logits, target).backward()
        optimizer.step()
    confidence, predicted = logits.softmax(1).max(1)
    assert (predicted == target).all()
    torch.testing.assert_close(confidence, torch.full((200,), 0.391), rtol=0, atol=1e-3)


def test_ngl_of_images_is_over_the_classes() -> None:
    """The published file normalises (N, C, H, W) over the width."""
    logits = torch.randn(2, 4, 3, 5, generator=seeded(21), dtype=torch.float64)
    target = torch.randint(0, 4, (2, 3, 5), generator=seeded(22))
    x, y = logits.softmax(1), F.one_hot(target, 4).movedim(-1, 1)
    published = torch.exp(2.4092 - x - x * y) - torch.cos(torch.cos(torch.sin(x)))
    torch.testing.assert_close(NextGenerationLoss()(logits, target), published.mean())
    squashed = x.sigmoid()
    published = torch.exp(2.4092 - squashed * (1 + y)) - torch.cos(torch.cos(torch.sin(squashed)))
    torch.testing.assert_close(NextGenerationLoss(scaling="sigmoid")(logits, target), published.mean())


def test_alpha_of_ngl_is_a_weight_not_a_margin() -> None:
    """L(alpha) - L(beta) = (e^alpha - e^beta) mean exp(-x (1 + y)): the cosine part is free of it."""
    z = torch.randn(1, 6, generator=seeded(23), dtype=torch.float64)
    parts = [NextGenerationLoss(alpha)(z, FIRST).item() for alpha in (0.0, 1.0, 2.0)]
    assert (parts[2] - parts[1]) / (parts[1] - parts[0]) == pytest.approx(math.e)


# --- sparse label smoothing, seed 3 section 4 ------------------------------------------------------------------------


def test_sparse_label_smoothing_golden_value() -> None:
    """C = 10, xi = 0.1, f_t = 0.9, the rest uniform: .5009; the released code has -.3091."""
    z = two_level(10, 0.9)
    assert SparseLabelSmoothingLoss(0.1)(z, FIRST).item() == pytest.approx(0.5009, abs=5e-5)
    assert LabelSmoothingLoss(0.1)(z, FIRST).item() == pytest.approx(0.5009, abs=5e-5)


def test_sparse_label_smoothing_is_at_most_label_smoothing() -> None:
    logits = 3 * torch.randn(500, 7, generator=seeded(24), dtype=torch.float64)
    target = torch.randint(0, 7, (500,), generator=seeded(25))
    for epsilon in (0.05, 0.3, 0.9):
        sparse, full = (
            loss(epsilon, reduction="none")(logits, target) for loss in (SparseLabelSmoothingLoss, LabelSmoothingLoss)
        )
        assert (sparse < full).all()  # Jensen: equal only if the others are uniform
        z = two_level(7, 0.3)
        torch.testing.assert_close(SparseLabelSmoothingLoss(epsilon)(z, FIRST), LabelSmoothingLoss(epsilon)(z, FIRST))


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("epsilon", [0.05, 0.1, 0.4])
def test_sparse_label_smoothing_optimum(classes: int, epsilon: float) -> None:
    loss = SparseLabelSmoothingLoss(epsilon)
    found = brentq(lambda p: slope(loss, two_level(classes, p)), 1e-6, 1 - 1e-6)
    assert found == pytest.approx(1 - epsilon * (classes - 1) / classes, abs=1e-9)


# --- logit adjustment ------------------------------------------------------------------------------------------------


def test_logit_adjustment_shifts_by_the_log_prior() -> None:
    """At a uniform target its optimum undoes the prior: z + tau log(prior) is constant for that loss's minimiser."""
    counts, target = [90.0, 9.0, 1.0], torch.tensor([0, 1, 2])
    logits = torch.randn(3, 3, generator=seeded(26), dtype=torch.float64)
    shift = torch.tensor([0.9, 0.09, 0.01], dtype=torch.float64).log()
    for tau in (0.0, 0.5, 1.0, 2.0):
        found = LogitAdjustedLoss(tau, counts)(logits, target)
        torch.testing.assert_close(found, F.cross_entropy(logits + tau * shift, target), rtol=1e-6, atol=1e-6)
    with pytest.raises(ValueError, match="class_counts"):
        LogitAdjustedLoss()(logits, target)
    bound = LogitAdjustedLoss()
    bound.bind(class_counts=counts)
    torch.testing.assert_close(bound(logits, target), LogitAdjustedLoss(1, counts)(logits, target))
