"""A loss as a sum over classes of two functions of one probability, and its values where many classes are alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from lossmith.formulas import (
    Expression,
    FormulaError,
    apply,
    canonical,
    constant,
    derivative,
    evaluate,
    parse,
    terminal,
)
from lossmith.formulas.arithmetic import folded
from lossmith.formulas.expression import PROTECTION, fold
from lossmith.properties.enclosure import Function, has, nowhere_negative, precise
from lossmith.properties.subject import Subject

P: Final = terminal("p")
_C, _D = terminal("c"), terminal("d")
_KINKED: Final = frozenset({"abs", "sign", "min", "max", "plog", "psqrt"})


@dataclass(frozen=True)
class Parts:
    """``L = target(p_t) + sum over the others of other(p_j)``, for a known number of classes.

    Attributes:
        target: what the target's class adds, in p and c.
        other: what each other class adds.
        num_classes: C.
    """

    target: Expression
    other: Expression
    num_classes: int

    @property
    def both(self) -> tuple[Expression, Expression]:
        """The target's part and any other's."""
        return self.target, self.other

    @cached_property
    def slopes(self) -> tuple[Expression, Expression]:
        """The derivatives of both parts in c, which are minus p times those in p."""
        return derivative(self.target, "c"), derivative(self.other, "c")

    @property
    def only_target(self) -> bool:
        """Whether the loss is a function of the target's probability alone."""
        return self.slopes[1].is_number(0.0)

    @property
    def kinked(self) -> bool:
        """Whether min, max, abs or the like may break the slope: its derivative then does not tell convexity."""
        return any(has(part, _KINKED) for part in self.both)

    def evenly(self, expression: Expression) -> Expression:
        """An expression of another class's probability, put as one of the target's where the others share evenly."""
        if self.num_classes == 2:
            return put(expression, p=1.0 - P, c=_D, d=_C)
        others = float(self.num_classes - 1)
        return put(expression, p=(1.0 - P) / others, c=_D + apply("log", constant(others)))

    @cached_property
    def even_loss(self) -> Expression:
        """The loss where the others share evenly; for two classes, the loss."""
        return _sum(self.target, folded("mul", constant(self.num_classes - 1.0), self.evenly(self.other)))

    @cached_property
    def even_strictness(self) -> Expression:
        """The slope in the target's logit relative to cross-entropy's, where the others share evenly."""
        slope = self.evenly(derivative(self.other, "p"))
        return _sum(self.slopes[0], folded("mul", P, slope))

    @cached_property
    def corner_loss(self) -> Expression:
        """The loss where a class that is not the target has p and all others share evenly."""
        return _sum(self._of_the_rest(*self.both), self.other)

    @cached_property
    def corner_slope(self) -> Expression:
        """The slope in the logit of a class that is not the target and has p, where all others share evenly."""
        rest = self._of_the_rest(*self.slopes)
        return _sum(folded("mul", P, rest), folded("neg", folded("mul", 1.0 - P, self.slopes[1])))

    def _of_the_rest(self, target: Expression, other: Expression) -> Expression:
        """What all classes but one that is not the target add where they share evenly what that one leaves."""
        return _sum(self.evenly(target), folded("mul", constant(self.num_classes - 2.0), self.evenly(other)))


def parts_of(subject: Subject, num_classes: int | None = None) -> Parts | None:
    """The two parts of a loss at the beginning of training, as written; None where it has no formula."""
    text = subject.loss.formula
    if text is None or subject.binary:
        return None
    C = num_classes or subject.num_classes
    try:
        tree = parse(text)
        target, other = (put(tree, y=constant(y), n=constant(float(C)), t=constant(0.0)) for y in (1.0, 0.0))
        found = Parts(_plain_signs(target), _plain_signs(other), C)
        for part in found.both:
            derivative(part, "c")  # refused here rather than later
    except (FormulaError, OverflowError):
        return None
    return found


def put(expression: Expression, **given: Expression) -> Expression:
    """Put expressions in place of terminals, and compute only numbers that are exact.

    So no rounding, overflow or underflow changes what is proved of the formula.
    """

    def step(node: Expression, args: list[Expression]) -> Expression:
        if not args:
            return given.get(node.name, node)
        if all(arg.is_constant for arg in args):
            value = _exact(node.op, [arg.value for arg in args])
            return apply(node.op, *args) if value is None else constant(value)
        return folded(node.op, *args)

    return fold(expression, step)


def simplest(expression: Expression) -> Expression:
    """The canonical form; the expression as it is where it has none."""
    with suppress(FormulaError, OverflowError):
        return canonical(expression)
    return expression


def slope_in_p(expression: Expression) -> float | None:
    """The slope in p of what algebra shows to be affine in p, to rounding; else None."""
    with suppress(FormulaError, OverflowError):
        slope = derivative(simplest(expression), "p")
        if canonical(slope).is_constant:  # whose value it drops
            return float(evaluate(slope, p=0.5))
    return None


@dataclass(frozen=True)
class Groups:
    """A loss where the classes come in groups of equal logits.

    Attributes:
        parts: of the loss.
        sizes: the number of classes in each group; their sum is C.
    """

    parts: Parts
    sizes: tuple[int, ...]

    def table(self, logits: Tensor) -> Tensor:
        """The loss if a class of each group were the target, (N, G), for the groups' logits (N, G)."""
        target, other = (self._values(each, logits) for each in self._written)
        size = torch.tensor(self.sizes, dtype=logits.dtype)
        left = size - torch.eye(len(self.sizes), dtype=logits.dtype)  # other classes, by target group and group
        terms = torch.where(left > 0, left * other[:, None], 0.0)
        return target + terms.sum(2)

    def slopes(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The derivatives of the target's and the other part in c, each (N, G)."""
        target, other = (self._values(each, logits) for each in self._written_slopes)
        return target, other

    def gradient_norm(self, logits: Tensor) -> Tensor:
        """The norm (N,) of the gradient on all C logits with a class of the first group as the target."""
        target, other = self.slopes(logits)
        forms = self._forms(logits)
        p, left = forms["p"], torch.exp(-forms["d"])
        rest = torch.tensor(self.sizes, dtype=logits.dtype)  # classes that are not the target
        rest[0] -= 1
        beside = rest - torch.eye(len(self.sizes), dtype=logits.dtype)  # of them, those beside one of a group
        # With D = dL/dc of a class, minus (1 - p) D - p (the sum of the others' D): nothing large cancels near p = 1.
        beside_target = torch.where(rest > 0, rest * other, 0.0).sum(1)
        beside_other = target[:, :1] + torch.where(beside > 0, beside * other[:, None], 0.0).sum(2)
        square = torch.where(rest > 0, rest * (left * other - p * beside_other) ** 2, 0.0).sum(1)
        return torch.sqrt(square + (left[:, 0] * target[:, 0] - p[:, 0] * beside_target) ** 2)

    @cached_property
    def _written(self) -> tuple[Expression, ...]:
        return tuple(precise(each) for each in self.parts.both)

    @cached_property
    def _written_slopes(self) -> tuple[Expression, ...]:
        return tuple(precise(each) for each in self.parts.slopes)

    def _values(self, expression: Expression, logits: Tensor) -> Tensor:
        return evaluate(expression, **self._forms(logits)).expand_as(logits)

    def _forms(self, logits: Tensor) -> dict[str, Tensor]:
        """The probability of one class of each group, its c and its d."""
        size = torch.tensor(self.sizes, dtype=logits.dtype)
        c = (logits + size.log()).logsumexp(1, keepdim=True) - logits
        left = (size - torch.eye(len(self.sizes), dtype=logits.dtype)).log()  # of the classes beside one of a group
        d = (logits + size.log()).logsumexp(1, keepdim=True) - (logits[:, None] + left).logsumexp(2)
        return {"p": torch.exp(-c), "c": c, "d": d}


@dataclass(frozen=True)
class CalledGroups:
    """As `Groups`, for a loss without parts: it is called with the logits of all classes.

    Attributes:
        subject: the loss.
        sizes: the number of classes in each group.
    """

    subject: Subject
    sizes: tuple[int, ...]

    def table(self, logits: Tensor) -> Tensor:
        """The loss if a class of each group were the target, (N, G), for the groups' logits (N, G)."""
        if not self.subject.symmetric:
            return self.subject.table(logits)
        columns = []
        for group in range(len(self.sizes)):
            rest = torch.tensor(self.sizes) - torch.eye(len(self.sizes), dtype=torch.int64)[group]
            columns.append(
                self.subject.of_class_0(torch.cat([logits[:, [group]], logits.repeat_interleave(rest, 1)], 1))
            )
        return torch.stack(columns, 1)


def groups_of(subject: Subject, parts: Parts | None, sizes: tuple[int, ...]) -> Groups | CalledGroups:
    """The loss where classes come in groups, by its parts if it has them."""
    return CalledGroups(subject, sizes) if parts is None else Groups(parts, sizes)


def _sum(a: Expression, b: Expression) -> Expression:
    return folded("add", a, b)


def _exact(op: str, values: Sequence[float]) -> float | None:
    """The result of an operation on numbers if a double holds it exactly."""
    a, b = (Fraction(value) for value in (*values, 0.0)[:2])
    if op in {"neg", "abs"}:
        return -values[0] if op == "neg" else abs(values[0])
    if op == "square":
        b = a
    if op == "pow" and b in range(1, 65):
        op, a, b = "mul", Fraction(1), a ** int(b)
    if op in {"min", "max"}:
        return min(values) if op == "min" else max(values)
    if op not in {"add", "sub", "mul", "square", "div"} or (op == "div" and not b):
        return None
    exact = a + b if op == "add" else a - b if op == "sub" else a / b if op == "div" else a * b
    try:
        found = float(exact)
    except OverflowError:
        return None
    return found if Fraction(found) == exact else None


def _plain_signs(expression: Expression) -> Expression:
    """The expression with abs, min, max and the like resolved where enclosures prove which side holds everywhere."""

    def never_negative(part: Expression) -> bool:
        return not part.depends_on("y", "n", "t") and nowhere_negative(Function(part), math.inf)

    def step(node: Expression, args: list[Expression]) -> Expression:
        node = apply(node.op, *args) if args else node
        if node.op not in _KINKED - {"sign"}:
            return node
        a = args[0] - args[1] if len(args) == 2 else args[0]
        first, second = never_negative(a), never_negative(-a)
        if node.op in {"min", "max"} and (first or second):
            return args[0] if first == (node.op == "max") else args[1]
        if node.op in {"min", "max"} or not (first or second):
            return node
        size = args[0] if first else -args[0]
        if node.op == "abs":
            return size
        return apply("log" if node.op == "plog" else "sqrt", size + PROTECTION)

    return fold(expression, step) if has(expression, _KINKED) else expression
