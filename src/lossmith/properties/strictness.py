"""Where a loss is strict and where liberal, against cross-entropy, and how it behaves at both ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from lossmith.properties.enclosure import REACHES, SHARED, Function, supremum
from lossmith.properties.parts import Parts
from lossmith.properties.shape import along_gap, along_line
from lossmith.properties.subject import Subject

TABLE: Final = (0.01, 0.1, 0.5, 0.9)
POINTS: Final = 2001
_LOWEST, _HIGHEST = 1e-7, 1 - 1e-6
_ROUNDING: Final = 1e-7
_BESIDE: Final = 5e-5  # to either side of a crossing, where s is too near 1 to be told from it
_SEARCHED: Final = 12.0  # logits log(p/(1-p)) within which bumps are sought
_SLOWING: Final = 0.7
_FAR: Final = (1e4, 1e5, 1e6)  # gaps between the target's logit and the others'


@dataclass(frozen=True)
class Strictness:
    """The slope s(p) of a loss in the target's logit relative to cross-entropy's, other classes sharing evenly.

    Attributes:
        at: s at the target's probabilities .01, .1, .5, .9.
        tilt: s(.1) / s(.9), which no scale changes; 1 for cross-entropy.
        crossings: the p at which s was found to cross 1.
        turns: the p at which s was found to cross 0: beyond, the loss pushes the target the other way.
        value_crossings: the p at which the loss, less its value at p = 1, was found to cross cross-entropy.
        kind: ``"cross-entropy"``, ``"strict"`` (s >= 1 everywhere), ``"liberal"`` (s <= 1), or ``"mixed"``; 1 is told
            from other numbers to 1e-7.
        how: ``"proved"``, or ``"sampled"`` at `POINTS` points. Of a mixed loss with one crossing it is proved that s is
            above 1 on one side of it and below on the other.
        apart: how far apart the logits may be for the proof; inf for any logits.
    """

    at: tuple[tuple[float, float], ...]
    tilt: float
    crossings: tuple[float, ...]
    turns: tuple[float, ...]
    value_crossings: tuple[float, ...]
    kind: str
    how: str
    apart: float


@dataclass(frozen=True)
class End:
    """What becomes of a loss at one end, as the target's probability goes to 0 or to 1, other classes sharing evenly.

    Attributes:
        value: limit of the loss; infinite if it has none, None if it is not a number there.
        strictness: limit of s; infinite if it grows without bound.
        power: s goes like p to this power as p goes to 0, like 1 - p to this power as p goes to 1; None where s
            changes sign or is 0.
        gradient: limit of the slope in the target's logit.
    """

    value: float | None
    strictness: float
    power: float | None
    gradient: float


def strictness_of(subject: Subject, parts: Parts | None) -> Strictness:
    """Tabulate s(p), find its crossings to 1e-9, and prove its kind where the loss has a formula."""
    C = subject.num_classes

    def strictness(p: Tensor) -> Tensor:
        return along_line(subject, p, C)[1]

    at_one = float(along_gap(subject, torch.tensor([50.0], dtype=torch.float64), C)[0])

    def excess(p: Tensor) -> Tensor:
        return along_line(subject, p, C)[0] - at_one + p.log()

    p = torch.linspace(_logit(_LOWEST), _logit(_HIGHEST), POINTS, dtype=torch.float64).sigmoid()
    s = strictness(p)
    known = s[s.isfinite()]
    kind = _kind(known, parts)
    at = strictness(torch.tensor(TABLE, dtype=torch.float64)).tolist()
    inside = p[p < 0.999]  # at 1 both the loss and cross-entropy are 0
    ones = crossings(lambda p: strictness(p) - 1, p)
    how, apart = ("sampled", math.inf) if parts is None else _proof(parts, kind, known, ones)
    return Strictness(
        tuple(zip(TABLE, at, strict=True)),
        at[1] / at[3] if at[3] else math.nan,
        ones,
        crossings(strictness, p),
        crossings(excess, inside),
        kind,
        how,
        apart,
    )


def _kind(strictness: Tensor, parts: Parts | None) -> str:
    """What s is like at points, and where the loss has a formula in the narrowest bump that enclosures find."""
    if not len(strictness):
        return "mixed"
    above, below = float(strictness.max()) - 1, 1 - float(strictness.min())
    if parts is not None:
        excess = parts.even_strictness - 1.0
        above = max(above, supremum(Function(excess), _SEARCHED, _ROUNDING / 2).attained)
        below = max(below, supremum(Function(-excess), _SEARCHED, _ROUNDING / 2).attained)
    if above <= _ROUNDING and below <= _ROUNDING:
        return "cross-entropy"
    return "liberal" if above <= _ROUNDING else "strict" if below <= _ROUNDING else "mixed"


def _proof(parts: Parts, kind: str, strictness: Tensor, ones: tuple[float, ...]) -> tuple[str, float]:
    """Whether enclosures prove the kind, and how far apart logits may be for that."""
    if kind == "mixed" and len(ones) > 1:
        return "proved", math.inf  # s is above 1 somewhere and below 1 elsewhere: there is no more to it
    excess = parts.even_strictness - 1.0
    signs = {"strict": (1,), "liberal": (-1,), "cross-entropy": (1, -1)}.get(kind)
    for reach in REACHES:
        low = -reach - SHARED
        claims = [] if signs is None else [(sign, (low, reach)) for sign in signs]
        if kind == "mixed" and ones:
            before, after = (_logit(ones[0] + step) if 0 < ones[0] + step < 1 else None for step in (-_BESIDE, _BESIDE))
            first = 1 if float(strictness[0]) > 1 else -1
            claims = [] if before is None else [(first, (low, before))]
            claims += [] if after is None else [(-first, (after, reach))]
        proofs = (supremum(Function(-sign * excess), span, _ROUNDING / 2).proved for sign, span in claims)
        if claims and all(proved <= _ROUNDING for proved in proofs):
            return "proved", reach
    return "sampled", math.inf


def ends_of(subject: Subject) -> tuple[End, End]:
    """The behaviour as p goes to 0 and as it goes to 1."""
    return _end(subject, -1), _end(subject, 1)


def limit_of_value(subject: Subject, sign: int) -> float | None:
    """The loss as the target's logit falls below (``sign`` -1) or rises above (1) the others without end.

    The others share evenly. The limit is infinite where the loss goes on growing, None where it is no number.
    """
    C = 2 if subject.binary else subject.num_classes
    gap = sign * torch.tensor(_FAR, dtype=torch.float64)
    logits = torch.zeros(len(_FAR), C, dtype=torch.float64)
    logits[:, 0] = gap
    with torch.no_grad():
        first, near, far = subject.of_class_0(logits).tolist()
    if math.isnan(far):
        return None
    before, last = near - first, far - near
    if abs(last) <= 1e-9 * max(1.0, abs(far)):
        return float(far) + 0.0
    if not math.isfinite(far) or abs(last) > _SLOWING * abs(before):
        return math.copysign(math.inf, far)
    return float(far + last * last / (before - last))  # as if the steps shrank in a geometric series


def crossings(function: Callable[[Tensor], Tensor], grid: Tensor) -> tuple[float, ...]:
    """Where a function changes sign between neighbours of a grid, by bisection; rounding about 0 is passed over."""
    value = function(grid)
    value = value.where(value.abs() > _ROUNDING, 0.0)
    told = (value != 0) & value.isfinite()
    grid, value = grid[told], value[told]
    change = value[:-1] * value[1:] < 0
    low, high, sign = grid[:-1][change], grid[1:][change], value[:-1][change].sign()
    for _ in range(60 if len(low) else 0):
        middle = (low + high) / 2
        same = function(middle).sign() == sign
        low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    return tuple(((low + high) / 2).tolist())


def _end(subject: Subject, sign: int) -> End:
    small = torch.tensor([1e-6, 1e-7], dtype=torch.float64)
    p = small if sign < 0 else 1 - small
    near, far = along_line(subject, p, subject.num_classes)[1].tolist()
    power = None
    if near * far > 0 and abs(far) > 1e-300:
        power = round(math.log10(near / far), 3) + 0.0
    strictness = far
    if power is not None and abs(power) > 0.01:
        strictness = 0.0 if power > 0 else math.copysign(math.inf, far)
    gradient = -strictness if sign < 0 else _gradient_at_one(power, far)
    return End(limit_of_value(subject, sign), strictness, power, gradient + 0.0)


def _gradient_at_one(power: float | None, far: float) -> float:
    """The slope -s (1 - p) at p = 1, given s at p = 1 - 1e-7."""
    if power is None or power > -0.99:
        return 0.0
    return -1e-7 * far if power > -1.01 else -math.copysign(math.inf, far)


def _logit(p: float) -> float:
    return math.log(p / (1 - p))
