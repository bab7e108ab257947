"""Second derivatives of the objectives of linear models: condition numbers, and minimisers by Newton's method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lossmith.studies.rooted_linear.descent import CROSS_ENTROPY, Arm, Problem, Scaling


class Range:
    """Coordinates on the range of the Hessians of a linear model, which is the same for all losses and weights.

    It is spanned by the inputs, and for more than two classes leaves out what all classes have in common.

    Args:
        problem: the model and points.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        _, spread, turn = torch.linalg.svd(problem.inputs, full_matrices=False)
        rank = int((spread > spread[0] * problem.count * torch.finfo(torch.float64).eps).sum())
        self.turn = turn[:rank].T  # (D, r)
        self.inputs = problem.inputs @ self.turn
        kinds = problem.kinds
        basis = torch.linalg.qr(torch.cat([torch.ones(kinds, 1), torch.eye(kinds)[:, 1:]], 1).double())[0]
        self.apart = basis[:, 1:]  # (C, C - 1), orthogonal to the ones
        self.size = rank if problem.binary else rank * (kinds - 1)

    def weights(self, coordinates: Tensor) -> Tensor:
        """Weights of shape (D,) or (D, C) from coordinates of shape (size,)."""
        found: Tensor = self.turn @ coordinates.view(len(self.turn.T), -1)
        return found[:, 0] if self.problem.binary else found @ self.apart.T

    def coordinates(self, weights: Tensor) -> Tensor:
        """Coordinates of a gradient or of weights."""
        found: Tensor = self.turn.T @ weights
        return found if self.problem.binary else (found @ self.apart).flatten()

    def root(self, weights: Tensor, arm: Arm) -> Tensor:
        """A matrix B whose B^T B is the Hessian in these coordinates; its rows belong to samples.

        With s = p^(-1/k), 1 for cross-entropy, and g the gradient of c by the logits, the Hessian of a sample by the
        logits is ``s (diag(p) - p p^T + g g^T / k)``.
        """
        losses, _, parts = self.problem.forward(weights[..., None])
        scale = Scaling([arm])(losses)[0][:, 0] / self.problem.count
        bend = 1 / arm.k if arm.kind == "rooted" else 0.0
        if self.problem.binary:
            wrong = parts[:, 0]
            bent = scale * (wrong * (1 - wrong) + bend * wrong**2)
            root: Tensor = bent.sqrt()[:, None] * self.inputs
            return root
        slopes = parts[..., 0]
        p = slopes + self.problem.own[..., 0]
        spread = torch.diag_embed(p.sqrt()) - p[:, :, None] * p.sqrt()[:, None]  # times its transpose: diag(p) - p p^T
        columns = torch.cat([spread, bend**0.5 * slopes[..., None]], 2) * scale.sqrt()[:, None, None]
        logits = torch.einsum("ncj,cd->njd", columns, self.apart)
        return torch.einsum("nr,njd->njrd", self.inputs, logits).reshape(-1, self.size)

    def gentle_rate(self, arm: Arm) -> float:
        """A learning rate at which nothing overshoots: 1 / (largest eigenvalue of the Hessian at zero weights).

        The Hessian is the rooted loss's for TERM, whose first step is then the same, and cross-entropy's for arms that
        weigh all samples alike or hard ones down; their first step is then that of cross-entropy.
        """
        bent = Arm("rooted", arm.k) if arm.kind in {"rooted", "term"} else CROSS_ENTROPY
        top = torch.linalg.matrix_norm(self.root(self.problem.zeros(1)[..., 0], bent), 2) ** 2
        return self.problem.first_rate(arm) / self.problem.first_rate(bent) / float(top)

    def condition(self, weights: Tensor, arm: Arm) -> float:
        """The condition number of the Hessian on its range, for cross-entropy or the convex rooted loss."""
        if not bool(weights.isfinite().all()):
            return math.nan
        root = self.root(weights, arm)
        values: Tensor = torch.linalg.svdvals(torch.linalg.qr(root, mode="r")[1])
        return float((values[0] / values[-1]) ** 2)


@dataclass(frozen=True)
class Regularised:
    """Minimisers of an objective plus ``strength / 2 |w|^2``.

    Args:
        strengths: falling, shape (T,).
        weights: shape (T, D) or (T, D, C).
        losses: their cross-entropies, shape (T,).
        residuals: norms of the gradient, relative to that at zero weights, shape (T,).
    """

    strengths: Tensor
    weights: Tensor
    losses: Tensor
    residuals: Tensor


def regularised(problem: Problem, arm: Arm, strengths: Sequence[float]) -> Regularised:
    """Follow the minimisers of the regularised objective by Newton's method, each from the last.

    Args:
        problem: the model and points.
        arm: cross-entropy or the convex rooted loss.
        strengths: of the regularisation, falling.
    """
    within = Range(problem)
    at = torch.zeros(within.size, dtype=torch.float64)
    start = float(_slope(problem, within, arm, at, 0.0).norm())
    kept, losses, residuals = [], [], []
    for strength in strengths:
        at = _newton(problem, within, arm, at, strength)
        kept.append(within.weights(at))
        losses.append(float(problem.forward(kept[-1][..., None])[0].mean()))
        residuals.append(float(_slope(problem, within, arm, at, strength).norm()) / start)
    return Regularised(
        torch.tensor(list(strengths), dtype=torch.float64),
        torch.stack(kept),
        torch.tensor(losses, dtype=torch.float64),
        torch.tensor(residuals, dtype=torch.float64),
    )


def _value(problem: Problem, within: Range, arm: Arm, at: Tensor, strength: float) -> float:
    losses = problem.forward(within.weights(at)[..., None])[0]
    values = losses if arm.kind == "cross-entropy" else arm.k * (losses / arm.k).expm1()
    return float(values.mean() + strength / 2 * at @ at)


def _slope(problem: Problem, within: Range, arm: Arm, at: Tensor, strength: float) -> Tensor:
    losses, _, parts = problem.forward(within.weights(at)[..., None])
    pull = problem.pull(parts, Scaling([arm])(losses)[0])[..., 0]
    slope: Tensor = within.coordinates(pull) + strength * at
    return slope


def _newton(problem: Problem, within: Range, arm: Arm, at: Tensor, strength: float, most: int = 100) -> Tensor:
    value = _value(problem, within, arm, at, strength)
    eye = torch.eye(within.size, dtype=torch.float64)
    for _ in range(most):
        slope = _slope(problem, within, arm, at, strength)
        root = within.root(within.weights(at), arm)
        step: Tensor = torch.linalg.solve(root.T @ root + strength * eye, slope)
        fall, length = float(slope @ step), 1.0
        if fall < 1e-15 * max(abs(value), strength):
            return at - step
        while (tried := _value(problem, within, arm, at - length * step, strength)) > value - 0.1 * length * fall:
            length /= 2
            if length < 1e-8:
                return at
        at, value = at - length * step, tried
    return at
