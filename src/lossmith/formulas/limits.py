"""Limits of a formula at p = 0 and p = 1, where floating point or autograd yields NaN although a limit exists."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Final, Literal, NamedTuple

import torch

from lossmith.formulas.evaluation import run, steps_of
from lossmith.formulas.expression import Expression

Forms = dict[str, float]
"""A point, as values of p, c and d."""
Path = Callable[[float], Forms]
"""Maps x > 0 to a point, and infinity to the end point that is approached as x grows."""

_STEPS: Final = tuple(5.0**2**k for k in range(5))  # floats underflow beyond e**-625, and c**28 overflows beyond 1.5e11
_KEEPS_GROWING: Final = 0.75  # steps of 1 - 1/log(x) halve, those of log(log(x)) are equal


class Limit(NamedTuple):
    """The limit of a formula at an end point where autograd has no slope or floating point has no value (``0 * inf``).

    Attributes:
        form: which of p, c and d reaches its end point.
        end: the end point. c and d are infinite only if p is exactly 0 or 1; finite ends are also reached by rounding.
        inside: a value of the form at which slopes are finite, close to the end if the end is finite.
        near: finite values at which the formula equals its limit: of this form, or of all forms if ``end`` is infinite.
        infinite: the limit if it is infinite. If it is None the limit is finite and may depend on n and t.
    """

    form: str
    end: float
    inside: float
    near: Forms
    infinite: float | None


@lru_cache(maxsize=1024)
def limits_of(expression: Expression, *, p: Literal[0, 1]) -> tuple[Limit, ...]:
    """The limits at p = 0 or p = 1 of a formula in p, c and d, for the forms where plain evaluation fails."""
    found = (_limit(expression, *path) for path in _PATHS[p] if path[0] in expression.terminals)
    return tuple(limit for limit in found if limit is not None)


def limit_at(expression: Expression, *, p: Literal[0, 1]) -> float:
    """Estimate the limit of a formula in p, c and d at p = 0 or p = 1, for 10 classes in the middle of training.

    It is judged from nearby values, and NaN if the formula has none.
    """
    return _tends_to([value for _, value in _approach(expression, _to_one if p else _to_zero)])


def _to_zero(x: float) -> Forms:
    return {"p": math.exp(-x), "c": x, "d": -math.log1p(-math.exp(-x))}


def _to_one(x: float) -> Forms:
    return {"p": -math.expm1(-x), "c": -math.log1p(-math.exp(-x)), "d": x}


# Where p is 0 or 1 only by rounding, c and d are far from infinite.
_PATHS: Final[dict[int, tuple[tuple[str, float, Path], ...]]] = {
    0: (
        ("d", 1e-30, lambda x: {"p": 0.0, "c": 800.0, "d": math.exp(-x)}),
        ("p", 1e-30, lambda x: {"p": math.exp(-x), "c": 800.0, "d": 0.0}),
        ("c", 0.7, _to_zero),
    ),
    1: (
        ("c", 1e-30, lambda x: {"p": 1.0, "c": math.exp(-x), "d": 40.0}),
        ("p", 1 - 1e-7, lambda x: {"p": -math.expm1(-x), "c": 0.0, "d": 40.0}),
        ("d", 0.7, _to_one),
    ),
}
"""For each p: the form that reaches its end, a value inside, and the path; in the last one p is exactly 0 or 1."""


def _limit(expression: Expression, form: str, inside: float, path: Path) -> Limit | None:
    there = path(math.inf)
    ended = (form,) if math.isfinite(there[form]) else ("p", "c", "d")
    names = [name for name in ended if name in expression.terminals]
    if not math.isnan(_value(expression, there)) and all(map(math.isfinite, _slopes(expression, names, there))):
        return None
    values = _approach(expression, path)
    tends_to = _tends_to([value for _, value in values])
    finite = [point for point, _ in values if all(map(math.isfinite, point.values()))]
    near = finite[-1] if finite else path(_STEPS[-1])
    infinite = tends_to if math.isinf(tends_to) else None
    return Limit(form, there[form], inside, {name: near[name] for name in names}, infinite)


def _approach(expression: Expression, path: Path) -> list[tuple[Forms, float]]:
    """Points on the way to an end, the last one at the end, with their values; points without a value are left out."""
    points = [path(x) for x in (*_STEPS, math.inf)]
    return [(point, value) for point in points if not math.isnan(value := _value(expression, point))]


def _tends_to(values: list[float]) -> float:
    """Infinity if the values keep growing in steps that do not shrink, otherwise the last value; NaN for no values."""
    last = values[-4:] or [math.nan]
    steps = [b - a for a, b in pairwise(last)]
    if math.isinf(last[-1]) or len(steps) < 2:
        return last[-1]
    sign = math.copysign(1.0, last[-1])
    grows = all(sign * step > 0 for step in steps) and abs(last[0]) < abs(last[-1])
    if grows and all(abs(b) >= _KEEPS_GROWING * abs(a) for a, b in pairwise(steps)):
        return sign * math.inf
    return last[-1]


def _value(expression: Expression, forms: Forms) -> float:
    value = run(steps_of(expression), {"n": 10.0, "t": 0.5, **forms})
    assert isinstance(value, float)
    return value


def _slopes(expression: Expression, names: list[str], forms: Forms) -> list[float]:
    """The partial derivatives from autograd, whatever grad mode the caller is in."""
    with torch.inference_mode(False), torch.enable_grad():
        points = {
            name: torch.tensor(forms[name], dtype=torch.float64, device="cpu", requires_grad=True) for name in names
        }
        value = run(steps_of(expression), {"n": 10.0, "t": 0.5, **forms, **points})
        assert isinstance(value, torch.Tensor)
        return [slope.item() for slope in torch.autograd.grad(value, list(points.values()))]
