"""Every loss can be certified, whatever it is; what a certificate holds besides its parts; regression losses."""

from __future__ import annotations

import functools
import json
import math

import mpmath
import pytest
import torch
from torch import nn

import lossmith
from lossmith.losses import NextGenerationLoss, TargetLoss
from lossmith.losses.entries import Entries
from lossmith.properties import Certificate, RegressionCertificate, certify, to_json

ALL = [
    info.text.replace("(LOSS)", "")
    for info in lossmith.available()
    if info.name not in {"formula", "soft_dice", "adaptive_regression"}
]
MORE = ["formula((p-y)**2 + t*p)", "formula(y*exp(1/p))", "bi_tempered:t1=0.5,t2=2", "tempered:kappa=[1,0,-1]"]
MORE += ["rooted:task=binary", "dynamical(scaled(ngl):factor=12)", "cross_entropy:label_smoothing=0.2"]


@functools.cache
def classification(text: str, num_classes: int = 3) -> Certificate:
    found = certify(lossmith.create(text), num_classes)
    assert isinstance(found, Certificate)
    return found


@pytest.mark.parametrize("text", ALL + MORE)
def test_every_loss_has_a_certificate_that_is_json(text: str) -> None:
    found = certify(lossmith.create(text), 3)
    plain = json.loads(to_json(found), parse_constant=pytest.fail)
    assert plain["loss"] == lossmith.create(text).text
    assert plain["kind"] == found.kind


def test_a_certificate_is_the_same_each_time_and_leaves_the_loss_alone() -> None:
    loss = NextGenerationLoss()
    threads = torch.get_num_threads()
    assert to_json(certify(loss)) == to_json(certify(loss))
    assert (loss.reduction, loss.implementation, loss.text) == ("mean", "auto", "ngl")
    assert torch.get_num_threads() == threads


def test_infinities_and_gaps_in_json() -> None:
    plain = json.loads(to_json(classification("m")))
    assert plain["bounds"]["largest"]["proved"] is None
    assert plain["bounds"]["largest"]["attained_how"] == "proved"
    assert plain["at_zero"]["gradient"] == "-inf"
    assert json.loads(to_json(classification("formula(y*exp(1/p))")))["at_zero"]["strictness"] is None


def test_formula_latex_and_curves() -> None:
    found = classification("parabolic")
    assert found.formula == "y*(1 - square(p))"
    assert found.latex == r"y \left(1 - p^{2}\right)"
    assert found.curve.loss == pytest.approx([1 - p * p for p in found.curve.p])
    assert found.curve.gradient == pytest.approx([-2 * p * p * (1 - p) for p in found.curve.p])
    assert classification("logit_adjusted").formula is None


def test_what_is_described_in_place_of_a_loss_is_said() -> None:
    assert "the loss it wraps, ngl" in classification("dynamical(ngl)").remarks[0]
    assert classification("dynamical(ngl)").strictness == classification("ngl").strictness
    assert "occur equally often" in classification("logit_adjusted").remarks[0]
    assert "t, which is 0" in classification("formula(c*y*(2 - t)):steps=100").remarks[0]
    gan = classification("rooted_gan:k=3")
    assert "generator's part" in gan.remarks[0]
    assert gan.num_classes == 2
    p = torch.tensor(gan.curve.p)
    generator = [lossmith.create("rooted_gan:k=3").generator(z).item() for z in p.logit()]
    assert gan.curve.loss == pytest.approx(generator, rel=1e-4)


def test_a_loss_with_one_value_per_class_is_described_for_its_classes_only() -> None:
    found = classification("tempered:kappa=[1,0,-1]", 3)
    assert [start.num_classes for start in found.starts] == [3]
    many = certify(lossmith.create("cross_entropy", weight=[1.0 + i for i in range(30)]), 30)
    assert isinstance(many, Certificate)
    assert many.optimum is None
    assert "not examined" in many.remarks[-1]


def test_a_learned_loss() -> None:
    class Learned(TargetLoss):
        """A small network of c, less its value at 0."""

        name = "learned"

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(1, 8), nn.Softplus(), nn.Linear(8, 1)).double()

        def phi(self, c: torch.Tensor, entries: Entries) -> torch.Tensor:
            value: torch.Tensor = self.net(c.double()[..., None])[..., 0] - self.net(
                torch.zeros(1, dtype=c.double().dtype)
            )
            return value + c

    found = certify(Learned(), 5)
    assert isinstance(found, Certificate)
    assert found.formula is None
    assert found.convex_in_logits is not None
    assert found.convex_in_logits.how != "proved"


def test_a_loss_without_a_first_gradient_has_no_match() -> None:
    assert classification("label_smoothing:epsilon=1").starts[0].match is None


def test_a_loss_may_be_the_same_for_all_predictions_with_some_numbers_of_classes() -> None:
    assert classification("formula(y*c*(n - 5))", 4).bounds.smallest.attained > 1e6  # -c
    with pytest.raises(ValueError, match="has no gradient"):
        certify(lossmith.create("formula(y*c*(n - 5))"), 5)


def test_refusals() -> None:
    for text, num_classes, words in (
        ("ngl", 1, "from 2 to 100,000, not 1"),
        ("tempered:kappa=[1,2]", 10, "kappa has 2 values"),
        ("formula(p)", 10, "has no gradient"),
        ("formula(y*sigmoid(p/p))", 10, "has no gradient"),
        ("formula(y*log(p - 0.5))", 10, "is nan where all classes are equally probable"),
    ):
        with pytest.raises(ValueError, match=words):
            certify(lossmith.create(text), num_classes)


def test_smae() -> None:
    """Seed 2, section 3, DERIVED: largest slope 1.1997 at 2.3994, the inflection; gap to |e| at most .557 at 1.28."""
    found = certify(lossmith.create("smooth_absolute_error"))
    assert isinstance(found, RegressionCertificate)
    assert found.steepest == pytest.approx(1.1997, abs=5e-5)
    assert found.steepest_at == pytest.approx(2.3994, abs=5e-5)
    assert found.convex_up_to == pytest.approx(2.3994, abs=5e-5)
    assert not found.convex
    assert found.largest_gap == pytest.approx(0.557, abs=5e-4)
    assert found.largest_gap_at == pytest.approx(1.28, abs=5e-3)
    assert found.far_gap == pytest.approx(0, abs=1e-12)
    assert found.curvature_at_0 == pytest.approx(1)  # ~ e^2 / 2
    inflection = mpmath.findroot(lambda e: mpmath.diff(lambda x: x * mpmath.tanh(x / 2), e, 2), 2.4)
    assert found.convex_up_to == pytest.approx(float(inflection), abs=1e-9)
    assert found.curve.slope[-1] == pytest.approx(math.tanh(2.5) + 2.5 / math.cosh(2.5) ** 2)


def test_a_regression_loss_that_is_not_symmetric_is_described_by_its_worse_side() -> None:
    found = certify(lossmith.create("quantile:q=0.9"))
    assert isinstance(found, RegressionCertificate)
    assert not found.symmetric
    assert found.steepest == pytest.approx(0.9)
    assert found.slopes_at_0 == pytest.approx((-0.9, 0.1))
    assert (found.largest_gap, found.largest_gap_at) == pytest.approx((36, 40))  # e = 40 costs 4
    plain = certify(lossmith.create("huber"))
    assert isinstance(plain, RegressionCertificate)
    assert plain.symmetric
    assert plain.slopes_at_0 == (0, 0)
