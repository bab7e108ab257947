"""Identities between losses and the golden numbers of the papers: rooted, alternate, tempered and their relatives."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from loss_cases import seeded
from scipy.optimize import brentq, minimize
from torch import Tensor

import lossmith
from lossmith.losses import MLoss, RootedLogisticLoss

N, C = 16, 5
LOGITS = 2 * torch.randn(N, C, generator=seeded(10), dtype=torch.float64)
TARGET = torch.randint(0, C, (N,), generator=seeded(11))


def per_sample(text: str, logits: Tensor = LOGITS, target: Tensor = TARGET) -> Tensor:
    return lossmith.create(text, reduction="none")(logits, target)


def nll() -> Tensor:
    return F.cross_entropy(LOGITS, TARGET, reduction="none")


def p_target() -> Tensor:
    return LOGITS.softmax(1).gather(1, TARGET[:, None]).squeeze(1)


def at(text: str, p: float) -> tuple[float, float]:
    """Value, and strictness: the factor on cross-entropy's logit gradient, at target probability p of two classes."""
    z = torch.tensor([[math.log(p / (1 - p)), 0.0]], dtype=torch.float64, requires_grad=True)
    value = per_sample(text, z, torch.tensor([0]))
    (gradient,) = torch.autograd.grad(value.sum(), z)
    return value.item(), gradient[0, 0].item() / (p - 1)


# --- one loss under several names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, other, factor",
    [
        ("rooted:k=1", "m", 1),
        ("rooted:k=3", "tempered:kappa=0.3333333333333333", 1),
        ("rooted:form=released,k=4", "gce:q=0.25", 1),
        ("rooted:form=released,k=1", "mae", 1),
        ("rooted:form=released,k=8,m=10", "rooted:form=released,k=8", 10 / 8),
        ("m", "tempered:kappa=1", 1),
        ("param_m:alpha=1", "m", 1),
        ("param_m:alpha=0.7", "tempered:kappa=0.7", 0.7),
        ("gce:q=0.7", "tempered:kappa=-0.7", 1),
        ("gce:q=1", "mae", 1),
        ("mae", "tempered:kappa=-1", 1),
        ("parabolic", "tempered:kappa=-2", 2),
        ("taylor:order=1", "mae", 1),
        ("symmetric:alpha=0,beta=1,A=-4", "mae", 4),
        ("symmetric:alpha=1,beta=1,A=-1", "poly1:epsilon=1", 1),
        ("tempered:kappa=[0.5,0.5,0.5,0.5,0.5]", "tempered:kappa=0.5", 1),
        ("label_smoothing:epsilon=0.3", "cross_entropy:label_smoothing=0.3", 1),
        ("ngl:class_reduction=sum", "ngl", C),
        ("bi_tempered:t1=1,t2=1", "cross_entropy", 1),
        ("dynamical(focal):amplitude=1", "focal", 1),
    ],
)
def test_two_names_of_one_loss(text: str, other: str, factor: float) -> None:
    for target in (TARGET, LOGITS.flip(0).softmax(1)):
        loss = lossmith.create(text)
        torch.testing.assert_close(loss(LOGITS, target), factor * lossmith.create(other)(LOGITS, target))


def test_three_forms_of_the_rooted_objective() -> None:
    for k in (0.5, 1, 2, 3, 8):
        gaps = LOGITS - LOGITS.gather(1, TARGET[:, None])
        others = gaps.exp().scatter(1, TARGET[:, None], 0.0).sum(1)
        for form in (k * ((1 + others) ** (1 / k) - 1), k * (p_target() ** (-1 / k) - 1), k * torch.expm1(nll() / k)):
            torch.testing.assert_close(per_sample(f"rooted:k={k}"), form)


def test_alpha_loss() -> None:
    """Sypherd et al.: alpha/(alpha-1) (1 - p^((alpha-1)/alpha))."""
    for k in (2.0, 3.0, 8.0):
        for text, alpha in ((f"rooted:k={k}", k / (k + 1)), (f"rooted:form=released,k={k}", k / (k - 1))):
            expected = alpha / (alpha - 1) * (1 - p_target() ** ((alpha - 1) / alpha))
            torch.testing.assert_close(per_sample(text), expected)


def test_m_is_the_sum_of_exponentiated_gaps() -> None:
    gaps = (LOGITS - LOGITS.gather(1, TARGET[:, None])).exp().scatter(1, TARGET[:, None], 0.0).sum(1)
    torch.testing.assert_close(per_sample("m"), gaps)
    torch.testing.assert_close(per_sample("m"), torch.expm1(nll()))


def test_limits() -> None:
    torch.testing.assert_close(per_sample("rooted:k=1e6"), nll(), rtol=1e-5, atol=0)
    torch.testing.assert_close(per_sample("rooted:form=released,k=1e6"), nll(), rtol=1e-5, atol=0)
    torch.testing.assert_close(per_sample("tempered:kappa=1e-8"), nll(), rtol=1e-6, atol=0)
    torch.testing.assert_close(per_sample("gce:q=1e-8"), nll(), rtol=1e-6, atol=0)
    likely = nll() < 5  # the series converges like (1 - p)^order
    torch.testing.assert_close(per_sample("taylor:order=1000")[likely], nll()[likely], rtol=0, atol=1e-3)
    torch.testing.assert_close(per_sample("bi_tempered:t1=0.999999"), nll(), rtol=1e-5, atol=1e-5)


def test_bi_tempered_with_an_ordinary_softmax_is_gce_and_a_correction() -> None:
    share = 2 - 0.7
    correction = (1 - LOGITS.softmax(1).pow(share).sum(1)) / share
    torch.testing.assert_close(per_sample("bi_tempered:t1=0.7"), per_sample("tempered:kappa=-0.3") - correction)


def test_full_forms_are_twice_the_plain_ones_for_two_classes() -> None:
    target = TARGET % 2
    for name in ("m", "l"):
        full, plain = (per_sample(text, LOGITS[:, :2], target) for text in (f"{name}_full", name))
        torch.testing.assert_close(full, 2 * plain)


def test_brier_is_the_squared_distance_to_the_target() -> None:
    p = LOGITS.softmax(1)
    torch.testing.assert_close(per_sample("brier"), (p - F.one_hot(TARGET, C)).square().sum(1))
    q = LOGITS.flip(0).softmax(1)
    expected = (p - q).square().sum(1) + (q * (1 - q)).sum(1)
    torch.testing.assert_close(per_sample("brier", target=q), expected)


# --- seed 0: rooted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k, slope, curvature", [(1, 1, 1), (2, 0.707, 0.530), (3, 0.630, 0.420), (8, 0.545, 0.307)])
def test_rooted_at_zero_margin(k: float, slope: float, curvature: float) -> None:
    z = torch.zeros((), dtype=torch.float64, requires_grad=True)
    loss = RootedLogisticLoss(k, task="binary")(z, torch.ones_like(z))
    (first,) = torch.autograd.grad(loss, z, create_graph=True)
    (second,) = torch.autograd.grad(first, z)
    assert -first.item() == pytest.approx(slope, abs=6e-4)
    assert second.item() == pytest.approx(curvature, abs=6e-4)


def test_rooted_with_k_1_is_the_exponential_loss_of_the_margin() -> None:
    z = torch.linspace(-15, 15, 31, dtype=torch.float64)
    for loss in (RootedLogisticLoss(1, task="binary", reduction="none"), MLoss(task="binary", reduction="none")):
        torch.testing.assert_close(loss(z, torch.ones_like(z)), torch.exp(-z))
        torch.testing.assert_close(loss(z, torch.zeros_like(z)), torch.exp(z))


@pytest.mark.parametrize("k", [0.5, 1.0, 3.0, 20.0])
def test_rooted_curvature_is_at_least_cross_entropys(k: float) -> None:
    z = torch.linspace(-6, 12, 37, dtype=torch.float64, requires_grad=True)
    loss = RootedLogisticLoss(k, task="binary", reduction="sum")(z, torch.ones_like(z))
    (first,) = torch.autograd.grad(loss, z, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), z)
    h = second / (z.sigmoid() * (-z).sigmoid())
    u = 1 + torch.exp(-z)
    torch.testing.assert_close(h, u ** (1 / k) * (1 + torch.exp(-z) / k))
    assert (h >= 1).all()


@pytest.mark.parametrize(
    "text, classes, ratio",
    [
        ("rooted:k=2", 10, 3.16),
        ("rooted:k=3", 10, 2.15),
        ("rooted:k=8", 10, 1.33),
        ("rooted:k=2", 100, 10),
        ("rooted:k=3", 100, 4.64),
        ("rooted:k=8", 100, 1.78),
        ("rooted:form=released,k=3,m=3", 10, 0.46),
        ("rooted:form=released,k=8,m=10", 100, 0.70),
    ],
)
def test_gradient_relative_to_cross_entropys_at_the_start(text: str, classes: int, ratio: float) -> None:
    z = torch.zeros(1, classes, dtype=torch.float64, requires_grad=True)
    norms = [torch.autograd.grad(per_sample(t, z, torch.tensor([0])), z)[0].norm() for t in (text, "cross_entropy")]
    assert (norms[0] / norms[1]).item() == pytest.approx(ratio, abs=5.1e-3)


def test_released_form_is_concave_for_unlikely_targets() -> None:
    """Its second derivative along the margin changes sign at p = 1/(k+1)."""
    for k in (2.0, 3.0, 8.0):
        signs = []
        for p in (1 / (k + 1) - 1e-3, 1 / (k + 1) + 1e-3):
            z = torch.tensor(math.log(p / (1 - p)), dtype=torch.float64, requires_grad=True)
            loss = RootedLogisticLoss(k, form="released", task="binary")(z, torch.ones_like(z))
            (first,) = torch.autograd.grad(loss, z, create_graph=True)
            signs.append(torch.autograd.grad(first, z)[0].item() > 0)
        assert signs == [False, True]


# --- seed 2: strictness ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, strictness",
    [
        ("cross_entropy", (1, 1, 1, 1)),
        ("m", (100, 10, 2, 1.11)),
        ("param_m:alpha=2", (2e4, 200, 8, 2.47)),
        ("param_m:alpha=0.5", (5, 1.58, 0.71, 0.53)),
        ("l", (3.53, 1.09, 0.385, 0.091)),
        ("parabolic", (2e-4, 0.02, 0.5, 1.62)),
        ("circle", (1e-4, 0.010, 0.289, 1.86)),
        ("cos", (2e-4, 0.025, 0.555, 1.40)),
    ],
)
def test_strictness_table(text: str, strictness: tuple[float, ...]) -> None:
    for p, expected in zip((0.01, 0.1, 0.5, 0.9), strictness, strict=True):
        digits = len(f"{expected:g}".lstrip("0.").replace(".", "").replace("e-0", "")) if expected < 100 else 3
        assert at(text, p)[1] == pytest.approx(expected, rel=0.5 * 10 ** (1 - min(digits, 3)))


@pytest.mark.parametrize(
    "text, crossing",
    [("l", 0.1168), ("parabolic", 0.707), ("circle", 0.786), ("cos", 0.709), ("focal:gamma=2", 0.298)],
)
def test_strictness_crosses_cross_entropys(text: str, crossing: float) -> None:
    assert brentq(lambda p: at(text, p)[1] - 1, 0.02, 0.95) == pytest.approx(crossing, abs=5e-4)


@pytest.mark.parametrize("text, crossing", [("l", 0.0216), ("parabolic", 0.451), ("circle", 0.400), ("cos", 0.485)])
def test_value_crosses_cross_entropys(text: str, crossing: float) -> None:
    found = brentq(lambda p: at(text, p)[0] - at("cross_entropy", p)[0], 0.01, 0.9)
    assert found == pytest.approx(crossing, abs=5e-4)


@pytest.mark.parametrize(
    "text, ratio", [("m", 9), ("l", 11.9), ("parabolic", 0.012), ("circle", 0.0054), ("cos", 0.0176)]
)
def test_scale_free_strictness(text: str, ratio: float) -> None:
    assert at(text, 0.1)[1] / at(text, 0.9)[1] == pytest.approx(ratio, rel=0.04)


@pytest.mark.parametrize(
    "text, strictness",
    [
        ("rooted:k=3", lambda p: p ** (-1 / 3)),
        ("rooted:form=released,k=3", lambda p: p ** (1 / 3)),
        ("tempered:kappa=0.4", lambda p: p**-0.4),
        ("gce:q=0.7", lambda p: p**0.7),
        ("mae", lambda p: p),
        ("l", lambda p: (1 - p) / (math.sqrt(p) * (2 - p) ** 1.5)),
        ("parabolic", lambda p: 2 * p * p),
        ("circle", lambda p: p * p / math.sqrt(1 - p * p)),
        ("cos", lambda p: math.pi / 2 * p * math.sin(math.pi * p / 2)),
        ("focal:gamma=2", lambda p: (1 - p) ** 2 - 2 * (1 - p) * p * math.log(p)),
        ("focal:gamma=0.5", lambda p: (1 - p) ** 0.5 - 0.5 * (1 - p) ** -0.5 * p * math.log(p)),
        ("poly1:epsilon=2", lambda p: 1 + 2 * p),
        ("taylor:order=3", lambda p: 1 - (1 - p) ** 3),
        ("symmetric:alpha=0.1,beta=1,A=-4", lambda p: 0.1 + 4 * p),
    ],
)
def test_strictness_formulas(text: str, strictness: Callable[[float], float]) -> None:
    for p in (1e-6, 0.01, 0.3, 0.5, 0.9, 0.999):
        assert at(text, p)[1] == pytest.approx(strictness(p), rel=1e-7)


def test_binary_l_of_the_margin() -> None:
    z = torch.linspace(-20, 20, 41, dtype=torch.float64)
    u = torch.exp(-z)
    value = lossmith.create("l", task="binary", reduction="none")(z, torch.ones_like(z))
    torch.testing.assert_close(value, (1 + u) / torch.sqrt(1 + 2 * u) - 1, rtol=1e-7, atol=1e-14)


@pytest.mark.parametrize("text", ["cross_entropy", "m", "l", "rooted:k=3", "param_m:alpha=2", "tempered:kappa=0.5"])
def test_convex_in_the_logits(text: str) -> None:
    for z in torch.cat([LOGITS, 8 * LOGITS]):
        curvature = torch.autograd.functional.hessian(lambda z: per_sample(text, z, torch.tensor(0)), z)
        steepness = torch.autograd.functional.jacobian(lambda z: per_sample(text, z, torch.tensor(0)), z).abs().max()
        assert torch.linalg.eigvalsh(curvature).min() >= -1e-14 * (1 + steepness)


@pytest.mark.parametrize(
    "text, optimum",
    [
        ("cross_entropy", (0.5, 0.3, 0.2)),
        ("brier", (0.5, 0.3, 0.2)),
        ("m", (0.415, 0.322, 0.263)),
        ("l", (0.43, 0.32, 0.25)),
        ("rooted:k=3", tuple(q**0.75 / sum(r**0.75 for r in (0.5, 0.3, 0.2)) for q in (0.5, 0.3, 0.2))),
        ("rooted:form=released,k=3", tuple(q**1.5 / sum(r**1.5 for r in (0.5, 0.3, 0.2)) for q in (0.5, 0.3, 0.2))),
    ],
)
def test_population_optimum(text: str, optimum: tuple[float, ...]) -> None:
    eta, loss = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64), lossmith.create(text)
    found = minimize(
        lambda z: loss(torch.from_numpy(z)[None], eta).item(), [0.0, 0.0, 0.0], tol=1e-12, method="Nelder-Mead"
    )
    p = torch.tensor(found.x).softmax(0).tolist()
    assert p == pytest.approx(optimum, abs=6e-3 if text == "l" else 1e-3)
