"""How often the protocol finds a difference where there is none: copies of the reference, compared with itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossmith.comparison.arms import Arm
from lossmith.comparison.files import write_file
from lossmith.comparison.headlines import fewer_steps
from lossmith.comparison.plan import Plan
from lossmith.comparison.protocol import recommendation_from, run_protocol, untrained_arms, validation_differences
from lossmith.comparison.results import FinalRun, by_arm, test_estimator, test_scores
from lossmith.comparison.statistics import PairedDifference, holm
from lossmith.comparison.verdict import ALPHA
from lossmith.trials.runner import Runner

RELABELLINGS: Final = 400


@dataclass(frozen=True)
class SelfTest:
    """What a self-test found; rates are shares of relabelled comparisons.

    Attributes:
        copies: How many copies of the reference were compared with it.
        judged: Share of comparisons that have a p-value; the others raise no alarm.
        per_comparison: Share of comparisons with p < .05.
        interval: 95 % interval of that share, as other trainings of the same plan might give it.
        per_family: Share of comparisons of all copies at once in which one has Holm p < .05.
        recommended: Share of them in which a copy is recommended.
        recommendable: Share of copies that would be recommended if they gained delta on validation.
        found: Share of comparisons in which a gain of delta would have p < .05.
        found_adjusted: Likewise with Holm p < .05 among all copies.
        se: Median standard error of a difference, a fraction; None if there is none.
        faster: Copies said to need fewer steps, in the one comparison that was carried out.
    """

    copies: int
    judged: float
    per_comparison: float
    interval: tuple[float, float]
    per_family: float
    recommended: float
    recommendable: float
    found: float
    found_adjusted: float
    se: float | None
    faster: int


def plan_copies(plan: Plan, copies: int) -> Plan:
    """The plan of a comparison whose losses are copies of its reference, each with seeds of its own."""
    reference, again = plan.arm(plan.names.reference), plan.arm(plan.names.again)
    arms = [Arm(f"copy {i}", reference.loss, stream=i + 1) for i in range(1, copies + 1)]
    return replace(plan, arms=(reference, again, *arms))


def self_test(plan: Plan, runner: Runner, folder: Path, relabellings: int = RELABELLINGS) -> SelfTest:
    """Carry out a comparison of copies and count false alarms over relabellings of its trainings.

    Copies are exchangeable: in each fold and repeat any of the pipelines might have been that of any arm. So they are
    dealt to the arms anew, many times, and each time the comparison is evaluated.

    Args:
        plan: from `plan_copies`.
        runner: what runs the trials.
        folder: the run folder; the result is written there as ``selftest.json``.
        relabellings: how many times.

    Returns:
        The rates.

    Raises:
        KeyboardInterrupt: on Ctrl-C; finished trainings are kept.
        TrainingFailedError: if trainings of the reference fail.
    """
    findings = run_protocol(plan, runner, folder)
    rng = np.random.default_rng(plan.trial.seed)
    outcomes = [_evaluate(plan, *_relabelled(plan, findings.runs, rng)) for _ in range(relabellings)]
    alarms = np.array([outcome.p_values < ALPHA for outcome in outcomes])
    shifted = np.array([outcome.shifted < ALPHA for outcome in outcomes])
    se = np.array([outcome.se for outcome in outcomes])
    found = SelfTest(
        copies=len(plan.arms) - 2,
        judged=float(np.isfinite(se).mean()),
        per_comparison=float(alarms.mean()),
        interval=share_interval(alarms.ravel(), np.concatenate([outcome.used for outcome in outcomes])),
        per_family=float(np.mean([(holm(outcome.p_values) < ALPHA).any() for outcome in outcomes])),
        recommended=float(np.mean([outcome.recommended for outcome in outcomes])),
        recommendable=float(np.mean([outcome.recommendable * len(outcome.p_values) < ALPHA for outcome in outcomes])),
        found=float(shifted.mean()),
        found_adjusted=float(np.mean([outcome.shifted * len(outcome.shifted) < ALPHA for outcome in outcomes])),
        se=float(np.nanmedian(se)) if np.isfinite(se).any() else None,
        faster=sum(fewer_steps(name, of) is not None for name, of in findings.speed.items()),
    )
    write_file(folder / "selftest.json", msgspec.json.format(msgspec.json.encode(found), indent=1).decode() + "\n")
    return found


def share_interval(hits: ArrayLike, used: ArrayLike) -> tuple[float, float]:
    """A 95 % interval of a share of comparisons that have pipelines in common.

    The variance is that of the jackknife: the share without each pipeline in turn, block by block. It gives the number
    of independent comparisons that would be as precise, with which the interval is Wilson's. Where there is no
    variance, that number is the number of pipelines in a block.

    Args:
        hits: Whether each comparison counts, shape (n,).
        used: Whether it used each pipeline of each block, shape (n, blocks, pipelines).

    Returns:
        The lower and upper bound.

    Source: Efron and Stein (1981), Annals of Statistics 9:586-596; Wilson (1927), Journal of the American Statistical
    Association 22:209-212.
    """
    h, u = np.asarray(hits, dtype=np.float64), np.asarray(used, dtype=bool)
    share, pipelines = float(h.mean()), u.shape[2]
    without = np.tensordot(h, ~u, axes=(0, 0)) / (~u).sum(0)
    variance = (pipelines - 1) * float(without.var(axis=1).sum())
    n = share * (1 - share) / variance if variance > 0 else float(pipelines)
    z2 = 1.959964**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, eq=False)
class _Outcome:
    """One relabelled comparison, evaluated; arrays hold an entry for each copy."""

    p_values: NDArray[np.float64]
    shifted: NDArray[np.float64]
    recommendable: NDArray[np.float64]
    se: NDArray[np.float64]
    used: NDArray[np.bool_]
    recommended: bool


def _relabelled(
    plan: Plan, runs: Sequence[FinalRun], rng: np.random.Generator
) -> tuple[list[FinalRun], NDArray[np.int64]]:
    """The runs dealt anew to the arms in each fold and repeat; and which one each arm got, (pipelines, arms)."""
    names, runs_of = [arm.name for arm in plan.arms], by_arm(runs)
    dealt = np.array([rng.permutation(len(names)) for _ in plan.pipelines])
    relabelled = [
        replace(runs_of[names[which]][i], arm=name)
        for arm, name in enumerate(names)
        for i, which in enumerate(dealt[:, arm])
    ]
    return relabelled, dealt


def _evaluate(plan: Plan, runs: Sequence[FinalRun], dealt: NDArray[np.int64]) -> _Outcome:
    """What the comparison says of runs under their new names."""
    untrained = untrained_arms(plan, runs)
    untrained.pop(plan.names.reference, None)
    on_validation = validation_differences(plan, [run for run in runs if run.arm not in untrained])
    estimator = test_estimator(plan, test_scores(plan, runs), untrained)
    names = [arm.name for arm in plan.arms]
    references = plan.names.both(set(names) - set(untrained))
    gaps = [None if name in untrained else estimator.difference(name, *references) for name in names[2:]]
    used = np.zeros((len(gaps), *dealt.shape), dtype=bool)
    for place, mine in enumerate(used, start=2):
        mine[np.arange(len(dealt))[:, None], dealt[:, [0, 1, place]]] = True
    return _Outcome(
        p_values=np.array([_p_value(gap) for gap in gaps]),
        shifted=np.array([_p_value(gap, plan.delta) for gap in gaps]),
        recommendable=np.array([_p_value(on_validation.get(name), plan.delta) for name in names[2:]]),
        se=np.array([math.nan if gap is None or gap.p_value is None else gap.se for gap in gaps]),
        used=used,
        recommended=recommendation_from(plan, on_validation).arm != plan.names.reference,
    )


def _p_value(gap: PairedDifference | None, gain: float = 0.0) -> float:
    """That of a difference with a gain on top, if it is a gain then; 1 where there is none."""
    if gap is None or gap.p_value is None:
        return 1.0
    better = replace(gap, mean=gap.mean + gain)
    return 1.0 if better.p_value is None or (gain and better.mean < 0) else better.p_value
