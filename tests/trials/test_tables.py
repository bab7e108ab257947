"""Gradients by table are those of the losses themselves, and the same bits in any stack."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lossmith.catalog import available
from lossmith.evolution.filters import Screen
from lossmith.evolution.grammar import Grammar, ramped
from lossmith.evolution.plan import formula_of
from lossmith.formulas import Expression, parse
from lossmith.losses import FormulaLoss
from lossmith.trials.tables import HIGH, LOW, SlopeTables, gradient_error

BITS = Path(__file__).with_name("table_bits.py")
CAPABILITIES = {"default": True, "avx2": torch.cpu._is_avx2_supported()}


def with_formula() -> dict[str, Expression]:
    """Every named loss that has a formula."""
    named = [info.name for info in available("classification") if info.name != "formula"]
    found = {name: formula_of(name) for name in named}
    return {name: formula for name, formula in found.items() if formula is not None}


def samples(classes: int, spread: float, count: int = 400) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(classes)
    logits = spread * torch.randn(count, classes, dtype=torch.float64, generator=generator)
    return logits, torch.randint(classes, (count,), generator=generator)


def exact(formula: Expression, logits: Tensor, targets: Tensor, t: float = 1.0) -> Tensor:
    """The gradient of each sample's loss in float64, by autograd."""
    loss = FormulaLoss(formula, reduction="sum", **({"steps": 1000} if formula.depends_on("t") else {}))
    for _ in range(round(1000 * t) if formula.depends_on("t") else 0):
        loss.step()
    leaf = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, targets), leaf)[0]


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("name", sorted(with_formula()))
def test_named_losses_by_table_have_their_own_gradients(name, classes):
    """To 1e-3 of the norm; beyond p = 1 - 3e-4, float32 knows too little of 1 - p for losses with a pole at p = 1."""
    formula = with_formula()[name]
    for spread in (0.3, 3.0):
        logits, targets = samples(classes, spread)
        known = logits.softmax(1).amax(1) < 1 - 3e-4
        logits, targets = logits[known], targets[known]
        found = SlopeTables([formula], classes).gradient(logits.float()[None], targets[None])[0]
        assert relative(found, exact(formula, logits, targets)) < 1e-3


def test_random_formulas_that_pass_the_filters_have_their_own_gradients():
    """To 2e-3 of the norm for nine of ten; the others have kinks or poles between two points of the table."""
    rng, grammar = np.random.default_rng(0), Grammar(terminals=("p", "y", "c", "n"))
    sifted = Screen(5, grammar).sift(ramped(rng, grammar, 400, deepest=5))
    formulas = [each.expression for each in sifted if each.rejected is None]
    assert len(formulas) > 30
    logits, targets = samples(5, 2.0)
    stack = SlopeTables(formulas, 5).gradient(
        logits.float().expand(len(formulas), -1, -1), targets.expand(len(formulas), -1)
    )
    errors = [relative(found, exact(of, logits, targets)) for found, of in zip(stack, formulas, strict=True)]
    assert np.quantile(errors, 0.9) < 2e-3
    assert max(errors) < 0.3


def test_beyond_the_table_the_slope_stays_what_it_is_at_its_end():
    """For c squared it is 2 c: the gradient of the target's logit is -2 c (1 - p), with c capped."""
    formula, end = parse("y*c*c"), torch.tensor(-LOW).double().exp().log1p().item()
    for gap in (5.0, 20.0, -LOW + 10, 80.0):
        logits = torch.tensor([[[0.0, gap]]])
        (found,) = SlopeTables([formula], 2).gradient(logits, torch.tensor([[0]]))[0]
        c = np.log1p(np.exp(gap))
        assert found[0].item() == pytest.approx(-2 * min(c, end) * (1 - np.exp(-c)), rel=1e-4)
        assert found.sum().item() == pytest.approx(0, abs=1e-4)
    near, far = (
        SlopeTables([formula], 2).gradient(torch.tensor([[[gap, 0.0]]]), torch.tensor([[0]]))
        for gap in (HIGH + 1, HIGH + 40)
    )
    assert near.isfinite().all()
    assert far.abs().max() < 1e-3  # a fit target is hardly pulled


@pytest.mark.parametrize("gap", [8.5, 10.0, 11.0])
def test_sure_and_wrong_predictions_are_pulled_by_log_of_1_minus_p(gap):
    """Of -log(1 - p) for the wrong one of two classes the gradient by its logit is p."""
    logits = torch.tensor([[[0.0, gap]]])
    (found,) = SlopeTables([parse("-(1 - y)*log(1 - p)")], 2).gradient(logits, torch.tensor([[0]]))[0]
    assert found.tolist() == pytest.approx([-1.0, 1.0], rel=0.03)  # float32 knows that much of 1 - p


def test_slopes_beyond_float32_are_infinite_without_a_warning():
    assert SlopeTables([parse("1e40*y*c")], 2).slopes.flatten()[-1].item() == -np.inf


@pytest.mark.parametrize("t", [0.0, 0.25, 1.0])
def test_formulas_with_t_are_tabulated_anew(t):
    formulas = [parse(text) for text in ("t*y*c + (1 - t)*y*(1 - p)", "y*c", "y*(1 - p)**(1 + t)*c")]
    tables = SlopeTables(formulas, 4)
    logits, targets = samples(4, 2.0)
    for moment in (0.7, t):  # where it was before leaves no trace
        tables.set_progress(moment)
    found = tables.gradient(logits.float().expand(3, -1, -1), targets.expand(3, -1))
    for gradient, formula in zip(found, formulas, strict=True):
        assert relative(gradient, exact(formula, logits, targets, t)) < 1e-3


def test_equal_formulas_share_a_table_and_each_slice_has_its_own_gradient():
    formulas = [parse(text) for text in ("y*c", "square(p - y)", "y*c", "y*(1 - p)")]
    tables = SlopeTables(formulas, 3)
    assert len(tables.slopes) == 3
    logits, targets = samples(3, 1.0, 50)
    together = tables.gradient(logits.float().expand(4, -1, -1), targets.expand(4, -1))
    for slice_, formula in zip(together, formulas, strict=True):
        alone = SlopeTables([formula], 3).gradient(logits.float()[None], targets[None])[0]
        assert torch.equal(slice_, alone)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_outputs_that_are_not_finite_spoil_their_own_slice_alone(bad):
    tables = SlopeTables([parse("y*c"), parse("square(p - y)")], 3)
    logits, targets = samples(3, 1.0, 20)
    stack, of = logits.float().repeat(2, 1, 1), targets.expand(2, -1)
    wanted = tables.gradient(stack, of)
    stack[0, 4, 1] = bad
    found = tables.gradient(stack, of)
    assert torch.equal(found[1], wanted[1])
    assert torch.equal(found[0, :4], wanted[0, :4])
    assert not found[0, 4].isfinite().all() or bad == -float("inf")  # p = 0 is a probability


def test_the_error_is_small_for_cross_entropy_and_grows_with_kinks_and_waves():
    assert gradient_error(parse("y*c"), 10) < 1e-4
    assert gradient_error(parse("y*c*t + (1 - t)*square(p - y)"), 10) < 1e-4  # at the end of training
    assert gradient_error(parse("y*c*c"), 10) < 1e-3  # where the table continues it by its tangent does not count
    assert 1e-3 < gradient_error(parse("y*c + 5*y*max(p, 0.3)"), 10) < 0.1
    assert gradient_error(parse("y*sin(500*p)"), 10) > 0.1


@pytest.mark.parametrize("capability", [name for name, has in CAPABILITIES.items() if has])
def test_a_candidate_is_the_same_bit_for_bit_in_any_stack(capability):
    environment = os.environ | {
        "ATEN_CPU_CAPABILITY": capability,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run([sys.executable, str(BITS)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    used, *differing, count = done.stdout.splitlines()
    assert used.lower() == capability
    assert int(count) == 4 * (3 + 2 + 3)
    assert differing == []
