"""What a call refuses, in which words, for every loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from loss_cases import CASES, IDS, C, Case
from torch import Tensor

import lossmith
from lossmith.losses import DynamicalLoss

Z = torch.zeros(3, C)
Y = torch.tensor([0, 1, 2])
every_case = pytest.mark.parametrize("case", CASES, ids=IDS)


@pytest.mark.parametrize(
    "logits, target, says",
    [
        (Z.long(), Y, "logits must be floating, not torch.int64"),
        (Z, Y.bool(), "class indices must be integers, not torch.bool"),
        (Z, Y.to(torch.complex64), "class indices must be integers, not torch.complex64"),
        (Z, Y[:2], r"must have shape \(3,\), not \(2,\)"),
        (Z, Y[:, None], r"must have shape \(3,\), not \(3, 1\)"),
        (Z, Z[:, :2], r"must have the logits' shape \(3, 4\), not \(3, 2\)"),
        (Z, Y.float(), r"must have the logits' shape \(3, 4\), not \(3,\)"),
        (Z[:, :, None], Y, r"must have shape \(3, 1\), not \(3,\)"),
        (Z.sum(), Y[0], "logits"),
    ],
)
@every_case
def test_a_call_that_does_not_fit(case: Case, logits: Tensor, target: Tensor, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        case.make()(logits, target)


@pytest.mark.parametrize("label", [-1, C, 255])
@pytest.mark.parametrize("weight", [None, [1.0] * C])
@every_case
def test_a_label_out_of_range_is_named(case: Case, label: int, weight: list[float] | None) -> None:
    says = rf"label {label} is out of range: there are 4 classes, labels are 0\.\.3 or ignore_index=-100"
    target = torch.tensor([0, label, 1])
    for common in ({}, {"validate": True}, {"reduction": "none"}):
        loss = case.make(weight=weight, **common)
        with pytest.raises(IndexError, match=says):
            loss(Z, target)
        with pytest.raises(IndexError, match=says):
            loss(Z[:, :, None], target[:, None])
        with pytest.raises(IndexError, match=says):
            loss(Z[0], target[1])


@pytest.mark.parametrize("bad", [-0.25, float("nan"), float("inf")])
def test_validate_names_bad_probabilities(bad: float) -> None:
    target = torch.full((3, C), 0.25)
    target[1, 2] = bad
    for loss in (lossmith.create("rooted", validate=True), DynamicalLoss(lossmith.create("ngl", validate=True))):
        with pytest.raises(ValueError, match=f"probabilities must be finite and >= 0, found {bad}"):
            loss(Z, target)
        assert loss(Z, torch.full((3, C), 0.25)).isfinite()


def test_validate_names_a_binary_target_beyond_one() -> None:
    with pytest.raises(ValueError, match=r"1\.5"):
        lossmith.create("rooted", task="binary", validate=True)(Z, torch.full((3, C), 1.5))


def test_validate_accepts_ignored_labels() -> None:
    loss = lossmith.create("rooted", validate=True, ignore_index=255)
    assert loss(Z, torch.tensor([0, 255, 1])).isfinite()
    with pytest.raises(IndexError, match="label -100 is out of range"):
        loss(Z, torch.tensor([0, -100, 1]))


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: lossmith.create("rooted", weight=[1.0, 2.0]), "weight has 2 values, but the logits have 4 classes"),
        (lambda: lossmith.create("tempered", kappa=[1.0, 2.0]), "kappa has 2 values, but there are 4 classes"),
        (
            lambda: lossmith.create("logit_adjusted:class_counts=[1,2]"),
            "class_counts has 2 values, but the logits have 4",
        ),
        (lambda: DynamicalLoss(order=[1, 0]), "order names 2 classes, but the logits have 4"),
    ],
)
def test_one_value_per_class(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()(Z, Y)
    with pytest.raises(ValueError, match=says):
        make()(Z, torch.full((3, C), 0.25))


def test_a_dynamical_loss_wraps_classification_losses_only() -> None:
    for base in (torch.nn.CrossEntropyLoss(), lossmith.create("smooth_absolute_error"), DynamicalLoss()):
        with pytest.raises(ValueError, match="base must be one of"):
            DynamicalLoss(base)


def test_smooth_mean_absolute_error_needs_one_shape() -> None:
    with pytest.raises(ValueError, match=r"one shape, not \(3,\) and \(3, 1\)"):
        lossmith.create("smooth_absolute_error")(torch.zeros(3), torch.zeros(3, 1))
