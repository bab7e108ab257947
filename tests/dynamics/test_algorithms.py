"""Algorithms on matrices whose spectra are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lossmith
from lossmith import dynamics
from lossmith.dynamics import eigenvalues, spectral_density, trace


class Matrix:
    """A matrix as an operator that counts its products."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.products = matrix, 0
        self.size, self.dtype, self.device = len(matrix), matrix.dtype, matrix.device

    def matvec(self, vector: Tensor) -> Tensor:
        self.products += 1
        return self.matrix @ vector


def matrix(values: Tensor, seed: int = 0) -> Tensor:
    """A symmetric matrix with these eigenvalues, and random eigenvectors."""
    random = torch.randn(len(values), len(values), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    rotation, _ = torch.linalg.qr(random)
    return (rotation * values) @ rotation.T


SPECTRA = {
    "spread": torch.linspace(-1, 3, 300, dtype=torch.float64),
    "outliers": torch.cat([torch.linspace(-0.1, 0.1, 297), torch.tensor([5.0, 4.0, -9.0])]).double(),
    "close at the top": torch.cat([torch.linspace(0, 1, 298), torch.tensor([1.001, 1.002])]).double(),
    "small": torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64),
    "of rank 1": torch.cat([torch.zeros(99), torch.tensor([2.0])]).double(),
    "with equal ones": torch.cat([torch.linspace(0, 1, 60), torch.full((3,), 2.0)]).double(),
    "of rank 2": torch.cat([torch.zeros(998), torch.tensor([3.0, 5.0])]).double(),
    "negative": -torch.linspace(1, 2, 50, dtype=torch.float64),
}


@pytest.mark.parametrize("which", ["largest", "smallest"])
@pytest.mark.parametrize("name", SPECTRA)
def test_eigenvalues(name: str, which: str) -> None:
    values = SPECTRA[name].sort(descending=which == "largest").values
    operator, k = Matrix(matrix(values)), min(3, len(values))
    found = eigenvalues(operator, k=k, which=which, tol=1e-9)  # type: ignore[arg-type]
    assert found.converged
    torch.testing.assert_close(found.values, values[:k], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found.vectors @ found.vectors.T, torch.eye(k, dtype=torch.float64), rtol=0, atol=1e-8)
    true = (operator.matrix @ found.vectors.T - found.vectors.T * found.values).norm(dim=0)
    assert (true <= found.residuals + 1e-10).all()
    assert found.products == operator.products


def test_it_stops_when_told_and_says_that_it_has_not_converged() -> None:
    operator = Matrix(matrix(SPECTRA["close at the top"]))
    found = eigenvalues(operator, tol=1e-12, most=10)
    assert not found.converged
    assert operator.products == 10
    true = (operator.matrix @ found.vectors[0] - found.vectors[0] * found.values[0]).norm()
    assert float(found.residuals[0]) == pytest.approx(float(true), rel=1e-6)
    assert eigenvalues(Matrix(matrix(SPECTRA["outliers"])), tol=1e-3).products < 15


def test_the_seed_decides_and_the_global_generator_does_not() -> None:
    operator = Matrix(matrix(SPECTRA["spread"]))
    state = torch.get_rng_state()
    first = eigenvalues(operator, tol=1e-2)
    torch.rand(5)
    assert torch.equal(first.values, eigenvalues(operator, tol=1e-2).values)
    assert not torch.equal(first.values, eigenvalues(operator, tol=1e-2, seed=1).values)
    torch.set_rng_state(state)
    trace(operator)
    spectral_density(operator, vectors=1, steps=3)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_cannot_be_is_refused_in_a_sentence() -> None:
    operator = Matrix(matrix(SPECTRA["small"]))
    with pytest.raises(ValueError, match="k is 4: an operator with 3 rows has between 1 and 3"):
        eigenvalues(operator, k=4)
    with pytest.raises(ValueError, match="not finite"):
        eigenvalues(Matrix(torch.full((4, 4), torch.inf)))
    with pytest.raises(ValueError, match="at least 6"):
        trace(operator, products=5)


def test_zero_has_no_curvature() -> None:
    found = eigenvalues(Matrix(torch.zeros(10, 10)))
    assert found.converged
    assert found.values.tolist() == [0.0]


def test_the_trace_is_exact_where_few_eigenvalues_carry_it_or_products_suffice() -> None:
    few = torch.cat([torch.zeros(90), torch.arange(1.0, 11.0)]).double()
    assert trace(Matrix(matrix(few)), products=60).value == pytest.approx(55)
    small = trace(Matrix(matrix(SPECTRA["small"])))
    assert (small.value, small.error) == (pytest.approx(2), 0.0)


def test_the_trace_is_within_its_error() -> None:
    """Of 200 estimates, those farther off than two standard errors are about 5 %, and their mean is the trace."""
    operator = Matrix(matrix(torch.linspace(-1, 2, 60, dtype=torch.float64)))
    found = [trace(operator, products=45, seed=seed) for seed in range(200)]
    off = np.array([(each.value - 30) / each.error for each in found])
    assert 0.01 < (np.abs(off) > 2.13).mean() < 0.12  # Student's t with 14 degrees of freedom
    values = np.array([each.value for each in found])
    assert abs(values.mean() - 30) < 3 * values.std() / np.sqrt(len(values))


def test_the_density_has_the_moments_of_the_spectrum() -> None:
    values = torch.cat([torch.linspace(-1, 1, 380), torch.full((20,), 4.0)]).double()
    found = spectral_density(Matrix(matrix(values)), vectors=30, steps=20)
    assert float(found.weights.sum()) == pytest.approx(1)
    for power in (1, 2, 3):
        moment = float((found.weights * found.values**power).sum())
        assert moment == pytest.approx(float((values**power).mean()), abs=0.05 * 4**power / 4)
    grid = torch.linspace(-6, 9, 3000, dtype=torch.float64)
    density = found.on(grid, 0.1)
    assert float(torch.trapezoid(density, grid)) == pytest.approx(1, abs=1e-6)
    above = grid > 2.5
    assert float(torch.trapezoid(density[above], grid[above])) == pytest.approx(0.05, abs=0.015)


def network() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    x, y = torch.randn(20, 3, dtype=torch.float64), torch.arange(20) % 4
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 4)).double(), x, y


@pytest.mark.parametrize("text", ["cross_entropy", "rooted:k=3", "ngl", "mae"])
def test_sharpness_is_the_largest_eigenvalue_of_the_dense_hessian(text: str) -> None:
    model, x, y = network()
    loss = lossmith.create(text)
    hessian = dynamics.dense(dynamics.Hessian(model, loss, (x, y)))
    found = dynamics.sharpness(model, loss, (x, y), tol=1e-8)
    assert float(found.values) == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-6)


OPTIMIZERS = {
    "plain": lambda p: torch.optim.SGD(p, 0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    "decay": lambda p: torch.optim.SGD(p, 0.1, momentum=0.5, weight_decay=3.0),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_above_the_threshold_sgd_diverges_on_a_parabola_and_below_it_does_not(name: str, factor: float) -> None:
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    optimizer = OPTIMIZERS[name]([weight])
    curvature = factor * dynamics.threshold(optimizer)
    for _ in range(1500):
        optimizer.zero_grad()
        (curvature * weight**2 / 2).backward()
        optimizer.step()
    assert bool(weight.detach().abs() > 1e3) == (factor > 1)


@pytest.mark.parametrize("factor", [0.98, 1.02])
@pytest.mark.parametrize(
    ("kind", "decay"), [(torch.optim.Adam, 0.0), (torch.optim.AdamW, 0.0), (torch.optim.AdamW, 400.0)]
)
def test_above_the_threshold_adam_diverges_on_a_parabola(kind: Any, decay: float, factor: float) -> None:
    """Its preconditioner is held fixed by second moments that hardly change."""
    weight = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
    optimizer = kind([weight], 1e-3, betas=(0.9, 1.0 - 1e-12), eps=1e-8, weight_decay=decay)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    state = optimizer.state[weight]
    state["step"] += 1e6
    state["exp_avg_sq"].fill_(4.0 * (1 - (1 - 1e-12) ** float(state["step"])))
    curvature = factor * dynamics.threshold(optimizer) * 2.0  # the preconditioner is the root of 4
    state["exp_avg"].zero_()
    start = most = 1e-9
    with torch.no_grad():
        weight.fill_(start)
    for _ in range(3000):
        optimizer.zero_grad()
        (curvature * weight**2 / 2).backward()
        optimizer.step()
        most = max(most, float(weight.detach().abs()))
    assert (most > 1e4 * start) == (factor > 1)


@pytest.mark.parametrize("options", [{}, {"amsgrad": True}, {"weight_decay": 0.3}])
def test_adams_preconditioner(options: dict[str, Any]) -> None:
    """Adam's weight decay adds to the gradient, and so to the curvature."""
    model, x, y = network()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2, betas=(0.9, 0.99), eps=1e-3, **options)
    hessian = dynamics.Hessian(model, F.cross_entropy, (x, y))
    with pytest.raises(ValueError, match="has taken no step with the model"):
        dynamics.adam_preconditioned(hessian, optimizer)
    squares, steps, decay = torch.zeros(hessian.size, dtype=torch.float64), 7, options.get("weight_decay", 0.0)
    most = squares
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        gradient = torch.cat([value.grad.reshape(-1) for value in model.parameters() if value.grad is not None])
        gradient = gradient + decay * torch.nn.utils.parameters_to_vector(model.parameters()).detach()
        squares = 0.99 * squares + 0.01 * gradient**2
        most = torch.maximum(most, squares)
        optimizer.step()
    scale = (((most if "amsgrad" in options else squares) / (1 - 0.99**steps)).sqrt() + 1e-3) ** -0.5
    plain = dynamics.dense(dynamics.Hessian(model, F.cross_entropy, (x, y))) + decay * torch.eye(hessian.size)
    found = dynamics.dense(dynamics.adam_preconditioned(dynamics.Hessian(model, F.cross_entropy, (x, y)), optimizer))
    torch.testing.assert_close(found, scale[:, None] * plain * scale)


def test_a_parameter_that_no_step_needed_has_no_curvature() -> None:
    model, x, y = network()
    model.register_parameter("unused", nn.Parameter(torch.ones(2, dtype=torch.float64)))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    found = dynamics.dense(dynamics.adam_preconditioned(dynamics.Hessian(model, F.cross_entropy, (x, y)), optimizer))
    names = [name for name, value in model.named_parameters() for _ in range(value.numel())]
    unused = torch.tensor([name == "unused" for name in names])
    assert (found[unused] == 0).all()
    assert (found[~unused] != 0).any()


@pytest.mark.parametrize("seed", range(5))
def test_a_top_eigenvalue_that_is_small_beside_the_bottom_is_found(seed: int) -> None:
    """The tolerance is relative to the eigenvalue, not to the largest magnitude."""
    values = torch.cat([torch.tensor([-600.0, 0.04]), torch.linspace(-1, 0.01, 6)]).double()
    found = eigenvalues(Matrix(matrix(values)), tol=1e-3, seed=seed)
    assert found.converged
    assert float(found.values[0]) == pytest.approx(0.04, rel=2e-3)


@pytest.mark.parametrize("seed", range(8))
def test_a_random_vector_that_looks_like_an_eigenvector_is_not_believed(seed: int) -> None:
    values = torch.full((20_000,), 0.5)
    values[7] = 1.0
    assert float(eigenvalues(Diagonal(values), tol=1e-2, seed=seed).values[0]) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1.0, 1e20])
def test_squares_that_leave_the_range_of_float32_do_no_harm(scale: float) -> None:
    values = torch.linspace(-1, 2.8, 300) * scale
    for which, wanted in (("largest", 2.8 * scale), ("smallest", -scale)):
        found = eigenvalues(Diagonal(values), which=which, tol=1e-3)  # type: ignore[arg-type]
        assert found.converged
        assert float(found.values[0]) == pytest.approx(wanted, rel=1e-3)


class Diagonal:
    """A diagonal matrix as an operator."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.size, self.dtype, self.device = values, len(values), values.dtype, values.device

    def matvec(self, vector: Tensor) -> Tensor:
        return self.values * vector


def test_a_learning_rate_of_0_has_no_threshold() -> None:
    weight = [torch.ones(1, requires_grad=True)]
    for optimizer in (torch.optim.SGD(weight, 0.0), torch.optim.Adam(weight, 0.0)):
        assert dynamics.threshold(optimizer) == float("inf")


def test_thresholds_that_are_not_known_are_refused() -> None:
    weight = [torch.ones(1, requires_grad=True)]
    with pytest.raises(ValueError, match="the threshold of Adagrad is not known"):
        dynamics.threshold(torch.optim.Adagrad(weight))
    with pytest.raises(ValueError, match="dampening"):
        dynamics.threshold(torch.optim.SGD(weight, 0.1, momentum=0.9, dampening=0.5))
    with pytest.raises(ValueError, match="maximises"):
        dynamics.threshold(torch.optim.SGD(weight, 0.1, maximize=True))
    groups = [{"params": weight}, {"params": [torch.ones(1, requires_grad=True)], "lr": 0.2}]
    with pytest.raises(ValueError, match="2 parameter groups"):
        dynamics.threshold(torch.optim.SGD(groups, 0.1))
