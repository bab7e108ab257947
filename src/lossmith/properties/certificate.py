"""The certificate of a loss: all that is known of it, as values."""

from __future__ import annotations

import inspect
import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import torch

from lossmith.kernels.threads import one_thread
from lossmith.losses import Loss, RegressionLoss
from lossmith.properties.bounds import Bounds, NoiseTest, Range, bounds_of, noise_test, ranges_of
from lossmith.properties.convexity import Convexity, convex_in_logits, convex_in_probabilities
from lossmith.properties.domain import without_value
from lossmith.properties.known import Equal, equals_of
from lossmith.properties.optimum import Optimum, Start, optimum_of, starts_of
from lossmith.properties.parts import parts_of
from lossmith.properties.regression import RegressionCertificate, certify_regression
from lossmith.properties.shape import along_line
from lossmith.properties.strictness import End, Strictness, ends_of, strictness_of
from lossmith.properties.subject import Subject, subject_of

_MOST_CLASSES: Final = 100_000
_MANY: Final = 1000
_MOST_TOLD_APART: Final = 12
_ROUNDING: Final = 1e-14


@dataclass(frozen=True)
class Curve:
    """A loss where the target has probability p and the other classes share the rest evenly.

    Attributes:
        p: .005, .01, ... .995.
        loss: its value.
        gradient: its slope in the target's logit; p - 1 for cross-entropy.
        strictness: that slope relative to cross-entropy's.
    """

    p: tuple[float, ...]
    loss: tuple[float, ...]
    gradient: tuple[float, ...]
    strictness: tuple[float, ...]


@dataclass(frozen=True)
class Certificate:
    """What a classification loss is.

    Attributes:
        loss: its text form.
        summary: the first sentence of its documentation.
        num_classes: the number of classes it is described for, where nothing else is said.
        remarks: in what the description differs from the loss, in sentences.
        formula: the loss as an expression of p, y, c and n, summed over the classes; None if it has no such form.
        latex: the same as LaTeX; None where there is no formula.
        curve: value, gradient and strictness.
        strictness: its table and crossings.
        starts: first gradient and confidence cap by number of classes.
        convex_in_probabilities: with where the answer comes from; None where it was not examined.
        convex_in_logits: the same.
        optimum: best predictions for known class probabilities; None where it was not examined.
        bounds: of value and gradient.
        at_zero: behaviour as the target's probability goes to 0.
        at_one: behaviour as it goes to 1.
        noise: the symmetric-sum test for label noise.
        ranges: for which logits it can be computed, by dtype.
        equals: the known losses it is equal to.
        kind: ``"classification"``.
    """

    loss: str
    summary: str
    num_classes: int
    remarks: tuple[str, ...]
    formula: str | None
    latex: str | None
    curve: Curve
    strictness: Strictness
    starts: tuple[Start, ...]
    convex_in_probabilities: Convexity | None
    convex_in_logits: Convexity | None
    optimum: Optimum | None
    bounds: Bounds
    at_zero: End
    at_one: End
    noise: NoiseTest
    ranges: tuple[Range, ...]
    equals: tuple[Equal, ...]
    kind: Literal["classification"] = "classification"


def certify(loss: Loss, num_classes: int = 10) -> Certificate | RegressionCertificate:
    """Examine a loss: named, a formula, evolved, learned, or your own.

    Args:
        loss: any of Lossmith's losses, or your own subclass of its bases; it is copied, not changed. A dynamical loss
            is described by its base, a GAN loss by its generator's part, and the certificate says so.
        num_classes: C, from 2 to 100,000.

    Returns:
        The certificate; equal losses give equal ones.

    Raises:
        ValueError: if the number of classes is out of range or does not fit the loss, or the loss is no number at
            equal probabilities or has no gradient.
        ModuleNotFoundError: if SciPy is not installed; it comes with ``lossmith[compare]``.
    """
    if not 2 <= num_classes <= _MOST_CLASSES:
        raise ValueError(f"the number of classes must be from 2 to {_MOST_CLASSES:,}, not {num_classes}")
    with one_thread():
        if isinstance(loss, RegressionLoss):
            return certify_regression(loss)
        subject = subject_of(loss, num_classes)
        _check_gradient(subject)
        parts = parts_of(subject)
        small = subject.symmetric or subject.num_classes <= _MOST_TOLD_APART
        remarks = subject.remarks
        if not small:
            remarks += (f"Its optimum and convexity were not examined for {subject.num_classes} classes that differ.",)
        missing = None if parts is None else without_value(parts)
        remarks += () if missing is None else (missing,)
        formula = _formula(subject)
        at_zero, at_one = ends_of(subject)
        return Certificate(
            loss=loss.text,
            summary=(inspect.getdoc(type(loss)) or "").partition("\n\n")[0].replace("\n", " "),
            num_classes=subject.num_classes,
            remarks=remarks,
            formula=formula,
            latex=None if formula is None else _latex(formula),
            curve=_curve(subject),
            strictness=strictness_of(subject, parts),
            starts=starts_of(subject),
            convex_in_probabilities=convex_in_probabilities(subject, parts) if small else None,
            convex_in_logits=convex_in_logits(subject, parts) if small else None,
            optimum=optimum_of(subject, parts) if small else None,
            bounds=bounds_of(subject, parts),
            at_zero=at_zero,
            at_one=at_one,
            noise=noise_test(subject, parts),
            ranges=ranges_of(subject),
            equals=equals_of(subject),
        )


def to_json(certificate: Certificate | RegressionCertificate) -> str:
    """A certificate as JSON text: infinities are the words "inf" and "-inf", what is no number is null."""
    return json.dumps(_plain(asdict(certificate)), indent=1, ensure_ascii=False, allow_nan=False)


def _check_gradient(subject: Subject) -> None:
    """Refuse a loss of which nothing can be said.

    Raises:
        ValueError: if it is not a number at equal probabilities, or has no gradient.
    """
    C = subject.num_classes
    logits = torch.randn(50 if C <= _MANY else 5, C, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits[0] = 0.0
    logits.requires_grad_()
    value = subject.of_class_0(logits)
    if not bool(value[0].isfinite()):
        raise ValueError(f"{subject.text} is {float(value[0].detach()):g} where all classes are equally probable")
    gradient = torch.autograd.grad(value.sum(), logits)[0] if value.requires_grad else torch.zeros(())
    if bool((gradient.abs() <= _ROUNDING * value.detach().abs()[:, None]).all()):
        raise ValueError(f"{subject.text} has no gradient at any of {len(logits)} predictions: nothing to describe")


def _curve(subject: Subject) -> Curve:
    p = torch.linspace(0.005, 0.995, 199, dtype=torch.float64)
    value, strictness = along_line(subject, p, subject.num_classes)
    return Curve(*(tuple(v.tolist()) for v in (p, value, -strictness * (1 - p), strictness)))


def _formula(subject: Subject) -> str | None:
    return None if subject.binary else subject.loss.formula


def _latex(formula: str) -> str | None:
    from lossmith.formulas import FormulaError, latex, parse

    try:
        return latex(parse(formula))
    except FormulaError:
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
