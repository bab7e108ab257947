"""Convexity against the seeds' tables, closed forms and Hessians by autograd."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

import lossmith
from lossmith.formulas import constant
from lossmith.losses import ClassificationLoss, ClasswiseLoss, TargetLoss
from lossmith.losses.entries import Entries, Probability
from lossmith.properties.convexity import (
    Convexity,
    Space,
    _certain,
    _negative,
    _points,
    convex_in_logits,
    convex_in_probabilities,
    within,
)
from lossmith.properties.parts import Parts, groups_of, parts_of
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


# --- what a counterexample says ---------------------------------------------------------------------------------------

NUMBER = r"(-?[\d.]+(?:e[+-]?\d+)?)"
LINE = re.compile(
    f"as the target goes from p = {NUMBER} to {NUMBER}, others sharing evenly, the slope in the target's "
    f"(probability|logit) falls from {NUMBER} to {NUMBER}$"
)
DENT = re.compile(
    f"where the target has p = {NUMBER} and the others share evenly, the slope in the target's (probability|logit) "
    f"falls, at a rate of {NUMBER}$"
)
POINT = re.compile(rf"at the probabilities \((.*)\)( of 4 classes)?, the target's first, the curvature is {NUMBER} in")


def counterexample(pattern: re.Pattern[str], found: Convexity) -> tuple[Any, ...]:
    assert (found.holds, found.how) == (False, "counterexample")
    match = pattern.match(found.detail)
    assert match, found.detail
    return match.groups()


@pytest.mark.parametrize("num_classes", [2, 3, 1000])
def test_a_slope_that_falls(num_classes: int) -> None:
    """1 - p^2 has the slope -2p in p, and -2 p^2 (1 - p) in the logit, which falls up to p = 2/3."""
    p, q, what, first, last = counterexample(
        LINE, convex_in_probabilities(*subject_and_parts("parabolic", num_classes))
    )
    assert what == "probability"
    assert (float(p), float(q)) == pytest.approx((1 / (1 + math.exp(4.6)), 1 / (1 + math.exp(-4.6))), rel=1e-3)
    assert (float(first), float(last)) == pytest.approx((-2 * float(p), -2 * float(q)), rel=1e-3)
    p, q, what, first, last = counterexample(LINE, convex_in_logits(*subject_and_parts("parabolic", num_classes)))
    assert what == "logit"
    assert float(q) == pytest.approx(2 / 3, abs=1e-3)
    assert float(first) == pytest.approx(-2 * float(p) ** 2 * (1 - float(p)), rel=2e-3)
    assert float(last) == pytest.approx(-8 / 27, rel=1e-3)


def test_the_slope_of_all_classes_together() -> None:
    """Brier's score on the even line: with three classes (1 - p)^2 3/2, so 3 p (1 - p)^2 is minus the slope's size."""
    p, q, _, first, last = counterexample(LINE, convex_in_logits(*subject_and_parts("brier", 3)))
    for at, slope in ((p, first), (q, last)):
        assert float(slope) == pytest.approx(-3 * float(at) * (1 - float(at)) ** 2, rel=3e-3)
    assert float(q) == pytest.approx(1 / 3, abs=2e-3)


def test_a_slope_that_falls_near_an_end() -> None:
    """Between p = .01 and p = .99 the slope in p rises, or falls by less than any double."""
    p, q, *_ = counterexample(LINE, convex_in_probabilities(*subject_and_parts("formula(y*(c - 0.001*pow(p, 800)))")))
    assert 0.98 < float(p) < float(q) <= 1
    assert float(q) > 0.99
    p, q, *_ = counterexample(LINE, convex_in_probabilities(*subject_and_parts("formula(y*(1 - p - exp(-1e5*p)))")))
    assert float(p) < 1e-5 < float(q)


def test_slopes_that_differ_are_shown_so() -> None:
    found = convex_in_probabilities(*subject_and_parts("formula(y*(1 - p) - 3e-14*y*square(p))"))
    *_, first, last = counterexample(LINE, found)
    assert float(last) < float(first)
    assert (float(first), float(last)) == pytest.approx((-1, -1), abs=1e-13)


def test_plain_counterexamples_come_first() -> None:
    """The slope falls by far more near p = 0; between .01 and .99 it falls as well."""
    p, q, *_ = counterexample(LINE, convex_in_probabilities(*subject_and_parts("formula(-y*(c + 1e-9/p))")))
    assert 0.0099 < float(p) < float(q) < 0.9901


def test_a_dent_is_told_with_its_curvature() -> None:
    found = convex_in_probabilities(*subject_and_parts("formula(y*(1 - p) - 3e-18*y*square(p))"))
    _, what, rate = counterexample(DENT, found)
    assert (what, float(rate)) == ("probability", 6e-18)
    bump = "formula(y*(1 - p) + 1e-22*y*exp(-1000000*square(p - 0.37)))"
    at, _, rate = counterexample(DENT, convex_in_probabilities(*subject_and_parts(bump, 3)))
    assert (float(at), float(rate)) == pytest.approx((0.37, 2e-16), rel=1e-3)


def hessian(loss: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor) -> torch.Tensor:
    found = torch.autograd.functional.hessian(loss, at)
    assert isinstance(found, torch.Tensor)
    return found


def test_a_point_of_a_loss_without_a_formula_in_p() -> None:
    """With c - 3 sum p_j^2 over the others there is the curvature -6 where two of these trade."""
    found = convex_in_probabilities(subject_of(SlightlyConcaveLoss(), 10), None)
    shown, few, curvature = counterexample(POINT, found)
    assert few is not None
    assert sum(map(float, shown.split(", "))) == pytest.approx(1, abs=0.01)
    assert float(curvature) == -6


class AbsoluteLoss(TargetLoss):
    """1 - p, without a formula."""

    name = "absolute"

    def phi(self, c: torch.Tensor, entries: Entries) -> torch.Tensor:
        return 1 - (-c).exp()


@pytest.mark.parametrize("num_classes", [2, 3])
def test_a_point_of_a_loss_without_a_formula_in_logits(num_classes: int) -> None:
    found = convex_in_logits(subject_of(AbsoluteLoss(), num_classes), None)
    shown, few, curvature = counterexample(POINT, found)
    p = torch.tensor([float(each) for each in shown.split(", ")], dtype=torch.float64)
    assert (few, len(p)) == (None, num_classes)
    values = torch.linalg.eigvalsh(hessian(lambda z: 1 - z.softmax(0)[0], p.log()))
    assert float(curvature) == pytest.approx(float(values[0]), rel=0.05)


def test_only_one_class_need_be_wrong() -> None:
    """Of a loss with a weight for each class, the last target's is concave."""

    class Turned(ClassificationLoss):
        name = "turned"

        def label_terms(self, prepared: Any, target: torch.Tensor) -> torch.Tensor:
            c = -prepared.logits.log_softmax(1).gather(1, target[:, None])[:, 0]
            return torch.where(target == 2, (-c).exp().square().neg(), c)

    turned = subject_of(Turned(), 3)
    assert not turned.symmetric
    for examine in (convex_in_probabilities, convex_in_logits):
        shown, few, _ = counterexample(POINT, examine(turned, None))
        assert (few, len(shown.split(", "))) == (None, 3)


def test_what_was_tried_is_told() -> None:
    for num_classes, few in ((3, ""), (4, ""), (10, " with 4 classes")):
        found = convex_in_probabilities(subject_of(CubeLoss(), num_classes), None)
        assert (found.holds, found.detail) == (True, f"no counterexample among 600 points{few}")
    jump = convex_in_probabilities(*subject_and_parts("formula(y*(c + 0.5*sign(p - 0.5)))", 10))
    assert jump.detail == "no counterexample among 600 points"


def test_a_counterexample_away_from_the_even_line() -> None:
    """On the even line of many classes no other has p near .8; the target and one other have it between them."""
    found = convex_in_probabilities(*subject_and_parts("formula(y*c + 0.1*(1 - y)*exp(-10000*square(p - 0.8)))", 10))
    shown, few, curvature = counterexample(POINT, found)
    pairs = [each.split(" x ") if " x " in each else ["1", each] for each in shown.split(", ")]
    counts = [(int(count), float(p)) for count, p in pairs]
    assert few is None
    assert sum(count for count, _ in counts) == 10
    assert sum(count * p for count, p in counts) == pytest.approx(1, abs=0.01)
    assert float(curvature) < 0


# --- curvatures of groups of classes ----------------------------------------------------------------------------------

SIZES = (1, 1, 2, 3)
WRITTEN = "y*(1 - p)*c + (1 - y)*sin(5*p)"


def written(p: torch.Tensor) -> torch.Tensor:
    """The same, of all seven probabilities with the first class as the target."""
    return -(1 - p[0]) * p[0].log() + torch.sin(5 * p[1:]).sum()


@pytest.mark.parametrize("space", ["p", "logits"])
@pytest.mark.parametrize("called", [False, True])
def test_curvatures_are_those_of_all_classes(space: Space, called: bool) -> None:
    """The least eigenvalue along the groups is the curvature of the loss in one direction of all classes."""
    ours, parts = subject_and_parts(f"formula({WRITTEN})", 7)
    logits = torch.randn(40, len(SIZES), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    count = torch.tensor(SIZES)
    found = _negative(groups_of(ours, None if called else parts, SIZES), logits, 0, space)
    assert 5 < len(found) <= 20
    for lowest, p, direction in found:
        p, v = (each.repeat_interleave(count).clone() for each in (p, direction))
        assert float(p.sum()) == pytest.approx(1, abs=1e-12)
        assert float(v.square().sum()) == pytest.approx(1, abs=1e-9)
        if space == "p":
            assert float(v.sum()) == pytest.approx(0, abs=1e-9)
            H = hessian(written, p)
        else:
            H = hessian(lambda z: written(z.softmax(0)), p.log())
        assert lowest == pytest.approx(float(v @ H @ v), rel=1e-6)
        assert lowest < 0
        # no direction in which classes of a group go together has less
        basis = torch.block_diag(*[torch.ones(n, 1, dtype=torch.float64) / math.sqrt(n) for n in SIZES])
        if space == "p":
            full = torch.linalg.qr(torch.cat([basis @ count.double().sqrt()[:, None], basis], 1))[0]
            basis = full[:, 1:4]
        assert lowest == pytest.approx(float(torch.linalg.eigvalsh(basis.T @ H @ basis)[0]), rel=1e-6)


def test_plain_points_come_first_then_the_most_negative() -> None:
    ours, parts = subject_and_parts("formula(y*(1 - p))", 3)
    z = torch.tensor([[9.0, 0, 0], [1.0, 0, 0], [0.3, 0, 0], [-9.0, 0, 0], [-1.0, 0, 0]], dtype=torch.float64)
    found = _negative(groups_of(ours, parts, (1, 1, 1)), z, 0, "logits")
    plain = [bool(p.min() > 0.005) for _, p, _ in found]
    assert plain == sorted(plain, reverse=True)
    assert sum(plain) == 2
    assert not _negative(groups_of(ours, parts, (1, 1, 1)), z, 0, "p")  # affine


def test_the_same_for_all_predictions_has_no_curvature() -> None:
    flat = Parts(constant(1.0), constant(0.0), 3)
    assert _negative(groups_of(subject("mae"), flat, (1, 1, 1)), torch.zeros(2, 3, dtype=torch.float64), 0, "p") == []


@pytest.mark.parametrize("space", ["p", "logits"])
def test_what_is_certain_is_so(space: Space) -> None:
    """Certain where the curvature is clearly negative along a direction, not where it is 0 or more."""
    _, parts = subject_and_parts(f"formula({WRITTEN})", 7)
    assert parts is not None
    generator = torch.Generator().manual_seed(5)
    count, seen = torch.tensor(SIZES), set()
    for _ in range(25):
        z = torch.randn(len(SIZES), dtype=torch.float64, generator=generator)
        p = (z + count.log()).softmax(0) / count
        v = torch.randn(len(SIZES), dtype=torch.float64, generator=generator)
        v = v - (v * count).sum() / 7 if space == "p" else v
        whole, along = p.repeat_interleave(count).clone(), v.repeat_interleave(count)
        at = whole if space == "p" else whole.log()
        H = hessian(written if space == "p" else lambda z: written(z.softmax(0)), at)
        curvature = float(along @ H @ along)
        certain = _certain(parts, SIZES, p, v, space)
        assert certain == (curvature < 0)
        seen.add(certain)
    assert seen == {True, False}


def test_nothing_is_certain_of_what_is_affine() -> None:
    _, parts = subject_and_parts("formula(y*(1 - p) + 0*c)", 4)
    assert parts is not None
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    v = torch.tensor([0.5, -0.5, 0.5, -0.5], dtype=torch.float64)
    assert not _certain(parts, (1, 1, 1, 1), p, v, "p")


def test_points_lie_all_over() -> None:
    """A line on which the others share evenly, from p = 1e-6 to 1 - 1e-6, and points near all corners."""
    sizes = (1, 1, 3)
    logits = _points(sizes)
    assert logits.shape == (600, 3)
    whole = logits.repeat_interleave(torch.tensor(sizes), 1).softmax(1)
    line = whole[:200]
    torch.testing.assert_close(line[:, 1:], ((1 - line[:, :1]) / 4).expand(-1, 4))
    assert (float(line[0, 0]), float(1 - line[-1, 0])) == pytest.approx((1e-6, 1e-6))
    assert bool((line[1:, 0] > line[:-1, 0]).all())
    assert bool(((logits[200:] + torch.tensor(sizes).log()).softmax(1).amax(0) > 0.9).all())
    assert len(whole[200:].unique(dim=0)) == 400


def test_for_which_logits() -> None:
    assert within(math.inf) == "for all logits"
    assert within(1e39) == "for all float32 logits"
    assert within(30.0) == "for logits at most 30 apart"


def test_a_proof_says_for_which_logits() -> None:
    assert convex_in_probabilities(*subject_and_parts("m", 3)).detail == "by interval arithmetic, for all logits"


def test_no_proof_across_a_pole_of_another_class() -> None:
    """0.1/(p - .3)^2 is convex on either side of its pole."""
    ours = subject_and_parts("formula(y*c + 0.1*(1 - y)/square(p - 0.3))", 4)
    for examine in (convex_in_probabilities, convex_in_logits):
        assert examine(*ours).how != "proved"
