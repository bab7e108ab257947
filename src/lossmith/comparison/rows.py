"""What a comparison found, as plain values: for the terminal, the report, the CSV files and other programs."""

from __future__ import annotations

from dataclasses import dataclass

from lossmith.properties.shape import Shape
from lossmith.tasks import Diagram, Raster

Interval = tuple[float, float]


@dataclass(frozen=True)
class Gap:
    """A paired difference as it is shown; fractions, ``None`` where the data allow none.

    Args:
        mean: the difference.
        interval: 95 % interval.
        simultaneous: interval that holds for all losses tested at once with 95 %; controls have none.
        p: two-sided, unadjusted.
        holm_p: Holm-adjusted over the losses tested; for a control its own p.
        mde: the true difference that would have been found four times in five.
        se: standard error.
        v_seed: part of the variance that more seeds would shrink.
        v_test: part that more test examples would shrink.
        df: degrees of freedom.
        reason: why there is no interval.
    """

    mean: float
    interval: Interval | None
    simultaneous: Interval | None
    p: float | None
    holm_p: float | None
    mde: float | None
    se: float | None
    v_seed: float | None
    v_test: float | None
    df: float | None
    reason: str | None


@dataclass(frozen=True)
class SpeedRow:
    """Steps to cross-entropy's final level, relative to cross-entropy; see `SpeedRatio` and `Speed` for the fields."""

    ratio: float | None
    interval: Interval | None
    p: float | None
    censored: int
    censored_ce: int
    shortened_steps: int | None
    shortened_ce_missed: bool | None
    pairs: int
    method: str
    lrs: tuple[float, ...]
    sentence: str | None


@dataclass(frozen=True)
class MeanCurve:
    """Learning curves over the final runs: means, and the lowest and highest validation score at each point."""

    steps: tuple[int, ...]
    train: dict[str, tuple[float, ...]]
    valid: dict[str, tuple[float, ...]]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]


@dataclass(frozen=True)
class RatePoint:
    """One learning rate of the grid: validation score over folds and seeds, plain and smoothed, and how often tried."""

    lr: float
    score: float
    smoothed: float
    folds: int


@dataclass(frozen=True)
class LearnedRow:
    """What became of a loss that learned, over the final runs; see `trials.result.LearnedPath`.

    Args:
        steps: the points of the learning curve.
        scale: mean effective scale at each.
        lowest: the lowest of the runs.
        highest: the highest.
        moments: the steps at which the loss was kept.
        p: probabilities of the target.
        strictness: at each moment the mean strictness at each ``p``.
        offline_steps: mean number of steps of offline learning.
        formula: what the loss of the first run was distilled to.
        formula_error: relative error of its gradient.
    """

    steps: tuple[int, ...]
    scale: tuple[float, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    moments: tuple[int, ...]
    p: tuple[float, ...]
    strictness: tuple[tuple[float, ...], ...]
    offline_steps: float
    formula: str | None
    formula_error: float | None


@dataclass(frozen=True)
class Row:
    """One arm.

    `columns` are the task's: means over the final runs on test. `failures` says why tuning trainings gave no result.
    `shape` is that of the loss `shape_of`, with the tuned values of the first fold. `predictions` are those of the
    first final run for the units in `Summary.originals`.
    """

    name: str
    loss: str
    role: str
    rank: int | None
    untrained: str | None
    score: float
    runs: tuple[float, ...]
    against_ce: Gap | None
    against_ls: Gap | None
    share_won: float | None
    verdict: str
    kind: str
    speed: SpeedRow | None
    columns: dict[str, float]
    lrs: tuple[float, ...]
    values: tuple[dict[str, float], ...]
    trainings: int
    gradient_ratio: float
    extended_share: float
    diverged: int
    failures: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float
    rates: tuple[RatePoint, ...]
    curve: MeanCurve
    diagrams: tuple[Diagram, ...]
    expected_best: tuple[float, ...]
    shape_of: str
    shape: Shape | None
    learned: LearnedRow | None = None
    predictions: tuple[Raster, ...] = ()


@dataclass(frozen=True)
class Summary:
    """A comparison, whole; rows by score, best first, untrained last.

    `reference` and `again` name the rows that all others are held against.
    """

    headline: str
    noise: str
    recommendation: str
    recommended: str
    reference: str
    again: str
    best_label_smoothing: str | None
    metric: str
    times_scored: int
    speed_sentences: tuple[str, ...]
    adaptation: tuple[str, ...]
    rows: tuple[Row, ...]
    originals: tuple[Raster, ...] = ()
