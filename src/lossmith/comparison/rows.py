"""What a comparison found, as plain values: for the terminal, the report, the CSV files and other programs."""

from __future__ import annotations

from dataclasses import dataclass, field

from lossmith.comparison.files import Number
from lossmith.comparison.speed import Speed
from lossmith.properties.shape import Shape
from lossmith.tasks import Diagram, Raster

Interval = tuple[Number, Number]


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
        v_seed: part of the variance that more repeats would shrink.
        v_test: part that more test examples would shrink.
        df: degrees of freedom.
        reason: why there is no interval.
    """

    mean: Number
    interval: Interval | None
    simultaneous: Interval | None
    p: Number | None
    holm_p: Number | None
    mde: Number | None
    se: Number | None
    v_seed: Number | None
    v_test: Number | None
    df: Number | None
    reason: str | None


@dataclass(frozen=True)
class MeanCurve:
    """Learning curves over the final runs: means, and the lowest and highest validation score at each point."""

    steps: tuple[int, ...]
    train: dict[str, tuple[Number, ...]]
    valid: dict[str, tuple[Number, ...]]
    lowest: tuple[Number, ...]
    highest: tuple[Number, ...]


@dataclass(frozen=True)
class RatePoint:
    """One learning rate of the grid: mean validation score, plain and smoothed, and how often it was tried."""

    lr: Number
    score: Number
    smoothed: Number
    tried: int


@dataclass(frozen=True)
class LearnedRow:
    """What became of a loss that learned, over the final runs.

    Args:
        steps: the points of the learning curve.
        scale: mean effective scale at each.
        lowest: the lowest of the runs.
        highest: the highest.
        moments: the steps at which the loss was kept.
        axis: where the pull of the loss was looked at; see `Task.pull`.
        pull: at each moment the mean pull at each point of the axis.
        offline_steps: mean number of steps of offline learning.
        formula: what the loss of the first run was distilled to.
        formula_error: relative error of its gradient.
    """

    steps: tuple[int, ...]
    scale: tuple[Number, ...]
    lowest: tuple[Number, ...]
    highest: tuple[Number, ...]
    moments: tuple[int, ...]
    axis: tuple[Number, ...]
    pull: tuple[tuple[Number, ...], ...]
    offline_steps: Number
    formula: str | None
    formula_error: Number | None


@dataclass(frozen=True)
class ProbeRow:
    """What a probe measured in the final trainings.

    Args:
        steps: numbers of steps taken.
        columns: each number that it measures, by name: its median at each step; of sharpness also its ``"ratio"`` to
            the threshold.
    """

    steps: tuple[int, ...]
    columns: dict[str, tuple[Number, ...]]


@dataclass(frozen=True)
class TuningRow:
    """How an arm was tuned.

    Args:
        lrs: the learning rate chosen in each fold and repeat.
        values: what else was chosen there, by name.
        trainings: how many trainings that took.
        failures: why some of them gave no result.
        rates: the grid of learning rates.
        expected_best: the expected best validation score against the number of settings tried.
    """

    lrs: tuple[Number, ...]
    values: tuple[dict[str, Number], ...]
    trainings: int
    failures: tuple[str, ...]
    rates: tuple[RatePoint, ...]
    expected_best: tuple[Number, ...]


@dataclass(frozen=True)
class TrainingRow:
    """How the final trainings of an arm went.

    Args:
        curve: their learning curves.
        gradient_ratio: median norm of the first gradient over that of the reference.
        extended_share: mean share of the targets for which the loss was continued by its tangent.
        diverged: how many diverged.
        notes: warnings.
        learned: what became of the loss, if it is one that learns.
        probes: what was measured, by the name of the probe.
    """

    curve: MeanCurve
    gradient_ratio: Number
    extended_share: Number
    diverged: int
    notes: tuple[str, ...]
    learned: LearnedRow | None
    probes: dict[str, ProbeRow] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One arm.

    Args:
        name: of the arm.
        loss: its text form.
        role: ``"candidate"`` or ``"control"``.
        rank: by score; none for an arm that could not be trained.
        untrained: why it could not be trained.
        score: mean test score; NaN without final trainings.
        runs: the mean test score of each final training.
        against_reference: the arm minus the mean of the reference's two arms; the second of them minus the first.
        against_rival: the arm minus the tuned rival.
        share_won: share of the repeats that it won against the mean of the reference's two trainings.
        verdict: one sentence.
        kind: the value of its `VerdictKind`, or ``"reference"``.
        speed: steps to the level of the reference.
        columns: the task's, means over the final trainings on test.
        diagrams: the task's.
        tuning: how it was tuned.
        training: how its final trainings went.
        shape_of: the loss with the tuned values of the first repeat.
        shape: what that looks like.
        predictions: of the first final training, for the units in `Summary.originals`.
    """

    name: str
    loss: str
    role: str
    rank: int | None
    untrained: str | None
    score: Number
    runs: tuple[Number, ...]
    against_reference: Gap | None
    against_rival: Gap | None
    share_won: Number | None
    verdict: str
    kind: str
    speed: Speed | None
    columns: dict[str, Number]
    diagrams: tuple[Diagram, ...]
    tuning: TuningRow
    training: TrainingRow
    shape_of: str
    shape: Shape | None
    predictions: tuple[Raster, ...] = ()


@dataclass(frozen=True)
class Summary:
    """A comparison, whole; rows by score, best first, untrained last.

    `reference`, `again` and `rival` name the rows that all others are compared with. `probe_share` is the share of the
    time of the final trainings that went into probes; ``None`` without any.
    """

    headline: str
    noise: str
    recommendation: str
    recommended: str
    reference: str
    again: str
    rival: str | None
    metric: str
    times_scored: int
    speed_sentences: tuple[str, ...]
    adaptation: tuple[str, ...]
    rows: tuple[Row, ...]
    originals: tuple[Raster, ...] = ()
    probe_share: Number | None = None
