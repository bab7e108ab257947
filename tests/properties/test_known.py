"""Identities between losses, as the certificate states them."""

from __future__ import annotations

import pytest
import torch

import lossmith
from lossmith.losses import TargetLoss
from lossmith.losses.entries import Entries
from lossmith.properties.known import Equal, equals_of
from lossmith.properties.subject import subject_of

# loss, known loss, factor, numbers of classes. Seed 2, section 5: M = phi_1, Param-M(a) = a phi_a, GCE(q) = phi_-q,
# MAE = phi_-1, parabolic = 2 phi_-2; section 2: Full = twice plain for two classes. Seed 0, 1c: (B) is GCE, q = 1/k.
# Brier is sum_j p_j^2 - 2 p_t + 1, twice the Bregman divergence of bi-tempered with t1 = 0.
EVERY = (2, 3, 10)
IDENTITIES = [
    ("tempered:kappa=1", "m", 1, EVERY),
    ("rooted:k=1", "m", 1, EVERY),
    ("rooted:k=3", "tempered:kappa=0.3333333333333333", 1, EVERY),
    ("param_m:alpha=2", "tempered:kappa=2", 2, EVERY),
    ("gce:q=1", "mae", 1, EVERY),
    ("gce:q=0.25", "rooted:form=released,k=4", 1, EVERY),
    ("mae", "tempered:kappa=-1", 1, EVERY),
    ("parabolic", "tempered:kappa=-2", 2, EVERY),
    ("poly1:epsilon=0", "cross_entropy", 1, EVERY),
    ("symmetric:alpha=0.5,beta=1,A=-1", "poly1:epsilon=2", 0.5, EVERY),
    ("rooted:k=inf", "cross_entropy", 1, EVERY),
    ("bi_tempered:t1=1", "cross_entropy", 1, EVERY),
    ("focal:gamma=0", "cross_entropy", 1, EVERY),
    ("taylor:order=1", "mae", 1, EVERY),
    ("brier", "bi_tempered:t1=0", 2, EVERY),
    ("cross_entropy:label_smoothing=0.3", "label_smoothing:epsilon=0.3", 1, EVERY),
    ("scaled(ngl):factor=12.5", "ngl", 12.5, EVERY),
    ("m_full", "m", 2, (2,)),
    ("l_full", "l", 2, (2,)),
    ("sparse_label_smoothing", "label_smoothing", 1, (2,)),
    ("formula(y/p)", "m", 1, EVERY),
    ("formula(1 - y*square(p))", "parabolic", 1, EVERY),
]


# Their numbers differ in the last digit: 1/3 and 0.3333333333333333.
NEARLY = {"tempered:kappa=0.3333333333333333"}


@pytest.mark.parametrize(
    "text, known, factor, num_classes", IDENTITIES, ids=[f"{a} = {b}" for a, b, _, _ in IDENTITIES]
)
def test_identities(text: str, known: str, factor: float, num_classes: tuple[int, ...]) -> None:
    found = {each.known: each for each in equals_of(subject_of(lossmith.create(text), 10))}
    assert found[known].factor == pytest.approx(factor)
    assert found[known].num_classes == num_classes
    assert found[known].always == (num_classes == EVERY)
    assert found[known].how == ("tested" if known in NEARLY else "proved")
    for C in num_classes:
        logits = torch.randn(7, C, dtype=torch.float64, generator=torch.Generator().manual_seed(C))
        target = torch.arange(7) % C
        ours = lossmith.create(text, reduction="none")(logits, target)
        theirs = factor * lossmith.create(known, reduction="none")(logits, target)
        torch.testing.assert_close(ours - ours[0], theirs - theirs[0])


def test_the_factor_may_go_with_the_number_of_classes() -> None:
    """The published mean over classes against a sum over them."""
    found = equals_of(subject_of(lossmith.create("ngl:class_reduction=sum"), 10))
    assert found == tuple(Equal("ngl", float(C), 0.0, (C,), False, "proved") for C in EVERY)


def test_a_constant_is_told() -> None:
    (found, *_) = equals_of(subject_of(lossmith.create("formula(2*y*c + y*3)"), 10))
    assert (found.known, found.factor, found.constant) == ("cross_entropy", 2, 3)


@pytest.mark.parametrize("text", ["cross_entropy", "circle", "cos", "ngl", "ngl:alpha=1", "focal:gamma=1"])
def test_nothing_else_is_equal(text: str) -> None:
    assert equals_of(subject_of(lossmith.create(text), 10)) == ()


BUMP = "exp(-1000000*square(p - 0.37))"


@pytest.mark.parametrize(
    "text",
    [
        f"y*c + 0.2*y*{BUMP}",
        f"y*c + 0.2*(1 - y)*{BUMP}",
        f"y*(1 - p) + 1e-4*y*{BUMP}",
        "y*c + 0.2*y*exp(-1000000*square(p - 0.9999))",
        "y*c + 0.01*y*max(0, p - 0.999)",
    ],
)
def test_what_random_predictions_miss_is_no_equality(text: str) -> None:
    """Bumps so narrow, or so near p = 1, that none of the random predictions meets them."""
    assert equals_of(subject_of(lossmith.create(f"formula({text})"), 10)) == ()


def test_a_factor_that_no_double_holds() -> None:
    (found,) = equals_of(subject_of(lossmith.create("formula(y*c/3)"), 10))
    assert (found.known, found.factor, found.num_classes, found.how) == ("cross_entropy", 1 / 3, EVERY, "proved")


def test_what_algebra_does_not_show_is_called_tested() -> None:
    """sin^2 + cos^2 = 1; and a loss that has no formula."""

    class Called(TargetLoss):
        """Cross-entropy."""

        name = "called"

        def phi(self, c: torch.Tensor, entries: Entries) -> torch.Tensor:
            return c

    formula = lossmith.create("formula(y*c*(square(sin(p)) + square(cos(p))))")
    for loss in (formula, Called()):
        (found,) = equals_of(subject_of(loss, 10))
        assert (found.known, found.factor, found.how) == ("cross_entropy", 1, "tested")


def test_many_classes() -> None:
    found = equals_of(subject_of(lossmith.create("formula(y/p)"), 1000))
    assert {(each.known, each.num_classes) for each in found} >= {("m", (2, 3, 10, 200)), ("m_full", (2,))}


@pytest.mark.parametrize("scale", ["1e-9", "1e9"])
def test_families_do_not_mind_the_scale(scale: str) -> None:
    found = equals_of(subject_of(lossmith.create(f"formula({scale}*y*(c + 2*(1 - p)))"), 3))
    assert "poly1:epsilon=2" in [each.known for each in found]


def test_a_member_beyond_a_family_s_bounds_is_none() -> None:
    """Of Poly-1, epsilon is at most a million."""
    found = equals_of(subject_of(lossmith.create("formula(y*c + 1e15*y*(1 - p))"), 3))
    assert not [each.known for each in found if "poly" in each.known or "symmetric" in each.known]


def test_slopes_that_nearly_agree_prove_nothing() -> None:
    """The slope is that of MAE but for a billionth, and the factor that is found is 1."""
    near = equals_of(subject_of(lossmith.create("formula(y*(1 - p) + 1e-9*y*p)"), 10))
    assert {each.known: (each.factor, each.how) for each in near}["mae"] == (1.0, "tested")
    (found,) = [e for e in equals_of(subject_of(lossmith.create("formula(3*y*(1 - p))"), 10)) if e.known == "mae"]
    assert (found.factor, found.how) == (3.0, "proved")


def test_a_loss_that_is_0_at_some_number_of_classes_has_no_family_there() -> None:
    found = equals_of(subject_of(lossmith.create("formula(y*c*(n - 2)*(n - 2))"), 4))
    assert all(2 not in each.num_classes for each in found if each.known == "cross_entropy")
