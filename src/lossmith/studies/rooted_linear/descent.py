"""Gradient descent from zero on linear models, many learning rates side by side, in float64.

An *arm* is a way of descending. With c the cross-entropy of a sample and p = exp(-c) the probability of its class, the
update is the learning rate times a factor times the mean over the samples of

    weight * gradient of c.

The gradient of the rooted loss k (p^(-1/k) - 1) has the weights p^(-1/k). It is exactly mean p^(-1/k) times the
gradient of tilted empirical risk minimisation (TERM), whose weights have mean 1: an adaptive step size times a
re-weighting of the samples.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from lossmith.studies.rooted_linear.sets import Points

Kind = Literal["cross-entropy", "rooted", "released", "scalar", "term", "normalised"]
_STEEPEST: Final = 20.0
"""The exponent at which the rooted loss is continued by its tangent."""


@dataclass(frozen=True)
class Arm:
    """A way of descending.

    Args:
        kind: ``"cross-entropy"``; ``"rooted"``, the convex form; ``"released"``, the form of the authors' code with
            m = k; ``"scalar"``, cross-entropy times mean p^(-1/k); ``"term"``; ``"normalised"``, cross-entropy's
            gradient divided by cross-entropy.
        k: the root's degree.
    """

    kind: Kind
    k: int = 0

    @property
    def name(self) -> str:
        """In tables."""
        return {
            "cross-entropy": "cross-entropy",
            "rooted": f"rooted k={self.k}",
            "released": f"released form k={self.k}",
            "scalar": f"CE x scalar k={self.k}",
            "term": f"TERM k={self.k}",
            "normalised": "CE / its value",
        }[self.kind]


class Scaling:
    """The weights of samples and the factors of arms, for runs side by side.

    Args:
        arms: of the runs; a single one is that of all.
    """

    def __init__(self, arms: Sequence[Arm]) -> None:
        signs = {"cross-entropy": 0, "normalised": 0, "released": -1}
        self.exponents = torch.tensor([signs.get(arm.kind, 1) / (arm.k or 1) for arm in arms], dtype=torch.float64)
        self.weighs = torch.tensor([arm.kind in {"rooted", "released", "term"} for arm in arms])
        self.powers = torch.tensor([{"scalar": 1.0, "term": -1.0}.get(arm.kind, 0.0) for arm in arms]).double()
        self.normalised = torch.tensor([arm.kind == "normalised" for arm in arms])

    def __call__(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """For cross-entropies of shape (N, R): weights of shape (N, R) and factors of shape (R,)."""
        weights = (losses * self.exponents).clamp_(max=_STEEPEST).exp_()
        factors = torch.where(self.normalised, 1 / losses.mean(0), weights.mean(0) ** self.powers)
        return torch.where(self.weighs, weights, 1.0), factors


KS: Final = (1, 3, 8)
CROSS_ENTROPY: Final = Arm("cross-entropy")
ARMS: Final = (
    CROSS_ENTROPY,
    *(Arm("rooted", k) for k in KS),
    *(Arm("scalar", k) for k in KS),
    *(Arm("term", k) for k in KS),
    *(Arm("released", k) for k in (3, 8)),
    Arm("normalised"),
)


class Problem:
    """A linear model on labelled points.

    Weights have the shape (D, R) for two classes and (D, C, R) for more, R models side by side.

    Args:
        points: the points.
    """

    def __init__(self, points: Points) -> None:
        self.inputs = torch.from_numpy(points.inputs)
        self.classes = torch.from_numpy(points.classes)
        self.count, self.size = self.inputs.shape
        self.kinds = int(self.classes.max()) + 1
        self.binary = self.kinds == 2
        self.signed = self.inputs * (2 * self.classes - 1)[:, None]
        self.own = torch.eye(self.kinds, dtype=torch.float64)[self.classes][..., None]
        self.guess = math.log(self.kinds)

    def zeros(self, runs: int) -> Tensor:
        """Weights of 0 for some runs."""
        shape = (self.size, runs) if self.binary else (self.size, self.kinds, runs)
        return torch.zeros(shape, dtype=torch.float64)

    def forward(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The cross-entropies and margins of the samples, each (N, R), and the probabilities that a pull needs."""
        if self.binary:
            margin = self.signed @ weights
            return torch.nn.functional.logsigmoid(margin).neg_(), margin, torch.sigmoid(-margin)
        logits = (self.inputs @ weights.flatten(1)).unflatten(1, weights.shape[1:])
        log_p = logits.log_softmax(1)
        target = (logits * self.own).sum(1)
        others = logits.masked_fill(self.own > 0, -math.inf).amax(1)
        return -(log_p * self.own).sum(1), target - others, log_p.exp() - self.own

    def pull(self, parts: Tensor, scale: Tensor) -> Tensor:
        """The mean over the samples of their cross-entropies' gradients times a scale of shape (N, R)."""
        if self.binary:
            mean: Tensor = self.signed.T @ (parts * scale) / -self.count
            return mean
        scaled = parts * scale[:, None]
        total: Tensor = (self.inputs.T @ scaled.flatten(1)).unflatten(1, scaled.shape[1:])
        return total / self.count

    def first_rate(self, arm: Arm) -> float:
        """The learning rate whose first step is that of cross-entropy at 2 / (largest eigenvalue of its Hessian).

        At zero weights the Hessian of cross-entropy is the second moment of the inputs times the covariance of the
        guess, whose largest eigenvalue is 1/4 for one logit and 1/C for C.
        """
        top = float(torch.linalg.eigvalsh(self.inputs.T @ self.inputs / self.count)[-1])
        weights, factor = Scaling([arm])(torch.full((1, 1), self.guess, dtype=torch.float64))
        return 2 * (4 if self.binary else self.kinds) / top / float(weights * factor)

    def descend(self, weights: Tensor, scaling: Scaling, rates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Make a step; also the cross-entropies (R,) and accuracies (R,) before it."""
        losses, margin, parts = self.forward(weights)
        scale, factors = scaling(losses)
        step = rates * factors * self.pull(parts, scale)
        return weights - step, losses.mean(0), (margin > 0).double().mean(0)


@dataclass(frozen=True)
class Targets:
    """What is to be reached: two cross-entropies at most, and an accuracy at least."""

    near: float
    close: float
    accuracy: float

    def met(self, losses: Tensor, accuracies: Tensor) -> Tensor:
        """Which are met, shape (3, R)."""
        return torch.stack([losses <= self.near, losses <= self.close, accuracies >= self.accuracy])


GRID: Final = 1.33
_LOW, _HIGH, _MORE = -14, 26, 10


@dataclass(frozen=True)
class Race:
    """How many steps the learning rates took.

    Args:
        steps: to each target, shape (3, R); infinite if it was not reached.
        rates: the learning rates, shape (R,), divided by the arm's `Problem.first_rate`.
        last: the cross-entropy at the end, shape (R,).
        length: steps that were made.
    """

    steps: Tensor
    rates: Tensor
    last: Tensor
    length: int

    def best(self, target: int) -> int:
        """The place of the learning rate that was first, or else of the one that got lowest."""
        if torch.isfinite(self.steps[target]).any():
            return int(self.steps[target].argmin())
        return int(self.last.nan_to_num(math.inf).argmin())

    def at_edge(self) -> int:
        """Whether some target was reached first, or nearly reached, by the lowest (-1) or highest (1) rate alone."""
        for target in range(len(self.steps)):
            if self.steps[target].isnan().any():  # not asked for
                continue
            first = self.steps[target] == self.steps[target].min()
            if not torch.isfinite(self.steps[target]).any():
                first = torch.arange(len(self.last)) == self.best(target)
            if first[0] and not first[1:].any():
                return -1
            if first[-1] and not first[:-1].any():
                return 1
        return 0


def race(problem: Problem, arm: Arm, targets: Targets, most: int, beyond: float = 1.0) -> Race:
    """Descend with a grid of learning rates until some rate has reached each target.

    The grid is widened until the best rates lie inside it.

    Args:
        problem: the model and points.
        arm: how to descend.
        targets: what is to be reached.
        most: steps at most.
        beyond: goes on for this many times the steps of the best rates, to know how others do.
    """
    low, high = _LOW, _HIGH
    for _ in range(4):
        found = _race(problem, arm, targets, most, beyond, GRID ** torch.arange(low, high + 1, dtype=torch.float64))
        edge = found.at_edge()
        if not edge:
            break
        low, high = low - _MORE * (edge < 0), high + _MORE * (edge > 0)
    return found


def _race(problem: Problem, arm: Arm, targets: Targets, most: int, beyond: float, rates: Tensor) -> Race:
    weights, scaled, scaling = problem.zeros(len(rates)), rates * problem.first_rate(arm), Scaling([arm])
    steps = torch.full((3, len(rates)), math.inf, dtype=torch.float64)
    end = float(most)
    for step in range(most + 1):
        weights, losses, accuracies = problem.descend(weights, scaling, scaled)
        steps = torch.where(targets.met(losses, accuracies), steps.clamp(max=step), steps)
        reached = steps.amin(1)
        if end == most and bool(torch.isfinite(reached).all()):
            end = min(most, beyond * step)
        if step >= end:
            break
    return Race(steps, rates, losses, step)


def quasi_newton(problem: Problem, targets: Targets, most: int) -> list[float]:
    """Evaluations of cross-entropy and its gradient that L-BFGS needs to reach each target; infinity beyond `most`."""
    from scipy.optimize import minimize

    first, count = [math.inf] * 3, 0
    shape = problem.zeros(1).shape

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal count
        losses, margin, parts = problem.forward(torch.from_numpy(flat).view(shape))
        met = targets.met(losses.mean(0), (margin > 0).double().mean(0))[:, 0]
        for target in range(3):
            if met[target]:
                first[target] = min(first[target], count)
        count += 1
        if met.all() or count > most:
            raise StopIteration
        return float(losses.mean()), problem.pull(parts, torch.ones_like(losses)).numpy().ravel()

    options = {"maxiter": most, "ftol": 0, "gtol": 0}
    with contextlib.suppress(StopIteration):
        minimize(value, np.zeros(shape.numel()), jac=True, method="L-BFGS-B", options=options)
    return first


@dataclass(frozen=True)
class Path:
    """What a run came past, at some of its steps.

    Args:
        steps: their numbers, shape (T,).
        weights: shape (T, D) or (T, D, C).
        losses: cross-entropies, shape (T,).
    """

    steps: Tensor
    weights: Tensor
    losses: Tensor


def paths(problem: Problem, arms: Sequence[Arm], rates: Tensor, last: int, points: int) -> list[Path]:
    """Descend with each arm at its learning rate, given in full, and keep the weights at steps of growing distance."""
    keep = sorted({round(step) for step in np.geomspace(1, last, points)})
    weights, scaling = problem.zeros(len(arms)), Scaling(arms)
    kept, falling = [], []
    for step in range(last + 1):
        following, losses, _ = problem.descend(weights, scaling, rates)
        if step in keep:
            kept.append(weights)
            falling.append(losses)
        weights = following
    every, values = torch.stack(kept), torch.stack(falling)
    return [Path(torch.tensor(keep), every[..., run], values[:, run]) for run in range(len(arms))]
