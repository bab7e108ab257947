"""What is measured on one part of one data set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossmith.dynamics import angle, maximum_margin, minimum_norm, separability
from lossmith.studies.rooted_linear.curvature import Range, Regularised, regularised
from lossmith.studies.rooted_linear.descent import (
    ARMS,
    CROSS_ENTROPY,
    KS,
    Arm,
    Problem,
    Race,
    Targets,
    paths,
    quasi_newton,
    race,
)
from lossmith.studies.rooted_linear.sets import COUNTS, directions, file_of, load

NEAR: Final = 0.05 / math.log(2)
"""The part of the way from guessing to the lowest cross-entropy that is left at the near target; 0.05 for two classes
that are separable."""
CLOSE: Final = NEAR / 5
ACCURACY: Final = 0.98
"""Of the lowest cross-entropy's accuracy."""
OBJECTIVES: Final = (CROSS_ENTROPY, *(Arm("rooted", k) for k in KS))
"""What is minimised with regularisation, and whose Hessians are looked at."""
SHORT: Final = {"madelon": 200}
"""Steps at most on the data sets that take long."""
SLOWER: Final = 40
"""How many times as long as cross-entropy an arm may take to the near target, and its rates try."""


@dataclass(frozen=True)
class Part:
    """A part of a data set, to be measured.

    Args:
        name: of the data set.
        file: of a data set that is in one.
        resample: number of the part; 0 is the whole.
        most: steps of gradient descent at most.
        points: of a path that are looked at.
        strengths: of the regularisation, from 1 downwards by factors of 10.
        limit: points of a data set at most; 0: all.
        version: of the protocol.
    """

    name: str
    file: Path | None
    resample: int
    most: int = 4000
    points: int = 40
    strengths: int = 11
    limit: int = 0
    version: int = 1


def measure(part: Part) -> Mapping[str, NDArray[Any]]:
    """Measure everything on a part of a data set."""
    problem = Problem(load(part.name, part.file, part.resample, part.limit))
    separation = separability(problem.inputs, problem.classes)
    strengths = np.logspace(0, 1 - part.strengths, part.strengths)
    ridges = [regularised(problem, arm, strengths.tolist()) for arm in OBJECTIVES]
    lowest = 0.0 if separation.separable else float(ridges[0].losses[-1])
    _, margin, _ = problem.forward(ridges[0].weights[-1][..., None])
    best = float((margin > 0).double().mean())
    way = problem.guess - lowest
    targets = Targets(lowest + NEAR * way, lowest + CLOSE * way, ACCURACY * best)
    found: dict[str, Any] = {
        "kind": np.array(("complete", "quasi-complete", "overlap").index(separation.kind)),
        "shape": np.array([problem.count, problem.size, problem.kinds]),
        "lowest": np.array([lowest, best, problem.guess]),
        "targets": np.array([targets.near, targets.close, targets.accuracy]),
    }
    races = _races(problem, targets, part)
    found |= {
        "steps": np.array([[float(each.steps[i].min()) for i in range(3)] for each in races]),
        "rates": np.array([[float(each.rates[each.best(i)]) for i in range(3)] for each in races]),
        "edges": np.array([each.at_edge() for each in races]),
        "lengths": np.array([each.length for each in races]),
        "quasi_newton": np.array(quasi_newton(problem, targets, part.most)),
    }
    if not part.resample:
        for arm, each in zip(ARMS, races, strict=True):
            found[f"curve {arm.name}"] = torch.stack([each.rates, each.steps[0]]).numpy()
    goal = maximum_margin(problem.inputs, problem.classes) if separation.separable else None
    if goal is not None:
        least = minimum_norm(problem.inputs, problem.classes)
        between = angle(_apart(least.weights), _apart(goal.weights), degrees=True)
        found["margin"] = np.array([goal.margin, goal.bound, goal.converged, least.interpolates, between])
    if part.name == "overlapping" and not part.resample:
        found["directions"] = np.append(directions(), np.ones((len(COUNTS), 1)), 1)
    reference = None if goal is None else goal.weights
    return {
        **found,
        **_along(problem, reference, part),
        **_regularised(ridges, reference, strengths),
    }


def _races(problem: Problem, targets: Targets, part: Part) -> list[Race]:
    """Of all arms; cross-entropy goes first and says how long the others may take."""
    beyond = 1.0 if part.resample else 4.0
    first = race(problem, CROSS_ENTROPY, targets, part.most, beyond)
    took = float(first.steps[0].min())
    if not math.isfinite(float(first.steps[1].min())):  # nobody is asked for what cross-entropy does not reach
        targets = Targets(targets.near, math.inf, targets.accuracy)
    most = int(min(part.most, max(200, SLOWER * took)))
    races = [first, *(race(problem, arm, targets, most, beyond) for arm in ARMS[1:])]
    if targets.close == math.inf:
        for each in races[1:]:
            each.steps[1] = math.nan
    return races


def _along(problem: Problem, goal: Tensor | None, part: Part) -> dict[str, NDArray[Any]]:
    """Of each arm at its gentle learning rate: norms, cross-entropies, angles and condition numbers on its way."""
    large = problem.size > 200
    last, points = (min(part.most, 200), 8) if large else (2 * part.most, part.points)
    within = Range(problem)
    rates = torch.tensor([within.gentle_rate(arm) for arm in ARMS], dtype=torch.float64)
    came = paths(problem, ARMS, rates, last, points)
    conditions = [
        [within.condition(weights, arm) for weights in path.weights]
        for arm, path in zip(ARMS, came, strict=True)
        if arm in OBJECTIVES
    ]
    there = [[within.condition(weights, arm) for weights in came[0].weights] for arm in OBJECTIVES]
    return {
        "path steps": came[0].steps.numpy(),
        "path losses": torch.stack([path.losses for path in came]).numpy(),
        "path norms": torch.stack([path.weights.flatten(1).norm(dim=1) for path in came]).numpy(),
        "path angles": np.array([_angles(path.weights, goal) for path in came]),
        "path conditions": np.array(conditions),
        "same weights": np.array(there),
    }


def _regularised(ridges: list[Regularised], goal: Tensor | None, strengths: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Of the minimisers with regularisation: norms, angles to the goal, and to cross-entropy's minimiser."""
    return {
        "ridge strengths": strengths,
        "ridge losses": np.array([each.losses.numpy() for each in ridges]),
        "ridge norms": np.array([each.weights.flatten(1).norm(dim=1).numpy() for each in ridges]),
        "ridge angles": np.array([_angles(each.weights, goal) for each in ridges]),
        "ridge residuals": np.array([float(each.residuals.max()) for each in ridges]),
        "ridge apart": np.array([angle(each.weights[-1], ridges[0].weights[-1], degrees=True) for each in ridges]),
        "ridge last": np.array([each.weights[-1].flatten().numpy() for each in ridges]),
    }


def _angles(weights: Tensor, goal: Tensor | None) -> list[float]:
    """In degrees, of weights (T, D) or (T, D, C) to a goal (D,) or (C, D); NaN without one."""
    if goal is None:
        return [math.nan] * len(weights)
    return [
        angle(each.T if each.ndim == 2 else each, goal, degrees=True) if bool(each.isfinite().all()) else math.nan
        for each in weights
    ]


def _apart(weights: Tensor) -> Tensor:
    """Weights without what all classes have in common."""
    return weights if weights.ndim == 1 else weights - weights.mean(0)


def parts(names: list[str], data: Path | None, resamples: int, *, quick: bool) -> list[Part]:
    """The whole of each data set and its resamples."""
    jobs = []
    for name in names:
        file = None if data is None else file_of(name, data)
        short: dict[str, int] = {"most": SHORT[name]} if name in SHORT else {}
        if quick:
            short = {"most": 300, "points": 8, "strengths": 4, "limit": 200}
        jobs += [Part(name, file, number, **short) for number in range(resamples + 1)]
    return jobs
