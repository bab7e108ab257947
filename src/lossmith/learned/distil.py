"""Distillation of learned losses to readable formulas."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from lossmith.losses import FormulaLoss

FAMILY: Final = (
    "y*c",
    "y*p",
    "y*square(p)",
    "y*pow(p, 3)",
    "y*square(c)",
    "y*sqrt(p)",
    "y*exp(-5*p)",
    "(1 - y)*c",
    "(1 - y)*square(p)",
    "(1 - y)*pow(p, 3)",
    "(1 - y)*p*c",
    "(1 - y)*sqrt(p)",
    "(1 - y)*exp(-5*p)",
)
"""The terms of a distilled formula. ``(1 - y)*p`` is left out because it acts like ``-y*p``: they differ by p, whose
sum over the classes is 1."""


@dataclass(frozen=True)
class Distilled:
    """A formula that approximates a learned loss.

    Attributes:
        formula: the expression; ``create(f"formula({formula})")`` creates the loss.
        error: relative root mean square error of the gradient with respect to the logits, on simulated predictions that
            were not used in the fit. Each prediction is weighted by ``1 / (0.1 + g)``, where g is the norm of
            cross-entropy's gradient.
        terms: the selected terms and their coefficients.
    """

    formula: str
    error: float
    terms: tuple[tuple[str, float], ...]


def distil(
    loss: nn.Module,
    num_classes: int,
    *,
    max_terms: int = 4,
    tolerance: float = 0.02,
    family: Sequence[str] = FAMILY,
    seed: int = 0,
) -> Distilled:
    """Find the shortest formula with nearly the same gradient as a learned loss.

    Losses are compared by their gradients with respect to the logits, because training sees nothing else. For each
    number of terms, the best subset of ``family`` is found by least squares; the search stops at the first number of
    terms whose relative error is at most ``tolerance``.

    Args:
        loss: a classification loss of logits and class indices with ``reduction="mean"``, such as a frozen
            `AdaptiveLoss`.
        num_classes: the number of classes C, for which the coefficients hold.
        max_terms: largest number of terms.
        tolerance: relative error at which no further terms are added.
        family: the terms to choose from, as expressions in ``y`` and ``p``; see `lossmith.formulas`.
        seed: seed of the simulated predictions.

    Returns:
        The formula with its error.

    Raises:
        ValueError: if the gradient of the loss is zero everywhere.

    Source: ours.
    """
    fitted, judged = _states(num_classes, seed), _states(num_classes, seed + 1)
    wanted = _gradient(loss, *fitted)
    if not bool((wanted != 0).any()):
        raise ValueError("the gradient of the loss is 0 everywhere, so there is nothing to distil")
    columns = torch.stack([_gradient(FormulaLoss(term), *fitted).flatten() for term in family], 1)
    target = wanted.flatten()
    gram, moment = columns.T @ columns, columns.T @ target
    best: tuple[int, ...] = ()
    factors = moment[:0]
    for count in range(1, max_terms + 1):
        choices = itertools.combinations(range(len(family)), count)
        best, factors = min(
            ((choice, _solve(gram, moment, choice)) for choice in choices),
            key=lambda found: -float(found[1] @ moment[list(found[0])]),
        )
        left = target - columns[:, list(best)] @ factors
        if left.norm() <= tolerance * target.norm():
            break
    terms = tuple((family[i], float(f"{factor:.4g}")) for i, factor in zip(best, factors.tolist(), strict=True))
    formula = " + ".join(_times(factor, term) for term, factor in terms).replace("+ -", "- ")
    right = _gradient(loss, *judged)
    error = (_gradient(FormulaLoss(formula), *judged) - right).norm() / right.norm()
    return Distilled(formula, float(error), terms)


def strictness_curve(loss: nn.Module, num_classes: int, p: Tensor) -> Tensor:
    """Compute the strictness of a loss: its slope in the target's logit relative to that of cross-entropy.

    The remaining probability is shared evenly by the other classes.

    Args:
        loss: a loss of logits and class indices with ``reduction="mean"``.
        num_classes: the number of classes C.
        p: probabilities of the target in (0, 1), shape (n,).

    Returns:
        The strictness, shape (n,), float64. It is 1 everywhere for cross-entropy.
    """
    p = p.double()
    logits = torch.zeros(len(p), num_classes, dtype=torch.float64)
    logits[:, 0] = torch.log(p * (num_classes - 1) / (1 - p))
    slope = _slope(loss, logits, torch.zeros(len(p), dtype=torch.int64))[:, 0]
    strictness: Tensor = -slope * len(p) / (1 - p)
    return strictness


def _states(num_classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Simulated logits and targets, such as occur from the beginning to the end of training."""
    generator = torch.Generator().manual_seed(seed)
    count = max(512, 20_000 // num_classes)
    spread = torch.rand(count, 1, generator=generator, dtype=torch.float64) * 3
    logits = spread * torch.randn(count, num_classes, generator=generator, dtype=torch.float64)
    logits[:, 0] += torch.rand(count, generator=generator, dtype=torch.float64) * 14 - 5
    return logits, torch.zeros(count, dtype=torch.int64)


def _gradient(loss: nn.Module, logits: Tensor, target: Tensor) -> Tensor:
    """The gradient of each sample's loss, divided by 0.1 plus the norm of cross-entropy's gradient."""
    p = logits.softmax(1)
    of_cross_entropy = (p - nn.functional.one_hot(target, p.shape[1])).norm(dim=1, keepdim=True)
    relative: Tensor = _slope(loss, logits, target) * len(logits) / (of_cross_entropy + 0.1)
    return relative


def _slope(loss: nn.Module, logits: Tensor, target: Tensor) -> Tensor:
    """The gradient with respect to the logits, computed in the dtype of the loss's parameters (float64 if none)."""
    dtype = next((parameter.dtype for parameter in loss.parameters()), torch.float64)
    z = logits.detach().to(dtype).requires_grad_()
    (slope,) = torch.autograd.grad(loss(z, target), z)
    return slope.double()


def _times(factor: float, term: str) -> str:
    if abs(factor) == 1:
        return term if factor > 0 else f"-{term}"
    return f"{factor:g}*{term}"


def _solve(gram: Tensor, moment: Tensor, choice: tuple[int, ...]) -> Tensor:
    index = torch.tensor(choice)
    ridge = 1e-12 * gram.diagonal()[index].diag()
    solution: Tensor = torch.linalg.solve(gram[index][:, index] + ridge, moment[index])
    return solution
