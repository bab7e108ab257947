"""From findings to a summary: differences, adjusted p-values, verdicts, and what the pictures show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from lossmith.catalog import create
from lossmith.comparison.adaptation import adaptation
from lossmith.comparison.arms import Arm, Baselines
from lossmith.comparison.plan import Plan
from lossmith.comparison.protocol import Chosen, Findings, Speed, difference
from lossmith.comparison.rows import (
    Gap,
    LearnedRow,
    MeanCurve,
    RatePoint,
    Row,
    SpeedRow,
    Summary,
)
from lossmith.comparison.statistics import PairedDifference, holm, share_of_pairs_won, simultaneous_level
from lossmith.comparison.tuning import expected_best, smoothed
from lossmith.comparison.verdict import BETTER, Verdict, fewer_steps, overall, stronger_control, verdict
from lossmith.properties.shape import Shape, loss_shape
from lossmith.tasks.task import Judged, Scores, Task
from lossmith.trials.result import LearnedPath, TrialResult


def summarise(plan: Plan, findings: Findings) -> Summary:
    """Turn findings into a summary: differences, adjusted p-values, verdicts, and what the pictures show.

    Args:
        plan: the plan.
        findings: what carrying it out found.

    Returns:
        The summary.
    """
    names = plan.names
    scores = {
        arm.name: plan.task.unit_scores(
            [[_test(run) for run in fold] for fold in findings.finals[arm.name]], plan.metric
        )
        for arm in plan.arms
    }
    trained = [arm for arm in plan.arms if arm.name not in findings.untrained]
    against_ce = {
        arm.name: difference(scores[arm.name], scores[names.reference])
        for arm in trained
        if arm.name != names.reference
    }
    smoothing = names.rival if names.rival in against_ce else None
    against_ls = {
        arm.name: difference(scores[arm.name], scores[smoothing])
        for arm in trained
        if smoothing is not None and arm.name != smoothing
    }
    candidates = [arm.name for arm in plan.arms if arm.role == "candidate"]
    adjusted = _adjust(candidates, against_ce)
    level = simultaneous_level(max(1, len(candidates)))
    verdicts = {
        arm.name: verdict(
            arm.name,
            against_ce.get(arm.name),
            against_ls.get(arm.name),
            adjusted.get(arm.name),
            plan.delta,
            trained=arm.name in against_ce,
            is_smoothing=arm.name == names.rival,
        )
        for arm in plan.arms
        if arm.name != names.reference
    }
    rows = [_row(plan, findings, arm, scores, against_ce, against_ls, adjusted, level, verdicts) for arm in plan.arms]
    ranked = _ranked(rows)
    upper = {name: (against_ce[name].interval(level) or (None, None))[1] for name in candidates if name in against_ce}
    found = Summary(
        headline=_headline(plan, scores, {name: verdicts[name] for name in candidates}, upper, list(against_ce)),
        noise=_noise(against_ce.get(names.again), findings.weak_reference),
        recommendation=f"Recommended from validation, before the test part was opened: {findings.recommendation.arm} "
        f"({findings.recommendation.reason}). {_planned_test(findings, names, against_ce)}",
        recommended=findings.recommendation.arm,
        reference=names.reference,
        again=names.again,
        best_label_smoothing=smoothing,
        metric=plan.metric,
        times_scored=findings.times_scored,
        speed_sentences=tuple(row.speed.sentence for row in ranked if row.speed and row.speed.sentence),
        adaptation=adaptation(plan.arms, {arm.name: scores[arm.name] for arm in trained}),
        rows=tuple(ranked),
    )
    return _in_words(found, plan.task)


def _in_words(found: Summary, task: Task) -> Summary:
    """A summary whose sentences are in the words of the task."""
    rows = [
        replace(
            row,
            verdict=task.said(row.verdict),
            untrained=row.untrained and task.said(row.untrained),
        )
        for row in found.rows
    ]
    return replace(
        found,
        headline=task.said(found.headline),
        noise=task.said(found.noise),
        recommendation=task.said(found.recommendation),
        speed_sentences=tuple(map(task.said, found.speed_sentences)),
        adaptation=tuple(map(task.said, found.adaptation)),
        rows=tuple(rows),
    )


def _row(
    plan: Plan,
    findings: Findings,
    arm: Arm,
    scores: dict[str, list[Scores]],
    against_ce: dict[str, PairedDifference],
    against_ls: dict[str, PairedDifference],
    adjusted: dict[str, float | None],
    level: float,
    verdicts: dict[str, Verdict],
) -> Row:
    runs = [run for fold in findings.finals[arm.name] for run in fold]
    tests = [_test(run) for run in runs]
    means = [float(seed.mean()) for fold in scores[arm.name] for seed in fold]
    chosen = findings.chosen[arm.name]
    paired = arm.name in against_ce and arm.stream == 0
    said = verdicts.get(arm.name)
    gap = against_ce.get(arm.name)
    return Row(
        name=arm.name,
        loss=arm.loss,
        role=arm.role,
        rank=None,
        untrained=findings.untrained.get(arm.name),
        score=float(np.concatenate([fold.mean(0) for fold in scores[arm.name]]).mean()),
        runs=tuple(means),
        against_ce=None if gap is None else _gap(gap, level if arm.role == "candidate" else None, adjusted[arm.name]),
        against_ls=None if arm.name not in against_ls else _gap(against_ls[arm.name], None, None),
        share_won=share_of_pairs_won(means, _run_means(scores[plan.names.reference])) if paired else None,
        verdict="The reference." if said is None else said.sentence,
        kind="reference" if said is None else said.kind.value,
        speed=None if arm.name == plan.names.reference else _speed_row(arm.name, findings.speed.get(arm.name)),
        columns=_columns(plan, runs, tests),
        lrs=tuple(fold.setting.lr for fold in chosen),
        values=tuple(_named(arm, fold) for fold in chosen),
        trainings=sum(fold.trainings for fold in chosen),
        gradient_ratio=float(np.median([run.gradient_ratio for run in runs])),
        extended_share=float(np.mean([run.extended_share for run in runs])),
        diverged=sum(run.diverged for run in runs),
        notes=tuple(sorted({note for run in runs for note in run.notes})),
        seconds=float(np.mean([run.seconds for run in runs])),
        rates=_rates(plan, arm, chosen),
        curve=_mean_curve(runs),
        diagrams=plan.task.diagrams(tests),
        expected_best=_expected_best(chosen),
        shape_of=arm.loss_with(chosen[0].setting.values),
        shape=_shape(plan, arm.loss_with(chosen[0].setting.values)),
        learned=_learned([run.learned for run in runs if run.learned is not None]),
    )


def _headline(
    plan: Plan,
    scores: dict[str, list[Scores]],
    verdicts: dict[str, Verdict],
    upper: dict[str, float | None],
    trained: Sequence[str],
) -> str:
    headline = overall(verdicts, upper, plan.delta)
    better = [name for name, said in verdicts.items() if said.kind in BETTER]
    if not better:
        return headline
    best = max(better, key=lambda name: float(np.concatenate([fold.mean(0) for fold in scores[name]]).mean()))
    controls = [arm.name for arm in plan.arms if arm.role == "control" and arm.name in trained]
    others = [name for name in controls if name not in {plan.names.again, plan.names.rival}]
    caution = stronger_control(best, {name: difference(scores[name], scores[best]) for name in others})
    return headline if caution is None else f"{headline} {caution}"


def _ranked(rows: Sequence[Row]) -> list[Row]:
    in_order = sorted(rows, key=lambda row: (row.untrained is not None, -row.score))
    return [replace(row, rank=None if row.untrained else place) for place, row in enumerate(in_order, start=1)]


def _adjust(candidates: Sequence[str], against_ce: dict[str, PairedDifference]) -> dict[str, float | None]:
    """Holm's p-values of the losses tested, untrained ones entering as 1; the controls' own p-values."""
    own = {name: gap.p_value for name, gap in against_ce.items()}
    entered = [own.get(name) for name in candidates]
    holmed = holm([1.0 if p is None else p for p in entered]).tolist()
    tested = {
        name: None if p is None else adjusted for name, p, adjusted in zip(candidates, entered, holmed, strict=True)
    }
    return own | {name: p for name, p in tested.items() if name in own}


def _gap(gap: PairedDifference, level: float | None, holm_p: float | None) -> Gap:
    return Gap(
        mean=gap.mean,
        interval=gap.interval(),
        simultaneous=None if level is None else gap.interval(level),
        p=gap.p_value,
        holm_p=holm_p,
        mde=gap.mde(),
        se=_finite(gap.se),
        v_seed=_finite(gap.v_seed),
        v_test=_finite(gap.v_test),
        df=_finite(gap.df),
        reason=None if gap.reason is None else gap.reason.value,
    )


def _noise(again: PairedDifference | None, weak_reference: str | None) -> str:
    warning = "" if weak_reference is None else f"Take care: of cross-entropy itself, {weak_reference}. "
    if again is None:
        return f"{warning}Cross-entropy, tuned and seeded anew, could not be trained: take no difference here for real."
    return (
        f"{warning}Size of noise: cross-entropy, tuned and seeded anew, differs from itself by "
        f"{100 * again.mean:+.2f} points{_bounds(again)}."
    )


def _planned_test(findings: Findings, names: Baselines, against_ce: dict[str, PairedDifference]) -> str:
    arm = findings.recommendation.arm
    if arm == names.reference:
        return "Nothing was to be tested."
    gap = against_ce[arm]
    p = "" if gap.p_value is None else f", p = {gap.p_value:.2g}"
    return f"On test, the one planned comparison: {100 * gap.mean:+.2f} points from cross-entropy{_bounds(gap)}{p}."


def _bounds(gap: PairedDifference) -> str:
    interval = gap.interval()
    if interval is not None:
        return f" [{100 * interval[0]:+.2f}, {100 * interval[1]:+.2f}]"
    return f" (no interval: {gap.reason.value})" if gap.reason else ""


def _speed_row(name: str, speed: Speed | None) -> SpeedRow | None:
    if speed is None:
        return None
    ratio = speed.ratio
    sentence = fewer_steps(name, ratio, shortened_ce_missed=bool(speed.shortened_ce_missed))
    return SpeedRow(
        ratio=_finite(ratio.ratio),
        interval=ratio.interval,
        p=ratio.p_value,
        censored=ratio.censored_loss,
        censored_ce=ratio.censored_ce,
        shortened_steps=speed.shortened_steps,
        shortened_ce_missed=speed.shortened_ce_missed,
        pairs=ratio.pairs,
        method=ratio.method,
        lrs=speed.lrs,
        sentence=sentence,
    )


def _shape(plan: Plan, loss: str) -> Shape | None:
    return loss_shape(create(loss), plan.task.outputs) if plan.task.loss_kind == "classification" else None


def _columns(plan: Plan, runs: Sequence[TrialResult], tests: Sequence[Judged]) -> dict[str, float]:
    """Means of the task's columns over the final runs on test, and medians of what was fitted on validation."""
    told = [plan.task.columns(test) for test in tests]
    means = {name: float(np.mean([of[name] for of in told])) for name in told[0]}
    return means | {name: float(np.median([run.fitted[name] for run in runs])) for name in runs[0].fitted}


def _learned(paths: Sequence[LearnedPath]) -> LearnedRow | None:
    if not paths:
        return None
    first, scale = paths[0], np.array([path.scale for path in paths])
    return LearnedRow(
        steps=first.steps,
        scale=tuple(scale.mean(0).tolist()),
        lowest=tuple(scale.min(0).tolist()),
        highest=tuple(scale.max(0).tolist()),
        moments=first.moments,
        p=first.p,
        strictness=tuple(_column_means(curves) for curves in zip(*(path.strictness for path in paths), strict=True)),
        offline_steps=float(np.mean([path.offline_steps for path in paths])),
        formula=first.formula,
        formula_error=first.formula_error,
    )


def _mean_curve(runs: Sequence[TrialResult]) -> MeanCurve:
    scores = np.array([run.curve.score for run in runs])
    first = runs[0].curve
    return MeanCurve(
        steps=first.steps,
        train={name: _column_means([run.curve.train[name] for run in runs]) for name in first.train},
        valid={name: _column_means([run.curve.valid[name] for run in runs]) for name in first.valid},
        lowest=tuple(scores.min(0).tolist()),
        highest=tuple(scores.max(0).tolist()),
    )


def _rates(plan: Plan, arm: Arm, chosen: Sequence[Chosen]) -> tuple[RatePoint, ...]:
    """The bracketing grid, averaged over folds."""
    plain: dict[float, list[float]] = {}
    smooth: dict[float, list[float]] = {}
    for fold in chosen:
        grid = [point for point in fold.points if point.setting.values is None]
        for point, value in zip(grid, smoothed(grid, arm, plan.task.guess), strict=True):
            plain.setdefault(point.setting.lr, []).append(point.accuracy)
            smooth.setdefault(point.setting.lr, []).append(value)
    return tuple(
        RatePoint(lr, float(np.mean(plain[lr])), float(np.mean(smooth[lr])), len(plain[lr])) for lr in sorted(plain)
    )


def _expected_best(chosen: Sequence[Chosen]) -> tuple[float, ...]:
    """The expected best validation score against the number of settings tried, averaged over folds."""
    curves = [expected_best([point.accuracy for point in fold.points]) for fold in chosen]
    shortest = min(map(len, curves))
    return _column_means([curve[:shortest] for curve in curves])


def _named(arm: Arm, chosen: Chosen) -> dict[str, float]:
    values = chosen.setting.values
    return {} if values is None else dict(zip((d.name for d in arm.tuned), values, strict=True))


def _run_means(folds: Iterable[Scores]) -> list[float]:
    return [float(seed.mean()) for fold in folds for seed in fold]


def _column_means(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(np.mean(np.array(rows, dtype=float), axis=0).tolist())


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _test(run: TrialResult) -> Judged:
    assert run.test is not None, "the test outcomes of final trials have been opened"
    return run.test
