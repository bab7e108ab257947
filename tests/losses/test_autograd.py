"""Derivatives, symmetries, transforms (vmap, jvp, hessian), copies; and equality to F.cross_entropy."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loss_cases import CASES, COUNTS, IDS, PER_CLASS, C, Case, seeded
from torch import Tensor
from torch.func import grad, hessian, jvp, vmap

import lossmith

WEIGHT = torch.tensor([1.5, 0.25, 0.5, 2.0], dtype=torch.float64)
LABELS = torch.tensor([0, 3, 1])
every_case = pytest.mark.parametrize("case", CASES, ids=IDS)
every_target = pytest.mark.parametrize("target", [LABELS, "soft"], ids=["index", "soft"])


def logits_and(target: Tensor | str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    logits = torch.randn(3, C, generator=seeded(1), dtype=torch.float64).to(dtype)
    soft = torch.rand(3, C, generator=seeded(2), dtype=torch.float64)
    return logits, (soft / soft.sum(1, keepdim=True)).to(dtype) if isinstance(target, str) else target


def common(case: Case, **more: Any) -> dict[str, Any]:
    return more | ({} if case.name == "label_smoothing" else {"label_smoothing": 0.1})


# --- derivatives -----------------------------------------------------------------------------------------------------


@every_target
@every_case
def test_first_and_second_derivatives(case: Case, target: Tensor | str) -> None:
    logits, target = logits_and(target)
    for loss in (case.make(reduction="none"), case.make(**common(case, weight=WEIGHT))):
        inputs = (logits.clone().requires_grad_(),)
        assert torch.autograd.gradcheck(lambda z, loss=loss: loss(z, target), inputs)
        assert torch.autograd.gradgradcheck(lambda z, loss=loss: loss(z, target), inputs)


@every_target
@every_case
def test_the_gradient_along_the_weights_of_samples(case: Case, target: Tensor | str) -> None:
    """Learned sample weights and soft targets are parameters like any other."""
    logits, target = logits_and(target)
    s = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: case.make()(logits, target, sample_weight=s), (s,))
    if target.is_floating_point():
        assert torch.autograd.gradcheck(lambda q: case.make()(logits, q), (target.requires_grad_(),))


# --- symmetries ------------------------------------------------------------------------------------------------------


@every_target
@every_case
def test_shift_invariance(case: Case, target: Tensor | str) -> None:
    logits, target = logits_and(target)
    loss, shift = case.make(**common(case)), torch.tensor([[2.0], [-7.0], [400.0]], dtype=torch.float64)
    torch.testing.assert_close(loss(logits + shift, target), loss(logits, target), rtol=1e-10, atol=1e-12)
    gradient = torch.autograd.functional.jacobian(lambda z: loss(z, target), logits)
    torch.testing.assert_close(gradient.sum(1), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)


@every_target
@every_case
def test_permutation_equivariance(case: Case, target: Tensor | str) -> None:
    """Renaming the classes, in everything that is per class, changes nothing."""
    logits, target = logits_and(target)
    order = torch.tensor([2, 0, 3, 1])  # new class i is old class order[i]
    new_name = order.argsort().tolist()
    own = {
        key: [value[i] for i in order] if isinstance(value, list) else value for key, value in case.arguments.items()
    }
    schedule = case.schedule
    if schedule is not None:
        old_order = schedule.get("order", range(C))
        schedule = schedule | {"order": [new_name[k] for k in old_order]}
    renamed = case._replace(arguments=own, schedule=schedule).make(**common(case, weight=WEIGHT[order]))
    new_target = target[:, order] if target.is_floating_point() else torch.tensor(new_name)[target]
    torch.testing.assert_close(
        renamed(logits[:, order], new_target), case.make(**common(case, weight=WEIGHT))(logits, target)
    )


@every_case
def test_a_batch_is_its_samples_one_by_one(case: Case) -> None:
    for target in (LABELS, "soft"):
        logits, q = logits_and(target)
        together = case.make(**common(case, reduction="none"))(logits, q)
        alone = [case.make(**common(case, reduction="none"))(z, y) for z, y in zip(logits, q, strict=True)]
        torch.testing.assert_close(together, torch.stack(alone))


# --- torch.func ------------------------------------------------------------------------------------------------------


@every_target
@every_case
def test_func_transforms(case: Case, target: Tensor | str) -> None:
    logits, target = logits_and(target)
    loss = case.make(**common(case, weight=WEIGHT))
    plain = case.make(**common(case, reduction="none", weight=WEIGHT))

    many = torch.stack([logits, 2 * logits, -logits])
    targets = torch.stack([target, target.flip(0), target])
    batched = vmap(loss)(many, targets)
    torch.testing.assert_close(batched, torch.stack([loss(z, y) for z, y in zip(many, targets, strict=True)]))
    per_sample = vmap(plain)(logits, target)  # each a single sample, with a scalar label
    torch.testing.assert_close(per_sample, plain(logits, target))
    gradients = vmap(grad(plain))(logits, target)
    (expected,) = torch.autograd.grad(plain(leaf := logits.clone().requires_grad_(), target).sum(), leaf)
    torch.testing.assert_close(gradients, expected)

    (gradient,) = torch.autograd.grad(loss(leaf := logits.clone().requires_grad_(), target), leaf)
    direction = torch.randn(3, C, generator=seeded(4), dtype=torch.float64)
    value, tangent = jvp(lambda z: loss(z, target), (logits,), (direction,))
    torch.testing.assert_close(value, loss(logits, target))
    torch.testing.assert_close(tangent, (gradient * direction).sum())
    torch.testing.assert_close(grad(lambda z: loss(z, target))(logits), gradient)
    curvature = hessian(lambda z: loss(z, target))(logits).reshape(3 * C, 3 * C)
    expected = torch.autograd.functional.hessian(lambda z: loss(z, target), logits).reshape(3 * C, 3 * C)
    torch.testing.assert_close(curvature, expected)


# --- copies ----------------------------------------------------------------------------------------------------------


@every_case
def test_copies_moves_and_state(case: Case) -> None:
    logits, target = logits_and("soft")
    loss = case.make(**common(case, weight=WEIGHT.float()))
    value = loss(logits, target)
    state = loss.state_dict()
    if case.schedule is None:
        assert not state
    else:
        (count,) = state.values()
        assert count.dtype == torch.int64
        assert count.item() == case.steps
    buffer = io.BytesIO()
    torch.save(loss, buffer)
    buffer.seek(0)
    copies = [copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)), torch.load(buffer, weights_only=False)]
    fresh = case._replace(steps=0).make(**common(case, weight=WEIGHT.float()))
    fresh.load_state_dict(state)
    for other in [*copies, fresh]:
        assert torch.equal(other(logits, target), value)
        assert repr(other) == repr(loss)
    assert all(not parameter.requires_grad for parameter in loss.buffers())
    assert not list(loss.parameters())
    torch.testing.assert_close(loss.to(torch.float64)(logits, target), value, rtol=1e-6, atol=1e-6)
    assert all(tensor.is_meta for tensor in loss.to("meta").buffers())


# --- where a loss is cross-entropy -----------------------------------------------------------------------------------

EQUAL = {
    "cross_entropy": {},
    "rooted:k=inf": {},
    "rooted:form=released,k=inf": {},
    "tempered:kappa=0": {},
    "tempered:kappa=[0,0,0,0]": {},
    "focal:gamma=0": {},
    "poly1:epsilon=0": {},
    "symmetric:alpha=1,beta=0": {},
    "bi_tempered:t1=1,t2=1": {},
    "label_smoothing:epsilon=0": {},
    "label_smoothing:epsilon=0.1": {"label_smoothing": 0.1},
    "sparse_label_smoothing:epsilon=0": {},
    "logit_adjusted:tau=0,class_counts=[1,2,3,4]": {},
    "logit_adjusted:class_counts=[5,5,5,5]": {},
    "dynamical:amplitude=1": {},
}
# A class-wise loss multiplies by sum_k w_k q_k, cross-entropy's sum_k w_k q_k c_k has the weights inside: where q is
# spread they differ, by contract; and it needs sum_k q_k = 1.
CLASSWISE = ("bi_tempered", "sparse_label_smoothing")


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    """A call F.cross_entropy has a finite answer to."""
    shape = draw(st.sampled_from([(C,), (3, C), (1, C), (2, C, 3), (2, C, 2, 2)]))
    number = st.floats(-30, 30, width=32)
    size = int(torch.tensor(shape).prod())
    logits = torch.tensor(draw(st.lists(number, min_size=size, max_size=size)), dtype=torch.float64).view(shape)
    samples = shape[:1] + shape[2:] if len(shape) > 1 else ()
    count = size // C
    weight = draw(st.none() | st.lists(st.floats(0.125, 4, width=32), min_size=C, max_size=C))
    options: dict[str, Any] = {
        "reduction": draw(st.sampled_from(["mean", "sum", "none"])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.0, 0.25, 1.0])),
        "weight": None if weight is None else torch.tensor(weight, dtype=torch.float64),
    }
    if draw(st.booleans()):
        cuts = torch.tensor(draw(st.lists(st.integers(0, 16), min_size=size, max_size=size)), dtype=torch.float64)
        return options | {"logits": logits, "target": cuts.view(shape) / 16}
    labels = draw(st.lists(st.integers(0, C - 1), min_size=count, max_size=count))
    ignore_index = draw(st.sampled_from([-100, 1]))
    if ignore_index == -100 and count > 1 and draw(st.booleans()):
        labels[0] = -100
    if all(label == ignore_index for label in labels):
        labels[-1] = 0
    return options | {"logits": logits, "target": torch.tensor(labels).view(samples), "ignore_index": ignore_index}


@pytest.mark.parametrize("text", EQUAL)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(call=calls())
def test_losses_that_equal_cross_entropy(text: str, call: dict[str, Any]) -> None:
    options = {key: value for key, value in call.items() if key not in {"logits", "target"}}
    spread = call["target"].is_floating_point() or options["label_smoothing"] > 0
    logits, target = call["logits"].clone().requires_grad_(), call["target"]
    if text.startswith(CLASSWISE) and spread:
        options["weight"] = None
        if target.is_floating_point():
            dim = 0 if target.dim() == 1 else 1
            target = (target + 1) / (target + 1).sum(dim, keepdim=True)
    if text.startswith("label_smoothing"):
        del options["label_smoothing"]
    loss = equal_loss(text, options)
    expected = F.cross_entropy(logits, target, **(options | EQUAL[text]))
    found = loss(logits, target)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    (a,), (b,) = (torch.autograd.grad(value.sum(), logits) for value in (found, expected))
    torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def equal_loss(text: str, options: dict[str, Any]) -> Callable[[Tensor, Tensor], Tensor]:
    if text.startswith("dynamical"):
        return lossmith.losses.DynamicalLoss(lossmith.create("cross_entropy", **options), amplitude=1)
    return lossmith.create(text, **options)


def test_labels_of_any_integer_dtype() -> None:
    logits, target = logits_and(LABELS)
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        assert lossmith.create("rooted")(logits, target.to(dtype)) == lossmith.create("rooted")(logits, target)


def test_the_classes_with_per_class_arguments_are_in_the_cases() -> None:
    assert {"kappa": PER_CLASS} in [case.arguments for case in CASES]
    assert len(COUNTS) == C
