"""From findings to a summary: differences, adjusted p-values, verdicts, and what the pictures show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lossmith.comparison.adaptation import adaptation
from lossmith.comparison.arms import Arm
from lossmith.comparison.estimator import Estimator
from lossmith.comparison.headlines import (
    better_control,
    fewer_steps,
    no_better_than_guessing,
    overall,
    stronger_control,
    too_few_pairs,
)
from lossmith.comparison.plan import Plan
from lossmith.comparison.protocol import Findings
from lossmith.comparison.results import FinalRun, by_arm, reference_learned, test_estimator, test_scores
from lossmith.comparison.rows import Gap, Row, Summary
from lossmith.comparison.shown import columns_of, shape_of, training_of, tuning_of
from lossmith.comparison.statistics import PairedDifference, holm, share_of_pairs_won, simultaneous_level
from lossmith.comparison.verdict import BETTER, Verdict, verdict
from lossmith.tasks import metric_title
from lossmith.tasks.task import Scores, Words


@dataclass(frozen=True)
class _Evidence:
    """What the test scores say of each arm; by name.

    Args:
        scores: per unit, one array (repeats, units) per fold.
        estimator: of differences.
        against_reference: differences of the arms that could be trained from the mean of the reference's two arms; of
            the second arm from the first.
        against_rival: likewise from the rival, if that could be trained.
        holm_p: adjusted p-values of the candidates, own ones of the controls.
        level: of the intervals that hold for all candidates at once.
        verdicts: of all arms but the reference.
    """

    scores: dict[str, list[Scores]]
    estimator: Estimator
    against_reference: dict[str, PairedDifference]
    against_rival: dict[str, PairedDifference]
    holm_p: dict[str, float | None]
    level: float
    verdicts: dict[str, Verdict]

    def mean(self, name: str) -> float:
        """The mean test score of an arm; NaN if it has none."""
        return (
            float(np.concatenate([fold.mean(0) for fold in self.scores[name]]).mean())
            if name in self.scores
            else math.nan
        )


def summarise(plan: Plan, findings: Findings) -> Summary:
    """Turn findings into a summary: differences, adjusted p-values, verdicts, and what the pictures show."""
    evidence, recommended = _evidence(plan, findings), findings.recommendation
    rows = [_row(plan, findings, arm, evidence) for arm in plan.arms]
    rows.sort(key=lambda row: (row.untrained is not None, -row.score))
    trained = [name for name in evidence.scores if name not in findings.untrained]
    fewer = {name: fewer_steps(name, of, words=plan.task.words) for name, of in findings.speed.items()}
    too_few = too_few_pairs(findings.speed, sum(arm.role == "candidate" for arm in plan.arms))
    return Summary(
        headline=_headline(plan, findings, evidence),
        noise=_noise(evidence.against_reference.get(plan.names.again), findings.weak_reference, plan.task.words),
        recommendation=f"Recommended from validation, before the test part was opened: {recommended.arm} "
        f"({recommended.reason}). {_planned_test(plan, recommended.arm, evidence)}",
        recommended=recommended.arm,
        reference=plan.names.reference,
        again=plan.names.again,
        rival=plan.names.rival if plan.names.rival in evidence.against_reference else None,
        metric=metric_title(plan.metric),
        times_scored=findings.times_scored,
        speed_sentences=tuple(said for row in rows if (said := fewer.get(row.name))) + too_few,
        adaptation=adaptation(plan.arms, set(trained), evidence.estimator),
        rows=tuple(replace(row, rank=None if row.untrained else place) for place, row in enumerate(rows, start=1)),
        originals=plan.task.originals(by_arm(findings.runs)[plan.names.reference][0].judged("test")),
        probe_share=_probe_share(findings.runs) if plan.trial.probes else None,
    )


def _probe_share(runs: Sequence[FinalRun]) -> float:
    return sum(run.result.probe_seconds for run in runs) / sum(run.result.seconds for run in runs)


def _evidence(plan: Plan, findings: Findings) -> _Evidence:
    scores, names = test_scores(plan, findings.runs), plan.names
    estimator = test_estimator(plan, scores, findings.untrained)
    trained = [arm.name for arm in plan.arms if arm.name not in findings.untrained]
    references = names.both(trained)

    def against(*others: str) -> dict[str, PairedDifference]:
        return {name: estimator.difference(name, *others) for name in trained if name not in others}

    against_reference = against(*references)
    if names.again in references:
        against_reference[names.again] = estimator.difference(names.again, names.reference)
    against_rival = against(names.rival) if names.rival in trained else {}
    candidates = [arm.name for arm in plan.arms if arm.role == "candidate"]
    holm_p = _adjust(candidates, against_reference)
    verdicts = {
        arm.name: verdict(
            arm.name,
            against_reference.get(arm.name),
            against_rival.get(arm.name),
            holm_p.get(arm.name),
            plan.delta,
            trained=arm.name in against_reference,
            is_rival=arm.name == names.rival,
            words=plan.task.words,
        )
        for arm in plan.arms
        if arm.name != names.reference
    }
    level = simultaneous_level(max(1, len(candidates)))
    return _Evidence(scores, estimator, against_reference, against_rival, holm_p, level, verdicts)


def _row(plan: Plan, findings: Findings, arm: Arm, evidence: _Evidence) -> Row:
    name = arm.name
    runs = by_arm(findings.runs).get(name, [])
    results, tests = [run.result for run in runs], [run.judged("test") for run in runs]
    chosen = findings.chosen.get(name, ())
    means, gap = _run_means(evidence.scores.get(name, [])), evidence.against_reference.get(name)
    paired, said = gap is not None and name != plan.names.again, evidence.verdicts.get(name)
    loss = arm.loss_with(chosen[0].setting.values if chosen else None)
    level = evidence.level if arm.role == "candidate" else None
    return Row(
        name=name,
        loss=arm.loss,
        role=arm.role,
        rank=None,
        untrained=findings.untrained.get(name),
        score=evidence.mean(name),
        runs=tuple(means),
        against_reference=None if gap is None else _gap(gap, level, evidence.holm_p[name]),
        against_rival=_gap(evidence.against_rival[name], None, None) if name in evidence.against_rival else None,
        share_won=share_of_pairs_won(means, _mean_of_runs(plan, evidence)) if paired else None,
        verdict="The reference." if said is None else said.sentence,
        kind="reference" if said is None else said.kind.value,
        speed=None if name == plan.names.reference else findings.speed.get(name),
        columns=columns_of(plan, results, tests),
        diagrams=plan.task.diagrams(tests) if tests else (),
        tuning=tuning_of(plan, arm, chosen),
        training=training_of(plan, results),
        shape_of=loss,
        shape=shape_of(plan, loss),
        predictions=plan.task.pictures(tests[0]) if tests else (),
    )


def _headline(plan: Plan, findings: Findings, evidence: _Evidence) -> str:
    words, names = plan.task.words, plan.names
    candidates = {arm.name: evidence.verdicts[arm.name] for arm in plan.arms if arm.role == "candidate"}
    intervals = {
        name: evidence.against_reference[name].interval(evidence.level)
        for name in candidates
        if name in evidence.against_reference
    }
    upper = {name: interval[1] if interval else None for name, interval in intervals.items()}
    headline = overall(candidates, upper, plan.delta, words)
    better = [name for name, said in candidates.items() if said.kind in BETTER]
    guessing = _guessing(plan, findings)
    controls = [arm.name for arm in plan.arms if arm.role == "control" and arm.name in evidence.against_reference]
    if better:
        best = max(better, key=evidence.mean)
        others = set(controls) - {names.again, names.rival}
        gaps = {name: evidence.estimator.difference(name, best) for name in controls if name in others}
        caution = stronger_control(best, gaps, words)
    else:
        caution = better_control(
            {name: evidence.against_reference[name] for name in controls if name != names.again}, words
        )
    headlines = (guessing, headline if better or guessing is None else None, caution)
    return " ".join(said for said in headlines if said is not None)


def _guessing(plan: Plan, findings: Findings) -> str | None:
    """The sentence on a reference that learned nothing, if it did not."""
    if reference_learned(plan, findings.runs):
        return None
    task, runs = plan.task.of_progress, by_arm(findings.runs)[plan.names.reference]
    score = float(np.mean([task.metrics(run.judged("valid"))[task.metric] for run in runs]))
    return no_better_than_guessing(metric_title(task.metric), score, task.guess, words=task.words)


def _adjust(candidates: Sequence[str], against_reference: dict[str, PairedDifference]) -> dict[str, float | None]:
    """Holm's p-values of the losses tested, untrained ones entering as 1; the controls' own p-values."""
    own = {name: gap.p_value for name, gap in against_reference.items()}
    entered = [1.0 if (p := own.get(name)) is None else p for name in candidates]
    adjusted = dict(zip(candidates, holm(entered).tolist(), strict=True))
    return {name: p if p is None else adjusted.get(name, p) for name, p in own.items()}


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


def _noise(again: PairedDifference | None, weak_reference: str | None, words: Words) -> str:
    warning = "" if weak_reference is None else f"Take care: of {words.reference} itself, {weak_reference}. "
    if again is None:
        said = "{reference}, tuned and seeded anew, could not be trained: do not trust any difference in this table."
        return warning + words.fill(said)
    return (
        f"{warning}Size of noise: {words.reference}, tuned and seeded anew, differs from itself by "
        f"{100 * again.mean:+.2f} points{_bounds(again)}. Losses are compared with the mean of both."
    )


def _planned_test(plan: Plan, arm: str, evidence: _Evidence) -> str:
    if arm == plan.names.reference:
        return "No loss was recommended, so none was tested."
    gap = evidence.against_reference[arm]
    p = "" if gap.p_value is None else f", p = {gap.p_value:.2g}"
    said = f"On test, the one planned comparison: {100 * gap.mean:+.2f} points from"
    return f"{said} {plan.task.words.reference}{_bounds(gap)}{p}."


def _bounds(gap: PairedDifference) -> str:
    interval = gap.interval()
    if interval is not None:
        return f" [{100 * interval[0]:+.2f}, {100 * interval[1]:+.2f}]"
    return f" (no interval: {gap.reason.value})" if gap.reason else ""


def _run_means(folds: Iterable[Scores]) -> list[float]:
    return [float(seed.mean()) for fold in folds for seed in fold]


def _mean_of_runs(plan: Plan, evidence: _Evidence) -> list[float]:
    """The mean test score of each repeat's two trainings of the reference."""
    references = plan.names.both(evidence.against_reference | {plan.names.reference: None})
    runs = [_run_means(evidence.scores[name]) for name in references]
    return [float(score) for score in np.mean(runs, axis=0)]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
