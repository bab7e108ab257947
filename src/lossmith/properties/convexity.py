"""Whether a loss is convex, in the probabilities and in the logits: refuted, proved, or tested; it says which."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from lossmith.formulas import Expression, apply, derivative, terminal
from lossmith.formulas.arithmetic import folded
from lossmith.properties.domain import without_poles, without_value
from lossmith.properties.enclosure import REACHES, Array, Cells, Function, nowhere_negative, supremum
from lossmith.properties.optimum import jacobian
from lossmith.properties.parts import CalledGroups, Groups, P, Parts, groups_of
from lossmith.properties.search import group_sizes
from lossmith.properties.subject import Subject

FEW: Final = 4  # classes, in which counterexamples are sought if a loss has no formula
_POINTS: Final = 200
_LOWEST: Final = 1e-6  # of p and of 1 - p, in tests
_TOLERANCE, _ROUNDING = 1e-7, 1e-9  # relative to the second derivatives, to the spread of the loss
_PLAIN: Final = 0.005  # probabilities that a counterexample had better not be below
_CANDIDATES: Final = 20
_NEAR: Final = 1e-9  # around a point, so that enclosures hold however it is rounded
_PLAINLY, _SEARCHED = 4.6, 12.0  # logits log(p/(1-p)) of the target, for p from .01 to .99 and beyond

Space = Literal["p", "logits"]


@dataclass(frozen=True)
class Convexity:
    """An answer and where it comes from.

    Attributes:
        holds: whether it is convex.
        how: ``"proved"``, ``"counterexample"``, or ``"tested"`` (no counterexample was found).
        detail: the proof's method or the counterexample, in words.
    """

    holds: bool
    how: Literal["proved", "counterexample", "tested"]
    detail: str


def convex_in_probabilities(subject: Subject, parts: Parts | None) -> Convexity:
    """Whether the loss of a label is a convex function of the probabilities, on the simplex.

    Where the loss has parts, a counterexample is certain and a proof is possible.
    """
    return _examined(subject, parts, "p")


def convex_in_logits(subject: Subject, parts: Parts | None) -> Convexity:
    """Whether the loss of a label is a convex function of the logits.

    A loss phi(c) of the target's cross-entropy c is, for any number of classes, if phi' >= 0 and ``phi''(c) (e^c - 1) +
    phi'(c) >= 0``: its Hessian is ``phi' (diag(p) - p p^T) + phi'' g g^T``, g = p - onehot, and ``g^T (diag(p) - p
    p^T)^+ g = (1 - p_t) / p_t = e^c - 1``. A sum over classes is if both of its parts are.
    """
    return _examined(subject, parts, "logits")


def _examined(subject: Subject, parts: Parts | None, space: Space) -> Convexity:
    found = None if parts is None else _on_the_even_line(parts, space)
    found = found or _at_points(subject, parts, space)
    if found is None and parts is not None:
        found = _proof(parts, space)
    if found is not None:
        return found
    few = "" if sum(_shape(subject, parts)[0]) == subject.num_classes else f" with {FEW} classes"
    return Convexity(True, "tested", f"no counterexample among {3 * _POINTS} points{few}")


def _even_slope(parts: Parts, space: Space) -> Expression:
    """The slope where the others share evenly: in the target's probability, or in its logit."""
    if space == "p":
        return derivative(parts.even_loss, "p")
    return folded("neg", folded("mul", parts.even_strictness, 1.0 - P))


def _curvature(slope: Expression, space: Space) -> Expression:
    """The derivative of a slope in p, or in the logit log(p/(1-p))."""
    return derivative(slope, "p") if space == "p" else folded("mul", derivative(slope, "c"), P - 1.0)


def _on_the_even_line(parts: Parts, space: Space) -> Convexity | None:
    """A counterexample where the others share evenly: a slope that falls, or a curvature certainly below 0."""
    slope = _even_slope(parts, space)
    what = "slope in the target's " + ("probability" if space == "p" else "logit")
    for farthest in (_PLAINLY, _SEARCHED):
        logits = np.linspace(-farthest, farthest, 2401)
        low, high = Function(slope).on(Cells(logits, logits))
        low, high = np.where(np.isfinite(low), low, -np.inf), np.where(np.isfinite(high), high, np.inf)
        falls = np.maximum.accumulate(low)[:-1] - high[1:]
        if not falls.max() > 0:
            continue
        end = int(falls.argmax()) + 1
        start = int(np.argmax(low[:end]))
        p, q = _told_apart(*(1 / (1 + math.exp(-logits[i])) for i in (start, end)))
        first, last = _told_apart(low[start], high[end])
        return Convexity(
            False,
            "counterexample",
            f"as the target goes from p = {p} to {q}, others sharing evenly, the {what} falls from {first} to {last}",
        )
    found = supremum(Function(folded("neg", _curvature(slope, space))), _SEARCHED)
    if found.attained > 0:
        at = 1 / (1 + math.exp(-found.at))
        return Convexity(
            False,
            "counterexample",
            f"where the target has p = {at:.6g} and the others share evenly, the {what} falls, at a rate of "
            f"{found.attained:.2g}",
        )
    return None


def _told_apart(a: float, b: float) -> tuple[str, str]:
    """Two numbers that differ, to four digits, or to as many more as tell them apart."""
    shown = ((f"{a:.{digits}g}", f"{b:.{digits}g}") for digits in range(4, 18))
    return next(pair for pair in shown if pair[0] != pair[1])


def _shape(subject: Subject, parts: Parts | None) -> list[tuple[int, ...]]:
    """The groups of classes in which counterexamples are sought."""
    if not subject.symmetric:
        return [(1,) * subject.num_classes]
    whole = parts is not None or subject.only
    return group_sizes(subject.num_classes if whole else min(subject.num_classes, FEW))


def _at_points(subject: Subject, parts: Parts | None, space: Space) -> Convexity | None:
    """A point where the Hessian of some class's loss has a clearly negative eigenvalue."""
    for sizes in _shape(subject, parts):
        groups = groups_of(subject, parts, sizes)
        logits = _points(sizes)
        for target in range(1 if subject.symmetric else subject.num_classes):
            for lowest, p, direction in _negative(groups, logits, target, space):
                if parts is not None and not _certain(parts, sizes, p, direction, space):
                    continue
                order = [target, *(i for i in range(len(sizes)) if i != target)]
                shown = ", ".join(_shared(float(p[i]), sizes[i]) for i in order)
                few = "" if sum(sizes) == subject.num_classes else f" of {FEW} classes"
                return Convexity(
                    False,
                    "counterexample",
                    f"at the probabilities ({shown}){few}, the target's first, the curvature is {lowest:.2g} in one "
                    "direction",
                )
    return None


def _shared(p: float, count: int) -> str:
    return f"{p:.3g}" if count == 1 else f"{count:,} x {p:.3g}"


def _negative(
    groups: Groups | CalledGroups, logits: Tensor, target: int, space: Space
) -> list[tuple[float, Tensor, Tensor]]:
    """Curvatures below 0, with the probabilities of one class of each group and the direction, the plainest first."""
    root = torch.tensor(groups.sizes, dtype=torch.float64).sqrt()
    p = (logits + 2 * root.log()).softmax(1) / root**2
    # Scaled so that a unit vector in the groups is a unit vector in the classes.
    at = ((p if space == "p" else logits) * root).detach().requires_grad_()
    value = groups.table((at / root).log() if space == "p" else at / root)
    if not value.requires_grad:
        return []  # the same for all predictions
    floor = _ROUNDING * float(value.detach()[value.isfinite()].std().nan_to_num(0.0))
    (gradient,) = torch.autograd.grad(value[:, target].sum(), at, create_graph=True)
    hessian = jacobian(gradient, at)
    size = hessian.abs().amax((1, 2)).clamp(min=1e-12)
    basis = torch.eye(len(root), dtype=torch.float64)
    if space == "p":
        basis = torch.linalg.qr(basis - root[:, None] * root / root.square().sum())[0]
        basis = torch.linalg.svd(basis - root[:, None] * (root @ basis) / root.square().sum())[0][:, :-1]
        hessian = basis.mT @ hessian @ basis
    usable = hessian.isfinite().flatten(1).all(1)
    values, vectors = torch.linalg.eigh((hessian[usable] + hessian[usable].mT) / 2)
    lowest, direction, p, size = values[:, 0], vectors[:, :, 0] @ basis.mT / root, p[usable], size[usable]
    negative = lowest < -_TOLERANCE * size - floor
    plain = negative & (p.amin(1) > _PLAIN)
    score = torch.where(plain, lowest / size - 2, torch.where(negative, lowest / size, math.inf))
    order = score.argsort()[: min(_CANDIDATES, int(negative.sum()))].tolist()
    return [(float(lowest[i]), p[i], direction[i]) for i in order]


def _certain(parts: Parts, sizes: tuple[int, ...], p: Tensor, direction: Tensor, space: Space) -> bool:
    """Whether enclosures prove that the second derivative at a point along a direction is negative."""
    logit = p.logit().numpy()
    near = Cells(logit - _NEAR * (1 + np.abs(logit)), logit + _NEAR * (1 + np.abs(logit)))
    place, count = np.arange(len(sizes)), np.array(sizes, dtype=float)
    v = direction.numpy()
    if space == "p":
        curvature = [derivative(derivative(part, "p"), "p") for part in parts.both]
        weights = count * v**2
        return bool(_total(curvature, near, place == 0, weights, 1e-9 * weights) < 0)
    mean = float((count * p.numpy() * v).sum())
    step = (mean - v) ** 2
    error = 1e-9 * float((v**2).max())
    variance = float((count * p.numpy() * step).sum())
    bend = _total(list(parts.slopes), near, place == 0, count * variance, count * error)
    second = [derivative(slope, "c") for slope in parts.slopes]
    return bend + _total(second, near, place == 0, count * step, count * error) < 0


def _total(functions: list[Expression], near: Cells, own: Array, weights: Array, error: Array) -> float:
    """An upper bound on the weighted sum of the target's function at its place and of the others' at theirs."""
    target, other = (Function(function).on(near) for function in functions)
    low, high = (np.where(own, a, b) for a, b in zip(target, other, strict=True))
    counted = weights + error > 0
    products = np.stack([end * w for end in (low, high) for w in (weights - error, weights + error)])
    return float(products.max(0)[counted].sum() * (1 - 1e-12)) if counted.any() else 0.0


def _points(sizes: tuple[int, ...]) -> Tensor:
    """Logits of points all over the simplex: on the line where the others share evenly, and at random."""
    generator = torch.Generator().manual_seed(0)
    ends = math.log((1 - _LOWEST) / _LOWEST)
    line = torch.zeros(_POINTS, len(sizes), dtype=torch.float64)
    line[:, 0] = torch.linspace(-ends, ends, _POINTS, dtype=torch.float64) + math.log(sum(sizes) - 1)
    random = torch.randn(_POINTS, len(sizes), dtype=torch.float64, generator=generator)
    return torch.cat([line, random, 3 * random.flip(0) - torch.tensor(sizes, dtype=torch.float64).log()])


def _proof(parts: Parts, space: Space) -> Convexity | None:
    """A proof by interval arithmetic, for logits as far apart as possible; none for what jumps, has corners or gaps."""
    if parts.kinked or without_value(parts):
        return None
    if parts.num_classes == 2:
        slopes = [_even_slope(parts, space)]
        nonnegative = [_curvature(slopes[0], space)]
    elif space == "p":
        slopes = [derivative(part, "p") for part in parts.both]
        nonnegative = [derivative(slope, "p") for slope in slopes]
    else:
        slopes = list(parts.slopes)
        along = [derivative(slope, "c") * apply("expm1", terminal("c")) + slope for slope in slopes]
        nonnegative = [*slopes, *along]
    functions = [Function(each) for each in nonnegative]
    for reach in REACHES:
        if all(nowhere_negative(each, reach) for each in functions) and all(
            without_poles(slope, reach) for slope in slopes
        ):
            return Convexity(True, "proved", f"by interval arithmetic, {within(reach)}")
    return None


def within(reach: float) -> str:
    """For which logits something was proved, in words."""
    if math.isinf(reach):
        return "for all logits"
    return "for all float32 logits" if reach > 1e38 else f"for logits at most {reach:g} apart"
