"""The whole spectrum of an operator, by random vectors: its density and its trace."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lossmith.dynamics.lanczos import Basis
from lossmith.dynamics.operators import Operator


@dataclass(frozen=True, eq=False)
class Trace:
    """An estimate of a trace.

    Attributes:
        value: the estimate; its expectation is the trace.
        error: its standard error, by the random vectors that the exact part leaves over; 0 if the trace is exact.
        products: products with the operator that were taken.
    """

    value: float
    error: float
    products: int


def trace(operator: Operator, *, products: int = 90, seed: int = 0) -> Trace:
    """Estimate the trace by Hutch++.

    A third of the products finds the range of the operator's largest eigenvalues, a third computes their trace exactly,
    and a third estimates the rest by random signs.

    Source: Meyer, Musco, Musco and Woodruff, "Hutch++: Optimal Stochastic Trace Estimation", 2020, arXiv 2010.09649.

    Args:
        operator: the operator.
        products: products with the operator, at least 6; with three times its rows or more the trace is exact.
        seed: of the random vectors.

    Returns:
        The estimate.
    """
    if products < 6:
        raise ValueError(f"products is {products}: give at least 6")
    third = min(products // 3, operator.size)
    generator = torch.Generator(operator.device).manual_seed(seed)

    def signs() -> Tensor:
        shape = (operator.size, third)
        random = torch.randint(2, shape, generator=generator, device=operator.device)
        return random.to(operator.dtype) * 2 - 1

    def times(columns: Tensor) -> Tensor:
        return torch.stack([operator.matvec(column) for column in columns.T], 1)

    basis, _ = torch.linalg.qr(times(signs()))
    exact = float((basis * times(basis)).sum())
    if third == operator.size:
        return Trace(exact, 0.0, 2 * third)
    left = signs()
    left -= basis @ (basis.T @ left)
    estimates = (left * times(left)).sum(0).double()
    error = float(estimates.std()) / math.sqrt(third)
    return Trace(exact + float(estimates.mean()), error, 3 * third)


@dataclass(frozen=True, eq=False)
class Density:
    """An estimate of the distribution of eigenvalues, as point masses.

    Attributes:
        values: places, shape (vectors, steps).
        weights: of the places, shape (vectors, steps); they add up to 1.
        products: products with the operator that were taken.
    """

    values: Tensor
    weights: Tensor
    products: int

    def on(self, grid: Tensor, width: float) -> Tensor:
        """The density at points of a grid, each mass widened to a normal distribution.

        Args:
            grid: the points, shape (n,).
            width: the standard deviation of the normal distributions.

        Returns:
            The density, shape (n,).
        """
        far = (grid[:, None, None] - self.values) / width
        return (self.weights * (-far * far / 2).exp()).sum((1, 2)) / (width * math.sqrt(2 * math.pi))


def spectral_density(operator: Operator, *, vectors: int = 8, steps: int = 40, seed: int = 0) -> Density:
    """Estimate the distribution of all eigenvalues by stochastic Lanczos quadrature.

    Each random vector gives a distribution whose first ``2 steps`` moments are exact for that vector.

    Source: Ghorbani, Krishnan and Xiao, "An Investigation into Neural Net Optimization via Hessian Eigenvalue Density",
    2019, arXiv 1901.10159.

    Args:
        operator: the operator.
        vectors: number of random vectors.
        steps: Lanczos steps for each of them.
        seed: of the random vectors.

    Returns:
        The estimate.
    """
    steps = min(steps, operator.size)
    values, weights = [], []
    for number in range(vectors):
        basis = Basis(operator, seed * vectors + number, steps)
        for _ in range(steps):
            basis.extend(1.0)
        theta, rotation = torch.linalg.eigh(basis.projected)
        values.append(theta)
        weights.append(rotation[0] ** 2 / vectors)
    return Density(torch.stack(values), torch.stack(weights), vectors * steps)
