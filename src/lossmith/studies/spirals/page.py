"""The study and its page."""

from __future__ import annotations

from typing import Final

import numpy as np

from lossmith.studies.bench import Bench
from lossmith.studies.findings import Findings, Section, Table
from lossmith.studies.spirals.claims import SUCCESS, judge, parameters, succeeded
from lossmith.studies.spirals.numbers import NEAR, Array, Mean, Onsets, column, per_period
from lossmith.studies.spirals.plan import Plan, Trained, train_all
from lossmith.studies.spirals.plots import curves, diagrams, kernels, onsets_by_period, panels, rounds
from lossmith.studies.spirals.problem import CLASSES, PER_CLASS
from lossmith.studies.spirals.tables import controls_section, grid_section, map_section, squared_section, wide_section
from lossmith.studies.spirals.training import INNER

_EARLIER: Final = {
    ("original", "static"): (0.489, 0.462, 1.043, 174),
    ("original", "dynamical"): (0.987, 0.945, 0.039, 3267),
    ("updated", "static"): (0.839, 0.786, 0.339, 3698),
    ("updated", "dynamical"): (0.984, 0.943, 0.043, 3057),
}
"""Our earlier simulation, another program with other weights: training and validation accuracy, loss, kernel."""
_EARLIER_ONSETS: Final = {"dynamical": "1.83 to 2.02", "half": "3.76 to 4.21"}
"""Likewise: the sharpness just before the onsets of one run."""


def study(bench: Bench) -> Findings:
    """Train everything that was not trained before, and judge the paper's claims.

    Args:
        bench: where; no data set is read.

    Returns:
        What was found.
    """
    trained = train_all(bench, Plan(bench.quick))
    claims = judge(trained)
    sections = (
        _protocol(trained),
        _figure(trained),
        _curvature(trained),
        _sweeps(trained),
        controls_section(trained),
        wide_section(trained),
        map_section(trained),
        grid_section(trained),
        squared_section(trained),
    )
    figure = trained.plan.figure
    ours, static = (column(trained.figure, figure[name], "accuracy").mean() for name in ("dynamical", "static"))
    verdicts = ", ".join(f"claim {number}: {claim.verdict}" for number, claim in enumerate(claims, 1))
    question = (
        "Does a loss whose class weights oscillate fit what the static loss does not, and is that more than a better "
        f"learning rate would do? At the paper's fixed rate the training accuracy is {ours:.3f} with the dynamical "
        f"loss and {static:.3f} with the static one. The verdicts on the paper's claims below are: {verdicts}."
    )
    source = (
        "Ruiz-Garcia, Zhang, Schoenholz and Liu, 'Tilting the playing field: Dynamical loss functions for machine "
        "learning', 2021, arXiv 2102.03793. Data, network and schedule are those of the authors' notebook; the "
        "controls are ours."
    )
    return Findings("Dynamical losses on spirals", question, source, claims, sections)


def _protocol(trained: Trained) -> Section:
    run, seconds = trained.plan.figure["dynamical"][0], trained.seconds
    half, short = trained.plan.figure["half"][0].updates, trained.plan.controls["static, rate 1"][0].updates
    return Section(
        "Protocol",
        (
            f"The data are {CLASSES} spiral arms of {PER_CLASS} points and two turns each, the first draw being that "
            "of the notebook (numpy's seed 0). Validation is on the next draw from the same generator; the notebook "
            f"has none. The network has one hidden layer of 100 ReLU units ({parameters(100)} weights) in float64, "
            "and trains by gradient descent on all samples at once, with learning rate 1 and no momentum where "
            "nothing else is said.",
            "The weight of one class after the other rises from 1 to A and falls back over T + 1 updates, and the "
            "three weights are scaled to the sum 3. The last period or so has no weights. 'Original' initial weights "
            "are N(0, 1/fan-in) with biases 0; 'updated' ones are Glorot's, as in the later version of the notebook.",
            f"The figure's runs have {run.updates:,} updates, those at half the rate {half:,}, and those of the "
            f"controls and maps {short:,}. All comparisons are paired: a seed gives the same initial weights and data "
            "to each arm. Intervals are 95 % intervals by Student's t: over seeds where all runs share their data, "
            "and over draws of the data, with the runs on one draw averaged, in the controls. Each table says how "
            "many runs it rests on: few in the two maps, which take most of the time.",
            f"{run.updates:,} updates with the sharpness every 25 updates took {seconds:.0f} seconds of one core, the "
            "losses of all updates and the tangent kernels included.",
        ),
    )


def _figure(trained: Trained) -> Section:
    rows = []
    arms = {("original", name): (trained.figure, trained.plan.figure[name]) for name in ("static", "dynamical")} | {
        ("updated", name): (trained.updated, trained.plan.updated[name]) for name in ("static", "dynamical")
    }
    for (init, name), (outcomes, runs) in arms.items():
        numbers = [column(outcomes, runs, key) for key in ("accuracy", "valid", "loss", "kernel")]
        cells = [f"{row.mean():.3f} ± {row.std(ddof=1):.3f}" for row in numbers[:2]]
        cells += [f"{numbers[2].mean():.3f}", f"{numbers[3].mean():.0f}", f"{succeeded(outcomes, runs)} of {len(runs)}"]
        train, valid, loss, kernel = _EARLIER[init, name]
        rows.append((f"{init}, {name}", *cells, f"{train:.3f}, {valid:.3f}, {loss:.3f}, {kernel}"))
    head = (
        "weights, loss",
        "training accuracy",
        "validation accuracy",
        "cross-entropy",
        f"kernel, {INNER} samples",
        f"accuracy >= {SUCCESS:g}",
        "our earlier simulation",
    )
    run = trained.plan.figure["dynamical"][0]
    outcome, period = trained.figure[run], run.period
    static = column(trained.figure, trained.plan.figure["static"], "accuracy")
    fitted = static >= SUCCESS
    means = {f"{init}, {name}": arm for (init, name), arm in arms.items()}
    return Section(
        "The paper's figure",
        (
            "Means and standard deviations over the seeds. The right column gives the same numbers of our earlier "
            "simulation, another program with other random weights. Of the static runs with original weights, "
            f"{fitted.sum()} of {len(fitted)} fit; the mean of the others is "
            f"{Mean.of(static[~fitted]).value:.3f}. A static mean depends on how many runs happen to fit.",
            f"The panels show the run with seed {run.seed}: A={run.amplitude:g}, T={period}, original weights. Bands "
            "reach from the smallest to the largest value of a block of updates. The second six panels show the "
            "window from 1.6 T to 2.1 T.",
        ),
        (Table(head, tuple(rows)),),
        (
            curves("Training accuracy, mean over the seeds", means),
            *panels(run, outcome, 0, run.updates),
            *panels(run, outcome, int(1.6 * period), int(2.1 * period)),
        ),
    )


def _curvature(trained: Trained) -> Section:
    figure, rows = trained.plan.figure, []
    for name, runs in figure.items():
        onsets = Onsets.of(trained.figure, runs)
        kinds, parts = onsets.kinds, (onsets.before, onsets.first, onsets.at_onset, onsets.quiet)
        rows.append((
            f"{'static' if name == 'static' else f'A={runs[0].amplitude:g}, T={runs[0].period}'}, "
            f"rate {runs[0].lr:g}, {len(runs)} seeds",
            f"{sum(kinds.values())}: {kinds[2]}, {kinds[4]}, {kinds[None]}",
            _spread(np.concatenate(onsets.before) * onsets.threshold),
            _spread(np.concatenate(onsets.first) * onsets.threshold),
            *(Mean.of(Onsets.shares(part)).text(2) for part in parts),
            _EARLIER_ONSETS.get(name, ""),
        ))
    head = (
        "runs",
        "instabilities: period 2, 4, chaos",
        "sharpness before the first onset of a period, median (deciles)",
        "sharpness around it",
        f"before it within {NEAR:.0%} of 2/lr",
        "around it",
        "around all onsets",
        "around quiet moments",
        "before onsets, our earlier simulation, one run",
    )
    static = np.mean([per_period(run, trained.figure[run]) for run in figure["static"]], 0)
    return Section(
        "Sharpness, instabilities and the tangent kernel",
        (
            "An instability begins with the first of 20 successive updates at which the change of the loss turns its "
            "sign, each change above 0.001, and ends before 20 updates without such a turn. The sharpness is the "
            "largest eigenvalue of the Hessian of the weighted loss, by exact products. 'Around' is the mean over "
            "the 50 updates before and after, 'before' that over the 50 updates before; both branches of an "
            "alternation count the same. Quiet moments are random updates before the static tail and outside all "
            "instabilities. A burst that pauses begins anew after the pause; the first onset of a period is free of "
            "that. Intervals of shares are over seeds.",
            f"Under the static loss the median sharpness of a period is {static[0]:.2f} in the first and "
            f"{static[-1]:.2f} in the last; there 2/lr is {2 / figure['static'][0].lr:g}.",
        ),
        (Table(head, tuple(rows)),),
        (onsets_by_period(trained), rounds(trained), kernels(trained)),
    )


def _spread(values: Array) -> str:
    values = values[~np.isnan(values)]
    if not len(values):
        return "-"
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _sweeps(trained: Trained) -> Section:
    sweep = trained.plan.sweep("amplitude")
    found = diagrams(trained)
    return Section(
        "Bifurcations",
        (
            f"From the state after {sweep.updates:,} updates of the run above, in the middle of its second period, "
            f"the training goes on for {sweep.runs[0].updates:,} updates with fixed class weights in favour of class "
            "0, or with the static loss at another rate. The weights drift meanwhile: a diagram shows the orbits at "
            "the end of each run, and not attractors.",
            *(f"As the {plot.x} rises, the loss is: {', '.join(stretches)}." for plot, stretches in found),
        ),
        plots=tuple(plot for plot, _ in found),
    )
