"""What sample weights, the normalizer, the binary task and the count of extensions mean, for every loss."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from loss_cases import CASES, IDS, STATIC, C, Case, seeded
from loss_formulas import formula
from reference import tabulate
from torch import Tensor

import lossmith

every_case = pytest.mark.parametrize("case", CASES, ids=IDS)
WEIGHT = [1.5, 0.25, 0.5, 2.0]
LOGITS = torch.randn(9, C, generator=seeded(40), dtype=torch.float64)
LABELS = torch.tensor([0, 3, 1, 2, 2, -100, 0, 1, 3])
SOFT = torch.rand(9, C, generator=seeded(41), dtype=torch.float64).softmax(1)
S = torch.tensor([1.0, 2, 3, 0, 1, 4, 1, 2, 1])


def options(case: Case, **more: Any) -> dict[str, Any]:
    return more if case.name == "label_smoothing" else more | {"label_smoothing": 0.1}


# --- sample weights --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [LABELS, SOFT], ids=["index", "soft"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@every_case
def test_a_whole_sample_weight_is_that_many_copies(case: Case, reduction: str, target: Tensor) -> None:
    loss, copies = case.make(**options(case, weight=WEIGHT, reduction=reduction)), S.long()
    repeated = loss(LOGITS.repeat_interleave(copies, 0), target.repeat_interleave(copies, 0))
    torch.testing.assert_close(loss(LOGITS, target, sample_weight=S), repeated)
    torch.testing.assert_close(loss(LOGITS, target, sample_weight=torch.ones(9)), loss(LOGITS, target))


@every_case
def test_the_scale_of_sample_weights_leaves_the_mean_alone(case: Case) -> None:
    loss = case.make(weight=WEIGHT)
    torch.testing.assert_close(
        loss(LOGITS, LABELS, sample_weight=7 * S), loss(LOGITS, LABELS, sample_weight=S), rtol=1e-6, atol=1e-6
    )
    plain = case.make(weight=WEIGHT, reduction="none")
    torch.testing.assert_close(plain(LOGITS, LABELS, sample_weight=S), S * plain(LOGITS, LABELS))


@pytest.mark.parametrize("shape", [(8,), (9, 1), (1,), (9, 2), (), (9, C)])
def test_sample_weights_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    for target in (LABELS, SOFT):
        with pytest.raises(ValueError, match="sample_weight must have shape"):
            lossmith.create("rooted")(LOGITS, target, sample_weight=torch.ones(shape))


# --- the normalizer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_tensor", [False, True])
@every_case
def test_ragged_micro_batches_add_up_to_one_batch(case: Case, as_tensor: bool) -> None:
    """Gradients too; the divisor is the whole batch's, as accumulation and uneven ranks need it."""
    weight = torch.tensor([*WEIGHT, 0.0])
    for target, divisor in ((LABELS, (S * weight[LABELS.where(LABELS >= 0, C)]).sum()), (SOFT, S.sum())):
        loss = case.make(**options(case, weight=WEIGHT))
        whole, parts = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
        expected = loss(whole, target, sample_weight=S)
        expected.backward()
        total = torch.zeros((), dtype=torch.float64)
        for z, y, s in zip(parts.split([4, 1, 1, 3]), target.split([4, 1, 1, 3]), S.split([4, 1, 1, 3]), strict=True):
            part = loss(z, y, sample_weight=s, normalizer=divisor if as_tensor else divisor.item())
            part.backward()
            total += part.detach()
        torch.testing.assert_close(total, expected.detach())
        torch.testing.assert_close(parts.grad, whole.grad)


def test_a_normalizer_without_a_mean_is_refused() -> None:
    for reduction in ("sum", "none"):
        with pytest.raises(ValueError, match="normalizer"):
            lossmith.create("rooted", reduction=reduction)(LOGITS, LABELS, normalizer=3.0)


# --- the binary task -------------------------------------------------------------------------------------------------

Z = torch.linspace(-6, 6, 24, dtype=torch.float64).view(4, 6)
Y = torch.randint(0, 2, (4, 6), generator=seeded(42)).double()
BINARY = [
    case
    for case in STATIC
    if case.name not in {"ngl", "logit_adjusted"}
    and not isinstance(case.arguments.get("kappa"), list)
    and case.arguments.get("t2", 1) == 1
]
# The binary form of a class-wise loss is the one class's part; two classes of softmax count it twice.
TWICE = {"m_full", "l_full", "brier"}


@pytest.mark.parametrize("case", BINARY, ids=[case.text for case in BINARY])
def test_binary_is_softmax_over_no_and_yes(case: Case) -> None:
    for smoothing, y in itertools.product((0.0, 0.2), (Y, (Y + 0.3) / 1.6)):
        if smoothing and case.name == "label_smoothing":
            continue
        common = {"reduction": "none"} | ({"label_smoothing": smoothing} if smoothing else {})
        found = case.make(task="binary", **common)(Z, y)
        pair = torch.stack([torch.zeros_like(Z), Z], 1)
        expected = case.make(**common)(pair, torch.stack([1 - y, y], 1))
        torch.testing.assert_close(found, expected / (2 if case.name in TWICE else 1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", BINARY, ids=[case.text for case in BINARY])
def test_binary_is_symmetric_in_yes_and_no(case: Case) -> None:
    loss = case.make(task="binary")
    torch.testing.assert_close(loss(-Z, 1 - Y), loss(Z, Y))


@pytest.mark.parametrize(
    "text",
    [
        "cross_entropy",
        "rooted:k=inf",
        "tempered:kappa=0",
        "focal:gamma=0",
        "poly1:epsilon=0",
        "symmetric:alpha=1,beta=0",
        "bi_tempered:t1=1",
        "sparse_label_smoothing:epsilon=0",
        "label_smoothing:epsilon=0",
    ],
)
def test_binary_cross_entropy(text: str) -> None:
    y = (Y + 0.3) / 1.6
    for reduction in ("mean", "sum", "none"):
        loss, z = lossmith.create(text, task="binary", reduction=reduction), Z.clone().requires_grad_()
        expected = F.binary_cross_entropy_with_logits(z, y, reduction=reduction)
        torch.testing.assert_close(loss(z, y), expected)
        (a,), (b,) = (torch.autograd.grad(value.sum(), z) for value in (loss(z, y), expected))
        torch.testing.assert_close(a, b)
    s = torch.rand(4, 6, generator=seeded(43), dtype=torch.float64)
    terms = F.binary_cross_entropy_with_logits(Z, y, reduction="none")
    loss = lossmith.create(text, task="binary")
    torch.testing.assert_close(loss(Z, y, sample_weight=s), (s * terms).sum() / s.sum())
    torch.testing.assert_close(loss(Z, y, sample_weight=s[:, 0]), (s[:, :1] * terms).sum() / (6 * s[:, 0].sum()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("case", BINARY, ids=[case.text for case in BINARY])
def test_binary_is_finite_at_extreme_logits(case: Case, dtype: torch.dtype) -> None:
    z = torch.tensor([-9984.0, -96, 0, 96, 9984], dtype=dtype, requires_grad=True)
    for y in (torch.zeros(5), torch.ones(5), torch.full((5,), 0.5)):
        value = case.make(task="binary", reduction="none")(z, y.to(dtype))
        assert value.isfinite().all()
        assert torch.autograd.grad(value.sum(), z)[0].isfinite().all()


@pytest.mark.parametrize(
    "text, names",
    [
        ("rooted:weight=[1,2]", "weight"),
        ("rooted:ignore_index=3", "ignore_index"),
        ("ngl", "task"),
        ("logit_adjusted:class_counts=[1,2]", "task"),
        ("bi_tempered:t2=1.5", "task"),
        ("tempered:kappa=[1,2]", "kappa"),
    ],
)
def test_what_a_binary_task_refuses(text: str, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        lossmith.create(text, task="binary")


def test_binary_targets_are_floating_and_of_the_logits_shape() -> None:
    loss = lossmith.create("rooted", task="binary")
    for target in (Y.long(), Y.bool(), Y[:, :3], Y.flatten()):
        with pytest.raises(ValueError, match="target"):
            loss(Z, target)
    with pytest.raises(ValueError, match="sample_weight must have shape"):
        loss(Z, Y, sample_weight=torch.ones(6))


# --- how often a tangent was used ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@every_case
def test_extended_tells_where_the_loss_is_its_tangent(case: Case, dtype: torch.dtype) -> None:
    gaps = [0.0, 1.5, 2.75, 4.5, 7.5, 9.5, 15.5, 19.0, 21.0, 23.5, 39.0, 41.0, 43.0, 58.0, 62.0, 500.0, 9984.0]
    rows = [[0.0, gap, -30.0, -30.0] for gap in gaps]
    steepest = 8 if dtype == torch.float16 else 20
    curved, straight = (tabulate(case.formula(log_slope=slope), rows, slopes=False) for slope in (1e6, steepest))
    for label in (0, 1):
        expected = [a[label] != b[label] for a, b in zip(curved.first, straight.first, strict=True)]
        if curved.second is not None and label == 0:  # of a class-wise loss the wrong class may be the tangent's
            pairs = zip(curved.second, straight.second, strict=True)
            expected = [e or a[1] != b[1] for e, (a, b) in zip(expected, pairs, strict=True)]
        found = case.make().extended(torch.tensor(rows, dtype=dtype), torch.full((len(rows),), label))
        assert found.tolist() == expected


def test_extended_looks_at_the_targets_own_kappa() -> None:
    logits = torch.stack([
        torch.tensor([0.0, 15.0, 15.0]),
        torch.tensor([15.0, 0.0, 15.0]),
        torch.tensor([15, 15.0, 0.0]),
    ])
    loss = lossmith.create("tempered:kappa=[0.5,-1,2]")  # continued beyond c = 40, never, 10
    assert loss.extended(logits, torch.tensor([0, 1, 2])).tolist() == [False, False, True]


def test_extended_of_images_and_ignored_samples() -> None:
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 0] = 25.0
    found = lossmith.create("m").extended(logits, torch.tensor([[[0, 1], [2, -100]]]))
    assert found.tolist() == [[[False, True], [True, False]]]
    assert found.dtype == torch.bool
    assert not lossmith.create("cross_entropy").extended(logits, torch.tensor([[[0, 1], [2, -100]]])).any()


def test_the_tangent_begins_where_the_slope_is_e20() -> None:
    """At the first class's formula: L's slope e^20 is reached at c = 42.08, where 1/(2.83 sqrt(p)) is."""
    for name, start in (("m", 20.0), ("l", 2 * (20 + 1.5 * math.log(2))), ("rooted", 60.0), ("param_m", 41.386)):
        loss = lossmith.create(name)
        for c, expected in ((start - 0.01, False), (start + 0.01, True)):
            logits = torch.tensor([[0.0, c]], dtype=torch.float64)
            assert loss.extended(logits, torch.tensor([0])).item() == expected
            table = tabulate(formula(name, 2, log_slope=20), [[0.0, c]], slopes=False)
            assert loss(logits, torch.tensor([0])).item() == pytest.approx(table.first[0][0], rel=1e-9)


@pytest.mark.parametrize("case", STATIC, ids=[case.text for case in STATIC])
def test_a_loss_that_can_extend_does_so_somewhere(case: Case) -> None:
    logits, labels = torch.eye(C).flip(0) * 9984, torch.arange(C)
    assert case.make().can_extend == case.make().extended(logits, labels).any().item()
