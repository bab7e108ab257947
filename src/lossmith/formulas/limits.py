"""The limits of a formula at p = 0 and p = 1, where floats and autograd lose a value or a slope that it has."""

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
"""Values of p, c and d."""
Path = Callable[[float], Forms]
"""Maps x > 0 to a point, and infinity to the end that these points approach."""

_STEPS: Final = tuple(5.0**2**k for k in range(5))  # beyond e**-625 floats come to an end, at 1.5e11 c**28 does
_KEEPS_GROWING: Final = 0.75  # 1 - 1/log(x) makes steps of half the one before, log(log(x)) equal ones


class Limit(NamedTuple):
    """What a formula is where a form comes to an end and autograd finds no slope, or floats no value, as of 0 * inf.

    Attributes:
        form: which of p, c and d comes to an end.
        end: where. c and d are infinite only where p is exactly 0 or 1; the other ends are come to by rounding too.
        inside: a number at which slopes are finite, close to the end if that is finite.
        near: finite values, of this form or of all where p is exactly 0 or 1, at which the formula has its limit.
        infinite: the limit if it is infinite, else None: then it may depend on n and t.
    """

    form: str
    end: float
    inside: float
    near: Forms
    infinite: float | None


@lru_cache(maxsize=1024)
def limits_of(expression: Expression, *, p: Literal[0, 1]) -> tuple[Limit, ...]:
    """The limits that a formula of one class needs.

    Args:
        expression: in p, c and d, without y.
        p: the probability there.

    Returns:
        One for each form that comes to an end there and with which there is trouble.
    """
    found = (_limit(expression, *path) for path in _PATHS[p] if path[0] in expression.terminals)
    return tuple(limit for limit in found if limit is not None)


def limit_at(expression: Expression, *, p: Literal[0, 1]) -> float:
    """What a formula of one class tends to at p = 0 or p = 1, for some number of classes in mid-training.

    Args:
        expression: in p, c and d, without y.
        p: the probability.

    Returns:
        The limit, as far as values nearby show it; NaN if there are none.
    """
    return _tends_to([value for _, value in _approach(expression, _to_one if p else _to_zero)])


def _to_zero(x: float) -> Forms:
    return {"p": math.exp(-x), "c": x, "d": -math.log1p(-math.exp(-x))}


def _to_one(x: float) -> Forms:
    return {"p": -math.expm1(-x), "c": -math.log1p(-math.exp(-x)), "d": x}


# Where p is 0 or 1 by rounding only, c is far from infinite, and so is d.
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
"""The forms that come to an end, numbers inside, and the ways there; last the one where p is exactly 0 or 1."""


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
    """Points on the way to an end, the last of them there, and the values at them; without those that have none."""
    points = [path(x) for x in (*_STEPS, math.inf)]
    return [(point, value) for point in points if not math.isnan(value := _value(expression, point))]


def _tends_to(values: list[float]) -> float:
    """Infinite if the values keep growing, in steps that do not get smaller; else the last of them, NaN of none."""
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
    """The partial derivatives as autograd finds them, whatever mode the caller is in."""
    with torch.inference_mode(False), torch.enable_grad():
        points = {
            name: torch.tensor(forms[name], dtype=torch.float64, device="cpu", requires_grad=True) for name in names
        }
        value = run(steps_of(expression), {"n": 10.0, "t": 0.5, **forms, **points})
        assert isinstance(value, torch.Tensor)
        return [slope.item() for slope in torch.autograd.grad(value, list(points.values()))]
