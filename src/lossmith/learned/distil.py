"""From a learned loss to a formula a person can read."""

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
"""What a distilled formula is put together from. ``(1 - y)*p`` is missing: it differs from ``-y*p`` by p, whose sum
over the classes is 1, so that it acts the same."""


@dataclass(frozen=True)
class Distilled:
    """A formula in place of a learned loss.

    Attributes:
        formula: an expression; ``create(f"formula({formula})")`` is the loss.
        error: root mean square difference of the logit gradients over that of the learned loss, on states of training
            not used for the fit; each weighs as 1 over .1 plus the norm of cross-entropy's gradient there.
        terms: the chosen terms with their factors.
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
    """Find the shortest formula whose gradient is that of a learned loss.

    Losses are compared by their gradients in the logits, which is all that training sees: what changes none (a term
    ``a(y) + lambda p``) drops out by itself. For each number of terms the best of all choices from the family is found
    by least squares.

    Args:
        loss: a classification loss of logits and class indices with ``reduction="mean"``, such as a frozen
            `AdaptiveLoss`.
        num_classes: C; the formula's factors hold for that number.
        max_terms: most terms.
        tolerance: the error at which a shorter formula will do.
        family: terms in ``y`` and ``p``; see `lossmith.formulas`.
        seed: of the states the losses are compared on.

    Returns:
        The formula.

    Raises:
        ValueError: if the loss has no gradient anywhere.

    Source: ours.
    """
    fitted, judged = _states(num_classes, seed), _states(num_classes, seed + 1)
    wanted = _gradient(loss, *fitted)
    if not bool((wanted != 0).any()):
        raise ValueError("the loss has no gradient anywhere, so that there is nothing to distil")
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
    """The slope of a loss in the target's logit relative to cross-entropy's, other classes sharing evenly.

    Args:
        loss: of logits and class indices, with ``reduction="mean"``.
        num_classes: C.
        p: probabilities of the target, shape (n,), in (0, 1).

    Returns:
        Shape (n,), float64; 1 everywhere for cross-entropy.
    """
    p = p.double()
    logits = torch.zeros(len(p), num_classes, dtype=torch.float64)
    logits[:, 0] = torch.log(p * (num_classes - 1) / (1 - p))
    slope = _slope(loss, logits, torch.zeros(len(p), dtype=torch.int64))[:, 0]
    strictness: Tensor = -slope * len(p) / (1 - p)
    return strictness


def _states(num_classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Logits and targets as they occur from the beginning to the end of a training."""
    generator = torch.Generator().manual_seed(seed)
    count = max(512, 20_000 // num_classes)
    spread = torch.rand(count, 1, generator=generator, dtype=torch.float64) * 3
    logits = spread * torch.randn(count, num_classes, generator=generator, dtype=torch.float64)
    logits[:, 0] += torch.rand(count, generator=generator, dtype=torch.float64) * 14 - 5
    return logits, torch.zeros(count, dtype=torch.int64)


def _gradient(loss: nn.Module, logits: Tensor, target: Tensor) -> Tensor:
    """The gradient of each sample's loss, over the norm of cross-entropy's and a tenth."""
    p = logits.softmax(1)
    of_cross_entropy = (p - nn.functional.one_hot(target, p.shape[1])).norm(dim=1, keepdim=True)
    relative: Tensor = _slope(loss, logits, target) * len(logits) / (of_cross_entropy + 0.1)
    return relative


def _slope(loss: nn.Module, logits: Tensor, target: Tensor) -> Tensor:
    """The gradient of the mean loss in the logits, computed in float64 where the loss's own numbers allow it."""
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
