"""How large a loss and its gradient get, for which logits they can be computed, and the test for label noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch

from lossmith.properties.strictness import limit_of_value
from lossmith.properties.subject import Subject

DTYPES: Final = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_FEW: Final = 4
_CONSTANT: Final = 1e-9


@dataclass(frozen=True)
class Bounds:
    """Whether value and gradient are bounded.

    Attributes:
        value: supremum of the loss as the target's probability goes to 0, others sharing evenly or one taking all.
        gradient: the largest norm of the gradient on the logits that was found; infinite where the loss has to be
            continued by its tangent.
    """

    value: float
    gradient: float


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
        spread: standard deviation of that sum over random predictions, relative to that of C times the loss itself;
            0 for a symmetric loss.
    """

    symmetric: bool
    spread: float


def bounds_of(subject: Subject) -> Bounds:
    """Follow value and gradient to the ends of the simplex and over random logits."""
    values = [limit_of_value(subject, -1, others_equal=even) for even in (True, False)]
    value = max(math.inf if limit is None else limit for limit in values)
    if subject.linear_above(torch.float32) is not None:
        return Bounds(value, math.inf)
    C = subject.num_classes if subject.only else min(_FEW, subject.num_classes)
    generator = torch.Generator().manual_seed(0)
    gap = torch.linspace(-40, 40, 1601, dtype=torch.float64)
    line, corner = torch.zeros(2, len(gap), C, dtype=torch.float64)
    line[:, 0], corner[:, 1] = gap, gap
    random = torch.randn(2000, C, dtype=torch.float64, generator=generator) * torch.linspace(1, 8, 2000)[:, None]
    logits = torch.cat([line, corner, random]).requires_grad_()
    (gradient,) = torch.autograd.grad(subject.of_class_0(logits).sum(), logits)
    norm = gradient.norm(dim=1)
    grows = float(norm[0]) > 2 * float(norm[400]) or float(norm[1600]) > 2 * float(norm[1200]) + 1e-9
    grows |= float(norm[3201]) > 2 * float(norm[2801]) + 1e-9
    return Bounds(value, math.inf if grows or not bool(norm.isfinite().all()) else float(norm.max()))


def ranges_of(subject: Subject) -> tuple[Range, ...]:
    """The numeric range of each dtype, for a target whose logit lies a gap below or above another."""
    return tuple(_range(subject, name, dtype) for name, dtype in DTYPES.items())


def noise_test(subject: Subject) -> NoiseTest:
    """Sum the loss over all targets at random predictions; see `NoiseTest`."""
    C = subject.num_classes if subject.only else min(_FEW, subject.num_classes)
    logits = 2 * torch.randn(200, C, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        table = subject.table(logits)
    spread = float(table.sum(1).std() / (C * table.std()).clamp(min=1e-300))
    return NoiseTest(spread < _CONSTANT, 0.0 if spread < _CONSTANT else spread)


def _range(subject: Subject, name: str, dtype: torch.dtype) -> Range:
    largest = torch.finfo(dtype).max
    gaps = [min(2.0**k, 2 * largest) for k in range(129) if 2.0 ** (k - 1) < 2 * largest]
    C = 2 if subject.binary or not subject.only else subject.num_classes
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
