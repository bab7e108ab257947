"""Differences between arms in which a run is a whole pipeline: tuning, choice and final training."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from lossmith.comparison.statistics import (
    FloatArray,
    PairedDifference,
    effective_number,
    paired_difference,
    satterthwaite,
)

_ROUNDING: Final = 1e-12

Units = Sequence[Sequence[NDArray[np.int64]]]
"""Which units each repeat of each fold scores, (n,) each."""


class Estimator:
    """Differences between arms in which a run is a whole pipeline: tuning, choice and final training.

    All arms of repeat r in fold f share their data. Let y_afr be the mean score of arm a there,
    w_f the share of fold f in all units, and e_afr = y_afr minus the median over the A pooled arms, in which what all
    share cancels. With ``g = 1 - 2/A + m`` and m the variance of the median of A standard normal numbers:

        s_a^2  = sum_f w_f^2 Var_r(e_afr) / (R g)          (arms that are not pooled: no g, and minus m s^2)
        s^2    = median over the pooled arms of s_a^2, divided by the median of chi^2/df with df = F (R - 1)
                 (of one or two arms: their mean)
        v_a    = max(s_a^2, s^2)
        v_0    = max(mean of the k others' s_b^2, s^2) / k
        V      = v_a + v_0 + max(0, V_test - V_res)

    V_test and V_res are those of `paired_difference` if all repeats of a fold score the same units. If each draws its
    own, as for validation, a unit contributes c_i, the sum of w_f (D_fri - D) / (R n_fr) over the runs that score
    it; V_test is the sum of c_i^2 over units, and V_res that of the single terms' squares, both made unbiased.

    Pooling makes up for few repeats; the maximum keeps an arm that varies more from borrowing the precision of the
    others; medians keep one wild arm from spoiling all. Where v_a and v_0 are 0, V is V_test: scores of few units are
    coarse, and all means may agree by chance. nu is Satterthwaite's: s_a^2 has df degrees of freedom, the mean of the
    others k df, and s^2, wherever it stands, max(1, e (A - 1)) df, with e the efficiency of the median.

    Args:
        scores: for each arm and fold R arrays of scores per unit, (n_f,) each.
        alike: the arms that are pooled: those that were tuned alike. Others have nothing to say of s^2.
        units: which units the runs score, by fold and repeat; ``None`` if all repeats of a fold score the same.

    Raises:
        ValueError: If arms differ in folds or repeats, no arm is pooled, or a score is not finite.
    """

    def __init__(
        self, scores: Mapping[str, Sequence[Sequence[ArrayLike]]], alike: Collection[str], units: Units | None = None
    ) -> None:
        self._scores = {
            name: [[np.asarray(run, dtype=np.float64) for run in fold] for fold in of] for name, of in scores.items()
        }
        self._units = units
        shapes = {tuple(len(fold) for fold in of) for of in self._scores.values()}
        if len(shapes) != 1 or len(set(next(iter(shapes)))) != 1:
            raise ValueError(f"Estimator: arms need the same folds and repeats, got {sorted(shapes)}")
        if any(not np.isfinite(run).all() for of in self._scores.values() for fold in of for run in fold):
            raise ValueError("Estimator: a score is not finite")
        pooled = [name for name in self._scores if name in alike]
        if not pooled:
            raise ValueError("Estimator: none of the arms is pooled")
        sizes = np.array([np.mean([run.size for run in fold]) for fold in next(iter(self._scores.values()))])
        self._weights = sizes / sizes.sum()
        self._means = {
            name: np.array([[run.mean() for run in fold] for fold in of]) for name, of in self._scores.items()
        }
        self._variances, self._pooled = self._spread(pooled)
        self._df = self._means[pooled[0]].shape[0] * (self._means[pooled[0]].shape[1] - 1)
        self._pooled_df = self._df and max(1.0, _efficiency_of_median(self._df) * (len(pooled) - 1)) * self._df

    def difference(self, arm: str, *others: str) -> PairedDifference:
        """The mean score of an arm minus that of others.

        Args:
            arm: name of the arm.
            others: names of one or several arms; several stand for one loss and are averaged.

        Returns:
            The difference with its variance; its `reason` says whether the data allow an interval.
        """
        gaps = [
            [a - np.mean(b, axis=0) for a, *b in zip(*folds, strict=True)]
            for folds in zip(*(self._scores[name] for name in (arm, *others)), strict=True)
        ]
        plain = paired_difference([np.stack(fold) for fold in gaps]) if self._units is None else self._drawn(gaps)
        if self._df == 0:
            return replace(plain, variance=math.nan, df=math.nan, v_seed=math.nan)
        own, theirs = self._variances[arm], float(np.mean([self._variances[name] for name in others]))
        parts, pooled = [], 0.0
        for variance, arms in ((own, 1), (theirs, len(others))):
            if variance > self._pooled * (1 + _ROUNDING):
                parts.append((variance / arms, float(arms * self._df)))
            else:
                pooled += self._pooled / arms
        parts.append((pooled, self._pooled_df))
        v_seed = sum(variance for variance, _ in parts)
        v_test = plain.v_test
        if v_seed > _ROUNDING * v_test:  # more than the variance of numbers that are equal on paper
            v_test = max(0.0, v_test - plain.v_residual)
        df = satterthwaite(v_seed + v_test, *parts, (v_test, max(1, plain.examples - 1)))
        return replace(plain, variance=v_seed + v_test, df=df, v_seed=v_seed, v_test=v_test)

    def _drawn(self, gaps: Sequence[Sequence[FloatArray]]) -> PairedDifference:
        """The difference where each run scores units of its own; a unit that several runs score is one unit."""
        assert self._units is not None
        weights = [
            np.full(run.size, w / (len(fold) * run.size))
            for w, fold in zip(self._weights, gaps, strict=True)
            for run in fold
        ]
        weight, gap = np.concatenate(weights), np.concatenate([run for fold in gaps for run in fold])
        units, which = np.unique(np.concatenate([run for fold in self._units for run in fold]), return_inverse=True)
        mean = float(weight @ gap)
        terms = weight * (gap - mean)
        of_units = np.bincount(which, terms)
        largest = np.zeros(units.size)
        np.maximum.at(largest, which, np.abs(gap))
        return PairedDifference(
            mean=mean,
            variance=math.nan,
            df=math.nan,
            v_seed=math.nan,
            v_test=float(of_units @ of_units) * units.size / (units.size - 1) if units.size > 1 else math.nan,
            v_residual=float(terms @ terms) * gap.size / max(1, gap.size - 1),
            runs=sum(map(len, gaps)),
            examples=units.size,
            differing=effective_number(largest),
        )

    def _spread(self, pooled: Sequence[str]) -> tuple[dict[str, float], float]:
        """The variance s_a^2 of each arm's mean, and s^2."""
        together, arms = np.stack([self._means[name] for name in pooled]), len(pooled)
        repeats = together.shape[2]
        if repeats == 1:
            return dict.fromkeys(self._means, math.nan), math.nan
        centre = np.median(together, axis=0) if arms > 1 else np.zeros_like(together[0])
        of_median = 0.0 if arms == 1 else _variance_of_median(arms)
        shrunk = 1.0 if arms == 1 else 1 - 2 / arms + of_median
        raw = {
            name: float(self._weights**2 @ (of - centre).var(axis=1, ddof=1)) / repeats
            for name, of in self._means.items()
        }
        known = [raw[name] / shrunk for name in pooled]
        df = together.shape[1] * (repeats - 1)
        middle = float(np.mean(known) if arms < 3 else np.median(known) * df / scipy.special.chdtri(df, 0.5))
        variances = {
            name: of / shrunk if name in pooled else max(0.0, of - of_median * middle) for name, of in raw.items()
        }
        return variances, middle


def _variance_of_median(n: int) -> float:
    """The variance of the median of n standard normal numbers, to 3 %."""
    return math.pi / (2 * n + 1) if n % 2 else math.pi / (2 * n + 2.28)


def _efficiency_of_median(df: int) -> float:
    """The efficiency of the median of many chi^2 numbers with so many degrees of freedom relative to their mean."""
    median = float(scipy.special.chdtri(df, 0.5))
    log_density = (df / 2 - 1) * math.log(median) - median / 2 - math.lgamma(df / 2) - df / 2 * math.log(2)
    return 8 / df * (median * math.exp(log_density)) ** 2
