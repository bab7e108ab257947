"""Minimisers against closed forms, the seeds and scipy; convexity; numeric ranges."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

import lossmith
from lossmith.losses import ClassificationLoss, ClasswiseLoss, TargetLoss
from lossmith.losses.entries import Entries, Probability
from lossmith.properties.bounds import bounds_of, ranges_of
from lossmith.properties.convexity import convex_in_logits, convex_in_probabilities
from lossmith.properties.optimum import minimise, optimum_of, starts_of
from lossmith.properties.parts import Parts, parts_of
from lossmith.properties.subject import Subject, subject_of

# Seed 4, 1.3, DERIVED: p* of NGL, softmax and sigmoid form, and the label smoothing with the softmax form's p*.
SEED_CAPS = {
    "ngl": {2: 0.566, 10: 0.391, 100: 0.362, 1000: 0.359},
    "ngl:scaling=sigmoid": {2: 0.558, 10: 0.363, 100: 0.338, 1000: 0.335},
}
SEED_SMOOTHING = {2: 0.87, 10: 0.68, 100: 0.64, 1000: 0.64}
# Seed 2, section 3, DERIVED: minimisers at eta = (.5, .3, .2), grid-checked to about .005.
SEED_MINIMISERS = {"m": (0.415, 0.32, 0.26), "l": (0.43, 0.32, 0.25)}
GRADED = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)


@functools.cache
def subject(text: str, num_classes: int = 10) -> Subject:
    return subject_of(lossmith.create(text), num_classes)


def best_prediction(ours: Subject) -> torch.Tensor:
    return minimise(ours, parts_of(ours), GRADED, (1, 1, 1))


@pytest.mark.parametrize("text", SEED_CAPS)
def test_ngl_s_caps(text: str) -> None:
    starts = {start.num_classes: start for start in starts_of(subject(text))}
    for num_classes, cap in SEED_CAPS[text].items():
        assert starts[num_classes].cap == pytest.approx(cap, abs=6e-4)
        if text == "ngl":
            assert starts[num_classes].smoothing == pytest.approx(SEED_SMOOTHING[num_classes], abs=6e-3)


@pytest.mark.parametrize("epsilon", [0.1, 0.6])
def test_label_smoothing_s_cap_is_its_own(epsilon: float) -> None:
    for start in starts_of(subject(f"label_smoothing:epsilon={epsilon}")):
        assert start.cap == pytest.approx(1 - epsilon * (start.num_classes - 1) / start.num_classes, abs=1e-9)
        assert start.smoothing == pytest.approx(epsilon, abs=1e-9)


@pytest.mark.parametrize("text", ["cross_entropy", "m", "parabolic", "brier", "mae", "bi_tempered:t1=0.5,t2=2"])
def test_others_have_no_cap(text: str) -> None:
    assert {start.cap for start in starts_of(subject(text))} == {1.0}


@pytest.mark.parametrize("text", SEED_MINIMISERS)
def test_the_seed_s_minimisers(text: str) -> None:
    assert best_prediction(subject(text, 3))[0].tolist() == pytest.approx(SEED_MINIMISERS[text], abs=6e-3)


@pytest.mark.parametrize(
    "text, power",
    [
        ("cross_entropy", 1.0),
        ("brier", 1.0),
        ("bi_tempered", 1.0),
        ("bi_tempered:t1=0.5,t2=2", 1.0),
        ("m", 1 / 2),  # seed 2: sqrt(eta)
        ("param_m:alpha=2", 1 / 3),  # seed 2: eta^(1/(1+a))
        ("rooted:k=3", 3 / 4),  # seed 0: pi^(k/(k+1))
        ("rooted:k=3,form=released", 3 / 2),  # seed 0: pi^(k/(k-1))
        ("gce:q=0.5", 2.0),
    ],
)
def test_power_laws(text: str, power: float) -> None:
    expected = GRADED**power
    torch.testing.assert_close(best_prediction(subject(text, 3)), expected / expected.sum(), rtol=0, atol=1e-6)
    found = optimum_of(subject(text), parts_of(subject(text)))
    assert found.power == pytest.approx(power, abs=1e-5)
    assert found.proper == (power == 1.0)
    assert found.top_kept
    assert found.order_kept


@pytest.mark.parametrize("text", ["parabolic", "circle", "cos", "mae"])
def test_concave_losses_go_to_a_corner(text: str) -> None:
    found = optimum_of(subject(text), parts_of(subject(text)))
    assert best_prediction(subject(text, 3))[0].tolist() == [1, 0, 0]
    assert found.top_kept
    assert not found.order_kept
    assert not found.proper


@pytest.mark.parametrize(
    "text", ["ngl", "ngl:scaling=sigmoid", "focal", "m_full", "l_full", "symmetric", "taylor:order=3"]
)
def test_scipy_finds_no_better_prediction(text: str) -> None:
    ours = subject(text, 3)
    best = best_prediction(ours)

    def expected(z: np.ndarray) -> float:
        return float((ours.table(torch.tensor(z)[None]) * GRADED).sum())

    starts = ([0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 2.0, -1.0])
    tight = {"xatol": 1e-9, "fatol": 1e-15, "maxiter": 4000, "maxfev": 4000}
    found = min((minimize(expected, s, method="Nelder-Mead", options=tight) for s in starts), key=lambda r: r.fun)
    reached = float((ours.table(best.clamp(min=1e-300).log()) * GRADED).sum())
    assert reached <= found.fun + 1e-10
    assert best[0].tolist() == pytest.approx(torch.tensor(found.x).softmax(0).tolist(), abs=2e-5)


def test_weights_move_the_optimum() -> None:
    """Weighted cross-entropy is minimised by p ~ w eta."""
    weighted = subject_of(lossmith.create("cross_entropy", weight=[1.0, 2.0, 3.0]), 3)
    assert not weighted.symmetric
    assert best_prediction(weighted)[0].tolist() == pytest.approx([0.5 / 1.7, 0.6 / 1.7, 0.6 / 1.7], abs=1e-6)
    assert not optimum_of(weighted, parts_of(weighted)).top_kept


# --- convexity: seed 2's table for p and for logits, seed 0 for rooted, seed 4 for NGL -----

CONVEX_IN_P = ["cross_entropy", "m", "param_m", "l", "rooted", "ngl", "ngl:scaling=sigmoid", "brier", "mae", "gce"]
NOT_CONVEX_IN_P = ["parabolic", "circle", "cos"]
CONVEX_IN_LOGITS = ["cross_entropy", "m", "param_m", "l", "rooted", "label_smoothing", "tempered:kappa=0.2"]
NOT_CONVEX_IN_LOGITS = ["parabolic", "circle", "cos", "rooted:form=released", "gce", "mae", "brier", "ngl", "focal"]


@pytest.mark.parametrize("text", CONVEX_IN_P)
def test_convex_in_probabilities(text: str) -> None:
    found = convex_in_probabilities(subject(text), parts_of(subject(text)))
    assert (found.holds, found.how) == (True, "proved")


@pytest.mark.parametrize("text", NOT_CONVEX_IN_P)
def test_not_convex_in_probabilities(text: str) -> None:
    assert convex_in_probabilities(subject(text), parts_of(subject(text))).how == "counterexample"


@pytest.mark.parametrize("text", CONVEX_IN_LOGITS)
def test_convex_in_logits(text: str) -> None:
    found = convex_in_logits(subject(text), parts_of(subject(text)))
    assert (found.holds, found.how) == (True, "proved")


@pytest.mark.parametrize("text", NOT_CONVEX_IN_LOGITS)
def test_not_convex_in_logits(text: str) -> None:
    found = convex_in_logits(subject(text), parts_of(subject(text)))
    assert (found.holds, found.how) == (False, "counterexample")


class CubeLoss(TargetLoss):
    """c + c^3, convex, with no formula to prove it by."""

    name = "cube"

    def phi(self, c: torch.Tensor, entries: Entries) -> torch.Tensor:
        return c + c**3


class SlightlyConcaveLoss(ClasswiseLoss):
    """Convex but for p between .4 and .41, where the target's part has a small dent."""

    name = "dent"

    def positive(self, p: Probability, entries: Entries) -> torch.Tensor:
        return p.c

    def negative(self, p: Probability, entries: Entries) -> torch.Tensor:
        return -3 * p.value**2


def test_without_a_formula_it_is_tested_and_says_so() -> None:
    for examine in (convex_in_probabilities, convex_in_logits):
        assert examine(subject_of(CubeLoss(), 10), None).how == "tested"
    assert convex_in_probabilities(subject_of(SlightlyConcaveLoss(), 10), None).how == "counterexample"


def subject_and_parts(text: str, num_classes: int = 10) -> tuple[Subject, Parts | None]:
    found = subject(text, num_classes)
    return found, parts_of(found)


def test_a_proof_has_no_tolerance() -> None:
    """Curvatures of -2e-9 and -2e-14, far below the rounding of a loss of size 1."""
    for dent in ("1e-9", "1e-14"):
        found = convex_in_probabilities(*subject_and_parts(f"formula(y*(1 - p) - {dent}*y*square(p))"))
        assert found.how == "counterexample"


def test_convex_in_logits_though_concave_in_cross_entropy() -> None:
    """Of phi = c + e (1 - exp(-c)), phi'' < 0, and phi'' (e^c - 1) + phi' = 1 - e + 2 e exp(-c) is >= 0 for e <= 1."""
    assert convex_in_logits(*subject_and_parts("poly1:epsilon=0.9")).how == "proved"
    assert convex_in_logits(*subject_and_parts("poly1:epsilon=1.1")).how == "counterexample"
    assert convex_in_probabilities(*subject_and_parts("poly1:epsilon=1.1")).how == "proved"


@pytest.mark.parametrize(
    "text",
    [
        "formula(y*c + 0.2*y*exp(-1000000*square(p - 0.37)))",  # a narrow bump
        "formula(y*c + 0.1*(1 - y)*exp(-10000*square(p - 0.8)))",  # one of another class
        "formula(y*c + 0.1*y/square(p - 0.3))",  # convex on either side of a pole
        "formula(y*min(c, 2 - 2*p))",  # a corner that points up, between two convex pieces
        "formula((1 - y)*p*(1 - p) + 3*y*c)",
    ],
)
def test_not_convex_in_probabilities_as_written(text: str) -> None:
    assert convex_in_probabilities(*subject_and_parts(text)).how == "counterexample"


def test_a_jump_is_no_proof() -> None:
    """On both sides the slope is that of cross-entropy."""
    for examine in (convex_in_probabilities, convex_in_logits):
        assert examine(*subject_and_parts("formula(y*(c + 0.5*sign(p - 0.5)))")).how == "tested"


def test_a_corner_that_is_none_is_no_obstacle() -> None:
    assert convex_in_probabilities(*subject_and_parts("formula(y*abs(c) + max(p, -1)*y)")).how == "proved"


def test_convexity_may_depend_on_the_number_of_classes() -> None:
    for num_classes, how in ((3, "counterexample"), (10, "proved")):
        found = convex_in_probabilities(*subject_and_parts("formula(y*(n - 4)*c)", num_classes))
        assert found.how == how


def test_two_classes_are_one_function() -> None:
    """C - log(1 - p) of the other: with two classes twice the cross-entropy, though each class's part is not convex."""
    found = convex_in_probabilities(*subject_and_parts("formula(y*(c + 2*p*p) - (1 - y)*1.9*p*p)", 2))
    assert found.how == "proved"


# --- ranges --------------------------------------------------------------------------------------


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
