"""Which known losses a loss is equal to, up to a factor and an added constant."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lossmith import losses
from lossmith.formulas import constant, evaluate
from lossmith.losses import ClassificationLoss
from lossmith.properties.enclosure import Function, supremum
from lossmith.properties.parts import Parts, parts_of, simplest, slope_in_p
from lossmith.properties.shape import along_line
from lossmith.properties.subject import Subject, subject_of

_COUNTS: Final = (2, 3, 10)
_ROUNDING: Final = 1e-8
_MANY, _MOST_COUNTED = 50, 200
POINTS: Final = 40
"""How many random predictions are compared for each number of classes."""
_LARGEST: Final = 1e100
_LEAST_KAPPA, _MOST_KAPPA = 1e-5, 50.0
_SPANS: Final = (4.6, 12.0, 30.0)  # logits log(p/(1-p)) within which differences are sought
_DIFFERENT: Final = 1e-7
_ROUNDED: Final = 1e-12


@dataclass(frozen=True)
class Equal:
    """``loss = factor * known + constant``, to rounding, where no tangent continues either.

    Attributes:
        known: text form of the known loss.
        factor: by how much it is larger.
        constant: what is added; it changes no gradient.
        num_classes: the numbers of classes with which it was found so.
        always: whether these are all that were tried (2, 3, 10 and the number asked for, or the only one there is).
        how: ``"proved"`` by algebra for all predictions, or ``"tested"`` at `POINTS` random ones for each number of
            classes. Where both losses have formulas, no difference was found by branch and bound either.
    """

    known: str
    factor: float
    constant: float
    num_classes: tuple[int, ...]
    always: bool
    how: Literal["proved", "tested"]


def equals_of(subject: Subject) -> tuple[Equal, ...]:
    """Compare a loss with the named losses, with the parameters fitted that their families have."""
    asked = subject.num_classes
    counts = (asked,) if subject.only else tuple(sorted({*_COUNTS, min(asked, _MOST_COUNTED)}))
    found: dict[str, list[_Match]] = {}
    for C in counts:
        if C > _MANY and not found and not subject.only:
            break  # a loss that equals none with few classes is not compared with many
        logits = 2 * torch.randn(POINTS, C, dtype=torch.float64, generator=torch.Generator().manual_seed(C))
        with torch.no_grad():
            table = subject.table(logits)
        if not bool((table.abs() < _LARGEST).all()):
            return ()
        for known in _candidates(subject, logits, table):
            if known.text == subject.text or (type(known) is type(subject.loss) and known.text != known.name):
                continue  # itself, or itself with its parameters turned round
            other = subject_of(known, C)
            inside = -logits.log_softmax(1) < min(_uncontinued(subject), _uncontinued(other))
            fitted = _fit(table[inside], other.table(logits)[inside])
            how = "refuted" if fitted is None else _compared(parts_of(subject, C), parts_of(other, C), fitted[0])
            if fitted is not None and how != "refuted":
                found.setdefault(known.text, []).append(_Match(C, *fitted, how == "proved"))
    return tuple(equal for text, fits in found.items() for equal in _grouped(text, fits, counts))


class _Match(NamedTuple):
    """A known loss that fits with one number of classes."""

    num_classes: int
    factor: float
    constant: float
    proved: bool


def _compared(ours: Parts | None, theirs: Parts | None, factor: float) -> Literal["proved", "refuted", "tested"]:
    """Whether ``ours - factor * theirs`` is constant.

    It is if both parts of it are affine in p with one slope. It is not if it varies where all classes but one share
    evenly: there it is bounded by branch and bound, in which the narrowest bump shows.
    """
    if ours is None or theirs is None:
        return "tested"
    ratio = Fraction(factor).limit_denominator(_MOST_COUNTED)
    exact = float(ratio) == factor  # so a third is 1/3, and no double near it
    times = constant(float(ratio.numerator)) / float(ratio.denominator) if exact else constant(factor)
    target, other = (simplest(a - times * b) for a, b in zip(ours.both, theirs.both, strict=True))
    left = Parts(target, other, ours.num_classes)
    lines = [left.even_loss] if ours.num_classes == 2 else [left.even_loss, left.corner_loss]
    sizes = [abs(float(evaluate(slope, p=0.5))) for slope in (*ours.slopes, *theirs.slopes)]
    error = _ROUNDED * max(sizes)
    first, second = slope_in_p(target), slope_in_p(other)
    if first is not None and second is not None and abs(first - second) <= error:
        return "proved"
    even = slope_in_p(left.even_loss) if ours.num_classes == 2 else None
    if even is not None and abs(even) <= error:
        return "proved"
    for line, own in zip(lines, (ours.even_loss, ours.corner_loss), strict=False):
        line, size = simplest(line), Function(own)
        for span in _SPANS:
            values = size.at(np.linspace(-span, span, 201))
            values = values[np.isfinite(values)]
            error = _DIFFERENT * float(np.ptp(values)) if len(values) else 0.0
            high, low = (supremum(Function(each), (-span, span), error).attained for each in (line, -line))
            if high + low > error:
                return "refuted"
    return "tested"


def _uncontinued(subject: Subject) -> float:
    """The cross-entropy up to which a loss is not continued by its tangent."""
    above = subject.linear_above(torch.float64)
    return math.inf if above is None else above


def _grouped(text: str, fits: list[_Match], counts: tuple[int, ...]) -> Iterator[Equal]:
    """One line for all numbers of classes with the same factor."""
    while fits:
        factor = fits[0].factor
        alike = [fit for fit in fits if abs(fit.factor - factor) <= 1e-6 * abs(factor)]
        fits = [fit for fit in fits if fit not in alike]
        classes = tuple(fit.num_classes for fit in alike)
        how: Literal["proved", "tested"] = "proved" if all(fit.proved for fit in alike) else "tested"
        yield Equal(text, factor, alike[0].constant, classes, classes == counts, how)


def _candidates(subject: Subject, logits: Tensor, table: Tensor) -> Iterator[ClassificationLoss]:
    """Known losses: those without parameters or at their defaults, then those whose parameters the loss suggests."""
    yield from (
        losses.CrossEntropyLoss(),
        losses.MLoss(),
        losses.LLoss(),
        losses.MeanAbsoluteErrorLoss(),
        losses.ParabolicLoss(),
        losses.CircleLoss(),
        losses.CosLoss(),
        losses.BrierLoss(),
        losses.MFullLoss(),
        losses.LFullLoss(),
        losses.NextGenerationLoss(),
        losses.NextGenerationLoss(scaling="sigmoid"),
        losses.FocalLoss(),
        losses.BiTemperedLoss(t1=0.0),
    )
    yield from _powers(subject, logits.shape[1])
    for family in (_line_of_poly, _line_of_smoothing, _taylor):
        yield from family(logits, table)


def _powers(subject: Subject, num_classes: int) -> Iterator[ClassificationLoss]:
    """Losses with strictness p^-kappa, with the kappa that the loss's own strictness has between two points."""
    p = torch.tensor([0.25, 0.5], dtype=torch.float64)
    low, high = along_line(subject, p, num_classes)[1].tolist()
    if low <= 0 or high <= 0:
        return
    kappa = math.log(low / high) / math.log(2)
    if not _LEAST_KAPPA <= abs(kappa) <= _MOST_KAPPA:
        return
    short = _plain(kappa, 1e-9)
    kappa = short if short != kappa else math.copysign(1 / _plain(1 / abs(kappa), 1e-9), kappa)
    k = _plain(1 / abs(kappa), 1e-12)
    yield losses.TemperedCrossEntropyLoss(kappa)
    if kappa > 0:
        yield losses.RootedLogisticLoss(k)
        yield losses.ParamMLoss(kappa)
    else:
        yield losses.RootedLogisticLoss(k, form="released")
        if kappa >= -1:
            yield losses.GeneralizedCrossEntropyLoss(-kappa)


def _line_of_poly(logits: Tensor, table: Tensor) -> Iterator[ClassificationLoss]:
    """``a c + b (1 - p)``: Poly-1 and symmetric cross-entropy."""
    found = _combination(table, -logits.log_softmax(1), 1 - logits.softmax(1))
    if found is None or min(map(abs, found)) <= 1e-5 * max(map(abs, found)) or found[0] < 0:
        return
    epsilon = _plain(found[1] / found[0])
    if epsilon >= -1:
        yield losses.PolyLoss(epsilon)
    if epsilon > 0:
        yield losses.SymmetricCrossEntropyLoss(alpha=1.0, beta=1.0, A=-epsilon)


def _line_of_smoothing(logits: Tensor, table: Tensor) -> Iterator[ClassificationLoss]:
    """``a c_t + b mean_j c_j``: label smoothing."""
    c = -logits.log_softmax(1)
    found = _combination(table, c, c.mean(1, keepdim=True).expand_as(c))
    if found is not None and min(found) > 1e-5 * max(found):
        yield losses.LabelSmoothingLoss(_plain(found[1] / (found[0] + found[1])))


def _taylor(logits: Tensor, table: Tensor) -> Iterator[ClassificationLoss]:
    q = 1 - logits.softmax(1)
    for order in range(2, 7):
        if _fit(table, sum((q**i / i for i in range(2, order + 1)), q)) is not None:
            yield losses.TaylorCrossEntropyLoss(order)


def _combination(table: Tensor, *parts: Tensor) -> tuple[float, ...] | None:
    """The factors with which parts and a constant add up to the table, None if they do not."""
    columns = torch.stack([part.flatten() for part in (*parts, torch.ones_like(table))], 1)
    solution = torch.linalg.lstsq(columns, table.flatten()[:, None]).solution
    left = (columns @ solution)[:, 0] - table.flatten()
    if float(left.norm()) > _ROUNDING * float((table - table.mean()).norm()):
        return None
    return tuple(solution[:-1, 0].tolist())


def _fit(table: Tensor, known: Tensor) -> tuple[float, float] | None:
    """Factor and constant of the table as a positive multiple of a known one."""
    centred, known_centred = table - table.mean(), known - known.mean()
    factor = float((centred * known_centred).sum() / (known_centred**2).sum().clamp(min=1e-300))
    if factor <= 0 or float((centred - factor * known_centred).norm()) > _ROUNDING * float(centred.norm()):
        return None
    constant = float(table.mean() - factor * known.mean())
    ratio = float(Fraction(factor).limit_denominator(_MOST_COUNTED))
    factor = ratio if abs(ratio - factor) <= _ROUNDING * factor else factor
    return factor, 0.0 if abs(constant) < 1e-7 * float(table.abs().max()) else _plain(constant)


def _plain(value: float, tolerance: float = 1e-6) -> float:
    """A number as the one of fewest digits that is so near, relatively: rounding errors are no digits."""
    for digits in range(1, 8):
        short = float(f"{value:.{digits}g}")
        if abs(short - value) <= tolerance * abs(value):
            return short
    return value
