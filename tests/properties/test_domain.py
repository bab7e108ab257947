"""Where a formula has no value, and that its certificate says so."""

from __future__ import annotations

import math

import pytest

import lossmith
from lossmith.formulas import parse
from lossmith.properties import Certificate, certify
from lossmith.properties.bounds import noise_test
from lossmith.properties.convexity import convex_in_probabilities, within
from lossmith.properties.domain import without_poles, without_value
from lossmith.properties.parts import Parts, parts_of
from lossmith.properties.subject import subject_of


def parts(text: str, num_classes: int = 10) -> Parts:
    found = parts_of(subject_of(lossmith.create(text), num_classes))
    assert found is not None
    return found


@pytest.mark.parametrize(
    "text, everywhere",
    [
        ("1/p + log(1 - p)/c", True),  # poles at the ends
        ("exp(-p)/(2 - p) + log(1 + p*c)", True),
        ("1/sqrt(p*(2 - p)) + pow(c, -3)", True),
        ("tanh(p)/expm1(c) + log1p(square(p))", True),
        ("1/(p - 0.3)", False),
        ("log(square(p - 1e-36))", False),
        ("log1p(-2*p)", False),
        ("pow(p - 1e-100, -2)", False),
    ],
)
def test_poles(text: str, everywhere: bool) -> None:
    assert without_poles(parse(text), math.inf) == everywhere


def test_a_pole_so_near_0_that_logits_must_lie_83_apart() -> None:
    """At p = .9e-36, 1.0001e-36, 1.1e-36 the loss is 84, 1,000,083, 84."""
    subject = subject_of(lossmith.create("formula(y*c + y*1e-74*pow(p - 1e-36, -2))"), 4)
    found = convex_in_probabilities(subject, parts_of(subject))
    assert found.how != "proved" or within(30.0) in found.detail


@pytest.mark.parametrize(
    "text, where",
    [
        ("y*pow(square(p - 0.5) - 1e-6, 1.5)", "the target has p = 0.5,"),
        ("y*c + y*sqrt(p - 0.3)", "the target has p = 0.0"),
        ("y*c + (1 - y)*sqrt(p - 0.3)", "another class has p = 0.0"),
        ("y*log(square(p - 0.37) - 1e-9)", "the target has p = 0.37,"),
        ("y*c + y*log1p(-1.1*p)", "the target has p = 0.9"),
        ("y*c + y*pow(0.9 - p, 1/3)", "the target has p = 0.9"),
        ("y*c + y*pow(p - 0.9, p)", "the target has p = 0.0"),
        ("y*c + y*log(0.999 - p)", "the target has p = 1,"),  # from .999 on
    ],
)
def test_gaps_are_found(text: str, where: str) -> None:
    assert f"It has no value where {where}" in str(without_value(parts(f"formula({text})")))


@pytest.mark.parametrize(
    "text",
    [
        "y*sqrt(1 - p*p)",
        "y*log1p(-p)",
        "sqrt(p*(1 - p))*y",
        "y*sqrt(1 - pow(p, 0.7))",
        "y*pow(p - 0.5, 3)",
        "pow(p, p)",
        "y*log(1 - exp(-c))",
        "y*log(2 - p)",
        "y*sqrt((2 - p)*p)",
        "y/(p - 0.3)",
        "y*sqrt(-expm1(-c))",
    ],
)
def test_a_value_everywhere_is_proved(text: str) -> None:
    """Also where a root's operand goes to 0 at an end, where enclosures, which round, do not tell."""
    assert without_value(parts(f"formula({text} + y*c)")) is None


NAMED = [
    info.text.replace("(LOSS)", "")
    for info in lossmith.available()
    if info.kind not in {"regression", "segmentation"} and info.name != "formula"
]


@pytest.mark.parametrize("text", NAMED)
def test_named_losses_have_a_value_everywhere(text: str) -> None:
    found = parts_of(subject_of(lossmith.create(text), 10))
    assert found is None or without_value(found) is None


def test_what_was_not_decided_is_said() -> None:
    """It has one: 1 - sin(x) >= 0; a double root is beyond enclosures."""
    assert "may have no value" in str(without_value(parts("formula(y*sqrt(1 - sin(1.6*p)) + y*c)")))


def test_the_certificate_says_it() -> None:
    found = certify(lossmith.create("formula(y*pow(square(p - 0.5) - 1e-6, 1.5))"))
    assert isinstance(found, Certificate)
    assert found.remarks == (
        "It has no value where the target has p = 0.5, and perhaps elsewhere: what is proved holds where it has one.",
    )


def test_no_convexity_is_proved_across_a_gap() -> None:
    """The curvature is positive wherever there is one: where the root has no value, a chord has no middle."""
    text = "formula(y*exp(-p) + 0*y + y*1e-9*pow(square(p - 0.5) - 1e-6, 2.5))"
    subject = subject_of(lossmith.create(text), 4)
    assert convex_in_probabilities(subject, parts_of(subject)).how != "proved"


def test_label_noise_where_the_loss_has_a_value() -> None:
    """The mean absolute error but for a gap: what random predictions have a value says so."""
    gap = "sqrt(p - 0.001)/sqrt(p - 0.001)"
    subject = subject_of(lossmith.create(f"formula(y*(1 - p)*{gap})"), 3)
    assert noise_test(subject, None).how == "tested"
    nowhere = subject_of(lossmith.create("formula(y*(1 - p) + y*sqrt(p - 0.1))"), 12)
    assert noise_test(nowhere, parts_of(nowhere)).how == "counterexample"
