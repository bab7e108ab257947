"""The study, fold by fold: bracket the learning rate, search, final runs, test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lossmith.comparison.plan import derive_seed
from lossmith.comparison.stages.tune import MAX_EXTENSIONS
from lossmith.comparison.tuning import Scored, Setting, best, extension, sobol_settings
from lossmith.kernels.threads import one_thread
from lossmith.studies.regression.arms import RegressionArm, make_arms
from lossmith.studies.regression.table import Examples, Parts, Regression, split
from lossmith.studies.regression.training import Memory, Trained, Training, gradient_ratio, train

MEAN_ALONE: Final = 0.0
"""R^2 of predicting the training part's mean; what is worse, or diverged, counts as that in tuning."""
MOMENTS: Final = 5
_HIGHEST_LR: Final = 0.1
_TUNING, _FINAL = 0, 1


@dataclass(frozen=True)
class Study:
    """What is asked.

    Args:
        folds: outer folds.
        seeds: final trainings of each arm in each fold.
        steps: optimiser steps of a training.
        lrs: learning rates in the grid, factors of 2 up to .1; as many settings are searched besides.
        batch_size: examples per step.
        offline_steps: fresh models of an offline phase.
        seed: of everything that is drawn.

    Raises:
        ValueError: if there are fewer than 2 folds, 3 learning rates or 1 of anything else.
    """

    folds: int = 5
    seeds: int = 2
    steps: int = 500
    lrs: int = 4
    batch_size: int = 64
    offline_steps: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        lowest = {"folds": 2, "lrs": 3, "seed": 0}
        for name, value in vars(self).items():
            if value < lowest.get(name, 1):
                raise ValueError(f"--{name.replace('_', '-')} is {value}: at least {lowest.get(name, 1)} is needed")


@dataclass
class Outcome:
    """What one arm came to.

    Attributes:
        arm: the arm.
        chosen: the setting of each fold.
        on_edge: folds in which the best learning rate of the grid still lay on its edge after all extensions.
        trainings: how many were spent on tuning, in all.
        residuals: target minus prediction on the test part in the file's units, by fold: (seeds, examples).
        diverged: final trainings whose predictions were not finite; the training part's mean stands in for them.
        scales: effective scale at the first step, at quarters of the training and at the last, averaged over final
            trainings; empty where it was not measured.
    """

    arm: RegressionArm
    chosen: list[Setting] = field(default_factory=list)
    on_edge: int = 0
    trainings: int = 0
    residuals: list[NDArray[np.float64]] = field(default_factory=list)
    diverged: int = 0
    scales: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Findings:
    """Everything a study found.

    Attributes:
        study: what was asked.
        name: of the data set.
        examples: rows of training part (with the meta part), meta part, validation and test part of fold 0.
        deviations: test targets minus the training part's mean, by fold, in the file's units.
        outcomes: by arm, squared error first.
    """

    study: Study
    name: str
    examples: tuple[int, int, int, int]
    deviations: list[NDArray[np.float64]]
    outcomes: list[Outcome]

    def outcome(self, name: str) -> Outcome:
        """The outcome of the arm of that name."""
        return next(outcome for outcome in self.outcomes if outcome.arm.name == name)

    def scores(self, outcome: Outcome) -> list[NDArray[np.float64]]:
        """Scores of single test examples, whose mean over all is R^2: ``1 - residual^2 / mean(deviation^2)``."""
        variance = float(np.square(np.concatenate(self.deviations)).mean())
        return [1 - np.square(fold) / variance for fold in outcome.residuals]

    def r2(self, outcome: Outcome) -> float:
        """R^2 on the test parts, all folds together, against the training parts' means; averaged over seeds."""
        return float(np.concatenate([fold.mean(axis=0) for fold in self.scores(outcome)]).mean())


class Progress(Protocol):
    """Who is told how far the study has come."""

    def start(self, label: str, total: int, done: int) -> None:
        """A stage begins."""

    def advance(self, trainings: int) -> None:
        """So many more are done."""


def run_study(
    data: Regression, study: Study, progress: Progress, arms: Sequence[RegressionArm] | None = None
) -> Findings:
    """Carry out a study on one thread.

    Args:
        data: the table.
        study: what is asked.
        progress: is told of every arm of every fold.
        arms: what is compared; ``None``: `make_arms`.

    Returns:
        The findings; the same for the same arguments.

    Raises:
        DataError: if a fold cannot be split.
    """
    with one_thread():
        folds = [split(data, fold, study.folds, study.seed) for fold in range(study.folds)]
        outcomes = [Outcome(arm) for arm in (make_arms() if arms is None else arms)]
        for number, parts in enumerate(folds):
            memory = Memory()
            progress.start(f"fold {number + 1} of {study.folds}", len(outcomes), 0)
            for outcome in outcomes:
                _run_fold(_Fold(study, outcome.arm, parts, number, memory), outcome)
                progress.advance(1)
    first = folds[0]
    for outcome in outcomes:
        if outcome.scales:
            outcome.scales = np.mean(np.reshape(outcome.scales, (-1, MOMENTS)), axis=0).tolist()
    return Findings(
        study,
        data.table.name,
        (len(first.train), first.meta, len(first.valid), len(first.test)),
        [parts.test.target.double().numpy() * parts.spread for parts in folds],
        outcomes,
    )


@dataclass(frozen=True, eq=False)
class _Fold:
    """One arm in one fold."""

    study: Study
    arm: RegressionArm
    parts: Parts
    number: int
    memory: Memory

    def training(self, setting: Setting, use: int, number: int) -> Training:
        study = self.study
        seed = derive_seed(study.seed, self.arm.stream, use, self.number, number)
        values, steps = self.arm.named(setting.values), study.steps * self.arm.length
        return Training(self.arm, setting.lr, values, seed, steps, study.batch_size, study.offline_steps)

    def scored(self, setting: Setting, seeds: int) -> Scored:
        """Train on tuning seeds and score on the validation part."""
        r2, errors = [], []
        for i in range(seeds):
            trained = train(self.training(setting, _TUNING, i), self.parts, self.memory)
            prediction, finite = predict(trained.model, self.parts.valid)
            deviation = self.parts.valid.target.double().numpy()
            error = float(np.square(deviation - prediction).mean())
            r2.append(max(MEAN_ALONE, 1 - error / float(np.square(deviation).mean())))
            errors.append(error if finite else math.inf)
        return Scored(setting, float(np.mean(r2)), float(np.mean(errors)))


def predict(model: nn.Module, examples: Examples) -> tuple[NDArray[np.float64], bool]:
    """Predictions for examples.

    Args:
        model: from inputs to predictions.
        examples: n of them.

    Returns:
        Shape (n,), and whether all were finite; if not, the training part's mean stands in for them, which is 0.
    """
    with torch.no_grad():
        prediction = model(examples.inputs).double()
    finite = bool(prediction.isfinite().all())
    return (prediction if finite else torch.zeros_like(prediction)).numpy(), finite


def _run_fold(fold: _Fold, outcome: Outcome) -> None:
    chosen = _tune(fold, outcome)
    outcome.chosen.append(chosen)
    residuals = []
    for i in range(fold.study.seeds):
        trained = train(fold.training(chosen, _FINAL, i), fold.parts, fold.memory)
        prediction, finite = predict(trained.model, fold.parts.test)
        residuals.append((fold.parts.test.target.double().numpy() - prediction) * fold.parts.spread)
        outcome.diverged += not finite
        outcome.scales += _moments(trained)
    outcome.residuals.append(np.stack(residuals))


def _tune(fold: _Fold, outcome: Outcome) -> Setting:
    """The best setting on the validation part.

    Half the budget goes to the grid of learning rates, the other half to the other values; where there are none, to a
    second seed.
    """
    study = fold.study
    seeds = 1 if fold.arm.tuned else 2
    middle = Setting(_HIGHEST_LR / 2)
    ratio = gradient_ratio(fold.training(middle, _TUNING, 0), fold.parts, fold.memory)
    arm = replace(fold.arm, lr_scale=1 / ratio)
    grid = [Setting(float(f"{_HIGHEST_LR * 2.0**-i * arm.lr_scale:.6g}")) for i in reversed(range(study.lrs))]
    points = [fold.scored(setting, seeds) for setting in grid]
    for _ in range(MAX_EXTENSIONS):
        lr = extension(points, arm)
        if lr is None:
            break
        points.append(fold.scored(Setting(float(f"{lr:.6g}")), seeds))
    outcome.on_edge += extension(points, arm) is not None
    outcome.trainings += seeds * len(points)
    if arm.tuned:
        centre = best(points, arm, MEAN_ALONE).setting.lr
        drawn = sobol_settings(arm, centre, study.lrs, derive_seed(study.seed, 2, fold.number))
        points += [fold.scored(setting, 1) for setting in drawn]
        outcome.trainings += len(drawn)
    return best(points, arm, MEAN_ALONE).setting


def _moments(trained: Trained) -> list[float]:
    last = len(trained.scales) - 1
    return [trained.scales[round(last * i / (MOMENTS - 1))] for i in range(MOMENTS)] if trained.scales else []
