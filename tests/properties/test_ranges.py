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
    """With three classes it is sampled: of Brier's score 2 and 0, and its gradient at p = 1/3 beside a class of 2/3."""
    found = bounds_of(subject("brier", 3), parts_of(subject("brier", 3)))
    steepest = math.sqrt(2) * 4 / 3 * (2 / 3) ** 2
    assert found.largest.attained == pytest.approx(2, rel=1e-6)
    assert found.smallest.attained == pytest.approx(0, abs=1e-6)
    assert found.gradient.attained == pytest.approx(steepest, rel=1e-6)


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


def test_bounds_do_not_mind_how_the_caller_treats_overflow() -> None:
    with np.errstate(over="raise", under="raise"):
        found = bounds_of(subject("formula(p*log(p))", 3), parts_of(subject("formula(p*log(p))", 3)))
    assert found.smallest.proved == pytest.approx(math.log(3), rel=1e-5)


# --- label noise ------------------------------------------------------------------------------------------------------


def noise(text: str, num_classes: int = 10) -> NoiseTest:
    subject = subject_of(lossmith.create(text), num_classes)
    return noise_test(subject, parts_of(subject))


@pytest.mark.parametrize("text", ["mae", "gce:q=1", "taylor:order=1", "formula(y*(3 - 2*p) + (1 - y)*p)"])
def test_constant_sums_are_proved(text: str) -> None:
    """Ghosh et al. 2017: the sum over all targets is constant for the mean absolute error, whatever its name."""
    for num_classes in (3, 4, 10):
        assert noise(text, num_classes).how == "proved"


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


@pytest.mark.parametrize("num_classes", [2, 3, 100])
def test_the_spread_of_a_loss_that_is_the_same_for_all_targets_is_1(num_classes: int) -> None:
    """Then the sum is C times the loss."""
    for parts in (parts_of(subject("formula(p*p)", num_classes)), None):
        assert noise_test(subject("formula(p*p)", num_classes), parts).spread == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("num_classes", [3, 2000])
def test_what_is_constant_wherever_sampled_is_called_tested(num_classes: int) -> None:
    """2 - p has no formula; with sin^2 + cos^2 = 1 algebra does not show it."""
    written = subject("formula(y*(1 - p)*(square(sin(p)) + square(cos(p))))", num_classes)
    for found in (noise_test(subject_of(FallingLoss(), num_classes), None), noise_test(written, parts_of(written))):
        assert (found.symmetric, found.how, found.spread) == (True, "tested", 0.0)


def test_classes_that_differ_are_told_apart() -> None:
    """``sum_t w_t (1 - p_t)`` varies unless all weights are equal."""
    weighted = subject_of(lossmith.create("mae", weight=[1.0, 2.0, 3.0]), 3)
    assert noise_test(weighted, None).how == "counterexample"


def test_symmetric_with_four_classes_only() -> None:
    assert noise("formula(y*((n-4)*c + 1 - p))", 4).how == "proved"
