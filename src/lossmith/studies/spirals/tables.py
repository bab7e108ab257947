"""The tables of the controls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from lossmith.studies.findings import Section, Table
from lossmith.studies.spirals.claims import SUCCESS, parameters, succeeded
from lossmith.studies.spirals.numbers import Mean, column, gap, independent
from lossmith.studies.spirals.plan import Outcomes, Trained
from lossmith.studies.spirals.plots import curves
from lossmith.studies.spirals.problem import CLASSES, SAMPLES, Run

_EARLIER_MAP: Final = {
    2: (".52/.50", ".52/.49", ".50/.46", ".62/.58", ".48/.45"),
    5: (".65/.60", ".94/.90", ".76/.72", ".83/.79", ".66/.64"),
    10: (".86/.81", ".95/.89", ".99/.94", ".99/.93", ".97/.92"),
    20: (".99/.96", ".91/.87", ".99/.95", ".99/.94", ".99/.94"),
    70: (".81/.78", ".50/.46", ".98/.93", ".98/.94", ".97/.92"),
    200: (".87/.84", ".86/.82", ".88/.81", ".97/.92", ".97/.93"),
}
"""Our earlier simulation: training / validation accuracy for the periods 5, 50, 250, 1000 and 5000."""


_EARLIER_ARMS: Final = {
    "dynamical, A=20, T=250": ".993",
    "dynamical, A=20, T=250, order at random": ".993",
    "static, rate 1": ".515",
    "static, rate 2": ".866",
    "static, rate 3": ".718",
    "static, cosine from 2": ".988",
    "static, momentum 0.9, rate 0.2": ".993",
    "static, momentum 0.9, rate 0.5": ".993",
    "the triangle on the rate": ".75 to .83",
}
"""Likewise: training accuracy at width 100, five seeds on the first draw."""
_EARLIER_GRID: Final = {
    (30, 1.0): (".46", ".88", ".71"),
    (30, 3.0): (".74", ".67", ".69"),
    (100, 0.1): (".58", ".53", ".55"),
    (100, 0.3): (".59", ".56", ".59"),
    (100, 1.0): (".48", ".99", ".99"),
    (100, 3.0): (".71", ".70", ".73"),
    (300, 0.3): (".63", ".63", ".72"),
    (300, 1.0): (".99", ".99", ".99"),
}
"""Likewise: training accuracy by width and rate, of the static loss and with A=20 and T=250 or 5000, three seeds."""


def _arms(
    outcomes: Outcomes, arms: dict[str, tuple[Run, ...]], against: str, earlier: Mapping[str, str] | None = None
) -> Table:
    """A row per arm with its means, and with its difference to one of them."""
    rows = []
    for name, runs in arms.items():
        cells = [Mean.of(independent(outcomes, runs, key)).text() for key in ("accuracy", "valid")]
        less = "" if name == against else gap(outcomes, runs, arms[against], "valid").text(sign=True)
        loss = f"{np.median(column(outcomes, runs, 'loss')):.3f}"
        row = (name, *cells, f"{succeeded(outcomes, runs)} of {len(runs)}", loss, less)
        rows.append(row if earlier is None else (*row, earlier.get(name, "")))
    head: tuple[str, ...] = (
        "arm",
        "training accuracy",
        "validation accuracy",
        f"accuracy >= {SUCCESS:g}",
        "median cross-entropy",
        f"validation accuracy less that of {against}",
    )
    if earlier is not None:
        head = (*head, "training accuracy in our earlier simulation")
    return Table(head, tuple(rows))


def controls_section(trained: Trained) -> Section:
    """All arms at width 100."""
    arms = trained.plan.controls
    shown = ("dynamical, A=20, T=250", "static, rate 1", "static, cosine from 2", "static, momentum 0.9, rate 0.2")
    runs = arms["static, rate 1"]
    return Section(
        "Controls at width 100",
        (
            f"Each arm has {len(runs)} runs with different initial weights, on {len({run.draw for run in runs})} draws "
            "of the data. 'Constant class weights' keeps the largest weight on class 0 until the tail. 'The triangle "
            "on the rate' multiplies the learning rate by the weight that the class in turn would have, and leaves the "
            "loss as it is.",
        ),
        (_arms(trained.controls, arms, "dynamical, A=20, T=250", _EARLIER_ARMS),),
        (
            curves(
                "Training accuracy of the main arms at width 100",
                {name: (trained.controls, arms[name]) for name in shown},
            ),
        ),
    )


def wide_section(trained: Trained) -> Section:
    """The arms at width 300."""
    arms = trained.plan.wide
    runs = arms["static, rate 1"]
    return Section(
        f"Controls at width {runs[0].width}",
        (f"The network has {parameters(runs[0].width):,} weights for {SAMPLES} points of {CLASSES} classes.",),
        (_arms(trained.wide, arms, "static, rate 1"),),
    )


def _cell(outcomes: Outcomes, runs: tuple[Run, ...]) -> str:
    train, valid = (column(outcomes, runs, name).mean() for name in ("accuracy", "valid"))
    return f"{train:.2f}/{valid:.2f}".replace("0.", ".")


def map_section(trained: Trained) -> Section:
    """Each amplitude with each period."""
    plan = trained.plan
    full = (5, 50, 250, 1000, 5000)
    rows = []
    for amplitude in plan.amplitudes:
        cells = [
            f"{_cell(trained.map, plan.map[amplitude, period])} ({_EARLIER_MAP[int(amplitude)][full.index(period)]})"
            for period in plan.periods
        ]
        rows.append((f"A={amplitude:g}", *cells))
    count = len(next(iter(plan.map.values())))
    return Section(
        "Amplitude and period",
        (
            f"Training / validation accuracy, mean of {count} seeds on the first draw; in brackets that of our earlier "
            "simulation. The paths are chaotic, so that cells in which some runs fail differ from simulation to "
            "simulation.",
        ),
        (Table(("", *(f"T={period}" for period in plan.periods)), tuple(rows)),),
    )


def grid_section(trained: Trained) -> Section:
    """Each width with each learning rate."""
    plan, losses = trained.plan, list(dict.fromkeys(name for _, _, name in trained.plan.grid))
    rows = []
    for width in plan.widths:
        for lr in plan.lrs:
            cells = [_cell(trained.grid, plan.grid[width, lr, name]) for name in losses]
            earlier = _EARLIER_GRID.get((width, lr))
            if earlier is not None:
                cells = [f"{cell} ({before})" for cell, before in zip(cells, earlier, strict=True)]
            rows.append((f"width {width}, rate {lr:g}", *cells))
    counts = {width: len(runs) for (width, _, _), runs in plan.grid.items()}
    seeds = ", ".join(f"{count} at width {width}" for width, count in counts.items())
    return Section(
        "Width and learning rate",
        (
            f"Training / validation accuracy on the first draw, mean over the seeds: {seeds}. In brackets "
            "the training accuracy in our earlier simulation, where it has one.",
        ),
        (Table(("", *losses), tuple(rows)),),
    )


def squared_section(trained: Trained) -> Section:
    """The squared error."""
    cells = trained.plan.squared
    forms = list(dict.fromkeys(name for name, _ in cells))
    lrs = list(dict.fromkeys(lr for _, lr in cells))
    rows = [(name, *(_cell(trained.squared, cells[name, lr]) for lr in lrs)) for name in forms]
    count = len(next(iter(cells.values())))
    return Section(
        "The squared error",
        (
            "The follow-up paper (Lavin Pallero and Ruiz-Garcia, 2024, arXiv 2410.10690) makes the squared error "
            "dynamical; we know of two ways, and not which is its own. The weights are those of the samples' "
            f"classes, or those of the output units; A=20, T=250. Training / validation accuracy, mean of {count} "
            "runs on as many draws of the data.",
        ),
        (Table(("weights", *(f"rate {lr:g}" for lr in lrs)), tuple(rows)),),
    )
