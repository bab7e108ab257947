"""What a linear model can reach on labelled points: separation, the largest margin, the smallest norm.

The models have no intercept. Append a column of ones to the inputs for one; it then counts in the norm as any other
weight, as it does for gradient descent. Two classes share one vector w of shape (d,), and class 1 is where w . x > 0.
More classes have weights W of shape (C, d), and the largest entry of W x wins. Both cases come down to *differences* a,
with which the weights of a separating model have positive products: (2 y - 1) x for two classes, and for more those
with W . a = (w_y - w_j) . x for each other class j.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

_SLACK: Final = 1e-6
"""What linear programs may miss their bounds by: above their own tolerance, 1e-7."""


@dataclass(frozen=True, eq=False)
class Separability:
    """Whether a linear model separates labelled points.

    Attributes:
        kind: ``"complete"``: some weights have positive products with all differences. ``"quasi-complete"``: no weights
            do, but some have positive products with some differences, and 0 with all others. ``"overlap"``: neither.
            Only with overlap does the logistic loss have a minimum (Albert and Anderson, "On the Existence of Maximum
            Likelihood Estimates in Logistic Regression Models", 1984).
        weights: that have these products, shape (d,) or (C, d); zeros for overlap.
        multipliers: unless separation is complete, the proof that it is not: numbers >= 0 that add up to 1, with
            which some positive multiples of the differences add up to 0. Shape (N,), or (N, C) with 0 at the targets.
        margin: what the linear program reached: with every column scaled to a largest magnitude of 1, and then every
            difference to norm 1, the smallest product of a difference with weights in [-1, 1].
        bound: no such weights reach more, by the multipliers.
        converged: whether the two agree to 1e-6, so that the kind is certain but for margins below that.
    """

    kind: Literal["complete", "quasi-complete", "overlap"]
    weights: Tensor
    multipliers: Tensor
    margin: float
    bound: float
    converged: bool

    @property
    def separable(self) -> bool:
        """Whether some weights get all points right."""
        return self.kind == "complete"


@dataclass(frozen=True, eq=False)
class MaximumMargin:
    """The separating model of largest margin.

    Attributes:
        weights: of smallest norm among those whose products with all differences are at least 1; shape (d,) or (C, d).
        margin: that they reach: the smallest product with a difference, divided by their norm.
        bound: no weights reach a larger margin, by the multipliers: ``|sum m a| / sum m``.
        multipliers: m >= 0 of the optimum ``weights = sum m a``, shape (N,), or (N, C) with 0 at the targets. They
            are positive at support vectors alone.
        converged: whether ``bound - margin <= tol * bound``. The angle between the weights and the optimum is at most
            ``arccos(margin / bound)``.
    """

    weights: Tensor
    margin: float
    bound: float
    multipliers: Tensor
    converged: bool


@dataclass(frozen=True, eq=False)
class MinimumNorm:
    """The least-squares model of smallest norm.

    Attributes:
        weights: of smallest norm among those of least squared error, shape (d,) or (C, d).
        error: root of the mean squared error that is left.
        rank: of the inputs.
        interpolates: whether the error is 0 up to rounding.
    """

    weights: Tensor
    error: float
    rank: int
    interpolates: bool


def separability(inputs: Tensor, target: Tensor) -> Separability:
    """Decide whether a linear model separates labelled points, by linear programs.

    Args:
        inputs: points, shape (N, d), with a column of ones for an intercept.
        target: their classes, integers from 0, shape (N,).

    Returns:
        The kind of separation, with a model or a proof.

    Raises:
        ValueError: if the shapes do not fit, a number is not finite, or a class is negative.
    """
    points, classes = _checked(inputs, target)
    scales = points.abs().amax(0)
    scales[scales == 0] = 1
    rows = _differences(points / scales, classes)
    rows /= rows.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    count, size = rows.shape
    # The largest t with rows @ w >= t.
    ones = torch.ones(count, 1, dtype=torch.float64)
    bounds: list[tuple[float | None, float | None]] = [(-1.0, 1.0)] * size
    solution, prices = _program([0.0] * size + [-1.0], torch.cat([-rows, ones], 1), [*bounds, (None, None)])
    weights, multipliers = solution[:size].clamp(-1, 1), prices.clamp(min=0)
    multipliers = multipliers / multipliers.sum()
    margin, bound = float((rows @ weights).min()), float((multipliers @ rows).abs().sum())
    kind: Literal["complete", "quasi-complete", "overlap"] = "complete"
    if margin <= 4 * size * torch.finfo(torch.float64).eps:  # not above what rounding can do
        # The largest sum of products, none of them negative.
        weights, _ = _program((-rows.sum(0)).tolist(), -rows, bounds)
        kind = "quasi-complete" if (rows @ weights).max() > 10 * _SLACK else "overlap"
        if kind == "overlap":
            weights = torch.zeros_like(weights)
    return Separability(
        kind,
        _shaped(weights, points, classes) / scales,
        _by_point(multipliers, classes),
        margin,
        bound,
        bound - margin <= _SLACK,
    )


def maximum_margin(inputs: Tensor, target: Tensor, *, tol: float = 1e-9) -> MaximumMargin:
    """Compute the separating model of largest margin: the hard-margin support vector machine.

    It is the w of smallest norm with ``w . a >= 1`` for all differences a, and the direction to which gradient descent
    on a logistic loss tends (Soudry, Hoffer, Nacson, Gunasekar and Srebro, "The Implicit Bias of Gradient Descent on
    Separable Data", 2018, arXiv 1710.10345). The problem is solved as one of non-negative least squares, which ends at
    an exact set of support vectors (Lawson and Hanson, "Solving Least Squares Problems", 1974, chapter 23), and the
    result is checked against its dual.

    Args:
        inputs: points, shape (N, d), with a column of ones for an intercept.
        target: their classes, integers from 0, shape (N,).
        tol: the relative gap between margin and bound that counts as converged.

    Returns:
        The model, with its margin and the proof that there is hardly a larger one.

    Raises:
        ValueError: as `separability`, or if no linear model separates the points.
    """
    from scipy.optimize import nnls

    start = separability(inputs, target)
    if not start.separable:
        raise ValueError("no linear model separates the points, and so none has a margin: see separability()")
    points, classes = _checked(inputs, target)
    rows = _differences(points, classes)
    size = float(rows.norm(dim=1).max())
    rows /= size
    first = start.weights.flatten()
    reached = float((rows @ first).min() / first.norm())
    # |w| is at most 1 for the solution of rows @ w >= reached: what is divided by below does not vanish.
    matrix = torch.cat([rows.T, torch.full((1, len(rows)), reached, dtype=torch.float64)])
    right = torch.zeros(len(matrix), dtype=torch.float64)
    right[-1] = 1
    multipliers = torch.from_numpy(nnls(matrix.numpy(), right.numpy(), maxiter=30 * sum(matrix.shape))[0])
    weights = multipliers @ rows
    smallest = float((rows @ weights).min())
    margin, bound = smallest / float(weights.norm()), float(weights.norm() / multipliers.sum())
    unit = smallest * size if smallest > 0 else 1.0
    return MaximumMargin(
        _shaped(weights / unit, points, classes),
        margin * size,
        bound * size,
        _by_point(multipliers / (unit * size), classes),
        bound - margin <= tol * bound,
    )


def minimum_norm(inputs: Tensor, target: Tensor) -> MinimumNorm:
    """Compute the least-squares model of smallest norm.

    Two classes have the values -1 and 1; of more, each point's own class has the value 1, and the others 0. Gradient
    descent from zero on the squared error ends there.

    Args:
        inputs: points, shape (N, d), with a column of ones for an intercept.
        target: their classes, integers from 0, shape (N,).

    Returns:
        The model, and what error it leaves.

    Raises:
        ValueError: as `separability`.
    """
    from scipy.linalg import lstsq

    points, classes = _checked(inputs, target)
    values = torch.eye(int(classes.max()) + 1)[classes] if classes.max() > 1 else 2 * classes - 1
    solution, _, rank, _ = lstsq(points.numpy(), values.double().numpy(), lapack_driver="gelsd")
    found = torch.from_numpy(solution)
    error = float((points @ found - values).square().mean().sqrt())
    return MinimumNorm(found if found.ndim == 1 else found.T.contiguous(), error, int(rank), error < 1e-9)


def angle(a: Tensor, b: Tensor, *, degrees: bool = False) -> float:
    """Compute the angle between two vectors, or matrices taken as vectors.

    It is accurate where a cosine is not, near 0 and near pi (Kahan, "How Futile are Mindless Assessments of Roundoff in
    Floating-Point Computation?", 2006, section 12).

    Args:
        a: of any shape.
        b: of the same shape.
        degrees: whether the angle is wanted in degrees.

    Returns:
        The angle, from 0 to pi, or to 180 degrees.

    Raises:
        ValueError: if the shapes differ, or one of the two has norm 0.
    """
    if a.shape != b.shape:
        raise ValueError(f"there is no angle between shapes {tuple(a.shape)} and {tuple(b.shape)}")
    left, right = a.detach().double().flatten().cpu(), b.detach().double().flatten().cpu()
    norms = left.norm(), right.norm()
    if not all(norms):
        raise ValueError("there is no angle to a vector of norm 0")
    left, right = left / norms[0], right / norms[1]
    found = 2 * torch.atan2((left - right).norm(), (left + right).norm())
    return float(torch.rad2deg(found) if degrees else found)


def margins(outputs: Tensor, target: Tensor) -> Tensor:
    """Compute how far each sample is from being classified otherwise.

    Args:
        outputs: of a model, shape (N, C); or (N,), one logit of class 1 against class 0.
        target: the classes, integers from 0, shape (N,).

    Returns:
        The logit of the target minus the largest other one, or the logit's value towards the target; shape (N,).

    Raises:
        ValueError: if the shapes do not fit.
    """
    if outputs.ndim not in {1, 2} or target.shape != outputs.shape[:1] or outputs.shape[1:] == (1,):
        raise ValueError(
            f"margins need outputs of shape (N, C) or (N,) and classes of shape (N,), not {tuple(outputs.shape)} and "
            f"{tuple(target.shape)}"
        )
    if outputs.ndim == 1:
        return torch.where(target > 0, outputs, -outputs)
    own = outputs.gather(1, target[:, None].long())
    others = outputs.scatter(1, target[:, None].long(), -torch.inf)
    return own[:, 0] - others.amax(1)


def _checked(inputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The points in double precision, and the classes, on the CPU."""
    if inputs.ndim != 2 or target.shape != inputs.shape[:1] or not inputs.numel():
        raise ValueError(
            f"points have the shape (N, d) and their classes (N,), not {tuple(inputs.shape)} and {tuple(target.shape)}"
        )
    if target.is_floating_point() or int(target.min()) < 0:
        raise ValueError("classes are integers from 0")
    points = inputs.detach().cpu().double()
    if not bool(points.isfinite().all()):
        raise ValueError("the points have a coordinate that is not finite")
    return points, target.cpu().long()


def _differences(points: Tensor, classes: Tensor) -> Tensor:
    """The rows whose products with the weights are positive for a separating model."""
    count = int(classes.max()) + 1
    if count <= 2:
        return (2 * classes - 1)[:, None] * points
    eye = torch.eye(count, dtype=torch.float64)
    signs = (eye[classes][:, None] - eye)[_others(classes)].view(len(classes), count - 1, count)
    return (signs[..., None] * points[:, None, None]).reshape(-1, count * points.shape[1])


def _others(classes: Tensor) -> Tensor:
    """Where the classes that are not a point's own stand, shape (N, C)."""
    return classes[:, None] != torch.arange(int(classes.max()) + 1)


def _program(
    costs: list[float], rows: Tensor, bounds: list[tuple[float | None, float | None]]
) -> tuple[Tensor, Tensor]:
    """The solution of least cost with ``rows @ solution <= 0``, and the multipliers of these conditions."""
    from scipy.optimize import linprog

    found = linprog(costs, A_ub=rows.numpy(), b_ub=torch.zeros(len(rows)).numpy(), bounds=bounds)
    if found.x is None:
        raise RuntimeError(f"the linear program failed: {found.message}")
    return torch.from_numpy(found.x), torch.from_numpy(-found.ineqlin.marginals)


def _by_point(multipliers: Tensor, classes: Tensor) -> Tensor:
    """The multipliers of the differences, a row for each point."""
    if classes.max() <= 1:
        return multipliers
    table = torch.zeros(len(classes), int(classes.max()) + 1, dtype=torch.float64)
    table[_others(classes)] = multipliers
    return table


def _shaped(weights: Tensor, points: Tensor, classes: Tensor) -> Tensor:
    """Weights of shape (d,) for two classes, and (C, d) for more."""
    return weights.view(-1, points.shape[1]) if classes.max() > 1 else weights
