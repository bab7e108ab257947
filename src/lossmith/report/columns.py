"""The columns of the page's leaderboard: what each shows, what it is sorted by, and what it means."""

from __future__ import annotations

import math
from statistics import median

from lossmith.comparison.rows import Gap, Row, Summary
from lossmith.comparison.speed import Speed
from lossmith.comparison.verdict import RULES
from lossmith.report import numbers
from lossmith.report.beside import beside
from lossmith.report.column import Column
from lossmith.report.numbers import MISSING, NO_GAP, is_known, percent
from lossmith.report.offers import offer
from lossmith.report.run import Design
from lossmith.tasks import Words

REFERENCE = "reference"


def page_columns(design: Design, results: Summary) -> list[Column]:
    """All columns but rank and name."""
    digits, words = numbers.decimals(results.rows), design.task.words
    return [
        _score_column(results, digits),
        *(each.column for each in beside(design)),
        *_reference_columns(results.reference, digits, words),
        *_rival_columns(results.rival, digits, words),
        _verdict_column(),
        *_speed_columns(words),
        *offer(design).columns,
        *_tuning_columns(words),
        _range_column(results),
    ]


def _score_column(results: Summary, digits: int) -> Column:
    return Column.of(
        f"Test {results.metric}, %",
        "mean",
        f"Mean test {results.metric} over the final trainings. Single trainings vary; compare losses by their "
        "differences, which are paired.",
        lambda row: row.score,
        lambda score: percent(score, digits),
    )


def _range_column(results: Summary) -> Column:
    return Column(
        f"Single trainings, {results.metric}, %",
        "lowest to highest",
        "The worst and the best of the final trainings.",
        lambda row: f"{percent(min(row.runs), 1)} to {percent(max(row.runs), 1)}" if row.runs else MISSING,
        lambda row: min(row.runs, default=None),
    )


def _verdict_column() -> Column:
    kinds = [rule.kind.value for rule in RULES]
    return Column(
        "Verdict",
        "kind",
        "The rule that decided the verdict; all rules are listed below.",
        lambda row: row.kind,
        lambda row: float(kinds.index(row.kind)) if row.kind in kinds else None,
        told=True,
    )


def _reference_columns(reference: str, digits: int, words: Words) -> list[Column]:
    group = f"Minus {words.reference}, points"
    return [
        Column(
            group,
            "mean [95 % interval]",
            f"Difference from tuned {words.reference} in percentage points. Under the usual assumptions 95 of 100 such "
            "intervals hold the true difference.",
            lambda row: REFERENCE if row.name == reference else numbers.gap(row.against_reference, digits),
            lambda row: 0.0 if row.name == reference else _mean(row.against_reference),
            told=True,
        ),
        Column(
            group,
            "[all at once]",
            "The wider interval that holds for all tested losses together with 95 %.",
            lambda row: numbers.bounds(_reference_gap(row).simultaneous, digits),
            lambda row: min(_reference_gap(row).simultaneous or (), default=None),
        ),
        Column.of(
            group,
            "Holm p",
            "Probability that chance alone gives a difference this large, adjusted for the number of losses tested. A "
            "control's p-value is not adjusted.",
            lambda row: _reference_gap(row).holm_p,
            numbers.p_value,
        ),
        Column.of(
            group,
            "MDE",
            "Minimum detectable effect: a true difference this large would have been found four times in five.",
            lambda row: _reference_gap(row).mde,
            lambda mde: percent(mde, digits),
        ),
        Column(
            group,
            "SE: repeats, examples",
            "The two parts of the standard error: what more repeats would shrink, and what more test examples would.",
            _standard_errors,
            lambda row: _reference_gap(row).se,
        ),
        Column.of(
            group,
            "repeats won, %",
            f"Share of repeats in which the loss scored above the mean of {words.reference}'s two arms, ties counting "
            "half.",
            lambda row: row.share_won,
            lambda share: percent(share, 0),
        ),
    ]


def _rival_columns(rival: str | None, digits: int, words: Words) -> list[Column]:
    group = f"Minus best {words.rival}, points"
    return [
        Column(
            group,
            "mean [95 % interval]",
            f"Difference from {words.tuned_rival}, the control that explains many a gain.",
            lambda row: REFERENCE if row.name == rival else numbers.gap(row.against_rival, digits),
            lambda row: 0.0 if row.name == rival else _mean(row.against_rival),
        ),
        Column.of(
            group,
            "p",
            "As above, for this difference, not adjusted.",
            lambda row: (row.against_rival or NO_GAP).p,
            numbers.p_value,
        ),
    ]


def _speed_columns(words: Words) -> list[Column]:
    return [
        Column(
            f"Steps to the level of {words.reference}",
            "ratio",
            f"Median ratio of the steps needed to reach the final validation score of {words.reference}; below 1 "
            'is faster, with a 95 % interval or the p of a sign test; "never" where most trainings did not get there.',
            lambda row: _speed(row.speed, words),
            lambda row: None if row.speed is None else row.speed.ratio.ratio,
        )
    ]


def _tuning_columns(words: Words) -> list[Column]:
    return [
        Column(
            "Tuning",
            "trainings",
            "Trainings spent on tuning, all folds together.",
            lambda row: f"{row.tuning.trainings:,}",
            lambda row: float(row.tuning.trainings),
        ),
        Column(
            "Tuning",
            "learning rate",
            "The chosen rate: the median over the folds and, where they differ, the range.",
            lambda row: numbers.learning_rates(row.tuning.lrs),
            lambda row: median(row.tuning.lrs) if row.tuning.lrs else None,
        ),
        Column("Tuning", "own values", "The other tuned values.", _tuned, lambda row: None),
        Column.of(
            "Tuning",
            "first gradient",
            f"Size of the loss's gradient at the first step relative to that of {words.reference}.",
            lambda row: row.training.gradient_ratio,
            numbers.significant,
        ),
    ]


def _reference_gap(row: Row) -> Gap:
    return row.against_reference or NO_GAP


def _mean(gap: Gap | None) -> float | None:
    return None if gap is None else gap.mean


def _standard_errors(row: Row) -> str:
    gap = _reference_gap(row)
    return MISSING if gap is NO_GAP else f"{_root(gap.v_seed)}, {_root(gap.v_test)}"


def _root(variance: float | None) -> str:
    return MISSING if variance is None or not variance >= 0 else f"{100 * math.sqrt(variance):.2f}"


def _speed(speed: Speed | None, words: Words) -> str:
    if speed is None:
        return MISSING
    ratio, shown = speed.ratio, numbers.steps_ratio(speed.ratio)
    if shown == MISSING:
        return shown
    if ratio.interval is not None and all(map(is_known, ratio.interval)):
        shown += f" [{ratio.interval[0]:.2f}, {ratio.interval[1]:.2f}]"
    elif ratio.p_value is not None:
        shown += f", p {numbers.p_value(ratio.p_value)}"
    if ratio.censored_loss:
        shown += f" ({ratio.censored_loss} of {ratio.pairs} never)"
    if speed.shortened_reference_missed is False:
        shown += f"; {words.reference} re-tuned for {speed.shortened_steps} steps gets there too"
    return shown


def _tuned(row: Row) -> str:
    said = []
    for name in dict.fromkeys(name for fold in row.tuning.values for name in fold):
        values = sorted(fold[name] for fold in row.tuning.values if name in fold)
        middle, low, high = (numbers.significant(v, 3) for v in (median(values), values[0], values[-1]))
        said.append(f"{name} {middle}" if low == high else f"{name} {middle} ({low} to {high})")
    defaults = sum(not fold for fold in row.tuning.values)
    if said and defaults:
        said.append(f"default in {defaults} of {len(row.tuning.values)} folds")
    return ", ".join(said) or MISSING
