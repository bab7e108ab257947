"""What a loss states once is what its documentation, its ranges and its samples say too."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from loss_cases import CASES, IDS, C, Case, seeded

import lossmith
from lossmith.comparison.arms import SEARCH
from lossmith.losses import ClassificationLoss, FocalLoss, MFullLoss, RegressionLoss
from lossmith.losses.shapes import StatedLoss
from lossmith.trials.texts import canonical


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_per_sample_is_the_loss_before_any_reduction(case: Case) -> None:
    logits, target = torch.randn(6, C, generator=seeded(1)), torch.tensor([0, 3, -100, 1, 2, 2])
    s = torch.tensor([1.0, 2.0, 3.0, 0.5, 0.0, 1.0])
    expected = case.make(reduction="none", weight=[1.0, 2.0, 0.5, 1.0])(logits, target, sample_weight=s)
    for reduction in ("mean", "sum", "none"):
        loss = case.make(reduction=reduction, weight=[1.0, 2.0, 0.5, 1.0])
        before = dict(vars(loss))
        assert torch.equal(loss.per_sample(logits, target, sample_weight=s), expected)
        assert vars(loss) == before
    soft = torch.rand(6, C, generator=seeded(2)).softmax(1)
    assert torch.equal(case.make().per_sample(logits, soft), case.make(reduction="none")(logits, soft))


def test_per_sample_has_second_derivatives_where_the_kernels_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lossmith.kernels.rows, "SMALLEST", 0)
    logits = torch.randn(4, C, requires_grad=True)
    value = lossmith.create("rooted").per_sample(logits, torch.arange(4)).sum()
    (slope,) = torch.autograd.grad(value, logits, create_graph=True)
    assert torch.autograd.grad(slope.square().sum(), logits)[0].isfinite().all()


def test_per_sample_of_a_regression_loss() -> None:
    e = torch.linspace(-5, 5, 11)
    loss = lossmith.create("smooth_absolute_error", reduction="sum")
    assert isinstance(loss, RegressionLoss)
    torch.testing.assert_close(loss.per_sample(e, torch.zeros(11)), e * torch.tanh(e / 2))
    assert loss(e, torch.zeros(11)) == loss.per_sample(e, torch.zeros(11)).sum()


def test_the_documentation_shows_the_statement() -> None:
    assert FocalLoss.statement == "y*pow(1 - p, gamma)*c"
    assert "``y*pow(1 - p, gamma)*c``" in (inspect.getdoc(FocalLoss) or "")
    for info in lossmith.available():
        statement = vars(info.loss_class).get("statement")
        if statement is not None and issubclass(info.loss_class, StatedLoss):
            assert f"``{statement}``" in (inspect.getdoc(info.loss_class) or "")
            assert "``" not in info.summary.partition(".")[0] or info.name in {"poly1", "taylor"}


@pytest.mark.parametrize("loss, argument", SEARCH, ids=[":".join(key) for key in SEARCH])
def test_a_searched_range_is_accepted_at_both_ends(loss: str, argument: str) -> None:
    values = SEARCH[loss, argument].values
    assert list(values) == sorted(values)
    for value in values:
        other = ",form=released" if argument == "m" else ""
        assert canonical(f"{loss}:{argument}={value}{other}")


def test_a_loss_of_ones_own_is_its_statement() -> None:

    class Exponential(MFullLoss):
        statement = "y*(exp(-p) - exp(-1)) + (1 - y)*expm1(p)"
        precise = False

    logits, target = torch.randn(5, C, dtype=torch.float64, generator=seeded(3)), torch.tensor([0, 1, 2, 3, 0])
    p = logits.softmax(1)
    one_hot = torch.nn.functional.one_hot(target, C)
    right = torch.where(one_hot == 1, torch.exp(-p) - math.exp(-1), torch.expm1(p)).sum(1)
    loss = Exponential()
    assert isinstance(loss, ClassificationLoss)
    torch.testing.assert_close(loss.per_sample(logits, target), right)
    torch.testing.assert_close(loss.per_sample(logits, one_hot.double()), right)
