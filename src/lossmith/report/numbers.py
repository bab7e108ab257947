"""How a report writes its numbers: no more digits than mean something."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from statistics import median

from lossmith.comparison.rows import Gap, Interval, Row
from lossmith.comparison.speed import SpeedRatio

MISSING = "–"
NO_GAP = Gap(math.nan, None, None, None, None, None, None, None, None, None, None)
"""The difference of a loss that has none."""


def decimals(rows: Iterable[Row]) -> int:
    """Decimals of a score in percent: as many as show the standard error of a difference in two digits, 1 or 2."""
    errors = [100 * row.against_reference.se for row in rows if row.against_reference and row.against_reference.se]
    usual = median([error for error in errors if error > 0] or [0.1])
    return min(2, max(1, 1 - math.floor(math.log10(usual))))


def is_known(value: float | None) -> bool:
    """Whether there is a number to show."""
    return value is not None and math.isfinite(value)


def percent(fraction: float | None, digits: int) -> str:
    """A fraction in percent, without the sign for percent."""
    return MISSING if fraction is None or not is_known(fraction) else f"{_rounded(100 * fraction, digits):.{digits}f}"


def points(fraction: float | None, digits: int) -> str:
    """A difference of fractions in percentage points, with its sign."""
    return MISSING if fraction is None or not is_known(fraction) else f"{_rounded(100 * fraction, digits):+.{digits}f}"


def bounds(interval: Interval | None, digits: int) -> str:
    """An interval of differences, in percentage points."""
    if interval is None or not all(map(is_known, interval)):
        return MISSING
    return f"[{points(interval[0], digits)}, {points(interval[1], digits)}]"


def gap(of: Gap | None, digits: int) -> str:
    """A difference with its 95 % interval."""
    if of is None:
        return MISSING
    return f"{points(of.mean, digits)} {bounds(of.interval, digits) if of.interval else '(no interval)'}"


def p_value(p: float | None) -> str:
    """A p-value: three decimals while small."""
    if p is None or not is_known(p):
        return MISSING
    if p < 0.001:
        return "<0.001"
    return f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def learning_rate(lr: float) -> str:
    """A learning rate, in two significant digits."""
    return f"{lr:.2g}" if is_known(lr) else MISSING


def learning_rates(lrs: Iterable[float]) -> str:
    """The median of the folds' learning rates and, where they differ, their range."""
    known = sorted(filter(is_known, lrs))
    if not known:
        return MISSING
    lowest, highest = learning_rate(known[0]), learning_rate(known[-1])
    middle = learning_rate(median(known))
    return middle if lowest == highest else f"{middle} ({lowest} to {highest})"


def median_rate(lrs: Iterable[float]) -> str:
    """The median of the folds' learning rates."""
    known = list(filter(is_known, lrs))
    return learning_rate(median(known)) if known else MISSING


def steps_ratio(speed: SpeedRatio | None) -> str:
    """Steps to the reference's level over the reference's own."""
    if speed is None:
        return MISSING
    if not is_known(speed.ratio):
        return "never" if speed.censored_loss else MISSING
    return f"{speed.ratio:.2f}"


def significant(value: float | None, digits: int = 2) -> str:
    """A number in so many significant digits, never in powers of ten unless tiny or huge."""
    if value is None or not is_known(value):
        return MISSING
    shown = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+0" in shown and abs(value) < 1e6 else shown


def three_decimals(value: float | None) -> str:
    """A number with three decimals."""
    return MISSING if value is None or not is_known(value) else f"{value:.3f}"


def typeset(sentence: str) -> str:
    """A sentence with true minus signs in place of hyphens before its numbers."""
    return re.sub(r"(?<![^\s\[(])-(?=\d)", "−", sentence)


def _rounded(value: float, digits: int) -> float:
    return round(value, digits) + 0.0  # + 0.0 turns -0.0 into 0.0
