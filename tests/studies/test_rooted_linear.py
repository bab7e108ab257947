"""The study of rooted objectives on linear models: its arithmetic, its protocol and its rules."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import lossmith
from lossmith import dynamics
from lossmith.studies.bench import Bench
from lossmith.studies.rooted_linear import study
from lossmith.studies.rooted_linear.curvature import Range, regularised
from lossmith.studies.rooted_linear.descent import (
    ARMS,
    CROSS_ENTROPY,
    GRID,
    Arm,
    Problem,
    Scaling,
    Targets,
    paths,
    quasi_newton,
    race,
)
from lossmith.studies.rooted_linear.measure import OBJECTIVES
from lossmith.studies.rooted_linear.readings import Difference, Measured, crossing, slowdown, tolerance, turned
from lossmith.studies.rooted_linear.sets import MARGIN, Points, load
from lossmith.studies.rooted_linear.verdicts import Tally, judged

KINDS = (2, 3)


def problem(kinds: int, size: int = 4, count: int = 30) -> Problem:
    generator = np.random.default_rng(kinds)
    inputs = np.append(generator.standard_normal((count, size - 1)), np.ones((count, 1)), 1)
    return Problem(Points(inputs, np.arange(count) % kinds))


def some_weights(of: Problem) -> Tensor:
    shape = of.zeros(1).shape
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def library_loss(text: str, of: Problem, weights: Tensor) -> Tensor:
    """The mean of a loss of the library, for weights of shape (D, 1) or (D, C, 1)."""
    if of.binary:
        loss = lossmith.create(text, task="binary")
        return loss((of.inputs @ weights)[:, 0], of.classes.double())
    return lossmith.create(text)(of.inputs @ weights[..., 0], of.classes)


def text_of(arm: Arm) -> str:
    return {
        "cross-entropy": "cross_entropy",
        "rooted": f"rooted:k={arm.k}",
        "released": f"rooted:k={arm.k},form=released",
    }[arm.kind]


def step_of(arm: Arm, of: Problem, weights: Tensor) -> Tensor:
    """The direction that an arm descends, with learning rate 1."""
    following, *_ = of.descend(weights, Scaling([arm]), torch.ones(1, dtype=torch.float64))
    return weights - following


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm.kind in {"cross-entropy", "rooted", "released"}])
def test_an_arm_descends_the_gradient_of_the_loss_of_the_library(kinds: int, arm: Arm) -> None:
    of = problem(kinds)
    weights = some_weights(of).requires_grad_()
    (gradient,) = torch.autograd.grad(library_loss(text_of(arm), of, weights), weights)
    torch.testing.assert_close(step_of(arm, of, weights.detach()), gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("k", [1, 3, 8])
def test_the_gradient_is_a_step_size_times_a_reweighting(kinds: int, k: int) -> None:
    """Rooted = mean p^(-1/k) times the gradient of TERM, k log mean p^(-1/k); and the scalar alone times CE's."""
    of = problem(kinds)
    weights = some_weights(of).requires_grad_()
    if of.binary:
        losses = torch.nn.functional.softplus(-(of.inputs @ weights)[:, 0] * (2 * of.classes - 1))
    else:
        losses = torch.nn.functional.cross_entropy(of.inputs @ weights[..., 0], of.classes, reduction="none")
    scalar = (losses / k).exp().mean()
    (tilted,) = torch.autograd.grad(k * scalar.log(), weights, retain_graph=True)
    (plain,) = torch.autograd.grad(losses.mean(), weights)
    at = weights.detach()
    torch.testing.assert_close(step_of(Arm("term", k), of, at), tilted)
    torch.testing.assert_close(step_of(Arm("rooted", k), of, at), scalar.detach() * tilted)
    torch.testing.assert_close(step_of(Arm("scalar", k), of, at), scalar.detach() * plain)
    torch.testing.assert_close(step_of(Arm("normalised"), of, at), plain / losses.mean().detach())


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("arm", OBJECTIVES)
def test_condition_numbers_are_those_of_the_hessian(kinds: int, arm: Arm) -> None:
    """Against the Hessian by autograd, whose null directions are left out by their number."""
    of = problem(kinds)
    of.inputs[:, 0] = of.inputs[:, 1]  # of rank 3
    of = Problem(Points(of.inputs.numpy(), of.classes.numpy()))
    weights = some_weights(of)
    hessian = torch.autograd.functional.hessian(
        lambda flat: library_loss(text_of(arm), of, flat.view(weights.shape)), weights.flatten()
    )
    values = torch.linalg.eigvalsh(hessian).flip(0)
    rank = 3 * (kinds - 1)
    assert Range(of).size == rank
    expected = float(values[0] / values[rank - 1])
    assert Range(of).condition(weights[..., 0], arm) == pytest.approx(expected, rel=1e-8)


def test_all_binary_objectives_are_equally_conditioned_at_zero_weights() -> None:
    """There every sample has the same curvature."""
    of = problem(2)
    second = torch.linalg.eigvalsh(of.inputs.T @ of.inputs)
    for arm in OBJECTIVES:
        found = Range(of).condition(of.zeros(1)[..., 0], arm)
        assert found == pytest.approx(float(second[-1] / second[0]), rel=1e-9)


def test_runs_side_by_side_are_those_alone() -> None:
    of = problem(3)
    rates = torch.linspace(0.1, 1.0, len(ARMS), dtype=torch.float64)
    together = paths(of, ARMS, rates, 20, 5)
    for arm, rate, path in zip(ARMS, rates, together, strict=True):
        weights, scaling = of.zeros(1), Scaling([arm])
        for _ in range(20):
            weights, _, _ = of.descend(weights, scaling, rate[None])
        torch.testing.assert_close(path.weights[-1], weights[..., 0], rtol=1e-9, atol=1e-12)
        assert int(path.steps[-1]) == 20


@pytest.mark.parametrize("kinds", KINDS)
def test_cross_entropies_and_accuracies(kinds: int) -> None:
    of = problem(kinds)
    weights = some_weights(of)
    _, losses, accuracies = of.descend(weights, Scaling([CROSS_ENTROPY]), torch.ones(1, dtype=torch.float64))
    logits = of.inputs @ weights[..., 0]
    right = ((logits > 0) if of.binary else logits.argmax(1)) == of.classes
    share = float(right.double().mean())
    assert 0 < share < 1
    assert float(accuracies) == pytest.approx(share)
    assert float(losses) == pytest.approx(float(library_loss("cross_entropy", of, weights)))


def test_a_race_finds_the_rate_that_is_first() -> None:
    """By trying each rate alone, step by step."""
    of = Problem(load("separable", None, 0))
    targets = Targets(0.2, 0.1, 0.95)
    for arm in (CROSS_ENTROPY, Arm("rooted", 3), Arm("normalised")):
        found = race(of, arm, targets, 200, beyond=3.0)
        assert float(found.rates[1] / found.rates[0]) == pytest.approx(GRID)
        for place in range(0, len(found.rates), 7):
            weights, scaling = of.zeros(1), Scaling([arm])
            rate, taken = found.rates[place] * of.first_rate(arm), math.inf
            for step in range(found.length + 1):
                weights, loss, _ = of.descend(weights, scaling, rate[None])
                if float(loss) <= targets.near:
                    taken = step
                    break
            assert float(found.steps[0, place]) == taken
        best = found.best(0)
        assert float(found.steps[0, best]) == float(found.steps[0].min()) < math.inf
        assert found.at_edge() == 0
    assert quasi_newton(of, targets, 100)[0] < 20


def test_the_first_steps_are_equally_long_at_equal_relative_rates() -> None:
    of = problem(3)
    steps = [step_of(arm, of, of.zeros(1)) * of.first_rate(arm) for arm in ARMS]
    for step in steps[1:]:
        torch.testing.assert_close(step, steps[0])


def test_solutions_that_are_known() -> None:
    separable = load("separable", None, 0)
    found = dynamics.maximum_margin(torch.from_numpy(separable.inputs), torch.from_numpy(separable.classes))
    expected = torch.zeros(11, dtype=torch.float64)
    expected[0] = 1 / MARGIN
    torch.testing.assert_close(found.weights, expected, rtol=1e-8, atol=1e-8)
    points = load("overlapping", None, 0)
    of = Problem(points)
    for arm in OBJECTIVES:
        weights = regularised(of, arm, [1e-3, 1e-6, 1e-11]).weights[-1]
        logits = of.inputs @ weights
        for row in of.inputs.unique(dim=0):
            here = (of.inputs == row).all(1)
            share = float(of.classes[here].double().mean())
            odds = math.log(share / (1 - share)) * (arm.k / (arm.k + 1) if arm.k else 1)
            assert float(logits[here][0]) == pytest.approx(odds, abs=1e-5)


def test_regularised_minimisers_are_stationary() -> None:
    of = problem(3)
    found = regularised(of, Arm("rooted", 3), [1.0, 0.01])
    for strength, weights in zip(found.strengths, found.weights, strict=True):
        at = weights[..., None].clone().requires_grad_()
        value = library_loss("rooted:k=3", of, at) + strength / 2 * (at**2).sum()
        (slope,) = torch.autograd.grad(value, at)
        assert float(slope.norm()) < 1e-10


def test_resamples_are_parts_and_the_same_for_all() -> None:
    whole, part = load("breast_cancer", None, 0), load("breast_cancer", None, 3)
    assert len(part.inputs) == round(0.8 * len(whole.inputs))
    np.testing.assert_allclose(part.inputs[:, :-1].mean(0), 0, atol=1e-12)
    np.testing.assert_array_equal(part.inputs, load("breast_cancer", None, 3).inputs)
    assert not np.array_equal(part.classes, load("breast_cancer", None, 4).classes)


def test_crossings() -> None:
    x, y = np.array([0.0, 1.0, 0.5, 2.0]), np.array([10.0, 20.0, 0.0, 30.0])
    assert crossing(x, y, 0.5) == 15
    assert crossing(x, y, 1.5) == pytest.approx(20)
    assert math.isnan(crossing(x, y, 2.5))
    assert math.isnan(crossing(x, y, -1.0))


def made(angles: list[float], steps: float) -> dict[str, np.ndarray]:
    """Measurements in which cross-entropy's angle is 0 and its steps 10."""
    path = np.zeros((len(ARMS), len(angles)))
    path[1] = angles
    norms = np.tile(np.arange(1.0, len(angles) + 1), (len(ARMS), 1))
    norms[1] *= 2
    taken = np.full((len(ARMS), 3), 10.0)
    taken[1] = steps
    return {
        "path angles": path,
        "path norms": norms,
        "path losses": 1 / norms,
        "path steps": np.arange(1, len(angles) + 1),
        "steps": taken,
        "lengths": np.full(len(ARMS), 400),
        "kind": np.array(0),
    }


def test_differences_are_paired() -> None:
    rooted = Arm("rooted", 1)
    drawn = [made([1.0, 2.0, 4.0], 10 * math.exp(value)) for value in (1.0, 1.2, 1.4)]
    each = Measured("wide", made([1.0, 2.0, 4.0], math.inf), drawn)
    # The arm's norms are 2, 4, 6 and cross-entropy's 1, 2, 3: both have 3, between 1 and 2 degrees.
    part = math.log(3 / 2) / math.log(2)
    assert turned([each], rooted, "norms").value == pytest.approx(1 + part)
    assert turned([each], rooted, "losses").value == pytest.approx(1 + part)
    assert turned([each], rooted, "steps").value == 4.0
    found = slowdown([each], rooted, 0)
    assert found.bound
    assert found.value == pytest.approx(math.log(40))
    assert found.low == pytest.approx(1.01)  # linear between the ordered resamples
    assert found.high == pytest.approx(1.39)
    assert found.above
    assert not found.below
    assert slowdown([each], CROSS_ENTROPY, 0).value == 0
    both = slowdown([each, Measured("wide", drawn[0], drawn[::-1])], rooted, 0)
    assert both.value == pytest.approx((math.log(40) + 1) / 2)
    assert (both.low, both.high) == (pytest.approx(1.2), pytest.approx(1.2))  # two sets are averaged in pairs


def test_the_tolerance_to_the_learning_rate() -> None:
    rates, taken = np.array([1.0, 2.0, 4.0, 8.0, 16.0]), np.array([41.0, 40.0, 10.0, 20.0, math.inf])
    result = {f"curve {CROSS_ENTROPY.name}": np.stack([rates, taken])}
    assert tolerance(result, CROSS_ENTROPY) == 4
    never = {f"curve {CROSS_ENTROPY.name}": np.stack([rates, np.full(5, math.inf)])}
    assert math.isnan(tolerance(never, CROSS_ENTROPY))


def test_the_rule_of_the_verdicts() -> None:
    assert judged([Tally(3, 0, 5), Tally(0, 5, 5)]) == "holds"
    assert judged([Tally(3, 1, 5)]) == "holds in part"
    assert judged([Tally(1, 0, 5)]) == "holds in part"
    assert judged([Tally(1, 1, 5), Tally(0, 2, 5)]) == "does not hold"
    assert judged([Tally(0, 0, 5)]) == "undecided"
    assert Difference(-1.0, -2.0, -0.5).below
    assert not Difference(0.1, -2.0, -0.5).below
    assert not Difference(-1.0, math.nan, math.nan).below
    assert Difference(math.log(40), math.nan, math.nan, bound=True).as_ratio() == ">= 40"


def test_the_study_runs_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lossmith.studies.rooted_linear.sets.BUNDLED", ("breast_cancer",))
    found = study(Bench(tmp_path, quick=True))
    assert len(found.claims) == 4
    assert {claim.verdict for claim in found.claims} <= {"holds", "holds in part", "does not hold", "undecided"}
    for section in found.sections:
        for table in section.tables:
            assert all(len(row) == len(table.head) for row in table.rows)
        for plot in section.plots:
            assert all(len(line.x) == len(line.y) > 0 for line in plot.lines)
    text = " ".join(part for section in found.sections for part in section.text)
    assert "Madelon is left out" in text
    kept = sorted((tmp_path / "jobs").iterdir())
    times = [file.stat().st_mtime_ns for file in kept]
    assert study(Bench(tmp_path, quick=True)) == found
    assert [file.stat().st_mtime_ns for file in kept] == times
