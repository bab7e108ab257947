"""Run folders made up for the tests of the report: any number of losses, with results that follow a formula."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w

from lossmith.comparison.files import write_file
from lossmith.comparison.outputs import write_summary
from lossmith.comparison.rows import Gap, MeanCurve, RatePoint, Row, Summary, TrainingRow, TuningRow
from lossmith.comparison.speed import Speed, SpeedRatio
from lossmith.properties.shape import Shape
from lossmith.report.reading import read
from lossmith.report.run import Design, Run, load_run
from lossmith.tasks import Diagram

CONTROLS = ("cross_entropy", "cross_entropy (again)", "cross_entropy + weight decay", "label_smoothing (tuned)")
CANDIDATES = ("ngl", "rooted", "m", "dynamical:amplitude=20,period=28,static_after=280", "parabolic")
HOSTILE = "<script>alert(1)</script>"
METRIC = {"metric": "accuracy", "meaning": "the share of the examples whose most probable class is right"}
STEPS = (10, 20, 30, 40, 50)
LRS = (0.001, 0.002, 0.004, 0.008)
REFERENCE_SCORE = 0.98
RATIO = SpeedRatio(
    ratio=0.87,
    interval=(0.71, 1.06),
    p_value=0.21,
    censored_loss=0,
    censored_reference=0,
    pairs=3,
    method="log-t",
)


def gap(mean: float) -> Gap:
    return Gap(
        mean=mean,
        interval=(mean - 0.004, mean + 0.004),
        simultaneous=(mean - 0.006, mean + 0.006),
        p=0.0123,
        holm_p=0.0456,
        mde=0.0057,
        se=0.00204,
        v_seed=1e-6,
        v_test=3e-6,
        df=37.0,
        reason=None,
    )


def row(name: str, score: float) -> Row:
    """A trained loss of that test score."""
    reference = name == "cross_entropy"
    level = tuple(score - 0.1 * math.exp(-step / 10) for step in STEPS)
    p = tuple((i + 0.5) / 20 for i in range(20))
    bins = (0.3, 0.6, 0.95), (0.25, 0.7, score), (100, 900, 9000)
    falling = tuple(1.1 - v for v in level)
    return Row(
        name=name,
        loss=name,
        role="control" if name in CONTROLS else "candidate",
        rank=None,
        untrained=None,
        score=score,
        runs=(score - 0.004, score, score + 0.004),
        against_reference=None if reference else gap(score - REFERENCE_SCORE),
        against_rival=None if name == CONTROLS[3] else gap(score - 0.985),
        share_won=None if reference else 0.75,
        verdict="The reference." if reference else f"{name} has a verdict of its own.",
        kind="reference" if reference else "undecided",
        speed=None if reference else Speed((0.004,), (87.0, 80.0, 90.0), RATIO),
        columns={
            "accuracy": score,
            "balanced_accuracy": score - 0.02,
            "auc": 0.9912,
            "brier": 0.0321,
            "nll": 0.0931,
            "nll_scaled": 0.0742,
            "ece": 0.0312,
            "ece_scaled": 0.0127,
            "temperature": 1.234,
        },
        diagrams=(Diagram("as trained", *bins), Diagram("temperature scaled", *bins)),
        tuning=TuningRow(
            lrs=(0.002, 0.004, 0.004),
            values=({"epsilon": 0.2}, {"epsilon": 0.4}, {}) if name == CONTROLS[3] else ({}, {}, {}),
            trainings=48,
            failures=(),
            rates=tuple(RatePoint(lr, score - 0.02 * i, score - 0.02 * i - 0.001, 3) for i, lr in enumerate(LRS)),
            expected_best=tuple(score - 0.01 / k for k in range(1, 5)),
        ),
        training=TrainingRow(
            curve=MeanCurve(
                STEPS, {"accuracy": level, "nll": level}, {"accuracy": level, "nll": falling}, level, level
            ),
            gradient_ratio=2.34,
            extended_share=0.0,
            diverged=0,
            notes=(),
            learned=None,
        ),
        shape_of=name,
        shape=Shape(p, tuple(-math.log(v) for v in p), tuple(1 + score - v for v in p)),
    )


def changed(of: Row, **changes: Any) -> Row:
    """A row with other values in some of its fields, or in those of its tuning or its training."""
    for part in ("tuning", "training"):
        inside = {name: changes.pop(name) for name in vars(getattr(of, part)) if name in changes}
        of = replace(of, **{part: replace(getattr(of, part), **inside)})
    return replace(of, **changes)


def untrained(row: Row, why: str) -> Row:
    return replace(
        row,
        untrained=why,
        against_reference=None,
        against_rival=None,
        share_won=None,
        speed=None,
        kind="could not be trained",
        verdict=f"{row.name} could not be trained under this budget, on this data, model and optimiser.",
    )


def summary(rows: Sequence[Row], recommended: str = "cross_entropy") -> Summary:
    ordered = sorted(rows, key=lambda row: (row.untrained is not None, -row.score))
    names = {row.name for row in rows}
    return Summary(
        headline="No loss was shown to be better than tuned cross-entropy on this data, model, optimiser and budget.",
        noise="Size of noise: cross-entropy, tuned and seeded anew, differs from itself by -0.12 points.",
        recommendation=f"Recommended from validation, before the test part was opened: {recommended}.",
        recommended=recommended,
        reference="cross_entropy",
        again="cross_entropy (again)",
        rival=CONTROLS[3] if CONTROLS[3] in names else None,
        metric="accuracy",
        times_scored=23,
        adaptation=(),
        speed_sentences=("ngl needs fewer steps than cross-entropy, as a test says.",),
        rows=tuple(replace(row, rank=None if row.untrained else place) for place, row in enumerate(ordered, start=1)),
    )


def usual(candidates: Sequence[str] = CANDIDATES) -> Summary:
    """Four controls and candidates around 98 %, the last of them at 20 %."""
    names = [*CONTROLS, *candidates]
    scores = [REFERENCE_SCORE, 0.979, 0.978, 0.985, *(0.986 - 0.0007 * i for i in range(len(candidates)))]
    return summary([row(name, s) for name, s in zip(names[:-1], scores[:-1], strict=True)] + [row(names[-1], 0.2)])


def plan(names: Sequence[str]) -> dict[str, Any]:
    return {
        "name": "digits",
        "task": {"name": "classification", "summary": "10 classes", "guess": 0.1} | METRIC,
        "examples": [1150, 287, 360],
        "model": "mlp",
        "lrs": list(LRS),
        "steps": 50,
        "batch_size": 64,
        "budget": 16,
        "repeats": 3,
        "metric_reason": "because no class has 2 times the training examples of another",
        "delta": 0.005,
        "select": "last",
        "device": "cpu",
        "data": {"source": "digits", "label_noise": 0.1, "imbalance": 1.0, "folds": 5},
        "arms": [{"name": name} for name in names],
        "optimizer": {"name": "adam", "momentum": 0.0, "nesterov": False, "schedule": "cosine"},
        "versions": {"lossmith": "0.1.0", "torch": "2.13.0"},
    }


def write_run(folder: Path, of: Summary | None = None) -> Path:
    """A finished run folder."""
    of = usual() if of is None else of
    write_file(folder / "plan.toml", tomli_w.dumps(plan([row.name for row in of.rows])))
    write_summary(of, folder)
    return folder


def as_run(of: Summary, design: dict[str, Any] | None = None) -> Run:
    """A run that was never written, for results that no comparison would write."""
    design = plan([row.name for row in of.rows]) if design is None else design
    return Run(Path("nowhere"), tomli_w.dumps(design), read(Design, design), of)


def make_run(folder: Path, of: Summary | None = None) -> Run:
    return load_run(write_run(folder, of))
