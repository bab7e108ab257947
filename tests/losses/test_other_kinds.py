"""The losses that are no classification: rooted adversarial training, smooth absolute error."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from loss_cases import seeded
from scipy.integrate import quad

from lossmith.losses import RootedGANLoss, SmoothAbsoluteErrorLoss

# --- seed 0: GAN -----------------------------------------------------------------------------------------------------


def test_rooted_gan_is_the_authors_objective_less_its_constant() -> None:
    real, fake = torch.randn(7, 1, generator=seeded(12)), torch.randn(9, generator=seeded(13))
    for k in (1.0, 2.0, 20.0):
        loss = RootedGANLoss(k)
        generator = (k * (1 + torch.exp(-fake)) ** (1 / k)).mean()
        discriminator = (k * (1 + torch.exp(fake)) ** (1 / k)).mean() + (k * (1 + torch.exp(-real)) ** (1 / k)).mean()
        torch.testing.assert_close(loss.generator(fake), generator - k)
        torch.testing.assert_close(loss.discriminator(real, fake), discriminator - 2 * k)
    limit = RootedGANLoss(math.inf)
    torch.testing.assert_close(limit.generator(fake), F.softplus(-fake).mean())
    torch.testing.assert_close(limit.discriminator(real, fake), F.softplus(-real).mean() + F.softplus(fake).mean())


def test_rooted_gan_golden_values() -> None:
    assert RootedGANLoss(20).generator(torch.tensor(-100.0)).item() + 20 == pytest.approx(2968, abs=0.5)
    for k, value in ((2, 11.0), (20, 23.15), (25, 28.1)):  # fake scores of mean -2.7, sd 1.6

        def integrand(score: float, k: float = k) -> float:
            density = math.exp(-(((score + 2.7) / 1.6) ** 2) / 2) / (1.6 * math.sqrt(2 * math.pi))
            return density * (RootedGANLoss(k).generator(torch.tensor(score)).item() + k)

        assert quad(integrand, -14, 9)[0] == pytest.approx(value, rel=6e-3)


def test_rooted_gan_is_finite_where_the_authors_run_overflowed() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        score = torch.tensor([-6e4, -100, 0, 100, 6e4], dtype=dtype, requires_grad=True)
        value = RootedGANLoss(2).generator(score) + RootedGANLoss(2).discriminator(score, score)
        assert value.isfinite()
        assert torch.autograd.grad(value, score)[0].isfinite().all()


def test_rooted_gan_in_double_precision() -> None:
    score = torch.randn(5, generator=seeded(14), dtype=torch.float64, requires_grad=True)
    for k in (2.0, 20.0, math.inf):
        loss = RootedGANLoss(k)
        assert loss.generator(score).dtype == torch.float64
        assert torch.autograd.gradcheck(lambda s, loss=loss: (loss.generator(s), loss.discriminator(s, -s)), (score,))


# --- seed 2: smooth mean absolute error ------------------------------------------------------------------------------


def test_smooth_mean_absolute_error() -> None:
    loss = SmoothAbsoluteErrorLoss(reduction="none")
    e = torch.linspace(-6, 6, 120_001, dtype=torch.float64, requires_grad=True)
    value = loss(e + 3, torch.full_like(e, 3))
    torch.testing.assert_close(value, e * torch.tanh(e / 2))
    (slope,) = torch.autograd.grad(value.sum(), e)
    assert slope.max().item() == pytest.approx(1.1997, abs=5e-5)
    assert e[slope.argmax()].item() == pytest.approx(2.3994, abs=2e-4)
    gap = e.abs() - value
    assert gap.max().item() == pytest.approx(0.557, abs=5e-4)
    assert abs(e[gap.argmax()].item()) == pytest.approx(1.28, abs=5e-3)
    assert 1 - loss(torch.ones(1), torch.zeros(1)).item() == pytest.approx(0.538, abs=5e-4)
    prediction, target = torch.randn(4, 3), torch.randn(4, 3)
    for reduction in ("mean", "sum"):
        expected = getattr(loss(prediction, target), reduction)()
        torch.testing.assert_close(SmoothAbsoluteErrorLoss(reduction=reduction)(prediction, target), expected)
