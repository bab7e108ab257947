"""From findings to a summary: differences, adjusted p-values, verdicts, and what the pictures show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from lossmith.comparison.adaptation import adaptation
from lossmith.comparison.arms import Arm, Baselines
from lossmith.comparison.headlines import fewer_steps, overall, stronger_control
from lossmith.comparison.plan import Plan
from lossmith.comparison.protocol import Findings, difference
from lossmith.comparison.rows import Gap, Row, SpeedRow, Summary
from lossmith.comparison.shown import (
    columns_of,
    expected_best_of,
    learned_of,
    mean_curve,
    named_of,
    rates_of,
    shape_of,
)
from lossmith.comparison.stages.speed import Speed
from lossmith.comparison.statistics import PairedDifference, holm, share_of_pairs_won, simultaneous_level
from lossmith.comparison.verdict import BETTER, Verdict, verdict
from lossmith.tasks.task import Judged, Scores, Task
from lossmith.trials.result import TrialResult


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
        if arm.name in findings.finals
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
    verdicts = _verdicts(plan, against_ce, against_ls, adjusted)
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
        originals=plan.task.originals(_test(findings.finals[names.reference][0][0])),
    )
    return _in_words(found, plan.task)


def _verdicts(
    plan: Plan,
    against_ce: dict[str, PairedDifference],
    against_ls: dict[str, PairedDifference],
    adjusted: dict[str, float | None],
) -> dict[str, Verdict]:
    return {
        arm.name: verdict(
            arm.name,
            against_ce.get(arm.name),
            against_ls.get(arm.name),
            adjusted.get(arm.name),
            plan.delta,
            trained=arm.name in against_ce,
            is_smoothing=arm.name == plan.names.rival,
        )
        for arm in plan.arms
        if arm.name != plan.names.reference
    }


def _in_words(found: Summary, task: Task) -> Summary:
    """A summary whose sentences are in the words of the task."""
    rows = [
        replace(row, verdict=task.said(row.verdict), untrained=row.untrained and task.said(row.untrained))
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
    runs = [run for fold in findings.finals.get(arm.name, ()) for run in fold]
    tests = [_test(run) for run in runs]
    own = scores.get(arm.name, [])
    means = _run_means(own)
    chosen = findings.chosen.get(arm.name, ())
    paired = arm.name in against_ce and arm.stream == 0
    said = verdicts.get(arm.name)
    gap = against_ce.get(arm.name)
    loss = arm.loss_with(chosen[0].setting.values if chosen else None)
    return Row(
        name=arm.name,
        loss=arm.loss,
        role=arm.role,
        rank=None,
        untrained=findings.untrained.get(arm.name),
        score=float(np.concatenate([fold.mean(0) for fold in own]).mean()) if own else math.nan,
        runs=tuple(means),
        against_ce=None if gap is None else _gap(gap, level if arm.role == "candidate" else None, adjusted[arm.name]),
        against_ls=None if arm.name not in against_ls else _gap(against_ls[arm.name], None, None),
        share_won=share_of_pairs_won(means, _run_means(scores[plan.names.reference])) if paired else None,
        verdict="The reference." if said is None else said.sentence,
        kind="reference" if said is None else said.kind.value,
        speed=None if arm.name == plan.names.reference else _speed_row(arm.name, findings.speed.get(arm.name)),
        columns=columns_of(plan, runs, tests),
        lrs=tuple(fold.setting.lr for fold in chosen),
        values=tuple(named_of(arm, fold) for fold in chosen),
        trainings=sum(fold.trainings for fold in chosen),
        gradient_ratio=float(np.median([run.gradient_ratio for run in runs])) if runs else math.nan,
        extended_share=float(np.mean([run.extended_share for run in runs])) if runs else 0.0,
        diverged=sum(run.diverged for run in runs),
        failures=tuple(reason for fold in chosen for reason in fold.failures),
        notes=tuple(sorted({note for run in runs for note in run.notes})),
        seconds=float(np.mean([run.seconds for run in runs])) if runs else math.nan,
        rates=rates_of(plan, arm, chosen),
        curve=mean_curve(plan, runs),
        diagrams=plan.task.diagrams(tests) if tests else (),
        expected_best=expected_best_of(chosen),
        shape_of=loss,
        shape=shape_of(plan, loss),
        learned=learned_of(runs),
        predictions=plan.task.predictions(tests[0]) if tests else (),
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


def _run_means(folds: Iterable[Scores]) -> list[float]:
    return [float(seed.mean()) for fold in folds for seed in fold]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _test(run: TrialResult) -> Judged:
    assert run.test is not None, "the test outcomes of final trials have been opened"
    return run.test
