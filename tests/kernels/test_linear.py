"""The linear head and loss in one against the whole logits in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

import lossmith
from lossmith.kernels import head_chunks
from lossmith.losses import TargetLoss, linear_loss

N, D, C = 37, 6, 23


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_chunks, "_FEWEST_ROWS", 8)
    monkeypatch.setattr(head_chunks, "_ELEMENTS", 8 * C)


def problem(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, C, (N,), generator=generator)
    target[4] = -100
    return {
        "hidden": torch.randn(N, D, generator=generator).to(dtype),
        "weight": torch.randn(C, D, generator=generator).to(dtype),
        "bias": torch.randn(C, generator=generator).to(dtype),
        "target": target,
    }


def evaluated(of: dict[str, Tensor], loss: Any, fused: bool, **call: Any) -> list[Tensor]:
    leaves = [of[name].detach().clone().requires_grad_() for name in ("hidden", "weight", "bias")]
    hidden, weight, bias = leaves
    if fused:
        value = linear_loss(hidden, weight, of["target"], loss, bias=bias, **call)
    else:
        value = loss(hidden @ weight.T + bias, of["target"], **call)
    (3 * value).backward()
    return [value.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("text", ["cross_entropy", "rooted", "m", "focal", "gce", "symmetric"])
@pytest.mark.parametrize("common", [{}, {"reduction": "sum"}, {"weight": [0.5 + i / C for i in range(C)]}])
def test_value_and_gradients(text: str, common: dict[str, Any]) -> None:
    of = problem()
    ours = evaluated(of, lossmith.create(text, **common), fused=True)
    whole = {name: value.double() if value.is_floating_point() else value for name, value in of.items()}
    true = evaluated(whole, lossmith.create(text, **common), fused=False)
    for mine, right in zip(ours, true, strict=True):
        torch.testing.assert_close(mine.double(), right, rtol=1e-5, atol=1e-6 * max(1.0, float(right.abs().max())))


def test_sample_weights_normalizer_and_leading_dimensions() -> None:
    of = problem(torch.float64)
    sample_weight = torch.rand(N, dtype=torch.float64)
    for call in ({"sample_weight": sample_weight}, {"sample_weight": sample_weight, "normalizer": 7.0}):
        loss = lossmith.create("rooted")
        ours, true = (evaluated(of, loss, fused=fused, **call) for fused in (True, False))
        torch.testing.assert_close(ours, true)
    flat = linear_loss(of["hidden"][:36], of["weight"], of["target"][:36], lossmith.create("m"))
    deep = linear_loss(
        of["hidden"][:36].view(4, 9, D), of["weight"], of["target"][:36].view(4, 9), lossmith.create("m")
    )
    assert torch.equal(flat, deep)


class Powers(TargetLoss):
    """``(1 - p)**a + b c`` with a parameter a and a plain tensor b."""

    name = "powers"

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)
        self.a = nn.Parameter(torch.tensor(1.7, dtype=torch.float64))
        self.b = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def phi(self, c: Tensor, entries: object) -> Tensor:
        return (-torch.expm1(-c)).clamp(min=1e-300) ** self.a + self.b * c


@pytest.mark.parametrize("reduction", ["sum", "mean", "normalized"])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_gradient_of_everything_that_may_need_one(reduction: str, frozen: bool) -> None:
    """Of the head, sample and class weights, the loss's own tensors and the normalizer, against the definition."""
    of, generator = problem(torch.float64), torch.Generator().manual_seed(1)
    sample_weight, class_weight = torch.rand(2, N, generator=generator, dtype=torch.float64)
    class_weight = class_weight[:C]
    labels = of["target"].clamp(min=0)
    valid = of["target"] >= 0
    results = []
    for fused in (True, False):
        loss = Powers(reduction="sum" if reduction == "sum" else "mean", weight=class_weight.clone())
        assert loss.weight is not None
        head = [of[name].clone().requires_grad_(not frozen) for name in ("hidden", "weight", "bias")]
        s = sample_weight.clone().requires_grad_()
        w = loss.weight.requires_grad_()
        divisor = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
        normalizer = divisor if reduction == "normalized" else None
        if fused:
            value = linear_loss(*head[:2], of["target"], loss, bias=head[2], sample_weight=s, normalizer=normalizer)
        else:
            p = (head[0] @ head[1].T + head[2]).softmax(1)[range(N), labels]
            mass = s * w[labels] * valid
            total = (mass * ((1 - p) ** loss.a - loss.b * p.log())).sum()
            value = total / {"sum": 1.0, "mean": mass.sum(), "normalized": divisor}[reduction]
        (3 * value).backward()
        leaves = [*head, s, w, loss.a, loss.b, divisor]
        results.append([value.detach(), *(torch.zeros(()) if leaf.grad is None else leaf.grad for leaf in leaves)])
    torch.testing.assert_close(*results)
    assert bool(results[0][1].any()) != frozen
    assert all(bool(gradient.any()) for gradient in results[0][4:8])


def test_inference_mode_takes_the_weight_of_an_ordinary_layer() -> None:
    of, layer = problem(), nn.Linear(D, C)
    loss = lossmith.create("rooted")
    expected = loss(layer(of["hidden"]), of["target"]).detach()
    with torch.inference_mode():
        torch.testing.assert_close(
            linear_loss(of["hidden"], layer.weight, of["target"], loss, bias=layer.bias), expected
        )


def test_forward_mode_is_refused_with_the_way_out() -> None:
    of = problem()
    with forward_ad.dual_level():
        hidden = forward_ad.make_dual(of["hidden"], torch.ones_like(of["hidden"]))
        with pytest.raises(RuntimeError, match="implementation='reference'"):
            linear_loss(hidden, of["weight"], of["target"], lossmith.create("m"))


@pytest.mark.parametrize("label", [-1, C])
def test_a_label_out_of_range_is_named_as_by_every_loss(label: int) -> None:
    of = problem()
    of["target"][3] = label
    with pytest.raises(IndexError, match=f"label {label} is out of range: there are {C} classes"):
        linear_loss(of["hidden"], of["weight"], of["target"], lossmith.create("m"))


def test_half_precision_is_computed_in_float32() -> None:
    of = problem(torch.bfloat16)
    value = linear_loss(of["hidden"], of["weight"], of["target"], lossmith.create("rooted"))
    assert value.dtype == torch.float32
    plain = lossmith.create("rooted")(of["hidden"] @ of["weight"].T, of["target"])
    torch.testing.assert_close(value, plain, rtol=1e-5, atol=0)


def test_only_what_needs_a_gradient_gets_one() -> None:
    of = problem()
    weight = of["weight"].requires_grad_()
    linear_loss(of["hidden"], weight, of["target"], lossmith.create("m")).backward()
    assert weight.grad is not None
    with torch.no_grad():
        assert not linear_loss(of["hidden"], weight, of["target"], lossmith.create("m")).requires_grad


def test_nothing_to_learn_from_is_zero() -> None:
    of = problem()
    nothing = torch.full((N,), -100)
    assert linear_loss(of["hidden"], of["weight"], nothing, lossmith.create("m")) == 0
    empty = linear_loss(of["hidden"][:0], of["weight"], nothing[:0], lossmith.create("m"))
    assert empty == 0


def test_second_derivatives_and_second_backward_passes_are_refused() -> None:
    of = problem()
    weight = of["weight"].requires_grad_()
    value = linear_loss(of["hidden"], weight, of["target"], lossmith.create("m"))
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(value, weight, create_graph=True)
    value = linear_loss(of["hidden"], weight, of["target"], lossmith.create("m"))
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        value.backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": lossmith.create("ngl")}, "cross-entropy alone"),
        ({"loss": lossmith.create("m", reduction="none")}, "reduction"),
        ({"loss": lossmith.create("m", label_smoothing=0.1)}, "label_smoothing"),
        ({"loss": lossmith.create("logit_adjusted", class_counts=[1.0] * C)}, "whole logits"),
        ({"loss": lossmith.create("m", weight=[1.0, 2.0])}, "2 values"),
        ({"hidden": torch.randn(N, D + 1)}, "shapes"),
        ({"target": torch.zeros(N)}, "class indices"),
        ({"bias": torch.zeros(C - 1)}, "bias"),
        ({"sample_weight": torch.zeros(N - 1)}, "sample_weight"),
        ({"loss": lossmith.create("m", reduction="sum"), "normalizer": 2.0}, "normalizer"),
    ],
)
def test_what_it_cannot_honour_is_refused(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {**problem(), "loss": lossmith.create("m")} | change
    hidden, weight, target, loss = (given.pop(name) for name in ("hidden", "weight", "target", "loss"))
    with pytest.raises(ValueError, match=message):
        linear_loss(hidden, weight, target, loss, **given)


def test_compiles_whole() -> None:
    of, loss = problem(), lossmith.create("rooted", weight=[1.0 + i for i in range(C)])
    sample_weight = torch.rand(N)

    def value(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return linear_loss(hidden, weight, of["target"], loss, bias=bias, sample_weight=sample_weight)

    results = []
    for function in (value, torch.compile(value, fullgraph=True, backend="aot_eager")):
        leaves = [of[name].clone().requires_grad_() for name in ("hidden", "weight", "bias")]
        made = function(*leaves)
        made.backward()
        results.append([made.detach(), *(leaf.grad for leaf in leaves)])
    torch.testing.assert_close(results[0], results[1])


def test_torch_library_checks() -> None:
    of = problem()
    leaves = [of[name].requires_grad_() for name in ("hidden", "weight", "bias")]
    torch.library.opcheck(torch.ops.lossmith.linear_cross_entropy.default, (*leaves, of["target"], -100))


def test_autocast_takes_its_dtype_and_mixed_dtypes_are_refused_without() -> None:
    of, loss = problem(), lossmith.create("rooted")
    weight = of["weight"].requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = linear_loss(of["hidden"].bfloat16(), weight, of["target"], loss)
        plain = loss(torch.nn.functional.linear(of["hidden"], weight), of["target"])
    torch.testing.assert_close(value, plain, rtol=1e-5, atol=0)
    value.backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32
    with pytest.raises(ValueError, match="one dtype"):
        linear_loss(of["hidden"].bfloat16(), weight, of["target"], loss)


def test_a_class_that_is_almost_certain_and_masked_classes() -> None:
    hidden = torch.eye(2, D).mul_(20).requires_grad_()  # 1 - p is e^-20, which float64 can tell from 0
    weight = torch.zeros(C, D)
    weight[3, 0] = 1.0
    weight[20, 1] = 1.0
    bias = torch.zeros(C)
    bias[5:12] = -torch.inf
    for label in (3, 4):
        target = torch.tensor([label, 20])
        leaves = [hidden.detach().clone().requires_grad_(), weight.clone().requires_grad_()]
        linear_loss(*leaves, target, lossmith.create("rooted"), bias=bias).backward()
        whole = [leaf.detach().double().requires_grad_() for leaf in leaves]
        lossmith.create("rooted")(whole[0] @ whole[1].T + bias, target).backward()
        for ours, true in zip(leaves, whole, strict=True):
            assert ours.grad is not None
            assert true.grad is not None
            torch.testing.assert_close(ours.grad.double(), true.grad, rtol=1e-5, atol=0)
