"""The fused passes against the same quantities written out in float64, compiled and in plain torch."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

import lossmith
from lossmith.kernels import Polynomial, RowTerms, fuses, row_terms, rows
from lossmith.kernels.compiler import library

IGNORED = -100
# f(p) = p^2 + 3 p^3 = p^2 (1 + 3 p), p f'(p) = p^2 (2 + 9 p)
CUBIC = Polynomial((1.0, 3.0), (2.0, 9.0), 0.0)


@pytest.fixture(params=["compiled", "chunks"], autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to compute the passes."""
    if request.param == "compiled" and library() is None:
        pytest.skip("no C++ compiler")
    if request.param == "chunks":
        monkeypatch.setattr(rows, "library", lambda: None)
    return str(request.param)


def written_out(logits: Tensor, target: Tensor) -> RowTerms:
    """Every field from its definition, in float64, class by class."""
    log_p = logits.double().log_softmax(1)
    top = logits.argmax(1)
    c, odds, others = [], [], []
    for row, (t, m) in enumerate(zip(target.tolist(), top.tolist(), strict=True)):
        rest = [j for j in range(logits.shape[1]) if j != m]
        c.append(-log_p[row, t] if t != IGNORED else log_p.new_zeros(()))
        odds.append(log_p[row, m] - log_p[row, rest].logsumexp(0))
        p = log_p[row, [j for j in rest if j != t]].exp()
        others.append((p**2 + 3 * p**3).sum())
    return RowTerms(*(torch.stack(of) for of in (c, odds, others)), top)


def gradients(logits: Tensor, target: Tensor, weights: Tensor, *, fused: bool) -> tuple[RowTerms, Tensor]:
    logits = logits.clone().requires_grad_() if fused else logits.double().requires_grad_()
    terms = row_terms(logits, target, IGNORED, CUBIC) if fused else written_out(logits, target)
    sum((of * weight.to(of.dtype)).sum() for of, weight in zip(terms[:3], weights, strict=True)).backward()
    assert logits.grad is not None
    return terms, logits.grad


@pytest.mark.parametrize("classes", [2, 3, 7, 8, 9, 31, 64, 257])
@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0])
def test_values_and_gradients(classes: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = spread * torch.randn(23, classes, generator=generator)
    target = torch.randint(0, classes, (23,), generator=generator)
    target[3] = IGNORED
    target[5] = logits[5].argmax()
    weights = torch.randn(3, 23, generator=generator)
    terms, gradient = gradients(logits, target, weights, fused=True)
    right, right_gradient = gradients(logits, target, weights, fused=False)
    for ours, true in zip(terms[:3], right[:3], strict=True):
        torch.testing.assert_close(ours.double(), true, rtol=2e-6, atol=1e-6)
    assert torch.equal(terms.top, right.top)
    torch.testing.assert_close(gradient.double(), right_gradient, rtol=5e-6, atol=2e-6)


@pytest.mark.parametrize("p", [0.9995, 1 - 1e-7, 1 - 1e-30])
@pytest.mark.parametrize("is_target", [True, False])
def test_the_gradient_of_a_class_that_is_almost_certain_keeps_its_digits(p: float, is_target: bool) -> None:
    """1 - p by subtraction would leave 4 digits at p = 0.9995, and none beyond."""
    odds = math.log1p(-p) if p < 1 else math.log(1e-30)
    logits = torch.tensor([[0.0, odds - 1.0, odds + math.log(1 - math.exp(-1.0))]])  # the others sum to e^odds
    target = torch.tensor([0 if is_target else 1])
    weights = torch.tensor([[1.0], [0.25], [2.0]])
    _, gradient = gradients(logits, target, weights, fused=True)
    _, right = gradients(logits, target, weights, fused=False)
    torch.testing.assert_close(gradient.double(), right, rtol=1e-5, atol=0)


def test_huge_logits_masks_and_ties() -> None:
    inf = math.inf
    logits = torch.tensor([
        [1e4, -1e4, 0.0, 9999.0],
        [-1e4, -1e4, -1e4, -1e4],
        [-inf, 1.0, 2.0, -inf],
        [-inf, 5.0, -inf, -inf],
        [3.0, 3.0, 3.0, -inf],
    ])
    target = torch.tensor([1, 2, 1, 1, 0])
    made = logits.clone().requires_grad_()
    terms = row_terms(made, target, IGNORED, CUBIC)
    log_p = logits.double().log_softmax(1)
    torch.testing.assert_close(terms.c.double(), -log_p[range(5), target], rtol=1e-6, atol=0)
    terms.c.sum().backward()
    onehot = F.one_hot(target, 4)
    torch.testing.assert_close(made.grad, (log_p.exp() - onehot).float(), rtol=1e-6, atol=1e-7)
    assert terms.odds[3] == inf


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("at", [0, 3, 9])
def test_what_is_not_finite_does_not_vanish(bad: float, at: int) -> None:
    logits = torch.zeros(1, 10)
    logits[0, at] = bad
    terms = row_terms(logits, torch.tensor([3]), IGNORED, CUBIC)
    assert terms.c.isnan().all()
    assert terms.odds.isnan().all()


@pytest.mark.parametrize("label", [-1, 10])
def test_labels_out_of_range_are_refused(label: int) -> None:
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        row_terms(torch.zeros(40, 10), torch.full((40,), label), IGNORED)


@pytest.mark.parametrize("at", [0, 40, 99])
def test_a_label_out_of_range_is_refused_whichever_thread_meets_it(at: int, path: str) -> None:
    target = torch.arange(100) % 10
    target[at] = 10 + at
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(
            (IndexError, RuntimeError), match=f"Target {10 + at} is out" if path == "compiled" else "out"
        ):
            row_terms(torch.zeros(100, 10), target, IGNORED)
    finally:
        torch.set_num_threads(before)


def test_targets_that_do_not_lie_side_by_side() -> None:
    logits, wide = torch.randn(12, 20), torch.arange(24) % 20
    made = row_terms(logits, wide[::2], IGNORED)
    assert torch.equal(made.c, row_terms(logits, wide[::2].clone(), IGNORED).c)
    assert not torch.equal(made.c, row_terms(logits, wide[:12], IGNORED).c)
    leaf = logits.requires_grad_()
    gradients = []
    for target in (wide[::2], wide[::2].clone()):
        gradients += torch.autograd.grad(row_terms(leaf, target, IGNORED).c.sum(), leaf)
    assert torch.equal(*gradients)


def test_rows_that_do_not_lie_side_by_side() -> None:
    wide = torch.randn(12, 40)
    target = torch.arange(12)
    assert torch.equal(row_terms(wide[:, :20], target, IGNORED).c, row_terms(wide[:, :20].clone(), target, IGNORED).c)


def test_the_number_of_threads_changes_nothing() -> None:
    logits, target = torch.randn(100, 30), torch.randint(0, 30, (100,))
    before = torch.get_num_threads()
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        made = logits.clone().requires_grad_()
        terms = row_terms(made, target, IGNORED, CUBIC)
        (terms.c + terms.others).sum().backward()
        results.append((terms, made.grad))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(results[0][0], results[1][0], strict=True))
    assert torch.equal(results[0][1], results[1][1])


def test_a_second_derivative_is_refused() -> None:
    logits = torch.randn(5, 10, requires_grad=True)
    c = row_terms(logits, torch.arange(5), IGNORED).c
    with pytest.raises(RuntimeError, match="implementation='reference'"):
        torch.autograd.grad(c.sum(), logits, create_graph=True)


def test_a_hessian_vector_product_through_a_hidden_layer_is_refused_and_the_reference_gives_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rows, "SMALLEST", 0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    x, target = torch.randn(6, 4), torch.randint(0, 3, (6,))
    parameters = list(model.parameters())
    with pytest.raises(RuntimeError, match="implementation='reference'"):
        torch.autograd.grad(lossmith.create("ngl")(model(x), target), parameters, create_graph=True)
    loss = lossmith.create("ngl", implementation="reference")
    first = torch.autograd.grad(loss(model(x), target), parameters, create_graph=True)
    second = torch.autograd.grad(sum((g * g).sum() for g in first), parameters)
    assert all(of.isfinite().all() for of in second)


@pytest.mark.parametrize("name", ["m_full", "ngl"])
def test_forward_mode_is_refused_with_the_way_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SMALLEST", 0)
    logits, target = torch.randn(6, 10), torch.arange(6)
    with forward_ad.dual_level():
        made = forward_ad.make_dual(logits, torch.ones_like(logits))
        with pytest.raises(RuntimeError, match="implementation='reference'"):
            lossmith.create(name)(made, target)
        value = lossmith.create(name, implementation="reference")(made, target)
        assert abs(float(forward_ad.unpack_dual(value).tangent)) < 1e-6  # nothing changes if all logits move alike


@pytest.mark.parametrize("name", ["cross_entropy", "rooted", "ngl", "l_full", "formula(y*c + p*log(p))"])
@pytest.mark.parametrize("label", [-1, 10, 2**40])
def test_every_loss_names_a_label_out_of_range(name: str, label: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SMALLEST", 0)
    target = torch.arange(6)
    target[4] = label
    for weight in (None, [1.0] * 10):
        with pytest.raises(IndexError, match=f"label {label} is out of range: there are 10 classes"):
            lossmith.create(name, weight=weight)(torch.randn(6, 10), target)


def test_only_the_logits_are_kept_for_the_backward_pass() -> None:
    logits = torch.randn(64, 500, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda of: kept.append(of) or of, lambda of: of):
        row_terms(logits, torch.randint(0, 500, (64,)), IGNORED, CUBIC)
    large = [of for of in kept if of.numel() >= logits.numel()]
    assert len(large) == 1
    assert large[0].data_ptr() == logits.data_ptr()


def test_transformations_and_other_inputs_take_the_reference_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SMALLEST", 0)
    logits = torch.randn(6, 10)
    assert fuses(logits, with_others=True)
    for other in (logits.double(), logits.half(), logits.t(), logits[0], torch.randn(2, 5, 4), torch.randn(6, 1)):
        assert not fuses(other, with_others=True)
    seen: list[bool] = []

    def loss(z: Tensor) -> Tensor:
        seen.append(fuses(z, with_others=True))
        return lossmith.create("ngl")(z, torch.zeros(6, dtype=torch.int64))

    hessian = torch.func.hessian(loss)(logits)
    assert hessian.isfinite().all()
    assert not any(seen)


def test_it_serves_131072_logits_and_more(path: str) -> None:
    """And without a sum over the other classes only where it is compiled: else torch's cross-entropy is as good."""
    for count in (1023, 1024):
        assert fuses(torch.zeros(count, 128), with_others=True) == (count == 1024)
    assert fuses(torch.zeros(1024, 128), with_others=False) == (path == "compiled")


def test_torch_library_checks(path: str) -> None:
    logits = torch.randn(20, 10, requires_grad=True)
    arguments = (logits, torch.randint(0, 10, (20,)), IGNORED, CUBIC.packed())
    torch.library.opcheck(torch.ops.lossmith.row_terms.default, arguments)


@pytest.mark.parametrize("name", ["cross_entropy", "ngl", "m_full"])
def test_compiles_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SMALLEST", 0)
    loss = lossmith.create(name)
    logits, target = torch.randn(30, 10), torch.randint(0, 10, (30,))
    results = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        made = logits.clone().requires_grad_()
        value = function(made, target)
        value.backward()
        results.append((value.detach(), made.grad))
    torch.testing.assert_close(results[0], results[1])


def test_a_mean_over_classes_compiles_whole_for_several_numbers_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second number on torch.compile has a symbol for it."""
    monkeypatch.setattr(rows, "SMALLEST", 0)
    loss = lossmith.create("ngl")
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for C in (10, 11, 13):
        logits, target = torch.randn(30, C), torch.randint(0, C, (30,))
        torch.testing.assert_close(compiled(logits, target), loss(logits, target))
