"""Bounds of values and gradients against closed forms and attacks, with every number of classes."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from scipy.optimize import minimize_scalar

import lossmith
from lossmith.losses import TargetLoss
from lossmith.losses.entries import Entries
from lossmith.properties.bounds import Bounds, bounds_of
from lossmith.properties.parts import parts_of
from lossmith.properties.subject import subject_of


@functools.cache
def bounds(text: str, num_classes: int = 10) -> Bounds:
    subject = subject_of(lossmith.create(text), num_classes)
    return bounds_of(subject, parts_of(subject))


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_classes", [2, 3, 100])
@pytest.mark.parametrize(
    "text, value",
    [
        ("parabolic", 1),
        ("gce:q=0.5", 2),
        ("brier", 2),
        ("taylor:order=3", 1 + 1 / 2 + 1 / 3),
        ("rooted:k=3,form=released", 3),
        ("symmetric:alpha=0", 4),
        ("bi_tempered:t1=0.5", 2),
        ("formula(y*sin(3*p))", 1),  # inside, at p = pi/6
        ("formula(n*y*(1 - p))", None),  # n
        ("formula((1 - y)*p*(1 - p))", None),  # all but the target share: (C - 1) q (1 - q) with q = 1/(C - 1), C > 2
    ],
)
def test_bounds_of_values(text: str, value: float | None, num_classes: int) -> None:
    if value is None:
        value = num_classes if "n*y" in text else max(1 / 4 * (num_classes == 2), 1 - 1 / max(2, num_classes - 1))
        value = 1 / 4 if "n*y" not in text and num_classes == 2 else value
    found = bounds(text, num_classes).largest
    assert found.proved is not None
    assert found.apart == math.inf
    assert found.attained <= value * (1 + 1e-12)
    assert value * (1 - 1e-12) <= found.proved <= value * (1 + 1e-5)


def test_square_root_spread_over_many_classes() -> None:
    """``sum sqrt(p_j)`` over C - 1 classes is at most sqrt(C - 1)."""
    for num_classes in (3, 1000):
        found = bounds("formula((1 - y)*sqrt(p))", num_classes).largest
        assert found.proved == pytest.approx(math.sqrt(num_classes - 1), rel=1e-5)
        assert found.attained == pytest.approx(math.sqrt(num_classes - 1), rel=1e-4)


@pytest.mark.parametrize("text", ["cross_entropy", "m", "focal", "formula(y*pow(c, 0.1)*1e9)", "formula(y*exp(1/p))"])
def test_what_grows_without_end_is_unbounded_by_proof(text: str) -> None:
    found = bounds(text).largest
    assert found.proved is None
    assert found.attained_how == "proved"
    assert found.attained > 1e6


def test_what_grows_below_all_numbers_is_bounded_for_float32() -> None:
    """log(1 + c) reaches 90 for logits 1e39 apart: no number of its values shows that it has no bound."""
    found = bounds("formula(y*log1p(c))").largest
    assert found.apart == pytest.approx(1e39)
    assert found.proved == pytest.approx(math.log1p(1e39), rel=1e-6)


def test_bounds_at_a_corner_are_of_one_prediction() -> None:
    """Here ``1 - p_j >= p_t``, so the loss is never positive; near a corner each part alone may be large."""
    found = bounds("formula(1e20*y*p*(1-p) - 1e21*(1-y)*p*(1-p) + y*p*c*c)", 3).largest
    assert found.attained <= 0
    assert found.attained_how == "sampled"


def test_the_smallest_value() -> None:
    """The sum of p log p, minus the entropy, is at least -log C."""
    found = bounds("formula(p*log(p))", 7).smallest
    assert found.proved == pytest.approx(math.log(7), rel=1e-5)
    assert bounds("formula(-y*c)").smallest.attained > 1e6


# --- gradients --------------------------------------------------------------------------------------------------------

STRICTNESS = {
    "focal": lambda p: (1 - p) ** 2 - 2 * (1 - p) * p * math.log(p),
    "gce:q=0.7": lambda p: p**0.7,
    "mae": lambda p: p,
    "taylor:order=2": lambda p: 1 - (1 - p) ** 2,
    "cos": lambda p: math.pi / 2 * p * math.sin(math.pi * p / 2),
    "parabolic": lambda p: 2 * p**2,
    "circle": lambda p: p**2 / math.sqrt(1 - p**2),
    "cross_entropy": lambda p: 1.0,
}


@pytest.mark.parametrize("num_classes", [2, 10])
@pytest.mark.parametrize("text", STRICTNESS)
def test_gradients_of_target_losses_to_six_digits(text: str, num_classes: int) -> None:
    """The norm is s(p) (1 - p) sqrt(2) at most, where one other class has the rest."""
    size = minimize_scalar(
        lambda p: -STRICTNESS[text](p) * (1 - p), bounds=(1e-12, 1 - 1e-12), options={"xatol": 1e-12}
    )
    exact = max(-size.fun, STRICTNESS[text](1e-12)) * math.sqrt(2)
    found = bounds(text, num_classes).gradient
    assert found.proved is not None
    assert exact * (1 - 1e-11) <= found.proved <= exact * (1 + 1e-6)
    assert found.attained <= exact * (1 + 1e-11)


def test_label_smoothing_points_at_the_wrong_corner() -> None:
    """Softmax less the smoothed label is largest where another class has everything."""
    for epsilon, num_classes in ((0.1, 2), (0.9, 4), (0.5, 1000)):
        share = epsilon / num_classes
        exact = math.hypot(1 - share, 1 - epsilon + share, math.sqrt(num_classes - 2) * share)
        found = bounds(f"label_smoothing:epsilon={epsilon}", num_classes).gradient
        assert found.proved is not None
        assert exact * (1 - 1e-9) <= found.proved <= exact * 1.001
        assert found.attained == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("num_classes", [3, 100])
@pytest.mark.parametrize("text", ["brier", "ngl", "bi_tempered", "formula((1-y)*sqrt(p) - y*log(p))"])
def test_gradients_of_class_wise_losses_lie_between(text: str, num_classes: int) -> None:
    found = bounds(text, num_classes).gradient
    assert found.proved is not None
    assert found.attained <= found.proved <= 1.5 * found.attained


@pytest.mark.parametrize(
    "text, num_classes, norm",
    [("y*c - (1 - y)*log(1 - p)", 10, math.sqrt(8)), ("-y*log(1 - p) + 0.001*(1 - y)*p", 3, math.sqrt(2))],
)
def test_a_gradient_is_reached_and_no_rounding_of_it(text: str, num_classes: int, norm: float) -> None:
    """As p goes to 1 the slope of -log(1-p) in its logit goes to p, though that in p goes to infinity."""
    found = bounds(f"formula({text})", num_classes).gradient
    assert found.attained == pytest.approx(norm, rel=1e-6)
    assert norm <= (found.proved or 0) < 50


def test_a_bound_of_a_negative_value_is_rounded_outward() -> None:
    assert (bounds("formula(y*c + y)").smallest.proved or 0) >= -1.0
    assert bounds("formula(y*c + y)").smallest.attained <= -1.0


def test_published_gradients_of_class_wise_losses() -> None:
    """Brier's is sqrt(2) * 4 p (1 - p)^2 at p = 1/3; the README's formula reaches 6.43 with 1,000 classes."""
    exact = math.sqrt(2) * 4 / 3 * (2 / 3) ** 2
    assert bounds("brier", 10).gradient.attained == pytest.approx(exact, rel=1e-6)
    assert bounds("formula((1-y)*sqrt(p) - y*log(p))", 1000).gradient.attained > 6.4
    assert bounds("ngl", 100).gradient.attained > 0.02  # sampled .020 where .552 was claimed
    assert (bounds("ngl", 100).gradient.proved or 0) < 0.03


@pytest.mark.parametrize("text", ["m", "rooted", "l", "m_full", "l_full", "formula((1 - y)/sqrt(1 - p) + y*c)"])
def test_gradients_that_grow_without_end(text: str) -> None:
    """Also one that grows only in the corner where one class that is not the target takes all."""
    found = bounds(text, 5).gradient
    assert found.proved is None
    assert found.attained > 1e6


def test_a_scaled_loss_has_a_scaled_gradient() -> None:
    assert bounds("scaled(cross_entropy):factor=10").gradient.proved == pytest.approx(10 * math.sqrt(2), rel=1e-6)


class RippleLoss(TargetLoss):
    """1 - p with a ripple; there is no formula to prove anything by."""

    name = "ripple"

    def phi(self, c: torch.Tensor, entries: Entries) -> torch.Tensor:
        p = (-c).exp()
        return 1 - p + 0.1 * (20 * p).sin() ** 2


def test_without_a_formula_it_is_sampled_and_climbs() -> None:
    found = bounds_of(subject_of(RippleLoss(), 10), None)
    assert {found.largest.attained_how, found.gradient.attained_how} == {"sampled"}
    assert found.largest.proved is None
    p = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    slope = (1 - 4 * torch.sin(20 * p) * torch.cos(20 * p)) * p * (1 - p) * math.sqrt(2)
    assert found.gradient.attained == pytest.approx(float(slope.max()), rel=1e-4)
    assert found.largest.attained == pytest.approx(float((1 - p + 0.1 * (20 * p).sin() ** 2).max()), rel=1e-4)
