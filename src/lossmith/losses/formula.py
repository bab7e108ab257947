"""Any formula as a loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor
from typing_extensions import override

from lossmith.formulas import Expression, parse
from lossmith.formulas.arithmetic import number
from lossmith.losses.arguments import whole_number
from lossmith.losses.base import ClassificationLoss, CommonArguments
from lossmith.losses.entries import Entries
from lossmith.losses.parts import is_of_target
from lossmith.losses.shapes import ClasswiseLoss, StatedLoss, TargetLoss
from lossmith.losses.text import LossText, parse_loss


class FormulaLoss(StatedLoss):
    """The loss a formula says: its sum over the classes, y = 1 for the target and 0 for the others.

    If a class that is not the target adds nothing that depends on its probability, as in ``-y*log(p)``, and the loss is
    finite at p = 1, it is a function of the target's cross-entropy (a `TargetLoss`); else it is a sum over all
    classes (a `ClasswiseLoss`).
    ``FormulaLoss(...)`` makes the one or the other.

    Powers and logarithms of p and of 1 - p are computed from -log p and -log(1 - p), so that ``log(p)`` is exact for
    every finite logit. Promised: the formula's value and gradient wherever both are finite; at p = 0 and p = 1, where
    a product such as ``p*log(p)`` is 0 times infinity or a slope such as that of ``sqrt(c)`` is infinite, its limit,
    with gradient 0. Not promised: a finite value or gradient where the formula has none, or where it leaves the range
    of floats on the way, as ``exp(c)`` beyond c = 88 in float32 or ``sqrt(p*(1 - p))`` beyond c = 104; no formula is
    continued by a tangent. A constant of the formula counts in the value.

    A formula with t, the progress of training, is a schedule: t is 0 at first and 1 after ``steps`` calls of
    ``loss.step()``, to be made after ``optimizer.step()``; in ``eval()`` t is 1, the loss at the end of training. The
    number of steps taken is then the only state, an integer buffer.

    Args:
        formula: the formula as text or parsed; see `lossmith.formulas.parse`.
        steps: how many optimiser steps t takes from 0 to 1; ``None``: those of the run, as `bind` tells. Refused for a
            formula without t.
        **common: see `lossmith.losses.ClassificationLoss`; for ``task="binary"`` n is 2 and y the answer, and the loss
            of one question is that of one class.

    Raises:
        FormulaError: if the text is no formula.
        ValueError: if the formula depends on neither p nor c, or contains a part such as ``log(-1)`` or ``p/0`` that
            has no finite value, or another argument is out of range.

    Source: ours.
    """

    name = "formula"
    precise = True
    explodes = False
    expression: Expression
    steps_taken: Tensor

    def __new__(cls, formula: str | Expression = "", *_: Any, **__: Any) -> FormulaLoss:
        """Choose the shape of a formula."""
        if cls is not FormulaLoss:
            return super().__new__(cls)
        return super().__new__(TargetFormulaLoss if is_of_target(_tree(formula)) else ClasswiseFormulaLoss)

    def __init__(
        self, formula: str | Expression, *, steps: int | None = None, **common: Unpack[CommonArguments]
    ) -> None:
        tree = _tree(formula)
        if not tree.depends_on("p", "c"):
            raise ValueError(
                f"the formula {str(tree)[:60]!r} depends on neither p nor c, so that nothing can be learned"
            )
        if (part := _undefined(tree)) is not None:
            raise ValueError(f"the formula contains {str(part)[:60]}, which has no finite value: leave it out")
        if steps is not None and not tree.depends_on("t"):
            raise ValueError("steps is how long t takes from 0 to 1, and the formula has no t")
        super().__init__(None, tree, **common)
        self.expression = tree  # as it is written, nothing folded
        self.steps = None if steps is None else whole_number("steps", steps, low=1)
        self.run_steps: int | None = None
        if self.has_schedule:
            self.register_buffer("steps_taken", torch.zeros((), dtype=torch.int64))

    @classmethod
    @override
    def defaults(cls) -> dict[str, Any]:
        return {"steps": None} | ClassificationLoss.defaults()

    @property
    @override
    def text(self) -> str:
        return str(LossText(self.name, str(self.expression), parse_loss(super().text).arguments))

    @property
    def has_schedule(self) -> bool:
        """Whether the formula has t."""
        return self.expression.depends_on("t")

    @override
    def bind(self, *, total_steps: int | None = None, class_counts: Sequence[float] | None = None) -> None:
        self.run_steps = total_steps

    @override
    def step(self) -> None:
        if self.has_schedule:
            self.steps_taken += 1

    @property
    def progress(self) -> float | Tensor:
        """The value of t now, a scalar tensor; 1 in ``eval()`` and for a formula without t."""
        if not self.training or not self.has_schedule:
            return 1.0
        steps = self.steps or self.run_steps
        if steps is None:
            raise ValueError("a formula with t needs steps, the number of optimiser steps in which t goes from 0 to 1")
        return (self.steps_taken.double() / steps).clamp(max=1.0)

    @override
    def settings(self, entries: Entries) -> dict[str, Any]:
        return {"n": entries.num_classes, "t": self.progress}


class TargetFormulaLoss(FormulaLoss, TargetLoss):
    """A `FormulaLoss` that is a function of the target's cross-entropy."""


class ClasswiseFormulaLoss(FormulaLoss, ClasswiseLoss):
    """A `FormulaLoss` that is a sum over all classes."""


def _tree(formula: str | Expression) -> Expression:
    return formula if isinstance(formula, Expression) else parse(formula)


def _undefined(tree: Expression) -> Expression | None:
    """A part of a formula that has no finite value whatever the terminals: a constant, or a division by zero."""
    seen: set[int] = set()  # parts may be shared
    stack = [tree]
    while stack:
        part = stack.pop()
        if part.op == "div" and not part.args[1].terminals and number(part.args[1]) == 0:
            return part
        if part.terminals:
            stack += [arg for arg in part.args if id(arg) not in seen]
            seen.update(map(id, part.args))
        elif not math.isfinite(number(part)):
            return part
    return None
