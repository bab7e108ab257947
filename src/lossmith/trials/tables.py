"""Formulas as tables of their slopes: the gradients of many losses at once, whatever their formulas.

For hard labels a formula without t is two functions of p alone, one for the target (y = 1) and one for the other
classes (y = 0). With the slopes h = p dl/dp, the gradient of a sample's loss by its logits is

    dL/dz_k = h_k - p_k sum_j h_j.

The slopes are tabulated over u = log p - log(1 - p), in which both ends of p are smooth, and read by linear
interpolation. Beyond the table they are constant, as for a loss that is continued by its tangent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossmith.formulas import Expression
from lossmith.formulas.forward import values_and_slopes
from lossmith.losses import FormulaLoss

LOW, HIGH, PER_UNIT = -24.0, 12.0, 32
"""The range of u and the number of intervals per unit: p from 4e-11 to 1 - 6e-6."""
POINTS: Final = round((HIGH - LOW) * PER_UNIT) + 1
_GRID: Final = np.linspace(LOW, HIGH, POINTS)


class SlopeTables:
    """The slopes of M formulas.

    Args:
        formulas: one for each slice of a stack; equal ones share a table.
        classes: the number of classes C.
        device: ``"cpu"`` or ``"cuda"``.
    """

    def __init__(self, formulas: Sequence[Expression], classes: int, device: str = "cpu") -> None:
        self.formulas, self.classes, self.device = list(dict.fromkeys(formulas)), classes, device
        number = {formula: i for i, formula in enumerate(self.formulas)}
        places = [2 * POINTS * number[formula] for formula in formulas]
        self.first = torch.tensor(places, device=device).view(-1, 1, 1)
        self.slopes = torch.empty(len(self.formulas), 2 * POINTS, device=device)
        self._tabulate(range(len(self.formulas)), 0.0)
        self._moving = [i for i, formula in enumerate(self.formulas) if formula.depends_on("t")]

    def set_progress(self, t: float) -> None:
        """Tabulate the formulas that depend on t anew.

        Args:
            t: the progress of training, from 0 to 1.
        """
        self._tabulate(self._moving, t)

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The gradient of each sample's loss by its logits.

        Args:
            outputs: logits (M, B, C), without a gradient of their own.
            targets: class indices (M, B).

        Returns:
            The gradients (M, B, C).
        """
        log_p = outputs.log_softmax(-1)
        p = log_p.exp()
        u = (log_p - torch.log1p(-p)).clamp(LOW, HIGH)
        place = (u - LOW) * PER_UNIT
        below = place.long().clamp_(0, POINTS - 2)  # NaN becomes some number: p is NaN, and so is the result
        share = place - below
        of_target = torch.zeros_like(below).scatter_(-1, targets.unsqueeze(-1), POINTS)
        below = below + of_target + self.first
        table = self.slopes.flatten()
        left = table[below]
        h = left + share * (table[below + 1] - left)
        return h - p * h.sum(-1, keepdim=True)

    def _tabulate(self, which: Sequence[int], t: float) -> None:
        for i in which:
            self.slopes[i] = torch.from_numpy(slopes_of(self.formulas[i], self.classes, t)).flatten()


def slopes_of(formula: Expression, classes: int, t: float) -> NDArray[np.float32]:
    """The slopes of a formula at the points of the table, (2, `POINTS`): for y = 0, then for y = 1."""
    y = np.array([[0.0], [1.0]])
    _, slopes = values_and_slopes(formula, _GRID, y, float(classes), t)
    with np.errstate(over="ignore"):
        return np.broadcast_to(slopes, (2, POINTS)).astype(np.float32)


def gradient_error(formula: Expression, classes: int, seed: int = 0) -> float:
    """The relative error of the gradients by table against those of the loss itself, at the end of training.

    Args:
        formula: the loss.
        classes: the number of classes C.
        seed: of 3,000 samples: logits of standard deviation 1, 3 and 10 in equal parts, with random targets. Those
            whose target has less than e^-24 are left out: there the table continues the loss by its tangent.

    Returns:
        The norm of the difference over the norm of the exact gradient, in float64 at t = 1.
    """
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([1.0, 3.0, 10.0], dtype=torch.float64).repeat(1000)
    logits = torch.randn(3000, classes, dtype=torch.float64, generator=generator) * spread[:, None]
    targets = torch.randint(classes, (3000,), generator=generator)
    loss = FormulaLoss(formula, reduction="sum").eval()
    leaf = logits.clone().requires_grad_()
    (exact,) = torch.autograd.grad(loss(leaf, targets), leaf)
    tables = SlopeTables([formula], classes)
    tables.set_progress(1.0)
    found = tables.gradient(logits.float()[None], targets[None])[0].double()
    within = logits.log_softmax(1).gather(1, targets[:, None])[:, 0] >= LOW
    return float((found - exact)[within].norm() / exact[within].norm())
