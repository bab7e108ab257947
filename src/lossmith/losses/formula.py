"""Any formula as a loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor

from lossmith.formulas import Expression, parse, substitute
from lossmith.formulas.arithmetic import folded
from lossmith.formulas.evaluation import run, steps_of
from lossmith.formulas.expression import constant, terminal
from lossmith.formulas.limits import limit_at, limits_of
from lossmith.formulas.precision import in_c, in_three_forms
from lossmith.losses.arguments import whole_number
from lossmith.losses.base import ClassificationLoss, CommonArguments
from lossmith.losses.entries import Entries, Probability
from lossmith.losses.shapes import ClasswiseLoss, TargetLoss
from lossmith.losses.text import LossText, parse_loss


class FormulaLoss(ClassificationLoss):
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
        ValueError: if the formula depends on neither p nor c, or another argument is out of range.

    Source: ours.
    """

    name = "formula"
    steps_taken: Tensor

    def __new__(cls, formula: str | Expression = "", *_: Any, **__: Any) -> FormulaLoss:
        """Choose the shape of a formula."""
        return super().__new__(_shape_of(_tree(formula)) if cls is FormulaLoss else cls)

    def __init__(
        self, formula: str | Expression, *, steps: int | None = None, **common: Unpack[CommonArguments]
    ) -> None:
        tree = _tree(formula)
        if not tree.depends_on("p", "c"):
            raise ValueError(
                f"the formula {str(tree)[:60]!r} depends on neither p nor c, so that nothing can be learned"
            )
        if steps is not None and not tree.depends_on("t"):
            raise ValueError("steps is how long t takes from 0 to 1, and the formula has no t")
        super().__init__(**common)
        self.tree = tree
        self.written = str(tree)
        self.steps = None if steps is None else whole_number("steps", steps, low=1)
        self.run_steps: int | None = None
        if tree.depends_on("t"):
            self.register_buffer("steps_taken", torch.zeros((), dtype=torch.int64))

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """As for every loss, without the formula, which the text form puts in brackets."""
        return {"steps": None} | ClassificationLoss.defaults()

    @property
    def text(self) -> str:
        """The canonical text form: ``formula(EXPR)``."""
        return str(LossText(self.name, self.written, parse_loss(super().text).arguments))

    @property
    def formula(self) -> str | None:
        """See `ClassificationLoss.formula`."""
        if self.tree.depends_on("t"):
            plain = self.weight is None and self.task == "multiclass" and not self.label_smoothing
            return self.written if plain else None
        return super().formula

    def expression(self, y: str) -> str | None:
        """See `ClassificationLoss.expression`; ``None`` for a formula with t."""
        if self.tree.depends_on("t"):
            return None
        if y == "y":
            return self.written
        yes, no = (substitute(self.tree, y=value) for value in (1.0, 0.0))
        return f"{y}*({yes}) + (1 - {y})*({no})"

    def bind(self, *, total_steps: int | None = None, class_counts: Sequence[float] | None = None) -> None:
        """Take the length of the run, if ``steps`` was not given; see `Loss.bind`."""
        del class_counts
        self.run_steps = total_steps

    def step(self) -> None:
        """Count one optimiser step."""
        if self.tree.depends_on("t"):
            self.steps_taken += 1

    @property
    def progress(self) -> float | Tensor:
        """The value of t now, a scalar tensor; 1 in ``eval()`` and for a formula without t."""
        if not self.training or not self.tree.depends_on("t"):
            return 1.0
        steps = self.steps or self.run_steps
        if steps is None:
            raise ValueError("a formula with t needs steps, the number of optimiser steps in which t goes from 0 to 1")
        return (self.steps_taken.double() / steps).clamp(max=1.0)

    def _run(self, part: Part, like: Tensor, entries: Entries, **forms: Tensor) -> Tensor:
        """The value of a part of the formula, in the shape and dtype of ``like``."""
        t = self.progress
        now = t.to(like.dtype) if isinstance(t, Tensor) else t
        value = part.run({"n": entries.num_classes, "t": now}, forms)
        if isinstance(value, Tensor):
            return value.expand_as(like)
        return torch.full_like(like, value, dtype=torch.float64).to(like.dtype)  # infinite where the dtype ends


class TargetFormulaLoss(FormulaLoss, TargetLoss):
    """A `FormulaLoss` that is a function of the target's cross-entropy."""

    def __init__(
        self, formula: str | Expression, *, steps: int | None = None, **common: Unpack[CommonArguments]
    ) -> None:
        super().__init__(formula, steps=steps, **common)
        phi = _phi(self.tree)
        self.part = Part(phi)
        self.is_zero_at_one = limit_at(phi, p=1) == 0 and not phi.depends_on("n", "t")

    def phi(self, c: Tensor, entries: Entries) -> Tensor:
        """The formula as a function of cross-entropy, with the constants of all classes."""
        if entries.labels is None or self.is_zero_at_one:
            return self._run(self.part, c, entries, c=c)
        ignored = entries.labels == entries.ignore_index
        return self._run(self.part, c, entries, c=c.masked_fill(ignored, 1.0)).masked_fill(ignored, 0.0)


class ClasswiseFormulaLoss(FormulaLoss, ClasswiseLoss):
    """A `FormulaLoss` that is a sum over all classes."""

    def __init__(
        self, formula: str | Expression, *, steps: int | None = None, **common: Unpack[CommonArguments]
    ) -> None:
        super().__init__(formula, steps=steps, **common)
        self.parts = [Part(in_three_forms(substitute(self.tree, y=y))) for y in (0.0, 1.0)]

    def positive(self, p: Probability, entries: Entries) -> Tensor:
        """The formula at y = 1."""
        return self._part(self.parts[1], p, entries)

    def negative(self, p: Probability, entries: Entries) -> Tensor:
        """The formula at y = 0."""
        return self._part(self.parts[0], p, entries)

    def _part(self, part: Part, p: Probability, entries: Entries) -> Tensor:
        attributes = {"p": "value", "c": "c", "d": "d"}
        forms = {name: getattr(p, of) for name, of in attributes.items() if part.expression.depends_on(name)}
        return self._run(part, next(iter(forms.values())) if forms else p.value, entries, **forms)


class SingularFormulaLoss(ClasswiseFormulaLoss):
    """A `ClasswiseFormulaLoss` whose formula at y = 0 is infinite at p = 0 or has no finite value or slope at p = 1."""

    singular: ClassVar[bool] = True


class Part:
    """A function of one class that a formula is made of.

    Args:
        expression: in p, c and d.
    """

    def __init__(self, expression: Expression) -> None:
        self.expression = expression
        self.steps = steps_of(expression)
        self.limits = (*limits_of(expression, p=0), *limits_of(expression, p=1))

    def run(self, scalars: dict[str, float | Tensor], forms: dict[str, Tensor]) -> float | Tensor:
        """The value of the part, given n and t, and p, c and d; what comes to an end is held there, with gradient 0."""
        at_end = [forms[limit.form] == limit.end for limit in self.limits]
        held, detached = dict(forms), {name: form.detach() for name, form in forms.items()}
        for limit, at in zip(self.limits, at_end, strict=True):
            held[limit.form] = held[limit.form].masked_fill(at, limit.inside)
        inside = result = run(self.steps, {**scalars, **held})
        if not isinstance(inside, Tensor):
            return inside
        for limit, at in zip(self.limits, at_end, strict=True):
            there = run(self.steps, {**scalars, **detached, **limit.near}) if limit.infinite is None else limit.infinite
            if len(limit.near) < len(forms):
                there = there + (inside - inside.detach())  # through the other forms
            result = torch.where(at, there, result)
        return result


def _tree(formula: str | Expression) -> Expression:
    return formula if isinstance(formula, Expression) else parse(formula)


def _phi(tree: Expression) -> Expression:
    """The loss as a function of the target's cross-entropy, with the constants of the other classes."""
    positive, negative = (substitute(tree, y=y) for y in (1.0, 0.0))
    others = folded("mul", folded("sub", terminal("n"), constant(1.0)), negative)
    return in_c(folded("add", positive, others))


def _shape_of(tree: Expression) -> type[FormulaLoss]:
    negative = substitute(tree, y=0.0)
    # What is infinite at p = 1 needs 1 - p from the other classes: the target's cross-entropy is soon 0.
    if not negative.depends_on("p", "c") and math.isfinite(limit_at(_phi(tree), p=1)):
        return TargetFormulaLoss
    negative = in_three_forms(negative)
    is_regular_at_one = math.isfinite(limit_at(negative, p=1)) and not limits_of(negative, p=1)
    is_regular = is_regular_at_one and not math.isinf(limit_at(negative, p=0))
    return ClasswiseFormulaLoss if is_regular else SingularFormulaLoss
