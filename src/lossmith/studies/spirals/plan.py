"""What the study trains, stage by stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from lossmith.studies.bench import Bench
from lossmith.studies.spirals.problem import Run
from lossmith.studies.spirals.training import Branch, Job, branch, time_work, work

Outcome = dict[str, NDArray[Any]]
Outcomes = dict[Run, Outcome]
T = TypeVar("T")

FOCUSED: Final[dict[str, Any]] = {"amplitude": 70.0, "period": 5000}
"""The dynamical loss of the paper's figure."""
FAST: Final[dict[str, Any]] = {"amplitude": 20.0, "period": 250}
"""The dynamical loss that did best in our earlier simulation."""

_DYNAMICAL: Final[dict[str, dict[str, Any]]] = {
    "dynamical, A=20, T=250": FAST,
    "dynamical, A=20, T=250, order at random": {**FAST, "order": "random"},
    "dynamical, A=20, T=5000": {"amplitude": 20.0, "period": 5000},
    "dynamical, A=70, T=5000": FOCUSED,
}
_STATIC: Final[dict[str, dict[str, Any]]] = {
    **{f"static, rate {lr:g}": {"lr": lr} for lr in (1.0, 1.5, 2.0, 2.5, 3.0)},
    **{f"static, cosine from {lr:g}": {"lr": lr, "rate": "cosine"} for lr in (1.0, 2.0)},
    **{f"static, momentum 0.9, rate {lr:g}": {"lr": lr, "momentum": 0.9} for lr in (0.1, 0.2, 0.5)},
}
_MIXED: Final[dict[str, dict[str, Any]]] = {
    "the triangle on the rate": {**FAST, "rate": "triangle"},
    "constant class weights, A=5": {**FAST, "amplitude": 5.0, "order": "held"},
    "constant class weights, A=20": {**FAST, "order": "held"},
    "dynamical, A=20, T=250, momentum 0.9, rate 0.2": {**FAST, "momentum": 0.9, "lr": 0.2},
}
_WATCHED: Final = {"every": 25, "kernel": 250}


@dataclass(frozen=True)
class Plan:
    """All runs of the study.

    Args:
        quick: few runs of a two-hundredth of the length.
    """

    quick: bool = False

    def some(self, values: Sequence[T], count: int = 2) -> Sequence[T]:
        """The values, or the last few if it is to be quick."""
        return values[-count:] if self.quick else values

    def runs(self, count: int, draws: int = 1, **fields: Any) -> tuple[Run, ...]:
        """Runs that differ in their seeds, and in their data where there is more than one draw."""
        return tuple(self._scaled(Run(seed, draw=seed % draws, **fields)) for seed in range(2 if self.quick else count))

    def _scaled(self, run: Run) -> Run:
        if not self.quick:
            return run
        return replace(run, updates=run.updates // 200, period=max(run.period // 200, 4), tail=run.tail // 200)

    @property
    def figure(self) -> dict[str, tuple[Run, ...]]:
        """Runs of the paper's figure that are watched: dynamical and static, and at half the rate twice as long."""
        usual: dict[str, Any] = {"updates": 70_000}
        half: dict[str, Any] = {"updates": 140_000, "lr": 0.5, "amplitude": 70.0, "period": 10_000, "tail": 10_000}
        return {
            "dynamical": self.runs(10, **usual, **FOCUSED),
            "static": self.runs(10, **usual),
            "half": self.runs(5, **half),
        }

    @property
    def updated(self) -> dict[str, tuple[Run, ...]]:
        """The same with the later notebook's weights, not watched."""
        usual: dict[str, Any] = {"updates": 70_000, "init": "updated"}
        return {"dynamical": self.runs(10, **usual, **FOCUSED), "static": self.runs(10, **usual)}

    @property
    def controls(self) -> dict[str, tuple[Run, ...]]:
        """Width 100: ten pairs of weights and one of five draws of the data per arm."""
        return {name: self.runs(10, 5, **fields) for name, fields in (_DYNAMICAL | _STATIC | _MIXED).items()}

    @property
    def wide(self) -> dict[str, tuple[Run, ...]]:
        """Width 300, as the controls."""
        arms: dict[str, dict[str, Any]] = {
            "dynamical, A=20, T=250": FAST,
            "dynamical, A=70, T=5000": FOCUSED,
            "static, rate 1": {},
            "static, momentum 0.9, rate 0.2": {"lr": 0.2, "momentum": 0.9},
        }
        return {name: self.runs(10, 5, width=300, **fields) for name, fields in arms.items()}

    @property
    def amplitudes(self) -> Sequence[float]:
        """Of the map."""
        return self.some((2.0, 5.0, 10.0, 20.0, 70.0, 200.0))

    @property
    def periods(self) -> Sequence[int]:
        """Of the map."""
        return self.some((5, 50, 250, 1000, 5000))

    @property
    def map(self) -> dict[tuple[float, int], tuple[Run, ...]]:
        """Each amplitude with each period."""
        return {(a, t): self.runs(5, amplitude=a, period=t) for a in self.amplitudes for t in self.periods}

    @property
    def widths(self) -> Sequence[int]:
        """Of the grid."""
        return self.some((10, 30, 100, 300), 4)

    @property
    def lrs(self) -> Sequence[float]:
        """Of the grid."""
        return self.some((0.1, 0.3, 1.0, 2.0, 3.0), 1)

    @property
    def grid(self) -> dict[tuple[int, float, str], tuple[Run, ...]]:
        """Each width with each learning rate and three losses."""
        losses: dict[str, dict[str, Any]] = {
            "static": {},
            "A=20, T=250": FAST,
            "A=20, T=5000": {"amplitude": 20.0, "period": 5000},
        }
        return {
            (width, lr, name): self.runs(1 if width > 100 else 2, width=width, lr=lr, **fields)
            for width in self.widths
            for lr in self.lrs
            for name, fields in losses.items()
        }

    @property
    def squared(self) -> dict[tuple[str, float], tuple[Run, ...]]:
        """The squared error: without weights, with those of the samples, with those of the output units."""
        forms: dict[str, dict[str, Any]] = {
            "no weights": {"loss": "samples_squared"},
            "weights of the samples": {"loss": "samples_squared", **FAST},
            "weights of the output units": {"loss": "units_squared", **FAST},
        }
        return {
            (name, lr): self.runs(3, 3, lr=lr, **fields)
            for name, fields in forms.items()
            for lr in self.some((0.1, 0.2, 0.3), 1)
        }

    def sweep(self, name: str) -> Branch:
        """The runs of a bifurcation diagram, from a run of the figure in the middle of its second period.

        Args:
            name: ``"amplitude"``, of constant class weights; or ``"lr"``, without class weights.
        """
        (start, *_) = self.figure["dynamical"]
        fixed = replace(start, updates=150 if self.quick else 1500, tail=0, order="held", amplitude=1.0)
        ends = (1.0, 100.0) if name == "amplitude" else (0.1, 4.0)
        values = np.geomspace(*ends, 5 if self.quick else 40)
        runs = tuple(
            replace(fixed, amplitude=float(value)) if name == "amplitude" else replace(fixed, lr=float(value))
            for value in values
        )
        return Branch(start, start.period + start.period // 2, runs)


def train(
    bench: Bench, label: str, runs: Iterable[Run], *, stack: int = 8, every: int = 0, kernel: int = 0
) -> Outcomes:
    """Train runs, those that agree in their shapes side by side.

    Args:
        bench: where.
        label: of the stage.
        runs: the runs.
        stack: how many at a time; fewer where they are wide, for the cache.
        every: as in `Job`.
        kernel: as in `Job`.

    Returns:
        What `work` returns, for each run.
    """
    groups: dict[tuple[int, int, str], list[Run]] = {}
    for run in dict.fromkeys(runs):
        groups.setdefault((run.width, run.updates, run.loss), []).append(run)
    jobs = []
    for (width, _, _), group in groups.items():
        size = max(min(stack, 900 // width), 1)
        jobs += [Job(tuple(group[i : i + size]), every, kernel) for i in range(0, len(group), size)]
    shared = {"at", "all_at"}
    outcomes: Outcomes = {}
    for job, result in zip(jobs, bench.run(label, work, jobs), strict=True):
        for number, run in enumerate(job.runs):
            outcomes[run] = {name: part if name in shared else part[number] for name, part in result.items()}
    return outcomes


@dataclass(frozen=True)
class Trained:
    """The outcomes of all runs of a plan, the losses of its sweeps, and the seconds that a watched run takes."""

    plan: Plan
    figure: Outcomes
    updated: Outcomes
    controls: Outcomes
    wide: Outcomes
    map: Outcomes
    grid: Outcomes
    squared: Outcomes
    sweeps: dict[str, NDArray[np.float64]]
    seconds: float


def train_all(bench: Bench, plan: Plan) -> Trained:
    """Train everything, the most important first."""

    def stage(label: str, arms: dict[Any, tuple[Run, ...]], **options: int) -> Outcomes:
        return train(bench, label, [run for runs in arms.values() for run in runs], **options)

    figure = stage("the paper's figure", plan.figure, stack=2, **_WATCHED)
    updated = stage("other initial weights", plan.updated)
    controls = stage("controls", plan.controls)
    wide = stage("wide networks", plan.wide)
    sweeps = {name: bench.run("sweeps", branch, [plan.sweep(name)])[0]["losses"] for name in ("amplitude", "lr")}
    squared = stage("squared error", plan.squared)
    amplitudes = stage("amplitude and period", plan.map)
    grid = stage("width and learning rate", plan.grid)
    (timed,) = bench.run("time", time_work, [Job(plan.figure["dynamical"][:1], **_WATCHED)])
    return Trained(plan, figure, updated, controls, wide, amplitudes, grid, squared, sweeps, float(timed["seconds"]))
