"""What a loss states, as torch operations: held at its ends, and continued by its tangent where it explodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.formulas import Expression, derivative, parse, substitute
from lossmith.formulas.arithmetic import folded, number
from lossmith.formulas.evaluation import run, steps_of
from lossmith.formulas.expression import constant, terminal
from lossmith.formulas.limits import Limit, limit_at, limits_of
from lossmith.formulas.precision import in_c, in_d, in_three_forms, in_two_forms
from lossmith.formulas.program import program_of
from lossmith.losses.entries import LOG_SLOPE_LIMITS

_FORMS: Final = ("p", "c", "d")
_FAR: Final = 1e30
"""A cross-entropy beyond all others."""
_BISECTIONS: Final = 200


def document(cls: type, sentence: str) -> None:
    """Add what a class states itself to its docstring, in a sentence."""
    statement = vars(cls).get("statement")
    if statement and cls.__doc__:
        first, _, rest = cls.__doc__.partition("\n")
        cls.__doc__ = f"{first}\n\n    {sentence.format(statement)}\n{rest}"


def stated(text: str | Expression, values: Mapping[str, float | Expression]) -> Expression:
    """The expression that a loss states, with its hyperparameters in place and what is constant or neutral folded.

    ``text`` is in p, c, y, n and the names of the hyperparameters, or is the expression itself.
    """
    if isinstance(text, Expression):
        return substitute(text)
    names = {name: value if isinstance(value, Expression) else constant(value) for name, value in values.items()}
    return substitute(parse(text, names))


def smoothed(expression: Expression, smoothing: float) -> Expression:
    """The expression of a loss with label smoothing: what it is for y = 1 and y = 0, by their shares."""
    if not smoothing:
        return expression
    y = constant(round(1 - smoothing, 15)) * terminal("y") + constant(smoothing) / terminal("n")
    yes, no = (substitute(expression, y=each) for each in (1.0, 0.0))
    of_the_rest = folded("mul", folded("sub", constant(1.0), y), no)
    return folded("add", folded("mul", y, yes), of_the_rest)


class Tangent(NamedTuple):
    """Where a function of c is continued by its tangent.

    Attributes:
        above: the c beyond which it is.
        slope: its slope there.
    """

    above: float
    slope: float


@lru_cache(maxsize=1024)
def tangent_of(expression: Expression, log_slope_limit: float) -> Tangent | None:
    """Where a function of c or d alone reaches the slope e^log_slope_limit; None if its slope is bounded.

    The function is convex where it explodes; with n it is looked at for 10 classes.
    """
    in_c = substitute(expression, d=terminal("c")) if expression.depends_on("d") else expression
    limit = math.exp(log_slope_limit)
    farthest = _at(in_c, _FAR)
    if math.isnan(farthest) or farthest < _FAR * math.exp(20):
        return None
    slope = derivative(in_c, "c")
    low, high = 0.0, _FAR
    if _at(slope, low) >= limit:
        return Tangent(low, limit)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _at(slope, middle) < limit else (low, middle)
    return Tangent(low, limit)


def _at(expression: Expression, c: float) -> float:
    value = run(steps_of(expression), {"n": 10.0, "t": 0.5, "c": c})
    assert isinstance(value, float)
    return value


class Part:
    """A function of one class.

    Attributes:
        forms: which of p, c and d it depends on.
        limits: where it comes to an end with which there is trouble.
        has_settings: whether it depends on n or t.
        is_zero_at_one: whether it is 0 at p = 1, whatever n and t.
        is_simple: whether it is so, and depends on c alone.
        is_nothing: whether it is 0 everywhere.

    Args:
        expression: in p, c and d, and in n and t, which are numbers or tensors.
        exploding: whether it is continued by its tangent where its slope has no bound; it is then a function of c or of
            d alone.
    """

    def __init__(self, expression: Expression, *, exploding: bool = False) -> None:
        self.expression = expression
        self.forms = tuple(name for name in _FORMS if expression.depends_on(name))
        self.tangents = {limit: tangent_of(expression, limit) for limit in LOG_SLOPE_LIMITS} if exploding else {}
        self.is_continued = any(self.tangents.values())
        self.has_settings = expression.depends_on("n", "t")
        self.is_zero_at_one = not self.has_settings and limit_at(expression, p=1) == 0
        self.is_simple = self.is_zero_at_one and expression.terminals == {"c"}
        self.is_nothing = expression.is_number(0)
        self.program = program_of(expression)
        ends = () if self.is_continued else (0, 1)
        self.limits = tuple(limit for p in ends for limit in limits_of(expression, p=p))
        self._held = self.limits
        if any(limit.end == math.inf for limit in self.limits) and self.forms == ("c",):
            self._saturate()
        self._ends = tuple(self._end(limit) for limit in self._held)

    def _saturate(self) -> None:
        """Hold nothing at c = infinity where saturated exponentials make that needless."""
        program = program_of(self.expression, saturated=True)
        with torch.inference_mode(mode=False), torch.enable_grad():
            c = torch.tensor([math.inf], dtype=torch.float64, device="cpu", requires_grad=True)
            value = program.run({"n": 10.0, "t": 0.5, "c": c})
            (slope,) = torch.autograd.grad(value, c)
        if not value.isnan() and slope.isfinite():
            self.program, self._held = program, tuple(limit for limit in self.limits if limit.end != math.inf)

    def linear_above(self, log_slope_limit: float) -> float | None:
        """The c or d beyond which the function is continued by its tangent, if it is."""
        tangent = self.tangents.get(log_slope_limit)
        return None if tangent is None else tangent.above

    def run(self, values: dict[str, Any], log_slope_limit: float) -> Any:
        """The function's value, given n and t, and p, c and d; a number if no tensor takes part."""
        if not self.is_continued:
            return self._run_held(values) if self._held else self.program.run(values)
        tangent = self.tangents[log_slope_limit]
        assert tangent is not None
        (form,) = self.forms
        x = values[form]
        curved: Tensor = self.program.run({**values, form: x.clamp(max=tangent.above)})
        return curved.add(F.softshrink(x, tangent.above), alpha=tangent.slope)  # for x >= 0 it is relu(x - above)

    def run_like(self, like: Tensor, values: dict[str, Any], log_slope_limit: float) -> Tensor:
        """`run`, in the shape and dtype of ``like``."""
        value = self.run(values, log_slope_limit)
        if isinstance(value, Tensor):
            value = value if value.dtype == like.dtype else value.to(like.dtype)  # by t, which is a float64
            return value if value.shape == like.shape else value.expand_as(like)
        return torch.full_like(like, value, dtype=torch.float64).to(like.dtype)  # infinite where the dtype ends

    def _run_held(self, values: dict[str, Any]) -> Any:
        """The value; what comes to an end is held there, with gradient 0."""
        at_end = [values[limit.form] == limit.end for limit in self._held]
        held = dict(values)
        for limit, at in zip(self._held, at_end, strict=True):
            held[limit.form] = held[limit.form].masked_fill(at, limit.inside)
        inside = result = self.program.run(held)
        for limit, at, end in zip(self._held, at_end, self._ends, strict=True):
            if end is not None:
                result = result.masked_fill(at, end)
                continue
            detached = {name: values[name].detach() for name in self.forms}
            there: Any = limit.infinite
            if there is None:
                there = run(steps_of(self.expression), {**values, **detached, **limit.near})
            if len(limit.near) < len(self.forms):
                there = there + (inside - inside.detach())  # through the other forms
            result = torch.where(at, there, result)
        return result

    def _end(self, limit: Limit) -> float | None:
        """The value at a limit; None where it depends on other forms or on n and t."""
        if len(limit.near) < len(self.forms):
            return None
        if limit.infinite is not None:
            return limit.infinite
        value = substitute(self.expression, **limit.near)
        return None if value.terminals else number(value)


class ClassParts(NamedTuple):
    """What a sum over the classes is made of.

    Attributes:
        positive: what the target's class adds.
        negative: what any other class adds.
        gain: the first less the second; None where both are better computed apart.
        singular: whether `negative` is infinite at p = 0, or has no finite value or slope at p = 1.
        is_mean: whether the sum is divided by the number of classes; the parts are free of it.
    """

    positive: Part
    negative: Part
    gain: Part | None
    singular: bool
    is_mean: bool


@lru_cache(maxsize=1024)
def target_part(expression: Expression, *, exploding: bool) -> Part:
    """The loss as a function of the target's cross-entropy, with the constants of the other classes."""
    return Part(loss_in_c(expression), exploding=exploding)


def loss_in_c(expression: Expression) -> Expression:
    """The loss of a sample in c, where a class that is not the target adds a constant."""
    positive, negative = (substitute(expression, y=y) for y in (1.0, 0.0))
    others = folded("mul", folded("sub", terminal("n"), constant(1.0)), negative)
    return in_c(folded("add", positive, others))


@lru_cache(maxsize=1024)
def class_parts(expression: Expression, *, precise: bool, exploding: bool) -> ClassParts:
    """The parts of a sum over the classes, of the expression of what a class adds.

    With ``precise``, 1 - p is computed from the other classes; else what loses digits of it is left as it is. With
    ``exploding``, a part of c or d alone whose slope has no bound is continued by its tangent.
    """
    is_mean = expression.op == "div" and expression.args[1] == terminal("n")
    expression = expression.args[0] if is_mean else expression
    yes, no = (substitute(expression, y=y) for y in (1.0, 0.0))
    in_forms = in_three_forms if precise else in_two_forms
    parts = []
    for each, alone in ((yes, in_c), (no, in_d)):
        part = Part(alone(each), exploding=True) if exploding and precise else None
        parts.append(part if part is not None and part.is_continued else Part(in_forms(each)))
    positive, negative = parts
    at_one = negative.is_continued or bool(limits_of(negative.expression, p=1))
    singular = at_one or not _is_finite(negative.expression)
    gain = None
    if negative.is_nothing:
        gain = positive
    elif not singular and not precise:
        gain = Part(in_forms(_difference(yes, no)))
    return ClassParts(positive, negative, gain, singular, is_mean)


def is_of_target(expression: Expression) -> bool:
    """Whether a loss is a function of the target's cross-entropy, finite at p = 1.

    What is infinite there needs 1 - p from the other classes: the target's cross-entropy is soon 0.
    """
    negative = substitute(expression, y=0.0)
    return not negative.depends_on("p", "c") and math.isfinite(limit_at(loss_in_c(expression), p=1))


def _is_finite(expression: Expression) -> bool:
    return math.isfinite(limit_at(expression, p=1)) and not math.isinf(limit_at(expression, p=0))


def _difference(a: Expression, b: Expression) -> Expression:
    """``a - b`` without the terms they share."""
    of_a, of_b = _terms(a), _terms(b)
    total = constant(0.0)
    for sign, own, others in ((1.0, of_a, of_b), (-1.0, of_b, of_a)):
        for term in own:
            if term not in others:
                added = (term[0] * sign, term[1])
                total = folded("add" if added[0] > 0 else "sub", total, added[1])
    return total


def _terms(expression: Expression) -> list[tuple[float, Expression]]:
    """The terms of a sum, each with its sign."""
    if expression.op not in {"add", "sub"}:
        return [(1.0, expression)]
    a, b = (_terms(arg) for arg in expression.args)
    sign = 1.0 if expression.op == "add" else -1.0
    return a + [(sign * of, term) for of, term in b]
