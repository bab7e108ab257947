"""Trials of a user's own training function.

The function takes a `Run` and returns ``(valid, test)``, what it made of the validation part and, if ``run.final``, of
the test part, else ``None``. Each is either the score of each unit (image, row, sequence; higher is better), or a tuple
``(outputs, targets)`` of a classification, regression or segmentation, which is scored here. The function must train
alike whenever it is given the same run.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from lossmith.catalog import create
from lossmith.data import Dataset, DataSpec, TaskName
from lossmith.data.rows import choose_rows
from lossmith.losses.text import parse_loss, terms_of
from lossmith.trials.result import Curve, TrialResult
from lossmith.trials.returned import ReturnedError, judge_returned, plain
from lossmith.trials.trial import FunctionTrainer, Plain, Sources, Trial
from lossmith.trials.user_code import UserCodeError, file_of, guarded, load_function

Index = NDArray[np.int64]
TrainingFunction = Callable[["Run"], tuple[Any, Any]]


@dataclass
class Run:
    """What a training function is asked for, and where it reports.

    Attributes:
        loss: the loss to train with, a module called as ``loss(outputs, targets)``. If it has a schedule,
            ``loss.step()`` must be called after each optimiser step; for other losses that does nothing.
        lr: learning rate at the first step.
        weight_decay: weight decay.
        steps: number of optimiser steps.
        seed: of everything that is random in the training. Python's, NumPy's and torch's global generators are
            seeded with it.
        fold: the fold to hold out for testing, from 0.
        folds: how many there are; 0: one split.
        repeat: which draw of the validation part from the rest, from 0; the test part is the same.
        final: whether the test part is to be scored.
        values: the arguments of the loss that are numbers, tuned ones among them, by name.
        device: ``"cpu"`` or ``"cuda"``.
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
    values: dict[str, float] = field(default_factory=dict)
    device: str = "cpu"
    curve: list[tuple[int, float]] = field(default_factory=list)
    split_seed: int = 0
    deadline: float | None = None

    def log(self, step: int, score: float) -> None:
        """Log a point of the learning curve.

        Args:
            step: number of optimiser steps taken, more than at the point before.
            score: on the validation part; higher is better.

        Raises:
            ValueError: if the step is not beyond the last one logged.
            TimeoutError: if the training has taken too long.
        """
        if self.curve and step <= self.curve[-1][0]:
            raise ValueError(f"run.log({step}, ...) comes after step {self.curve[-1][0]}: log each step once, in order")
        self.curve.append((int(step), float(score)))
        if self._is_late:
            raise TimeoutError("it took longer than its time limit")

    @property
    def should_stop(self) -> bool:
        """Whether to go on is pointless: the score logged last is not finite, or the time is up."""
        return self._is_late or (bool(self.curve) and not np.isfinite(self.curve[-1][1]))

    def split(self, targets: ArrayLike | Tensor | int) -> tuple[Index, Index, Index]:
        """Split examples into training, validation and test part, as `lossmith compare` splits data of its own.

        The parts follow from the comparison's seed, the fold and the repeat, and are the same for every loss. Without
        folds, test and validation part are a fifth of the examples each; with folds, the validation part is a fifth of
        what is not in the test fold.

        Args:
            targets: a label for each of n examples, by which the parts are stratified; numbers that are not whole are
                not stratified. Or only n.

        Returns:
            The indices of the examples in each part, ascending.

        Raises:
            ValueError: if there are too few examples, or too few of a class.
        """
        labels = np.zeros(targets) if isinstance(targets, int) else plain(targets)
        stratified = not isinstance(targets, int) and labels.dtype.kind != "f"
        codes = np.unique(labels, return_inverse=True)[1] if stratified else labels
        task: TaskName = "classification" if stratified else "regression"
        names = tuple(map(str, range(int(codes.max()) + 1))) if stratified else ()
        dataset = Dataset("your data", "", "tabular", np.zeros((len(codes), 1)), codes, names, task=task)
        spec = DataSpec("", split_seed=self.split_seed, folds=self.folds, fold=self.fold, repeat=self.repeat, task=task)
        rows = choose_rows(dataset, spec)
        return np.sort(rows.train), np.sort(rows.valid), np.sort(rows.test)

    @property
    def _is_late(self) -> bool:
        return self.deadline is not None and time.perf_counter() > self.deadline


def make_run(trial: Trial, device: str = "cpu", time_limit: float | None = None) -> tuple[Run, tuple[str, ...]]:
    """What the training function of a trial is given, and what its loss warns of."""
    trainer = trial.trainer
    assert isinstance(trainer, FunctionTrainer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loss = create(trial.loss)
        shares = getattr(trainer.task, "shares", ())
        loss.bind(total_steps=trial.steps, class_counts=shares or None)
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
        values=_numbers(trial.loss),
        device=device,
        split_seed=trainer.split_seed,
        deadline=None if time_limit is None else time.perf_counter() + time_limit,
    )
    return run, tuple(str(warning.message) for warning in caught)


def train_function(trial: Trial, sources: Sources, device: str = "cpu", time_limit: float | None = None) -> TrialResult:
    """Run a trial of a training function; what it prints is dropped.

    Args:
        trial: the trial.
        sources: where the function's file lies.
        device: ``"cpu"`` or ``"cuda"``.
        time_limit: seconds that it may take, looked at whenever it logs a point.

    Returns:
        The result. Its learning curve is in the score that the function logs.

    Raises:
        UserCodeError: if the function cannot be had, fails, or returns something else.
        TimeoutError: if it takes too long.
    """
    trainer = trial.trainer
    assert isinstance(trainer, FunctionTrainer)
    if not isinstance(trial.stepper, Plain) or trial.probes:
        raise UserCodeError(f"{trial.loss}: a training function takes neither losses that learn nor probes")
    began = time.perf_counter()
    function = load_function(trainer.function, "trainer", sources)
    run, notes = make_run(trial, device, time_limit)
    with quiet():
        returned = call_function(function, run, trainer.function, sources)
    check_stepped(run.loss, trial.loss, trainer.title)
    try:
        valid, test, finite = judge_returned(returned, trainer.task, final=trial.final)
    except ReturnedError as error:
        raise UserCodeError(f"the training function {trainer.title} {error}") from None
    of_valid, of_test, fitted = trainer.task.conclude(valid, test)
    scores = trainer.task.metrics(of_valid)
    return TrialResult(
        curve=_curve(run, scores[trainer.task.metric]),
        scores=scores,
        columns=trainer.task.columns(of_valid),
        fitted=fitted,
        gradient_ratio=float("nan"),
        extended_share=0.0,
        diverged=not finite,
        notes=notes,
        seconds=time.perf_counter() - began,
        valid=of_valid if trial.final else None,
        test=of_test,
    )


def call_function(function: Callable[..., Any], run: Run, text: str, sources: Sources) -> Any:
    """Call a training function; its failures are told with the line of its file.

    Raises:
        UserCodeError: whatever it raises.
        TimeoutError: if it has taken too long.
    """
    named, _, digest = text.rpartition("#")
    try:
        with guarded(f"the training function {named} failed", file_of(function, sources.code[digest])):
            return function(run)
    except UserCodeError as error:
        if isinstance(error.__cause__, TimeoutError) and run.should_stop:
            raise TimeoutError(str(error.__cause__)) from None
        raise


def check_stepped(loss: nn.Module, text: str, title: str) -> None:
    """Refuse a training in which the schedule of a loss never moved."""
    for module in loss.modules():
        taken = getattr(module, "steps_taken", None)
        if isinstance(taken, Tensor) and not taken.any():
            raise UserCodeError(
                f"{text} has a schedule, which did not move: call run.loss.step() in {title} after each optimiser step"
            )


def _numbers(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for term in terms_of(text):
        arguments = parse_loss(term.text).arguments
        found |= {name: float(v) for name, v in arguments if isinstance(v, int | float) and not isinstance(v, bool)}
    return found


def _curve(run: Run, score: float) -> Curve:
    """The points that were logged; of a function that logs none, its end."""
    points: Sequence[tuple[int, float]] = run.curve or [(run.steps, score)]
    steps, scores = zip(*points, strict=True)
    return Curve(steps, {}, dict.fromkeys(FunctionTrainer.curve, scores))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what is printed, unless whoever looks for a mistake asks for it by ``LOSSMITH_TRACEBACK``."""
    if os.environ.get("LOSSMITH_TRACEBACK"):
        yield
        return
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
