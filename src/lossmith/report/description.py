"""What a certificate says, in words and tables: the same for the terminal and for the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lossmith.properties.bounds import NoiseTest, Range
from lossmith.properties.certificate import Certificate
from lossmith.properties.convexity import Convexity, within
from lossmith.properties.extremes import Extreme
from lossmith.properties.known import POINTS as EQUAL_AT
from lossmith.properties.known import Equal
from lossmith.properties.optimum import Optimum, Start
from lossmith.properties.regression import RegressionCertificate
from lossmith.properties.strictness import POINTS, End, Strictness
from lossmith.report.numbers import MISSING, significant

_KINDS: Final = {
    "cross-entropy": "Cross-entropy's own: s(p) = 1 everywhere",
    "strict": "Strict: nowhere does it insist less than cross-entropy",
    "liberal": "Liberal: nowhere does it insist more than cross-entropy",
    "mixed": "Strict here, liberal there",
}
_FOUND: Final = f" (found among {POINTS:,} points)"
_CLOSE: Final = 2e-6
_HUGE: Final = 1e12


@dataclass(frozen=True)
class Section:
    """One part of a description.

    Attributes:
        key: a word, for links.
        title: its heading.
        rows: what is said, each with a label.
        head: the headings of its table; empty if it has none.
        cells: the rows of the table.
    """

    key: str
    title: str
    rows: tuple[tuple[str, str], ...] = ()
    head: tuple[str, ...] = ()
    cells: tuple[tuple[str, ...], ...] = ()


def sections(certificate: Certificate | RegressionCertificate) -> tuple[Section, ...]:
    """All that a certificate says, in the order of reading."""
    if isinstance(certificate, RegressionCertificate):
        return (_regression(certificate),)
    parts = [
        _start(certificate.starts),
        _strictness(certificate.strictness),
        None if certificate.optimum is None else _optimum(certificate.optimum),
        _shape(certificate),
        _ends(certificate),
        _numbers(certificate),
        _equal(certificate.equals),
    ]
    return tuple(part for part in parts if part is not None)


def _start(starts: Sequence[Start]) -> Section:
    cells = tuple(
        (
            f"{start.num_classes:,}",
            _number(start.gradient),
            MISSING if start.match is None else _number(start.match),
            MISSING if start.cap is None else f"{start.cap:.3f}",
            _smoothing(start),
        )
        for start in starts
    )
    head = (
        "classes",
        "first gradient, CE = 1",
        "factor to match CE",
        "best p found for a sure label",
        "same as smoothing by",
    )
    return Section("start", "Where training starts and ends", (), head, cells)


def _smoothing(start: Start) -> str:
    if start.smoothing is None or start.smoothing > 1:
        return MISSING
    return "none" if start.smoothing < 1e-6 else f"{start.smoothing:.2f}"


def _strictness(strictness: Strictness) -> Section:
    rows = [("Kind", _kind(strictness))]
    if len(strictness.crossings) > 1:
        rows.append(("s(p) = 1 at", f"p = {_listed(strictness.crossings)}{_FOUND}."))
    if strictness.turns:
        rows.append((
            "s(p) = 0 at",
            f"p = {_listed(strictness.turns)}{_FOUND}: there the push on the target changes sign.",
        ))
    if strictness.value_crossings:
        rows.append((
            "Same value as CE",
            f"At p = {_listed(strictness.value_crossings)}{_FOUND}, both less their value at p = 1.",
        ))
    rows.append(("Tilt", f"s(.1)/s(.9) = {_number(strictness.tilt)}, whatever the scale; 1 for cross-entropy."))
    head = ("p", *(f"{p:g}" for p, _ in strictness.at))
    cells = (("s(p)", *(_number(s) for _, s in strictness.at)),)
    return Section(
        "strictness",
        "Strictness: the slope in the target's logit, cross-entropy's = 1, where the other classes share evenly",
        tuple(rows),
        head,
        cells,
    )


def _kind(strictness: Strictness) -> str:
    known = f"sampled at {POINTS:,} points"
    if strictness.how == "proved":
        known = f"proved {within(strictness.apart)}, the others sharing evenly"
    if strictness.kind != "mixed" or len(strictness.crossings) != 1:
        return f"{_KINDS[strictness.kind]}" + ("." if strictness.kind == "mixed" else f" ({known}).")
    (crossing,) = strictness.crossings
    strict_below = [(s > 1) == (p < crossing) for p, s in strictness.at]
    where = ("Strict", "liberal") if sum(strict_below) > 2 else ("Liberal", "strict")
    return f"{where[0]} for p < {crossing:.4f}, {where[1]} above ({known})."


def _optimum(optimum: Optimum) -> Section:
    tried = f"in all {optimum.tried} cases tried with {optimum.num_classes:,} classes"
    proper = f"Yes, {tried}." if optimum.proper else "No: its best prediction is not the truth."
    order = "No: in a case tried, not even the most probable class stays first."
    if optimum.top_kept:
        order = (
            f"Of all classes, {tried}."
            if optimum.order_kept
            else f"The most probable stays first, {tried}; not all do."
        )
    rows = [("Proper", proper), ("Order kept", order)]
    if optimum.power is not None and not optimum.proper:
        bold = "under" if optimum.power < 1 else "over"
        rows.append((
            "Best prediction",
            f"In these cases like the truth to the power {_number(optimum.power)}: {bold}-confident.",
        ))
    names = ("sure label", "likely class", "graded")
    cells = tuple(
        (name, _probabilities(each.truth, optimum.sizes), _probabilities(each.best, optimum.sizes))
        for name, each in zip(names, optimum.examples, strict=True)
    )
    return Section("optimum", "What it takes for the best prediction", tuple(rows), ("", "truth", "best found"), cells)


def _shape(certificate: Certificate) -> Section:
    bounds, noise = certificate.bounds, certificate.noise
    rows = [
        ("Convex in p", _convex(certificate.convex_in_probabilities)),
        ("Convex in logits", _convex(certificate.convex_in_logits)),
        ("Largest value", _extreme(bounds.largest, 1)),
        ("Smallest value", _extreme(bounds.smallest, -1)),
        ("Gradient's norm", _extreme(bounds.gradient, 1)),
        *_tangent(certificate.ranges),
        ("Label noise", _noise(noise, certificate.num_classes)),
    ]
    return Section("shape", "Shape", tuple(rows))


def _tangent(ranges: Sequence[Range]) -> list[tuple[str, str]]:
    """That bounds are of the formula, for a loss that is continued by its tangent."""
    if all(each.tangent is None for each in ranges):
        return []
    return [("Tangent", "These bounds are the formula's. The loss itself is continued by its tangent: see Numbers.")]


def _extreme(extreme: Extreme, sign: int) -> str:
    """The least upper bound of something, or with sign -1 of its negative, in words."""
    beyond, most = ("above", "at least") if sign > 0 else ("below", "at most")
    attained = _outward(extreme.attained, -1, sign)
    if extreme.proved is None:
        if extreme.attained_how == "proved":
            return f"No bound found: it gets {beyond} {attained} (proved)."
        return f"No bound found: it is {most} {attained} (sampled)."
    proved, known = _outward(extreme.proved, 1, sign), f"proved {within(extreme.apart)}"
    if extreme.proved - extreme.attained <= _CLOSE * abs(extreme.proved) + 1e-300 or proved == attained:
        return f"{proved} ({known})."
    between = [f"{attained} (reached)", f"{proved} ({known})"][::sign]
    return f"Between {between[0]} and {between[1]}."


def _outward(value: float, up: int, sign: int) -> str:
    """A number to six digits, rounded up (1) or down (-1) in size of what is bounded, shown with a sign."""
    if abs(value) < 1e-12 or not math.isfinite(value):
        return "0" if math.isfinite(value) else _number(sign * value)
    if abs(value) >= _HUGE:
        return f"{math.copysign(1.0, sign * value):.0f}e+{math.floor(math.log10(abs(value))) + (up > 0)}"
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 5)
    value -= up * 1e-12 * abs(value)  # what an enclosure adds to a round number
    rounded = (math.ceil if up > 0 else math.floor)(value / step) * step
    return f"{sign * rounded + 0.0:.6g}"


def _noise(noise: NoiseTest, num_classes: int) -> str:
    share = f"symmetric noise below {num_classes - 1:,}/{num_classes:,} moves no optimum"
    if noise.how == "proved":
        return f"Robust: the sum over all targets is constant (proved), so that {share}."
    if noise.how == "tested":
        return f"Perhaps robust: the sum over all targets was constant wherever sampled; if it is, {share}."
    if math.isnan(noise.spread):
        return "No guarantee: the sum over all targets is no number at random predictions."
    return (
        f"No guarantee: the sum over all targets is not constant (relative spread {_number(noise.spread)} over random "
        "predictions)."
    )


def _ends(certificate: Certificate) -> Section:
    head = ("", "value", "strictness s", "slope in the target's logit")
    cells = (("p to 0", *_end(certificate.at_zero, "p")), ("p to 1", *_end(certificate.at_one, "(1 - p)")))
    return Section("ends", "At the ends, extrapolated from p = 1e-7 and from logits 1e6 apart", (), head, cells)


def _end(end: End, of: str) -> tuple[str, str, str]:
    strictness = _number(end.strictness)
    if end.power:
        strictness += f", like {of}^{_number(end.power)}"
    return MISSING if end.value is None else _number(end.value), strictness, _number(end.gradient)


def _numbers(certificate: Certificate) -> Section:
    cells = tuple(
        (
            each.dtype,
            "at every gap tried" if each.whole else f"at the gaps tried up to {each.largest_gap:.2g}",
            "never" if each.tangent is None else f"beyond cross-entropy {each.tangent:.3g}",
        )
        for each in certificate.ranges
    )
    return Section("numbers", "Numbers", (), ("logits", "value and gradient finite", "continued by tangent"), cells)


def _equal(equals: Sequence[Equal]) -> Section:
    if not equals:
        return Section("equal", "Equal to", (("Known losses", "None of those tried, but for itself."),))
    cells = []
    for equal in equals:
        factor = "the same" if equal.factor == 1 else f"{_number(equal.factor)} times"
        constant = "" if not equal.constant else f" {'+-'[equal.constant < 0]} {_number(abs(equal.constant))}"
        classes = ", ".join(map(str, equal.num_classes))
        how = "proved" if equal.how == "proved" else f"tested at {EQUAL_AT} random predictions"
        cells.append((equal.known, factor + constant, classes, how))
    return Section(
        "equal",
        "Equal to, where no tangent continues either",
        (),
        ("loss", "this one is", "classes", "how known"),
        tuple(cells),
    )


def _near_0(certificate: RegressionCertificate) -> str:
    below, above = certificate.slopes_at_0
    if below or above:
        return f"a kink, with slopes {below:.3g} and {above:.3g} at its sides"
    return f"like {certificate.curvature_at_0 / 2:.3g} e^2"


def _regression(certificate: RegressionCertificate) -> Section:
    steepest, up_to = certificate.steepest_at, certificate.convex_up_to
    rows = (
        (
            "Largest slope",
            f"{certificate.steepest:.4f}"
            + ("" if steepest is None else f" at |e| = {steepest:.4f}")
            + " (the largest sampled up to |e| = 40)",
        ),
        (
            "Convex",
            "Perhaps: no counterexample found." if up_to is None else f"No: beyond |e| = {up_to:.4f} the slope falls.",
        ),
        ("Near 0", _near_0(certificate)),
        (
            "Below |e|",
            f"by {certificate.largest_gap:.3f} at |e| = {certificate.largest_gap_at:.2f} (the largest sampled); "
            f"by {certificate.far_gap:.3g} at |e| = 40",
        ),
    )
    asymmetric = ("Symmetric", "No. Each line is of the sign of e for which it is largest.")
    return Section(
        "error",
        "As a function of the error e = prediction - target",
        rows if certificate.symmetric else (asymmetric, *rows),
    )


def _convex(found: Convexity | None) -> str:
    if found is None:
        return "Not examined."
    if found.how == "counterexample":
        return f"No: {found.detail}."
    return f"Yes, {found.how} {found.detail}." if found.how == "proved" else f"Perhaps: {found.detail}."


def _number(value: float) -> str:
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "-infinite" if value < 0 else "infinite"
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.2e}" if abs(value) >= 1e-12 else "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else significant(value + 0.0, 3)


def _listed(values: Sequence[float]) -> str:
    shown = [f"{value:.4f}" for value in values[:4]]
    return ", ".join(shown) + (f" and {len(values) - 4} more" if len(values) > 4 else "")


def _probabilities(values: Sequence[float], sizes: Sequence[int]) -> str:
    pairs = list(zip(values, sizes, strict=True))[:4]
    shown = [f"{value:.3f}" if size == 1 else f"{size:,} x {_number(value)}" for value, size in pairs]
    return " ".join(shown) + (" ..." if len(values) > 4 else "")
