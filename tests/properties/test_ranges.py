"""Which logits a loss can be computed for, which bounds are of what, and the test for label noise."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch

import lossmith
from lossmith.losses import ClassificationLoss, TargetLoss
from lossmith.losses.entries import Entries
from lossmith.properties.bounds import NoiseTest, bounds_of, noise_test, ranges_of
from lossmith.properties.parts import parts_of
from lossmith.properties.subject import Subject, subject_of


@functools.cache
def subject(text: str, num_classes: int = 10) -> Subject:
    return subject_of(lossmith.create(text), num_classes)


def test_ranges_say_where_the_tangent_begins_and_hold() -> None:
    found = {each.dtype: each for each in ranges_of(subject("rooted:k=3"))}
    assert (found["float16"].tangent, found["float32"].tangent) == (24, 60)  # 8 k and 20 k
    assert found["float16"].whole
    assert found["float16"].largest_gap == 2 * torch.finfo(torch.float16).max
    loss = lossmith.create("rooted:k=3")
    gap = found["float32"].largest_gap
    assert loss(torch.tensor([[-gap / 2, gap / 2]]), torch.tensor([0])).isfinite()
    assert not loss(torch.tensor([[-gap, gap]]), torch.tensor([0])).isfinite()
    assert all(each.tangent is None for each in ranges_of(subject("gce")))


def test_an_overflowing_loss_of_one_s_own_is_found_out() -> None:
    class Explodes(TargetLoss):
        name = "explodes"

        def phi(self, c: torch.Tensor, entries: Entries) -> torch.Tensor:
            return torch.expm1(c)

    loss: ClassificationLoss = Explodes()
    found = {each.dtype: each for each in ranges_of(subject_of(loss, 2))}
    assert found["float32"].largest_gap == 64  # e^88.7 is the largest number; 128 is the next gap tried
    assert bounds_of(subject_of(loss, 2), None).largest.attained > 1e100


def test_a_loss_that_overflows_where_it_is_right_is_found_out() -> None:
    """1/c has no number where the target takes all, for a gap of 128 in float32; on the other side it is fine."""

    class Nearby(TargetLoss):
        name = "nearby"

        def phi(self, c: torch.Tensor, entries: Entries) -> torch.Tensor:
            return 1 / c

    found = {each.dtype: each for each in ranges_of(subject_of(Nearby(), 2))}
    assert found["float32"].largest_gap < 128
    assert not found["float32"].whole


def test_a_loss_without_numbers_has_no_range() -> None:
    class Nowhere(TargetLoss):
        name = "nowhere"

        def phi(self, c: torch.Tensor, entries: Entries) -> torch.Tensor:
            return c.sqrt() * math.inf

    for each in ranges_of(subject_of(Nowhere(), 2)):
        assert (each.largest_gap, each.whole) == (0.0, False)


def test_every_dtype_has_its_range() -> None:
    found = ranges_of(subject("mae", 3))
    assert [each.dtype for each in found] == ["float16", "bfloat16", "float32"]
    for each in found:
        largest = torch.finfo(getattr(torch, each.dtype)).max
        assert (each.whole, each.largest_gap, each.tangent) == (True, 2 * largest, None)


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_bounds_are_of_value_negative_value_and_gradient() -> None:
    """1 - p^2, whose slope in the target's logit is -2 p^2 (1 - p), steepest at p = 2/3."""
    found = bounds_of(subject("parabolic", 2), parts_of(subject("parabolic", 2)))
    largest, smallest, gradient = (each.proved for each in (found.largest, found.smallest, found.gradient))
    assert largest == pytest.approx(1, rel=1e-6)
    assert smallest == pytest.approx(0, abs=1e-6)
    assert gradient == pytest.approx(8 / 27 * math.sqrt(2), rel=1e-6)


def test_what_is_attained_belongs_to_its_bound() -> None:
    """With three classes it is sampled. Brier's score less 3: at most -1, at least -3, steepest at p = 1/3 beside 2/3.

    It does not mind how the caller treats overflow.
    """
    ours = subject("formula(square(p - y) - 1)", 3)
    with np.errstate(over="raise", under="raise"):
        found = bounds_of(ours, parts_of(ours))
    assert found.largest.attained == pytest.approx(-1, rel=1e-6)
    assert found.smallest.attained == pytest.approx(3, rel=1e-6)
    assert found.gradient.attained == pytest.approx(math.sqrt(2) * 4 / 3 * (2 / 3) ** 2, rel=1e-6)


class FallingLoss(TargetLoss):
    """2 - p, without a formula."""

    name = "falling"

    def phi(self, c: torch.Tensor, entries: Entries) -> torch.Tensor:
        return 2 - (-c).exp()


def test_without_a_formula_bounds_are_sampled() -> None:
    found = bounds_of(subject_of(FallingLoss(), 3), None)
    for each, value in ((found.largest, 2), (found.smallest, -1), (found.gradient, math.sqrt(2) / 4)):
        assert (each.attained_how, each.proved, each.apart) == ("sampled", None, math.inf)
        assert each.attained == pytest.approx(value, rel=1e-6)


# --- label noise ------------------------------------------------------------------------------------------------------


def noise(text: str, num_classes: int = 10) -> NoiseTest:
    subject = subject_of(lossmith.create(text), num_classes)
    return noise_test(subject, parts_of(subject))


@pytest.mark.parametrize("text", ["mae", "gce:q=1", "taylor:order=1", "formula(y*(3 - 2*p) + (1 - y)*p)"])
def test_constant_sums_are_proved(text: str) -> None:
    """Ghosh et al. 2017: the sum over all targets is constant for the mean absolute error, whatever its name."""
    for num_classes in (3, 4, 10):
        assert noise(text, num_classes) == NoiseTest(True, "proved", 0.0)


def test_both_parts_count_in_the_sum() -> None:
    """(C - 1) c of the target and -c of each other add up to 0, though neither is constant."""
    assert noise("formula(y*c*(n - 1) - (1 - y)*c)", 4).how == "proved"
    # sin^2 + cos^2 = 1 is beyond algebra
    assert noise("formula(y*c*(n - 1)*(square(sin(p)) + square(cos(p))) - (1 - y)*c)", 4).how == "tested"


def test_a_loss_without_a_value_at_random_predictions_has_no_spread() -> None:
    """Twelve probabilities cannot all be .1 or more."""
    found = noise("formula(y*(1 - p) + y*sqrt(p - 0.1))", 12)
    assert not found.symmetric
    assert math.isnan(found.spread)


def test_label_noise_draws_no_numbers_of_the_caller() -> None:
    before = torch.get_rng_state()
    assert noise("gce", 3) == noise("gce", 3)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "text, num_classes",
    [
        ("gce", 10),
        ("brier", 3),
        ("formula(y*((n-4)*c + 1 - p))", 10),  # symmetric with 4 classes only
        ("formula(y*(1 - p) + 0.2*y*exp(-1000000*square(p - 0.37)))", 4),  # a bump that few points see
        ("formula(y*(1 - p) + 0.2*(1 - y)*exp(-1000000*square(p - 0.37)))", 4),
        ("formula(y*(1 - p) + 0.2*y*exp(-1000000*square(p - 0.9999)))", 4),
        ("formula(y*(1 - p) + 1e-7*y*c)", 3),
        ("formula(y*(1 - p) + 1e-7*y*c)", 2000),
    ],
)
def test_other_sums_are_refuted(text: str, num_classes: int) -> None:
    found = noise(text, num_classes)
    assert (found.symmetric, found.how) == (False, "counterexample")
    assert found.spread >= 0


@pytest.mark.parametrize("num_classes", [2, 3, 100])
def test_the_spread_of_a_loss_that_is_the_same_for_all_targets_is_1(num_classes: int) -> None:
    """Then the sum is C times the loss."""
    for parts in (parts_of(subject("formula(p*p)", num_classes)), None):
        assert noise_test(subject("formula(p*p)", num_classes), parts).spread == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("num_classes", [3, 2000])
def test_what_is_constant_wherever_sampled_is_called_tested(num_classes: int) -> None:
    """Of 2 - p, which has no formula."""
    found = noise_test(subject_of(FallingLoss(), num_classes), None)
    assert (found.symmetric, found.how, found.spread) == (True, "tested", 0.0)


def test_classes_that_differ_are_told_apart() -> None:
    """``sum_t w_t (1 - p_t)`` varies unless all weights are equal."""
    weighted = subject_of(lossmith.create("mae", weight=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), 6)
    assert noise_test(weighted, None).how == "counterexample"


def test_symmetric_with_four_classes_only() -> None:
    assert noise("formula(y*((n-4)*c + 1 - p))", 4).how == "proved"
