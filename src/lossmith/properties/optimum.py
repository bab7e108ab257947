"""What a loss makes of known class probabilities: is its optimum the truth, is the order kept, is confidence capped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from lossmith.properties.parts import CalledGroups, Groups, Parts, groups_of
from lossmith.properties.scale import initial_gradient
from lossmith.properties.shape import along_gap
from lossmith.properties.subject import Subject

_MOST_CALLED: Final = 10
CLASSES: Final = (2, 10, 100, 1000)
_STEPS: Final = 150
_SHARP: Final = 1e-5  # beyond it two probabilities differ
_ZERO: Final = 1e-7
_FLAT, _ROUNDING, _STUCK = 1e-13, 4e-16, 1e5


@dataclass(frozen=True)
class Minimiser:
    """The prediction of least expected loss that was found.

    Attributes:
        truth: the true class probabilities.
        best: the predicted probabilities, to about 1e-6.
    """

    truth: tuple[float, ...]
    best: tuple[float, ...]


@dataclass(frozen=True)
class Optimum:
    """The best predictions that were found for given class probabilities.

    Attributes:
        num_classes: C here; all classes but the first three are equally probable.
        sizes: how many classes each number of an example stands for.
        examples: for a sure label, a likely class, and a graded one.
        proper: whether the truth is the best prediction in every case tried.
        top_kept: whether the most probable class is predicted in every case tried (classification-calibrated).
        order_kept: whether the whole order of the classes is.
        power: if predictions go like a power of the true probabilities, that power: 1 for a proper loss.
        tried: how many class probabilities were tried.
    """

    num_classes: int
    sizes: tuple[int, ...]
    examples: tuple[Minimiser, ...]
    proper: bool
    top_kept: bool
    order_kept: bool
    power: float | None
    tried: int


@dataclass(frozen=True)
class Start:
    """How training starts and where it ends, for one number of classes.

    Attributes:
        num_classes: C.
        gradient: norm of the first gradient, all classes equally probable, relative to cross-entropy's.
        match: the factor that makes it cross-entropy's; None if there is no gradient.
        cap: the probability of the target at the lowest loss that was found for a sure label, others sharing evenly; 1
            if there is no cap, None if the loss is flat.
        smoothing: the epsilon of label smoothing with the same cap.
    """

    num_classes: int
    gradient: float
    match: float | None
    cap: float | None
    smoothing: float | None


def starts_of(subject: Subject) -> tuple[Start, ...]:
    """First gradient and confidence cap for 2, 10, 100, 1000 classes and the number asked for."""
    C = subject.num_classes
    counts = (C,) if subject.only else tuple(sorted({*CLASSES, C}))
    return tuple(_start(subject, count) for count in counts)


def optimum_of(subject: Subject, parts: Parts | None) -> Optimum:
    """Minimise the expected loss for some class probabilities; without parts, for at most ten classes."""
    C = subject.num_classes if parts is not None or subject.only else min(subject.num_classes, _MOST_CALLED)
    sizes = (1,) * C if C <= 4 or not subject.symmetric else (1, 1, 1, C - 3)
    count = torch.tensor(sizes, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    random = torch.rand(6, len(sizes), dtype=torch.float64, generator=generator) + 0.05  # of whole groups
    graded = torch.tensor([0.5, 0.3, 0.2] if C == 3 else range(len(sizes), 0, -1), dtype=torch.float64)
    likely = torch.cat([torch.tensor([0.7], dtype=torch.float64), 0.3 * count[1:] / (C - 1)])
    sure = torch.zeros(len(sizes), dtype=torch.float64).index_fill(0, torch.tensor([0]), 1.0)
    truth = torch.cat([torch.stack([sure, likely, graded]), random])
    truth = truth / truth.sum(1, keepdim=True)
    best = minimise(subject, parts, truth, sizes) / count
    truth = truth / count
    inner = truth[1:]
    return Optimum(
        C,
        sizes,
        tuple(Minimiser(tuple(t.tolist()), tuple(b.tolist())) for t, b in zip(truth[:3], best[:3], strict=True)),
        bool(((truth - best).abs() < _SHARP).all()),
        bool((_margin(truth, best) > 0).all()),
        _order_kept(inner, best[1:]),
        _power(inner, best[1:]),
        len(truth),
    )


def minimise(subject: Subject, parts: Parts | None, truth: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """The groups' probabilities of least expected loss, shape (K, G), by Newton's method from several starts.

    ``truth`` holds the true probabilities of groups of classes, float64 (K, G), and ``sizes`` the number of classes in
    each group. What lies below 1e-7 is 0.
    """
    K, C = truth.shape
    groups = groups_of(subject, parts, sizes)
    corners = 5.0 * torch.eye(C, dtype=torch.float64)
    starts = torch.cat([torch.zeros(1, C, dtype=torch.float64), corners])
    z = torch.cat([truth.clamp(min=1e-4).log()[:, None], starts.expand(K, -1, -1)], 1).flatten(0, 1)
    target = truth.repeat_interleave(len(starts) + 1, 0)
    damping = torch.full((len(z), 1), 1e-3, dtype=torch.float64)
    steepest = torch.zeros((), dtype=torch.float64)
    settled = torch.zeros(len(z), dtype=torch.bool)
    for _ in range(_STEPS):
        value, gradient, hessian = _derivatives(groups, z, target)
        size = gradient.abs().amax(1, keepdim=True)
        steepest = torch.maximum(steepest, size.nan_to_num(0.0, 0.0).max())
        if bool(((size < _FLAT * steepest) | settled[:, None] | (damping > _STUCK)).all()):
            break
        longest = 2 + z.abs().amax(1, keepdim=True)  # so that minima at infinity are near
        step = _newton(gradient, hessian, damping).clamp(-longest, longest)
        with torch.no_grad():
            gain = value - _expected(groups, z + step, target)
        better, settled = gain[:, None] >= 0, (gain >= 0) & (gain <= _ROUNDING * value.abs())
        z = torch.where(better, z + step, z)
        damping = torch.where(better, damping / 4, damping * 8).clamp(1e-14, 1e8)
    with torch.no_grad():
        value = _expected(groups, z, target).view(K, -1).nan_to_num(math.inf)
        best = _of_groups(subject, z, sizes).view(K, -1, C)[torch.arange(K), value.argmin(1)]
    best = best.where(best > _ZERO, 0.0)
    return best / best.sum(1, keepdim=True)


def _of_groups(subject: Subject, logits: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """The probabilities of whole groups."""
    count = torch.tensor(sizes)
    if not hasattr(subject.loss, "probabilities"):
        return (logits + count.log()).softmax(1)
    return subject.probabilities(logits.repeat_interleave(count, 1))[:, count.cumsum(0) - 1] * count


def _start(subject: Subject, num_classes: int) -> Start:
    ratio = initial_gradient(subject, num_classes)
    cap = _cap(subject, num_classes)
    smoothing = None if cap is None else (1 - cap) * num_classes / (num_classes - 1)
    return Start(num_classes, ratio, 1 / ratio if ratio else None, cap, smoothing)


def _cap(subject: Subject, num_classes: int) -> float | None:
    """The target's probability at the minimum for a sure label, the others sharing evenly; None where all is flat."""
    gap = torch.linspace(-10, 40 + math.log(num_classes), 801, dtype=torch.float64)
    value, slope = along_gap(subject, gap, num_classes)
    known = slope.isfinite()
    if not known.any():
        return None
    gap, value, slope = gap[known], value[known], slope[known]
    scale = float(slope.abs().max())
    if scale < 1e-14:
        return None
    least = int(value.nan_to_num(math.inf).argmin())
    rising = least + 1 < len(gap) and float(slope[least + 1 :].max()) > 1e-9 * scale
    if not rising:
        return 1.0
    low, high = gap[max(0, least - 1)], gap[least + 1]
    for _ in range(60):
        middle = (low + high) / 2
        falls = along_gap(subject, middle[None], num_classes)[1][0] < 0
        low, high = (middle, high) if bool(falls) else (low, middle)
    logits = torch.zeros(1, num_classes, dtype=torch.float64)
    logits[0, 0] = low
    with torch.no_grad():
        return float(subject.probabilities(logits)[0, 0])


def _expected(groups: Groups | CalledGroups, logits: Tensor, truth: Tensor) -> Tensor:
    terms: Tensor = torch.where(truth > 0, truth * groups.table(logits), 0.0)
    return terms.sum(1)


def _derivatives(groups: Groups | CalledGroups, logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    logits = logits.detach().requires_grad_()
    value = _expected(groups, logits, truth)
    (gradient,) = torch.autograd.grad(value.sum(), logits, create_graph=True)
    return value.detach(), gradient.detach(), jacobian(gradient, logits)


def jacobian(gradient: Tensor, at: Tensor) -> Tensor:
    """The second derivatives (N, C, C) of a sum over rows, from its gradient (N, C)."""
    if not gradient.requires_grad:
        return torch.zeros(*at.shape, at.shape[1], dtype=at.dtype)
    rows = [
        torch.autograd.grad(gradient[:, i].sum(), at, retain_graph=True, allow_unused=True)[0]
        for i in range(at.shape[1])
    ]
    return torch.stack([torch.zeros_like(at) if row is None else row for row in rows], 1).detach()


def _newton(gradient: Tensor, hessian: Tensor, damping: Tensor) -> Tensor:
    """Newton's step with the curvature made positive, so that it leads down; none where derivatives are not finite."""
    hessian = ((hessian + hessian.mT) / 2).nan_to_num(0.0, 0.0, 0.0)
    curvature, axes = torch.linalg.eigh(hessian)
    along: Tensor = (axes.mT @ gradient.nan_to_num(0.0, 0.0, 0.0)[..., None])[..., 0]
    size = curvature.abs().amax(1, keepdim=True).clamp(min=1e-300)
    step: Tensor = (axes @ (along / (curvature.abs() + damping * size).clamp(min=1e-300))[..., None])[..., 0]
    return -step


def _margin(truth: Tensor, best: Tensor) -> Tensor:
    """By how much the most probable class leads in the prediction."""
    top = truth.argmax(1, keepdim=True)
    return best.gather(1, top)[:, 0] - best.scatter(1, top, -1.0).amax(1) - _SHARP


def _order_kept(truth: Tensor, best: Tensor) -> bool:
    above = truth[:, :, None] - truth[:, None] > _SHARP
    return bool((best[:, :, None] - best[:, None])[above].min() > _ZERO)


def _power(truth: Tensor, best: Tensor) -> float | None:
    """The a of ``best ~ truth^a``, None if it is no power."""
    if not bool((best > 0).all()):
        return None
    x, y = (q.log() - q.log().mean(1, keepdim=True) for q in (truth, best))
    power = float((x * y).sum() / (x * x).sum())
    return round(power, 6) if float((y - power * x).abs().max()) < _SHARP else None
