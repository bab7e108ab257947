"""Formulas as losses: against the losses they spell, and what holds for every loss."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from loss_cases import seeded
from torch import Tensor, nn
from torch.func import grad, vmap

import lossmith
from lossmith.catalog import canonical
from lossmith.losses import DynamicalLoss, FormulaLoss
from lossmith.losses.shapes import ClasswiseLoss, TargetLoss

C = 5
NGL = "(exp(2.4092 - p*(1+y)) - cos(cos(sin(p))))/n"
SAME = [
    ("-y*log(p)", "cross_entropy"),
    ("y*c", "cross_entropy"),
    (NGL, "ngl"),
    ("y*(1-p)**2*c", "focal"),
    ("-y*square(1 - p)*log(p)", "focal"),
    ("square(y - p)", "brier"),
    ("y*(1 - p)**2 + (1 - y)*p*p", "brier"),
    ("y*(1/p - 1)", "m"),
    ("3*y*(p**(-1/3) - 1)", "rooted"),
    ("y*sqrt(1 - p*p)", "circle"),
    ("y*(1/p - 1) + (1 - y)*p/(1 - p)", "m_full"),
    ("y*(1 - p)", "mae"),
]


def inputs(dtype: torch.dtype = torch.float64, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    logits = scale * torch.randn(9, C, 3, generator=seeded(1), dtype=torch.float64)
    target = torch.randint(0, C, (9, 3), generator=seeded(2))
    target[0, 0] = -100
    return logits.to(dtype).requires_grad_(), target


def check(a: Any, b: Any, logits: Tensor, target: Tensor, rtol: float, atol: float) -> None:
    values = a(logits, target), b(logits, target)
    torch.testing.assert_close(*values, rtol=rtol, atol=atol)
    slopes = [torch.autograd.grad(value.sum(), logits)[0] for value in values]
    torch.testing.assert_close(*slopes, rtol=rtol, atol=atol)


# --- the same as the losses they spell -------------------------------------------------------------------------------


@pytest.mark.parametrize("text, name", SAME)
@pytest.mark.parametrize("common", [{}, {"weight": [1.0, 0.5, 2.0, 0.0, 3.0]}, {"label_smoothing": 0.1}])
def test_a_formula_is_the_loss_it_spells(text: str, name: str, common: dict[str, Any]) -> None:
    pair = FormulaLoss(text, **common), lossmith.create(name, **common)
    check(*pair, *inputs(), rtol=1e-12, atol=1e-12)
    check(*pair, *inputs(torch.float32), rtol=1e-4, atol=1e-5)
    logits, _ = inputs()
    check(*pair, logits, torch.rand(logits.shape, dtype=logits.dtype, generator=seeded(3)).softmax(1), 1e-11, 1e-11)


def test_cross_entropy_is_that_of_torch() -> None:
    weight = torch.tensor([1.0, 0.5, 2.0, 0.0, 3.0], dtype=torch.float64)
    check(FormulaLoss("-y*log(p)"), F.cross_entropy, *inputs(), rtol=1e-12, atol=1e-12)
    check(
        FormulaLoss("-y*log(p)", weight=weight, reduction="none"),
        nn.CrossEntropyLoss(weight=weight, reduction="none"),
        *inputs(scale=30.0),
        rtol=1e-12,
        atol=1e-12,
    )
    far = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True)
    check(FormulaLoss("-y*log(p)"), F.cross_entropy, far, torch.tensor([1]), rtol=0, atol=0)


def test_shapes() -> None:
    assert isinstance(FormulaLoss("-y*log(p)"), TargetLoss)
    assert isinstance(FormulaLoss("y*c + 3"), TargetLoss)
    assert isinstance(FormulaLoss(NGL), ClasswiseLoss)
    assert not FormulaLoss(NGL).singular
    assert FormulaLoss("y*c - (1-y)*log(1 - p)").singular
    assert FormulaLoss("y*c + (1-y)/(1 - p)").singular


def test_constants_count_in_the_value() -> None:
    """Of each class, also where only the target's probability matters; ignored samples and masked classes are 0."""
    logits, target = inputs()
    plain, shifted = (FormulaLoss(text, reduction="none")(logits, target) for text in ("y*c", "y*c + 2"))
    torch.testing.assert_close(shifted, (plain + 2 * C).where(target != -100, 0.0))
    masked = torch.tensor([[0.3, -math.inf, 1.0]], dtype=torch.float64)
    smooth = FormulaLoss("y*(c + 1)", label_smoothing=0.2)(masked, torch.tensor([0]))
    expected = 1 + lossmith.create("label_smoothing:epsilon=0.2")(masked, torch.tensor([0]))
    torch.testing.assert_close(smooth, expected)


def test_binary_is_binary_cross_entropy() -> None:
    logits = torch.randn(20, dtype=torch.float64, generator=seeded(4))
    target = torch.rand(20, dtype=torch.float64, generator=seeded(5))
    for text in ("-y*log(p)", "-y*log(p) - (1 - y)*log(1 - p)"):
        found = FormulaLoss(text, task="binary")(logits, target)
        torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(logits, target))


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [1.0, 10.0, 30.0, 80.0])
def test_one_minus_p_keeps_its_digits(gap: float) -> None:
    """The top class's log(1 - p) from the others, in float32, against float64 written by hand."""
    z = torch.tensor([[gap, 0.0, -1.0]], requires_grad=True)
    value = FormulaLoss("-(1 - y)*log(1 - p)", reduction="sum")(z, torch.tensor([1]))
    value.backward()
    exact = z.detach().double().requires_grad_()
    total = exact.logsumexp(1)
    d0, d2 = (total - exact[:, [i, j]].logsumexp(1) for i, j in ((1, 2), (0, 1)))
    (d0 + d2).sum().backward()
    assert value.item() == pytest.approx((d0 + d2).item(), rel=1e-6)
    torch.testing.assert_close(z.grad, exact.grad.float(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("text", [NGL, "y*(1-p)**2*c", "p*log(p) + y*c", "y*sqrt(1 - p*p)", "y*c - (1 - y)*log(1 - p)"])
def test_finite_at_the_ends(text: str) -> None:
    """Probabilities 0 and 1 in float32, a class masked out, an ignored sample."""
    logits = torch.tensor(
        [[120.0, -120.0, -math.inf], [0.5, 0.2, -math.inf], [9.0, 1.0, 2.0]], requires_grad=True, dtype=torch.float32
    )
    for target in ([0, 1, -100], [1, 0, 2]):
        value = FormulaLoss(text, reduction="sum")(logits, torch.tensor(target))
        (slope,) = torch.autograd.grad(value, logits)
        assert value.isfinite()
        assert slope.isfinite().all()


def test_an_impossible_target() -> None:
    """+inf for an unbounded loss, with a finite gradient."""
    logits = torch.tensor([[0.0, -math.inf, 1.0]], requires_grad=True)
    for text in ("-y*log(p)", "y*(1-p)**2*c"):
        value = FormulaLoss(text)(logits, torch.tensor([1]))
        (slope,) = torch.autograd.grad(value, logits)
        assert value == math.inf
        assert slope.isfinite().all()


@pytest.mark.parametrize("text", [NGL, "y*(1-p)**2*c", "aq(p, y) + y*softplus(c - n/3)", "-y*log(p) - (1-y)*log(1-p)"])
def test_gradcheck(text: str) -> None:
    logits, target = inputs()
    for each in (target, torch.rand(logits.shape, dtype=logits.dtype, generator=seeded(6)).softmax(1)):
        loss = FormulaLoss(text, reduction="sum")
        assert torch.autograd.gradcheck(loss, (logits, each))
    small = logits[:2, :, 0].detach().requires_grad_()
    assert torch.autograd.gradgradcheck(FormulaLoss(text), (small, target[:2, 1]))


@pytest.mark.parametrize("text", ["-y*log(p)", NGL, "y*c - (1-y)*log(1-p)*log(n)", "y*c*(1 - t) + t*max(p, 0.2)"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_in_one_graph(text: str, dynamic: bool) -> None:
    torch._dynamo.reset()
    loss = FormulaLoss(text)
    loss.bind(total_steps=10)
    loss.step()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    check(compiled, loss, *inputs(torch.float32), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("text", ["-y*log(p)", NGL, "y*c - (1-y)*log(1-p)"])
def test_vmap(text: str) -> None:
    loss = FormulaLoss(text)
    logits, target = inputs()
    logits, target = logits.detach()[:, :, 1], target[:, 1].clamp(min=0)
    found = vmap(grad(loss))(logits, target)
    expected = torch.stack([grad(loss)(row, label) for row, label in zip(logits, target, strict=True)])
    torch.testing.assert_close(found, expected)


# --- schedules -------------------------------------------------------------------------------------------------------


def test_t_is_a_schedule() -> None:
    """From cross-entropy to the mean absolute error in four steps, then it stays."""
    logits, target = inputs()
    loss = FormulaLoss("y*c*(1 - t) + t*y*(1 - p)", steps=4)
    ce, mae = (lossmith.create(name)(logits, target) for name in ("cross_entropy", "mae"))
    for share in (0, 0.25, 0.5, 0.75, 1, 1):
        torch.testing.assert_close(loss(logits, target), (1 - share) * ce + share * mae)
        loss.step()
    fresh = FormulaLoss("y*c*(1 - t) + t*y*(1 - p)")
    fresh.load_state_dict(loss.state_dict())
    with pytest.raises(ValueError, match="needs steps"):
        fresh(logits, target)
    fresh.bind(total_steps=12)
    torch.testing.assert_close(fresh(logits, target), 0.5 * ce + 0.5 * mae)
    torch.testing.assert_close(copy.deepcopy(fresh).eval()(logits, target), mae)


def test_state() -> None:
    assert FormulaLoss("y*c").state_dict() == {}
    assert list(FormulaLoss("y*c*t", steps=3).state_dict()) == ["steps_taken"]
    for text in ("y*c", NGL, "y*expm1(c) + (1 - y)*p/(1 - p)"):
        assert type(copy.deepcopy(FormulaLoss(text))) is type(FormulaLoss(text))


def test_a_wrapper_counts_for_its_formula() -> None:
    loss = lossmith.create("dynamical(formula(y*c*(1 - t) + t*y*(1 - p)):steps=2):period=2")
    assert isinstance(loss, DynamicalLoss)
    loss.step()
    assert loss.base.progress == 0.5


# --- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, expected",
    [
        ("formula( -y*log( p ))", "formula(-y*log(p))"),
        ("formula((y)*(c)):reduction=sum", "formula(y*c):reduction=sum"),
        ("formula(max(p,y)):label_smoothing=0.1,reduction=mean", "formula(max(p, y)):label_smoothing=0.1"),
        ("dynamical(formula(-y*log(p))):amplitude=5", "dynamical(formula(-y*log(p))):amplitude=5"),
        ("scaled(formula(y*c)):factor=2", "scaled(formula(y*c)):factor=2"),
        ("formula(y*c*t):steps=100", "formula(y*c*t):steps=100"),
        ("dynamical(formula(y*c)):amplitude=?", "dynamical(formula(y*c)):amplitude=?"),
    ],
)
def test_canonical_text(text: str, expected: str) -> None:
    assert canonical(text) == expected
    assert canonical(expected) == expected
    if "?" not in text:
        assert lossmith.create(text).text == expected


@pytest.mark.parametrize(
    "text, words",
    [
        ("formula", "needs an expression"),
        ("formula(p+)", "position 3"),
        ("formula(y)", "neither p nor c"),
        ("formula(2)", "neither p nor c"),
        ("formula(log(-1)*p)", r"contains log\(-1\), which has no finite value"),
        ("formula(c + p/(2 - 2))", r"contains p/\(2 - 2\)"),
        ("formula(y*c):steps=3", "has no t"),
        ("formula(y*c*t):steps=0", "steps"),
        ("formula(y*c):formula=3", "no argument 'formula'"),
        ("rooted(y*c)", "wraps no other loss"),
        ("dynamical(formula(q))", "unknown name 'q'"),
    ],
)
def test_refusals(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        lossmith.create(text)
    assert "\n" not in str(caught.value)


def test_its_own_formula() -> None:
    assert FormulaLoss(NGL).formula == str(FormulaLoss(NGL).expression)
    logits, target = inputs()
    for text in ("square(y - p)", "y*c"):
        smooth = FormulaLoss(text, label_smoothing=0.1)
        check(FormulaLoss(str(smooth.formula)), smooth, logits, target, rtol=1e-12, atol=1e-12)


def test_a_constant_beyond_the_dtype_is_infinite() -> None:
    """e^100 is about 2.7e43; float32 ends at 3.4e38."""
    logits, target = torch.zeros(2, 100), torch.zeros(2, dtype=torch.int64)
    loss = lossmith.create("formula(y*exp(n) + (1 - y)*abs(p))", reduction="none")
    assert loss(logits, target).tolist() == [math.inf, math.inf]
    assert loss(logits.double(), target).tolist() == pytest.approx([math.exp(100)] * 2)
