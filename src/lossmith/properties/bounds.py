"""How large a loss and its gradient get, for which logits they can be computed, and the test for label noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import numpy as np
import torch

from lossmith.formulas import Expression
from lossmith.properties.enclosure import Function, supremum
from lossmith.properties.extremes import Extreme, largest_gradient, largest_value
from lossmith.properties.parts import Parts, groups_of, slope_in_p
from lossmith.properties.search import group_sizes, sampled_extremes
from lossmith.properties.subject import Subject

DTYPES: Final = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_MANY: Final = 1000
_CONSTANT: Final = 1e-9


@dataclass(frozen=True)
class Bounds:
    """How large and how small a loss gets over the whole simplex, and how large its gradient.

    Attributes:
        largest: of the loss.
        smallest: of minus the loss, so that the loss is nowhere below minus what is proved.
        gradient: of the norm of the gradient on the logits, of the formula where the loss is continued by its tangent.
    """

    largest: Extreme
    smallest: Extreme
    gradient: Extreme


@dataclass(frozen=True)
class Range:
    """The logits of one dtype for which the loss and its gradient are finite.

    Attributes:
        dtype: of the logits.
        largest_gap: the largest gap between two logits, of those tried, up to which both are finite.
        whole: whether that is every gap the dtype has.
        tangent: the cross-entropy beyond which the loss is continued by its tangent; None if it never is.
    """

    dtype: str
    largest_gap: float
    whole: bool
    tangent: float | None


@dataclass(frozen=True)
class NoiseTest:
    """The test of Ghosh et al. (2017): is the sum of the losses over all targets the same for every prediction?

    Attributes:
        symmetric: whether it is; a minimiser is then the same under symmetric label noise of any share below
            (C-1)/C.
        how: ``"proved"`` by algebra, ``"counterexample"``, or ``"tested"`` (constant wherever it was sampled).
        spread: standard deviation of that sum over random predictions, relative to that of C times the loss itself;
            NaN where the loss is a number at none of them.
    """

    symmetric: bool
    how: Literal["proved", "counterexample", "tested"]
    spread: float


@np.errstate(over="ignore", under="ignore")  # whatever the caller has set: enclosures allow for both
def bounds_of(subject: Subject, parts: Parts | None) -> Bounds:
    """Bound value and gradient for the number of classes asked for; without parts only sampling is left."""
    sampled = cache(lambda: sampled_extremes(subject, parts))
    if parts is None:
        return Bounds(*(Extreme(each, "sampled", None, math.inf) for each in sampled()))
    turned = Parts(-parts.target, -parts.other, parts.num_classes)
    return Bounds(
        largest_value(parts, lambda: sampled()[0]),
        largest_value(turned, lambda: sampled()[1]),
        largest_gradient(parts, lambda: sampled()[2]),
    )


def ranges_of(subject: Subject) -> tuple[Range, ...]:
    """The numeric range of each dtype, for a target whose logit lies a gap below or above another."""
    return tuple(_range(subject, name, dtype) for name, dtype in DTYPES.items())


def noise_test(subject: Subject, parts: Parts | None) -> NoiseTest:
    """Prove or refute that the sum of the loss over all targets is constant; see `NoiseTest`."""
    spreads = []
    generator = torch.Generator().manual_seed(0)
    all_sizes = group_sizes(subject.num_classes) if subject.symmetric else [(1,) * subject.num_classes]
    for sizes in all_sizes:
        logits = 2 * torch.randn(
            200 if subject.num_classes <= _MANY else 20, len(sizes), dtype=torch.float64, generator=generator
        )
        count = torch.tensor(sizes, dtype=torch.float64)
        with torch.no_grad():
            table = groups_of(subject, parts, sizes).table(logits)
        table = table[table.isfinite().all(1)]
        if len(table) > 1:
            deviation = (table * count).sum(1).std() / (count.sum() * table.std()).clamp(min=1e-300)
            spreads.append(float(deviation))
    spread = max(spreads, default=math.nan)
    if not spread <= _CONSTANT:
        return NoiseTest(False, "counterexample", spread)
    if parts is not None:
        # Then it is the same affine function of each p_j, and those sum to 1.
        if slope_in_p(parts.target + (parts.num_classes - 1.0) * parts.other) is not None:
            return NoiseTest(True, "proved", 0.0)
        even = _sum_over_targets(parts)
        high, low = (supremum(Function(each), 12.0).attained for each in (even, -even))
        if high + low > _CONSTANT * max(abs(high), abs(low), 1.0):
            return NoiseTest(False, "counterexample", spread)
    return NoiseTest(True, "tested", 0.0)


def _sum_over_targets(parts: Parts) -> Expression:
    """The sum of the loss over all targets, where all classes but one share evenly."""
    each = parts.target + (parts.num_classes - 1.0) * parts.other
    return each + (parts.num_classes - 1.0) * parts.evenly(each)


def _range(subject: Subject, name: str, dtype: torch.dtype) -> Range:
    largest = torch.finfo(dtype).max
    gaps = [min(2.0**k, 2 * largest) for k in range(130) if 2.0 ** (k - 1) < 2 * largest]
    C = subject.num_classes
    gap = torch.tensor([*gaps, *gaps], dtype=torch.float64)
    logits = torch.zeros(len(gap), C, dtype=torch.float64)
    logits[:, 0], logits[:, 1:] = gap / 2, (-gap / 2)[:, None]
    logits[: len(gaps)] *= -1
    logits = logits.clamp(-largest, largest).to(dtype).requires_grad_()
    value = subject.of_class_0(logits)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    finite = value.isfinite() & gradient.isfinite().all(1)
    good = finite.view(2, -1).all(0).tolist()
    reached = next((k for k, fine in enumerate(good) if not fine), len(good))
    return Range(name, gaps[reached - 1] if reached else 0.0, reached == len(gaps), subject.linear_above(dtype))
