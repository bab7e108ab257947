"""The statistics of a comparison: differences between losses, several losses at once.

Everything is a pure function of arrays. Scores are fractions (0.005 is half a percentage point), differences
are "loss A minus loss B".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

MIN_RUNS = 3
MIN_EXAMPLES = 100
MIN_DIFFERING = 10

# Two numbers that are equal on paper may differ by this much after sums of floats.
_ROUNDING = 1e-12

FloatArray = NDArray[np.float64]


class NoInterval(Enum):
    """Why a difference has no interval; the value completes the sentence "there is no interval: ..."."""

    FEW_RUNS = f"fewer than {MIN_RUNS} final runs"
    ONE_SEED = "only one repeat per fold, so the chance of seeds and tuning cannot be measured"
    FEW_EXAMPLES = f"fewer than {MIN_EXAMPLES} examples"
    FEW_DIFFERING = f"fewer than {MIN_DIFFERING} examples differ"
    NO_SPREAD = "runs differ on single examples, yet every average came out the same"


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """The mean per-example score of loss A minus that of loss B, and how sure it is.

    See `Estimator.difference` and, for two losses alone, `paired_difference`.

    Attributes:
        mean: The difference, a fraction.
        variance: V, the variance of `mean`; NaN where it cannot be estimated (one seed or one example).
        df: nu, the degrees of freedom of V; NaN where V is.
        v_seed: The part of V that further seeds or repeats would shrink; NaN with one per fold.
        v_test: The part of V that further test examples would shrink; NaN with one example.
        v_residual: The seed-by-example part, as `paired_difference` defines it; NaN where `v_seed` is.
        runs: Final runs of each loss, F*R.
        examples: Test examples n.
        differing: Test examples on which A and B differ under at least one seed, as `effective_number` counts them.
    """

    mean: float
    variance: float
    df: float
    v_seed: float
    v_test: float
    v_residual: float
    runs: int
    examples: int
    differing: float

    @property
    def se(self) -> float:
        """The standard error sqrt(V) of the mean; NaN where V is."""
        return math.sqrt(self.variance)

    @property
    def reason(self) -> NoInterval | None:
        """Why there is no interval, p-value or MDE; None where there is one."""
        if self.runs < MIN_RUNS:
            return NoInterval.FEW_RUNS
        if math.isnan(self.v_seed):
            return NoInterval.ONE_SEED
        if self.examples < MIN_EXAMPLES:
            return NoInterval.FEW_EXAMPLES
        if self.differing < MIN_DIFFERING:
            return NoInterval.FEW_DIFFERING
        if self.variance == 0.0 and self.v_residual > 0.0:
            return NoInterval.NO_SPREAD
        return None

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """The two-sided confidence interval mean +- t_nu sqrt(V).

        Args:
            level: Coverage, in (0, 1).

        Returns:
            The lower and upper bound as fractions, or None (see `reason`).

        Raises:
            ValueError: If `level` is not in (0, 1).
        """
        _require_probability("level", level)
        if self.reason is not None:
            return None
        half = self._quantile(0.5 + level / 2) * self.se
        return self.mean - half, self.mean + half

    @property
    def p_value(self) -> float | None:
        """Two-sided p of "no difference", 2 P(t_nu > |mean|/SE); None without an interval."""
        if self.reason is not None:
            return None
        if self.se == 0.0:
            return 1.0 if self.mean == 0.0 else 0.0
        return float(2 * scipy.special.stdtr(self.df, -abs(self.mean) / self.se))

    def mde(self, alpha: float = 0.05, power: float = 0.8) -> float | None:
        """The minimum detectable effect, (t_{1-alpha/2,nu} + t_{power,nu}) SE.

        Args:
            alpha: Size of the two-sided test, in (0, 1).
            power: The chance with which a true difference of that size would have been found, in (0, 1).

        Returns:
            The effect as a fraction, or None (see `reason`).

        Raises:
            ValueError: If `alpha` or `power` is not in (0, 1).
        """
        _require_probability("alpha", alpha)
        _require_probability("power", power)
        if self.reason is not None:
            return None
        return (self._quantile(1 - alpha / 2) + self._quantile(power)) * self.se

    def _quantile(self, q: float) -> float:
        return float(scipy.special.stdtrit(self.df, q))


def paired_difference(folds: Sequence[ArrayLike]) -> PairedDifference:
    """The paired difference of two losses whose seeds and test examples are both drawn by chance.

    With F test folds, R seeds in each, n_f examples in fold f, n in all and w_f = n_f/n:
    V_seed = sum_f w_f^2 Var_s(row means of D_f)/R, V_test = Var_i(column means over all n)/n and
    V_res = sum_f w_f^2 MS_resid,f/(R n_f), MS_resid the residual mean square of the two-way layout. The
    residual is inside both V_seed and V_test, so V = max(V_seed + V_test - V_res, V_seed, V_test), and
    nu = V^2 / (V_seed^2/(F(R-1)) + V_test^2/(n-1)).

    What is judged is the two losses on these training sets: the chance of drawing a training set is not in V.
    The size of the nominal .05 test is .02-.06, except at F(R-1) = 2 with V_seed 2 to 50 times V_test: there
    Satterthwaite's approximation is at its worst and the size reaches .08.

    Args:
        folds: One array D_f of shape (R, n_f) per test fold (hold-out: one fold): the score of A minus that
            of B for final seed s (row) and test example i (column). Each test example is in exactly one fold.

    Returns:
        The difference with its variance; its `reason` says whether the data allow an interval. A constant
        difference has V = 0 and the interval [mean, mean].

    Raises:
        ValueError: If there is no fold, or a fold is not a finite, non-empty matrix, or folds differ in R.

    Source: nu is Satterthwaite's (1946, Biometrics Bulletin 2:110); the layout is the two-way random-effects
    analysis of variance.
    """
    matrices = _score_matrices(folds)
    seeds = matrices[0].shape[0]
    columns = np.concatenate([d.mean(axis=0) for d in matrices])
    n = columns.size
    weights = [d.shape[1] / n for d in matrices]

    v_test = float(columns.var(ddof=1)) / n if n > 1 else math.nan
    v_seed = v_residual = math.nan
    if seeds > 1:
        v_seed = sum(w**2 * float(d.mean(axis=1).var(ddof=1)) / seeds for w, d in zip(weights, matrices, strict=True))
        v_residual = sum(w**2 * _residual_mean_square(d) / d.size for w, d in zip(weights, matrices, strict=True))

    if math.isnan(v_seed) or math.isnan(v_test):
        variance = df = math.nan
    else:
        variance = max(v_seed + v_test - v_residual, v_seed, v_test)
        df = satterthwaite(variance, (v_seed, len(matrices) * (seeds - 1)), (v_test, n - 1))
    return PairedDifference(
        mean=float(columns.mean()),
        variance=variance,
        df=df,
        v_seed=v_seed,
        v_test=v_test,
        v_residual=v_residual,
        runs=len(matrices) * seeds,
        examples=n,
        differing=effective_number(np.concatenate([np.abs(d).max(axis=0) for d in matrices])),
    )


def effective_number(sizes: FloatArray) -> float:
    """How many numbers there are in effect, (sum x^2)^2 / sum x^4 with x = min(1, number / half the largest).

    Numbers of at least half the largest count fully, small ones hardly.

    A mean over many examples of which few carry all the weight is no more normal than a mean over these few.
    """
    largest = float(np.max(sizes, initial=0.0))
    if largest == 0.0:
        return 0.0
    squares = np.square(np.minimum(1.0, sizes / (largest / 2)))
    return round(float(squares.sum() ** 2 / np.square(squares).sum()), 6)


def holm(p_values: Sequence[float] | FloatArray) -> FloatArray:
    """Holm's adjusted p-values: for the j-th smallest of m, max_{k<=j} min(1, (m-k+1) p_(k)).

    Args:
        p_values: m p-values in [0, 1]; a planned comparison that gave none enters as 1, so that m stays as
            planned.

    Returns:
        Shape (m,), in the order given; calling those below alpha findings keeps the chance of any false one
        below alpha.

    Raises:
        ValueError: If a p-value is NaN or outside [0, 1].

    Source: Holm (1979), Scandinavian Journal of Statistics 6:65-70.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not np.all((p >= 0) & (p <= 1)):
        raise ValueError(f"holm: p-values must lie in [0, 1], got {p.tolist()}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)))
    return adjusted


def simultaneous_level(m: int, level: float = 0.95) -> float:
    """The level 1 - (1-level)/m at which m intervals together cover with at least `level` (Bonferroni).

    Args:
        m: Number of comparisons, at least 1.
        level: Joint coverage wanted, in (0, 1).

    Returns:
        The level to give to `PairedDifference.interval`.

    Raises:
        ValueError: If `m` is below 1 or `level` is not in (0, 1).
    """
    if m < 1:
        raise ValueError(f"simultaneous_level: m must be at least 1, got {m}")
    _require_probability("level", level)
    return 1 - (1 - level) / m


def share_of_pairs_won(a: ArrayLike, b: ArrayLike) -> float:
    """The share of paired seeds in which A scored higher than B, ties counting half.

    Args:
        a: Mean score of A under each seed, shape (runs,).
        b: Mean score of B under the same seeds, shape (runs,).

    Returns:
        A fraction in [0, 1]; scores that differ by rounding only are ties.

    Raises:
        ValueError: If the shapes differ, or a score is missing or not finite.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or x.size == 0 or not np.all(np.isfinite(x) & np.isfinite(y)):
        raise ValueError(f"share_of_pairs_won: needs two finite vectors of one length, got {x.shape} and {y.shape}")
    tied = np.abs(x - y) <= _ROUNDING
    return float(np.mean(np.where(tied, 0.5, x > y)))


def _score_matrices(folds: Sequence[ArrayLike]) -> list[FloatArray]:
    """The folds as float matrices of one number of rows; raises ValueError on anything else."""
    matrices = [np.asarray(d, dtype=np.float64) for d in folds]
    if not matrices:
        raise ValueError("paired_difference: needs at least one fold")
    for f, d in enumerate(matrices):
        if d.ndim != 2 or d.size == 0:
            raise ValueError(f"paired_difference: fold {f} must have shape (seeds, examples), got {d.shape}")
        if not np.all(np.isfinite(d)):
            raise ValueError(f"paired_difference: fold {f} holds a score that is not finite")
    if len({d.shape[0] for d in matrices}) > 1:
        rows = [d.shape[0] for d in matrices]
        raise ValueError(f"paired_difference: every fold needs the same number of final seeds, got {rows}")
    return matrices


def _residual_mean_square(d: FloatArray) -> float:
    """MS of d_si - row mean - column mean + mean; 0 with one example, which leaves no residual to measure."""
    rows, columns = d.shape
    if columns == 1:
        return 0.0
    residual = d - d.mean(axis=1, keepdims=True) - d.mean(axis=0) + d.mean()
    return float(np.square(residual).sum() / ((rows - 1) * (columns - 1)))


def satterthwaite(variance: float, *parts: tuple[float, float]) -> float:
    """V^2 / sum(v_k^2 / df_k) over parts (v_k, df_k); where all are zero, the most that one could give."""
    if variance == 0.0:
        return float(max(df for _, df in parts))
    # Ratios, not squares of variances, which underflow for scores on a tiny scale.
    return 1.0 / math.fsum((v / variance) ** 2 / df for v, df in parts)


def _require_probability(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value}")
