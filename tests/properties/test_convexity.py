"""Convexity against the seeds' tables, closed forms and Hessians by autograd."""

from __future__ import annotations

import functools

import pytest
import torch

import lossmith
from lossmith.losses import ClasswiseLoss, TargetLoss
from lossmith.losses.entries import Entries, Probability
from lossmith.properties.convexity import convex_in_logits, convex_in_probabilities
from lossmith.properties.parts import Parts, parts_of
from lossmith.properties.subject import Subject, subject_of


@functools.cache
def subject(text: str, num_classes: int = 10) -> Subject:
    return subject_of(lossmith.create(text), num_classes)


# Seed 2's table for p and for logits, seed 0 for rooted, seed 4 for NGL.
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
