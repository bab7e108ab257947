"""Large values and gradients, found by climbing from many starts where some classes share one logit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

import torch
from torch import Tensor

from lossmith.properties.parts import Groups, Parts
from lossmith.properties.subject import Subject

_POINTS: Final = 1200
_CLIMBERS, _BROODS, _ROUNDS = 12, 24, 25
_MOST_ENTRIES: Final = 400_000
_MOST_TARGETS: Final = 10
_FARTHEST: Final = 1e6

Objectives = Callable[[Tensor], Tensor]
"""From logits (N, G) to quantities (K, N)."""


def climb(objectives: Objectives, groups: int, points: int, generator: torch.Generator) -> Tensor:
    """The largest of each of K quantities that random starts and random steps uphill reach, shape (K,).

    It is -inf where a quantity was nowhere a number.
    """
    scale = torch.logspace(-1, 1.3, points, dtype=torch.float64)[:, None]
    z = torch.randn(points, groups, dtype=torch.float64, generator=generator) * scale
    edge = torch.cat([torch.linspace(-40, 40, points // 4), torch.tensor([-1.0, 1.0]) * _FARTHEST]).double()
    line = torch.zeros(len(edge), groups, dtype=torch.float64)
    line[:, 0] = edge
    z = torch.cat([z, line])
    most, at = objectives(z).nan_to_num(-math.inf, math.inf).topk(max(2, int(_CLIMBERS * points / _POINTS)))
    top, step = z[at], 2.0  # of each quantity its own
    broods, all_of = max(6, int(_BROODS * points / _POINTS)), torch.arange(len(top))
    for _ in range(_ROUNDS):
        noise = torch.randn(*top.shape[:2], broods, groups, dtype=torch.float64, generator=generator) * step
        tried = top[:, :, None] + noise
        value = objectives(tried.flatten(0, 2)).nan_to_num(-math.inf, math.inf).view(-1, *tried.shape[:3])
        high, which = value[all_of, all_of].max(2)
        better = high > most
        top = torch.where(better[..., None], tried.take_along_dim(which[..., None, None], 2)[:, :, 0], top)
        most = torch.where(better, high, most)
        step *= 0.65
    return most.amax(1)


def sampled_extremes(subject: Subject, parts: Parts | None) -> tuple[float, float, float]:
    """Lower bounds on the suprema of the loss, of minus the loss and of its gradient's norm, found by climbing."""
    generator = torch.Generator().manual_seed(0)
    best = torch.full((3,), -math.inf, dtype=torch.float64)
    for objectives, groups, points in _settings(subject, parts):
        best = torch.maximum(best, climb(objectives, groups, points, generator))
    value, negative, gradient = best.tolist()
    return value, negative, gradient


def group_sizes(num_classes: int) -> list[tuple[int, ...]]:
    """Ways to put classes into up to four groups: the target, one other, several, the rest."""
    C = num_classes
    if C <= 4:
        return [(1,) * C]
    several = sorted({1, 2, C // 8, C // 2} - {0})
    return [(1, 1, m, C - 2 - m) for m in several if C - 2 - m > 0]


def _settings(subject: Subject, parts: Parts | None) -> Iterator[tuple[Objectives, int, int]]:
    if parts is not None:
        for sizes in group_sizes(parts.num_classes):
            yield _by_parts(Groups(parts, sizes)), len(sizes), _POINTS
        return
    C = subject.num_classes
    points = max(24, min(_POINTS, _MOST_ENTRIES // C))
    all_sizes = group_sizes(C) if subject.symmetric else [(1,) * C]
    targets = [0] if subject.symmetric else range(0, C, max(1, C // _MOST_TARGETS))
    points = max(24, points // len(targets))
    for sizes in all_sizes:
        for target in targets:
            yield _by_logits(subject, sizes, target), len(sizes), points


def _by_parts(groups: Groups) -> Objectives:
    def objectives(z: Tensor) -> Tensor:
        value = groups.table(z)[:, 0]
        return torch.stack([value, -value, groups.gradient_norm(z)])

    return objectives


def _by_logits(subject: Subject, sizes: tuple[int, ...], target: int) -> Objectives:
    def objectives(z: Tensor) -> Tensor:
        rows = []
        for part in z.split(max(1, _MOST_ENTRIES // sum(sizes))):
            logits = part.repeat_interleave(torch.tensor(sizes), 1).requires_grad_()
            value = subject.of_class_0(logits) if target == 0 else subject.table(logits)[:, target]
            (gradient,) = torch.autograd.grad(value.sum(), logits)
            value = value.detach()
            rows.append(torch.stack([value, -value, gradient.norm(dim=1)]))
        return torch.cat(rows, 1)

    return objectives
