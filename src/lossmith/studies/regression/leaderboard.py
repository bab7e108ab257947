"""What a study found: the table, the verdict in plain words, the results as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lossmith.comparison.statistics import PairedDifference, holm, paired_difference
from lossmith.studies.regression.arms import (
    AGAIN,
    LONGER,
    LOSS_REPLAY,
    ONLINE,
    RATE_REPLAY,
    SCALE,
    SQUARED,
    WEIGHT_DECAY,
)
from lossmith.studies.regression.protocol import Findings

WIDTH: Final = 80
ALPHA: Final = 0.05
_AGAINST_ONLINE: Final = (RATE_REPLAY, LOSS_REPLAY, SCALE, WEIGHT_DECAY, LONGER)


@dataclass(frozen=True)
class Row:
    """One arm on the leaderboard.

    Attributes:
        name: of the arm.
        role: ``"candidate"`` or ``"control"``.
        r2: on the test parts.
        against: squared error; ``None`` for itself.
        holm_p: adjusted over the candidates; ``None`` for controls.
    """

    name: str
    role: str
    r2: float
    against: PairedDifference | None
    holm_p: float | None


def make_rows(findings: Findings) -> list[Row]:
    """The leaderboard's rows, best first.

    Args:
        findings: of the study.

    Returns:
        One row per arm.
    """
    against = {o.arm.name: difference(findings, o.arm.name, SQUARED) for o in findings.outcomes}
    candidates = [outcome.arm.name for outcome in findings.outcomes if outcome.arm.role == "candidate"]
    p_values = [against[name].p_value for name in candidates]
    adjusted = holm([1.0 if p is None else p for p in p_values]).tolist()
    holm_p = dict(zip(candidates, adjusted, strict=True))
    rows = [
        Row(
            outcome.arm.name,
            outcome.arm.role,
            findings.r2(outcome),
            None if outcome.arm.name == SQUARED else against[outcome.arm.name],
            holm_p.get(outcome.arm.name),
        )
        for outcome in findings.outcomes
    ]
    return sorted(rows, key=lambda row: -row.r2)


def difference(findings: Findings, a: str, b: str) -> PairedDifference:
    """The paired difference in R^2 of two arms.

    Args:
        findings: of the study.
        a: name of one arm.
        b: name of the other.

    Returns:
        a minus b.
    """
    pairs = zip(*(findings.scores(findings.outcome(name)) for name in (a, b)), strict=True)
    return paired_difference([x - y for x, y in pairs])


def verdict(findings: Findings) -> list[str]:
    """What the numbers carry, in plain words.

    Intervals hold the chance of final seeds and test rows, not that of tuning; so a difference counts as a finding only
    if it is larger than that of squared error tuned and trained again with other seeds.
    That a loss adapts is said only if online is better than both of its replays: one has the same course of the
    effective learning rate, the other the same course of losses from another run.

    Args:
        findings: of the study, with the online arm.

    Returns:
        Sentences.
    """
    row = next(row for row in make_rows(findings) if row.name == ONLINE)
    assert row.against is not None
    assert row.holm_p is not None
    if row.against.reason is not None:
        helps = f"Online against squared error: no interval, as {row.against.reason.value}."
    elif row.holm_p < ALPHA and abs(row.against.mean) <= abs(noise := difference(findings, AGAIN, SQUARED).mean):
        helps = (
            f"Online's difference from squared error ({row.against.mean:+.4f}) is no larger than that of squared error "
            f"tuned and trained again with other seeds ({noise:+.4f}): no finding."
        )
    elif row.holm_p < ALPHA:
        word = "better" if row.against.mean > 0 else "worse"
        helps = f"Online is {word} than squared error (Holm p {_p(row.holm_p, '= ')})."
    else:
        helps = f"Online is not shown to differ from squared error (Holm p {_p(row.holm_p, '= ')})."
    unbeaten = [name for name in (RATE_REPLAY, LOSS_REPLAY) if not _better(difference(findings, ONLINE, name))]
    if unbeaten:
        adapts = f"Not shown to adapt: online is not shown to be better than {' and '.join(unbeaten)}."
    else:
        adapts = "It adapts: online is better than the rate replay and the loss replay."
    return [helps, adapts]


def print_findings(findings: Findings, console: Console) -> None:
    """Print table, comparisons with the controls, and verdict, in at most 80 columns.

    Args:
        findings: of the study.
        console: where to.
    """
    study, (train, meta, valid, test) = findings.study, findings.examples
    width = min(WIDTH, console.width)
    console.print(
        f"{findings.name}: train {train} (meta {meta} of them), validation {valid}, test {test}; {study.folds} folds, "
        f"{study.seeds} seeds, {study.steps} steps",
        width=width,
        highlight=False,
    )
    table = Table(box=SIMPLE_HEAD, width=width, padding=(0, 1), pad_edge=False)
    table.add_column("loss", no_wrap=True)
    for title in ("R2", "minus squared error, 95 %", "Holm p"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in make_rows(findings):
        gap = "" if row.against is None else _gap(row.against)
        mark = "" if row.role == "candidate" else "control"
        table.add_row(row.name, f"{row.r2:.4f}", gap, mark if row.holm_p is None else _p(row.holm_p))
    console.print(table, highlight=False)
    for name in _AGAINST_ONLINE:
        console.print(f"online minus {name}: {_gap(difference(findings, ONLINE, name))}", width=width, highlight=False)
    console.print()
    for sentence in [*verdict(findings), *_warnings(findings)]:
        console.print(sentence, width=width, highlight=False)


def as_json(findings: Findings) -> str:
    """The results for other programs.

    Args:
        findings: of the study.

    Returns:
        JSON, the same for the same study.
    """
    rows = {row.name: row for row in make_rows(findings)}
    arms = []
    for outcome in findings.outcomes:
        row = rows[outcome.arm.name]
        arms.append({
            "name": row.name,
            "role": row.role,
            "r2": row.r2,
            "minus_squared_error": None if row.against is None else _plain(row.against),
            "holm_p": row.holm_p,
            "r2_by_fold_and_seed": [fold.mean(axis=1).tolist() for fold in findings.scores(outcome)],
            "chosen": [{"lr": setting.lr} | outcome.arm.tuned_values(setting.values) for setting in outcome.chosen],
            "folds_on_edge": outcome.on_edge,
            "tuning_trainings": outcome.trainings,
            "diverged": outcome.diverged,
            "effective_scale": outcome.scales,
        })
    online = {name: _plain(difference(findings, ONLINE, name)) for name in _AGAINST_ONLINE}
    return json.dumps(
        {
            "data": findings.name,
            "examples": dict(zip(("train", "meta", "validation", "test"), findings.examples, strict=True)),
            "study": asdict(findings.study),
            "arms": arms,
            "online_minus": online,
            "verdict": verdict(findings),
        },
        indent=1,
    )


def _warnings(findings: Findings) -> Iterator[str]:
    for words, counts in (
        ("Final trainings that diverged and count as the mean", {o.arm.name: o.diverged for o in findings.outcomes}),
        (
            f"Folds of {findings.study.folds} in which the best learning rate lay on the edge of the extended grid",
            {o.arm.name: o.on_edge for o in findings.outcomes},
        ),
    ):
        if any(counts.values()):
            yield f"{words}: {'; '.join(f'{name} {count}' for name, count in counts.items() if count)}."


def _better(of: PairedDifference) -> bool:
    interval = of.interval(1 - ALPHA)
    return interval is not None and interval[0] > 0


def _gap(of: PairedDifference) -> str:
    interval = of.interval(1 - ALPHA)
    return f"{of.mean:+.4f} " + ("(no interval)" if interval is None else f"[{interval[0]:+.4f}, {interval[1]:+.4f}]")


def _p(p: float, equals: str = "") -> str:
    return f"{equals}{p:.3f}" if p >= 0.001 else "<0.001"


def _plain(of: PairedDifference) -> dict[str, Any]:
    interval = of.interval(1 - ALPHA)
    return {"mean": of.mean, "interval": None if interval is None else list(interval), "p": of.p_value}
