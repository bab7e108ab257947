"""Trials of a user's own training function.

The function takes a `Run` and returns ``(valid, test)``: the score of each unit (image, row, sequence; higher is
better) of the validation part, and of the test part if ``run.final``, else ``None``. It must train
alike whenever it is given the same run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from torch import nn

from lossmith.catalog import create
from lossmith.tasks import Judged
from lossmith.trials.result import Curve, TrialResult
from lossmith.trials.trial import FunctionTrainer, Plain, Sources, Trial
from lossmith.trials.user_code import UserCodeError, canonical_function, load_function

TrainingFunction = Callable[["Run"], tuple[ArrayLike, ArrayLike | None]]


@dataclass
class Run:
    """What a training function is asked for, and where it reports.

    Args:
        loss: the loss to train with, told the length of the run.
        lr: learning rate at the first step.
        weight_decay: weight decay.
        steps: number of optimiser steps.
        seed: of everything that is random in the training.
        fold: the fold to hold out for testing, from 0.
        folds: how many there are; 0: one split.
        repeat: which draw of the validation part from the rest, from 0; the test part is the same.
        final: whether the test part is to be scored.
        curve: the points logged so far, step and validation score.
    """

    loss: nn.Module
    lr: float
    weight_decay: float
    steps: int
    seed: int
    fold: int
    folds: int
    repeat: int
    final: bool
    curve: list[tuple[int, float]] = field(default_factory=list)
    deadline: float | None = None

    def log(self, step: int, score: float) -> None:
        """Log a point of the learning curve.

        Args:
            step: number of optimiser steps taken.
            score: on the validation part; higher is better.

        Raises:
            TimeoutError: if the training has taken too long.
        """
        self.curve.append((int(step), float(score)))
        if self.deadline is not None and time.perf_counter() > self.deadline:
            raise TimeoutError("it took longer than its time limit")


def function_trainer(text: str, sources: Sources, folds: int = 0) -> FunctionTrainer:
    """The trainer that a training function is.

    Args:
        text: ``path/to/file.py:function``.
        sources: where the path is noted.
        folds: the number of test folds that the function knows; 0 for one split.

    Returns:
        The trainer, on fold 0.

    Raises:
        UserCodeError: if there is no such file or function; one sentence.
    """
    return FunctionTrainer(canonical_function(text, "trainer", sources), folds)


def train_function(trial: Trial, sources: Sources, time_limit: float | None = None) -> TrialResult:
    """Run a trial of a training function.

    Args:
        trial: the trial.
        sources: where the function's file lies.
        time_limit: seconds that it may take between two points of its curve.

    Returns:
        The result; its one score is ``"score"``, its one column ``"negative score"``.

    Raises:
        UserCodeError: if the function cannot be had, or returns something else.
    """
    trainer = trial.trainer
    assert isinstance(trainer, FunctionTrainer)
    if not isinstance(trial.stepper, Plain) or trial.probes:
        raise UserCodeError(f"{trial.loss}: a training function takes no losses that learn and no probes yet")
    function, began = load_function(trainer.function, "trainer", sources), time.perf_counter()
    loss = create(trial.loss)
    loss.bind(total_steps=trial.steps)
    run = Run(
        loss,
        trial.optimizer.lr,
        trial.optimizer.weight_decay,
        trial.steps,
        trial.seed,
        trainer.fold,
        trainer.folds,
        trainer.repeat,
        trial.final,
        deadline=None if time_limit is None else began + time_limit,
    )
    returned = function(run)
    try:
        valid, test = returned
        of_valid, of_test = _judged(valid), _judged(test) if trial.final else None
    except (TypeError, ValueError) as error:
        raise UserCodeError(f"{trainer.title}: {error}; return (valid, test), the score of each unit") from error
    steps, scores = tuple(step for step, _ in run.curve), tuple(score for _, score in run.curve)
    return TrialResult(
        curve=Curve(steps, {}, {"score": scores}),
        scores={"score": float(of_valid.score.mean())},
        columns={"negative score": -float(of_valid.score.mean())},
        fitted={},
        gradient_ratio=float("nan"),
        extended_share=0.0,
        diverged=not np.isfinite(of_valid.score).all(),
        notes=(),
        seconds=time.perf_counter() - began,
        valid=of_valid if trial.final else None,
        test=of_test,
    )


def _judged(scores: ArrayLike | None) -> Judged:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"it returned scores of the shape {values.shape}")
    return Judged(np.arange(len(values)), values)
