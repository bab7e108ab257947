"""Formulas that are singular at p = 0 through the kernels, against the same sums written out in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from enclosures import enclosure
from torch import Tensor, nn

import lossmith
from lossmith.kernels import Polynomial, rows, singular
from lossmith.kernels.compiler import library
from lossmith.kernels.fitting import ROUNDING, Enclosure
from lossmith.kernels.singular import TOLERANCE, fit_singular

IGNORED = -100


def of(p: object) -> Any:
    """The module that has the functions of such numbers."""
    return mpmath if isinstance(p, mpmath.mpf) else torch


# For a class that is not the target, from p and log p; to each, the target adds -log p.
NEGATIVE: dict[str, Callable[[Any, Any], Any]] = {
    "p*log(p)": lambda p, log_p: p * log_p,
    "p*(1 - p)*log(p)": lambda p, log_p: p * (1 - p) * log_p,
    "p*square(log(p))": lambda p, log_p: p * log_p**2,
    "p*log(p) + sin(p)": lambda p, log_p: p * log_p + of(p).sin(p),
    "sqrt(p)": lambda p, log_p: p**0.5,
    "sqrt(p)*log(p)": lambda p, log_p: p**0.5 * log_p,
    "p**1.5": lambda p, log_p: p**1.5,
    "p**1.7*exp(p)": lambda p, log_p: p**1.7 * of(p).exp(p),
    "0.2 - 0.01*log(p)": lambda p, log_p: 0.2 - 0.01 * log_p,
    "-square(1 - p)*log(p)": lambda p, log_p: -((1 - p) ** 2) * log_p,
}
INFINITE = {"0.2 - 0.01*log(p)", "-square(1 - p)*log(p)"}


@pytest.fixture(params=["compiled", "chunks"])
def ran(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Both ways to compute the passes, at any size; filled when they run."""
    if request.param == "compiled" and library() is None:
        pytest.skip("no C++ compiler")
    if request.param == "chunks":
        monkeypatch.setattr(rows, "library", lambda: None)
    monkeypatch.setattr(rows, "SMALLEST", 0)
    used: list[bool] = []
    fused = rows.forward
    monkeypatch.setattr(rows, "forward", lambda batch: used.append(batch.polynomial.is_singular) or fused(batch))
    return used


def fused(text: str, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Losses and gradient of ``-y log(p) + (1-y) l_0(p)``."""
    made = logits.clone().requires_grad_()
    value = lossmith.create(f"formula((1-y)*({text}) - y*log(p))", reduction="none")(made, target)
    value.sum().backward()
    assert made.grad is not None
    return value.detach().double(), made.grad.double()


def written_out(text: str, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The same in float64; a class whose logit is -inf adds what l_0 tends to, 0."""
    made = logits.double().requires_grad_()
    log_p = made.log_softmax(1)
    absent = logits == -math.inf
    negative = NEGATIVE[text](log_p.masked_fill(absent, -1.0).exp(), log_p.masked_fill(absent, -1.0))
    index = target.clamp(min=0).unsqueeze(1)
    others = negative.masked_fill(absent, 0.0).scatter(1, index, 0.0).sum(1)
    value = (others - log_p.gather(1, index).squeeze(1)).masked_fill(target == IGNORED, 0.0)
    value.sum().backward()
    assert made.grad is not None
    return value.detach(), made.grad


def assert_equal(ours: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(ours[0], right[0], rtol=5e-6, atol=2e-6)
    largest = float(right[1].abs().max())
    torch.testing.assert_close(ours[1], right[1], rtol=1e-5, atol=2e-6 * largest)


@pytest.mark.parametrize("text", NEGATIVE)
@pytest.mark.parametrize("classes", [2, 3, 31, 32, 33, 100])
@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
def test_values_and_gradients(text: str, classes: int, spread: float, ran: list[bool]) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = spread * torch.randn(23, classes, generator=generator)
    target = torch.randint(0, classes, (23,), generator=generator)
    target[3] = IGNORED
    target[5] = logits[5].argmax()
    assert_equal(fused(text, logits, target), written_out(text, logits, target))
    assert ran == [True]


@pytest.mark.parametrize("text", NEGATIVE)
@pytest.mark.parametrize("rest", [1e-7, 1e-30])
@pytest.mark.parametrize("target", [0, 1])
def test_one_class_almost_certain(text: str, rest: float, target: int, ran: list[bool]) -> None:
    """float64 has p = 1 where the others together have 1e-30."""
    logits = torch.tensor([[0.0, math.log(rest) - 1.0, math.log(rest) + math.log(1 - math.exp(-1.0))]])

    def loss(*z: Any) -> Any:
        total = mpmath.fsum(map(mpmath.exp, z))
        others = [NEGATIVE[text](mpmath.exp(x) / total, x - mpmath.log(total)) for k, x in enumerate(z) if k != target]
        return mpmath.fsum(others) + mpmath.log(total) - z[target]

    value, gradient = fused(text, logits, torch.tensor([target]))
    with mpmath.workdps(100):
        z = tuple(map(mpmath.mpf, logits[0].tolist()))
        right = [
            float(loss(*z)),
            *(float(mpmath.diff(loss, z, tuple(int(k == j) for k in range(3)))) for j in range(3)),
        ]
    np.testing.assert_allclose([*value.tolist(), *gradient[0].tolist()], right, rtol=2e-5, atol=1e-35)
    assert ran == [True]


@pytest.mark.parametrize("text", sorted(NEGATIVE.keys() - INFINITE))
def test_masked_classes_add_nothing(text: str, ran: list[bool]) -> None:
    logits = torch.randn(40, 50, generator=torch.Generator().manual_seed(0))
    logits[:, 7] = -math.inf
    logits[1, 1:] = -math.inf
    logits[2, :40] = -math.inf
    target = torch.arange(40) % 7
    target[1], target[2] = 0, 45
    ours = fused(text, logits, target)
    assert_equal(ours, written_out(text, logits, target))
    assert not ours[1][logits == -math.inf].any()
    assert ran == [True]


@pytest.mark.parametrize("text", sorted(INFINITE))
def test_a_masked_class_whose_loss_is_infinite(text: str, ran: list[bool]) -> None:
    logits = torch.randn(40, 50, generator=torch.Generator().manual_seed(0))
    logits[3, 7] = -math.inf
    target = torch.zeros(40, dtype=torch.int64)
    values, _ = fused(text, logits, target)
    assert ran == [True]
    reference = lossmith.create(f"formula((1-y)*({text}) - y*log(p))", reduction="none", implementation="reference")
    assert values.isinf().nonzero().tolist() == [[3]]
    torch.testing.assert_close(values, reference(logits.double(), target), rtol=1e-6, atol=0)


@pytest.mark.parametrize("classes", [10, 1000])
def test_label_smoothing_written_class_by_class_is_that_of_torch(classes: int, ran: list[bool]) -> None:
    logits = 3 * torch.randn(64, classes, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, classes, (64,), generator=torch.Generator().manual_seed(1))
    target[4], logits[5, 2] = IGNORED, 100.0
    results = []
    for loss, dtype in (
        (lossmith.create("formula(-(0.9*y + 0.1/n)*log(p))"), torch.float32),
        (lambda z, t: F.cross_entropy(z, t, label_smoothing=0.1), torch.float64),
    ):
        made = logits.to(dtype).requires_grad_()
        value = loss(made, target)
        (gradient,) = torch.autograd.grad(value, made)
        results.append((value.detach().double(), gradient.double()))
    assert_equal(*results)
    assert ran == [True]


@pytest.mark.parametrize("text", NEGATIVE)
def test_every_gradient_entry_of_many_classes_keeps_its_digits(text: str, ran: list[bool]) -> None:
    """An entry is p_j f'(p_j) - p_j B + p_j: it is held to 1e-5 of the largest of the three."""
    logits = torch.randn(6, 32000, generator=torch.Generator().manual_seed(0))
    target = torch.arange(6)
    (_, ours), (_, right) = fused(text, logits, target), written_out(text, logits, target)
    p = logits.double().softmax(1).requires_grad_()
    NEGATIVE[text](p, p.log()).sum().backward()
    assert p.grad is not None
    p, own = p.detach(), p.detach() * p.grad
    size = torch.maximum(own.abs(), p * (1 + own.sum(1, keepdim=True).abs()))
    off = ((ours - right).abs() / size).scatter(1, target.unsqueeze(1), 0.0)
    assert float(off.max()) < 1e-5
    assert ran == [True]


def test_a_hessian_vector_product_is_refused_and_the_reference_gives_it(ran: list[bool]) -> None:
    model, formula = nn.Linear(4, 5), "formula((1-y)*p*log(p) - y*log(p))"
    x, target = torch.randn(6, 4), torch.randint(0, 5, (6,))
    parameters = list(model.parameters())
    with pytest.raises(RuntimeError, match="implementation='reference'"):
        torch.autograd.grad(lossmith.create(formula)(model(x), target), parameters, create_graph=True)
    loss = lossmith.create(formula, implementation="reference")
    first = torch.autograd.grad(loss(model(x), target), parameters, create_graph=True)
    assert all(of.isfinite().all() for of in torch.autograd.grad(first[0].sum(), parameters))
    assert ran == [True]


def test_what_has_no_polynomials_takes_the_reference_path(ran: list[bool]) -> None:
    text = "sqrt(p) + p*log(p)"
    assert fitted(text) is None
    logits, target = torch.randn(9, 20), torch.arange(9)
    value = lossmith.create(f"formula((1-y)*({text}) - y*log(p))")(logits, target)
    p = logits.double().softmax(1)
    others = (p.sqrt() + p * p.log()).scatter(1, target.unsqueeze(1), 0.0).sum(1)
    assert float(value) == pytest.approx(float((others - p[range(9), target].log()).mean()), rel=1e-6)
    assert not ran


def test_compiles_whole_for_one_number_of_classes_after_the_other(ran: list[bool]) -> None:
    loss = lossmith.create("formula((1-y)*sqrt(p)*log(p) - y*log(p))")
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for classes in (40, 50, 60):
        logits, target = torch.randn(30, classes), torch.randint(0, classes, (30,))
        results = []
        for function in (loss, compiled):
            made = logits.clone().requires_grad_()
            value = function(made, target)
            value.backward()
            results.append((value.detach(), made.grad))
        torch.testing.assert_close(*results)
    assert ran == [True] * 6


def fitted(text: str) -> Polynomial | None:
    return fit_singular(enclosure(text), [1.7])


@pytest.mark.parametrize("text", NEGATIVE)
def test_the_slope_stays_within_the_bound_in_float32(text: str) -> None:
    made = fitted(text)
    assert made is not None
    c = np.concatenate([np.linspace(math.log(2), 7, 400), np.linspace(7, 86, 300)]).astype(np.float32)
    with mpmath.workdps(40):
        right = np.array([
            float(mpmath.exp(mpmath.mpf(float(x)) * made.power) * mpmath.diff(of_log_p(text), -mpmath.mpf(float(x))))
            for x in c
        ])
    for x, off in zip(c, np.abs(in_float32(made, c) - right), strict=True):
        largest = np.abs(right[(c >= x) & (c <= x + math.log(8))]).max()
        assert off <= made.error * largest * 1.001  # the largest on a grid
    assert made.error <= TOLERANCE + ROUNDING


def in_float32(made: Polynomial, c: np.ndarray) -> np.ndarray:
    """T by Horner's scheme, in p and in c."""
    p = np.exp(-c.astype(np.float64)).astype(np.float32)
    total = np.zeros_like(p)
    for m in range(made.logs, -1, -1):
        value = np.zeros_like(p)
        for a in reversed(made.slope[m * (made.degree + 1) : (m + 1) * (made.degree + 1)]):
            value = value * p + np.float32(a)
        total = total * c + value
    return total.astype(np.float64)


def of_log_p(text: str) -> Callable[[Any], Any]:
    return lambda log_p: NEGATIVE[text](mpmath.exp(log_p), log_p)


@pytest.mark.parametrize(
    "text", ["abs(p - 0.2)", "sin(1000*p)", "1/p", "log(0.5 - p)", "square(log(p))", "square(p)*sqrt(p + 0.01)"]
)
def test_what_is_of_another_kind_is_refused(text: str) -> None:
    assert fitted(text) is None


@pytest.mark.parametrize("text", ["square(p)*abs(p - 0.2)*log(p)", "cos(pow(p, 9))"])
def test_what_vanishes_faster_or_jumps_is_refused(text: str) -> None:
    """Powers of p that are fitted to T as a whole are off at a small p by more than there is of it."""
    assert fitted(text) is None


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("of", [(0, 0), (0, 1), (0, 3), (1, 0), (1, 1), (2, 0), (2, 1), (3, 2)])
def test_the_enclosure_holds_a_known_error(power: float, of: tuple[int, int]) -> None:
    """T = 0 against ``c**m p**k``, and T = c p**2 against nothing, on boxes so wide that all of the bound counts."""
    edges = np.linspace(math.log(2), 3.0, 8)
    c, half, inside = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2, np.linspace(edges[:-1], edges[1:], 300)
    zero, coefficients = np.zeros_like(c), np.zeros((4, 4))
    nothing = singular._Boxes(c, half, (zero, zero), (zero, zero), (zero, zero))
    coefficients[of] = -1.0
    m, k = of
    bound = singular._enclosed(nothing, coefficients, power)
    true = (inside**m * np.exp(-k * inside)).max(0)
    assert (bound >= true * (1 - 1e-12)).all()
    # Twice the way to the edge on the tangent, and twice that of the largest second derivative, is more than enough.
    assert (bound <= true * (1 + 2 * half * (k + 2 * m) + half**2 * (k * k + 6 * m * k + 6 * m * m) * 2)).all()
    # f' = p**(power + 1) c, so that T = p**2 c; f'' = p**power ((power + 1) c - 1)
    p = np.exp(-inside)
    slope, curvature = p ** (power + 1) * inside, p**power * ((power + 1) * inside - 1)
    own = singular._Boxes(
        c,
        half,
        *((np.exp(-c * (power + 1)) * c,) * 2,),
        (slope.min(0), slope.max(0)),
        (curvature.min(0), curvature.max(0)),
    )
    bound = singular._enclosed(own, np.zeros((1, 1)), power)
    assert (bound >= (p**2 * inside).max(0) * (1 - 1e-5)).all()


@pytest.mark.parametrize("m, k", [(1, 1), (1, 2), (2, 0), (2, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize("middle", [0.75, 1.5, 3.0])
def test_the_enclosure_holds_what_curves_away_from_its_tangent(m: int, k: int, middle: float) -> None:
    """T = 0 against ``c**m exp(-k c)`` without its tangent at the middle of the box."""
    value, slope = middle**m * math.exp(-k * middle), (m / middle - k) * middle**m * math.exp(-k * middle)
    coefficients = np.zeros((4, 3))
    coefficients[m, k] = 1.0
    coefficients[1, 0] -= slope
    coefficients[0, 0] -= value - slope * middle
    half, zero = np.array([0.05]), np.zeros(1)
    boxes = singular._Boxes(np.array([middle]), half, (zero, zero), (zero, zero), (zero, zero))
    inside = np.linspace(middle - 0.05, middle + 0.05, 101)
    true = np.abs(inside**m * np.exp(-k * inside) - value - slope * (inside - middle)).max()
    assert singular._enclosed(boxes, coefficients, 1.0) >= true * (1 - 1e-9)


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_enclosure_holds_what_rises_and_what_falls(sign: int) -> None:
    """T = p - exp(-1), up or down, against nothing, where f'' is known to lie between 0 and 1, or -1 and 0."""
    c, half, zero, one = np.array([1.0]), np.array([0.05]), np.zeros(1), np.ones(1)
    slopes = np.exp(-1.05) - np.exp(-1) * one, np.exp(-0.95) - np.exp(-1) * one
    slopes, curvatures = (slopes, (zero, one)) if sign > 0 else ((-slopes[1], -slopes[0]), (-one, zero))
    bound = singular._enclosed(singular._Boxes(c, half, (zero, zero), slopes, curvatures), np.zeros((1, 1)), 1.0)
    assert bound >= math.exp(-0.95) - math.exp(-1)


@pytest.mark.parametrize("curvatures", [(1.0, 1.0), (-0.25, 1.0), (-1.0, 0.25), (-1.0, -1.0)])
def test_the_slope_of_a_box_reaches_to_its_edges(curvatures: tuple[float, float]) -> None:
    """For f = p^2 / 2 and its negative, of which f'' = 1 is known more or less exactly, nothing is to spare."""
    sign = 1 if curvatures[1] == 1 else -1

    def enclose(order: int, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if order == 1:
            return (low, high) if sign > 0 else (-high, -low)
        return np.full_like(low, curvatures[0]), np.full_like(low, curvatures[1])

    boxes = singular._boxes(enclose)
    assert boxes is not None
    least, most = boxes.slopes if sign > 0 else (-boxes.slopes[1], -boxes.slopes[0])
    low, high = np.exp(-boxes.c - boxes.half), np.exp(-boxes.c + boxes.half)
    assert (least <= low * (1 + 1e-6)).all()
    assert (most >= np.minimum(high, 0.5) * (1 - 1e-9)).all()
    assert (most <= high * (1 + 1e-6)).all()


def test_a_product_of_intervals_holds_all_products() -> None:
    generator = np.random.default_rng(0)
    (low, high), (least, most) = np.sort(generator.random((2, 1000)), 0), np.sort(generator.normal(size=(2, 1000)), 0)
    found = singular._times(low, high, (least, most))
    corners = np.stack([low * least, low * most, high * least, high * most])
    np.testing.assert_array_equal(found, (corners.min(0), corners.max(0)))


def widened(share: float) -> Enclosure:
    """Of p log p, f' being known to that share of its largest value between p / 8 and p only."""

    def enclose(order: int, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if order == 2:
            return 1 / high, 1 / low
        wide = share * np.abs(np.log(low) + 1 - math.log(8))
        return np.log(low) + 1 - wide, np.log(high) + 1 + wide

    return enclose


def test_what_is_not_known_well_enough_is_refused() -> None:
    made = fit_singular(widened(TOLERANCE / 4))
    assert made is not None
    assert made.error >= TOLERANCE / 4
    assert fit_singular(widened(2 * TOLERANCE)) is None


def test_what_float32_would_lose_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Powers of p that fit the cosine cancel; the bound holds what that does."""
    enclose = enclosure("sqrt(p)*cos(8*p)")
    assert fit_singular(enclose) is None
    monkeypatch.setattr(singular, "ROUNDING", 1.0)
    made = fit_singular(enclose)
    assert made is not None
    assert made.power == 0.5
    c = np.linspace(math.log(2), 4, 4000).astype(np.float32)
    p = np.exp(-c.astype(np.float64))
    right = np.cos(8 * p) / 2 - 8 * p * np.sin(8 * p)
    off = np.abs(in_float32(made, c) - right)
    largest = np.array([np.abs(right[(c >= x) & (c <= x + math.log(8))]).max() for x in c])
    assert (off <= made.error * largest).all()
    assert made.error > ROUNDING


@pytest.mark.parametrize("seed", range(4))
def test_the_bound_of_rounding_holds_what_float32_does(seed: int) -> None:
    generator = np.random.default_rng(seed)
    coefficients = generator.normal(size=(3, 12)) * 2.0 ** np.arange(12)
    c = np.linspace(math.log(2), 8, 3000).astype(np.float32)
    exact = sum(a * np.exp(-k * c.astype(float)) * c.astype(float) ** m for (m, k), a in np.ndenumerate(coefficients))
    made = Polynomial(tuple(coefficients.ravel()), tuple(coefficients.ravel()), 0.0, 1.0, 2)
    zero = np.zeros_like(c, dtype=float)
    boxes = singular._Boxes(c.astype(float), zero, (zero, zero), (zero, zero), (zero, zero))
    assert (np.abs(in_float32(made, c) - exact) <= singular._rounding(boxes, coefficients)).all()


def test_sizes_are_taken_between_an_eighth_and_one() -> None:
    generator = np.random.default_rng(0)
    c = np.sort(generator.uniform(0.7, 20, 5000))
    least = generator.random(5000) * (generator.random(5000) < 0.02)
    size = singular._sizes(c, least)
    for i in range(0, 4000, 7):
        within = (c >= c[i]) & (c <= c[i] + math.log(8))
        assert size[i] <= least[within].max()
        assert size[i] >= least[(c >= c[i] + 0.28) & (c <= c[i] + math.log(8) - 0.28)].max()
