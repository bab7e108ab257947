"""A training function is called for a few steps before anything is trained, so that mistakes show at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from lossmith.catalog import create
from lossmith.data import TaskName
from lossmith.tasks import (
    Classification,
    Regression,
    ScoredClassification,
    ScoredPixels,
    ScoredRegression,
    Segmentation,
    Task,
    best_constant,
)
from lossmith.trials.function import Run, call_function, make_run, quiet
from lossmith.trials.returned import ReturnedError, as_examples, is_pair, pair_of, plain, scores_of, take_apart
from lossmith.trials.timing import Timing
from lossmith.trials.training import guest
from lossmith.trials.trial import FunctionTrainer, OptimizerSpec, Sources, Trial
from lossmith.trials.user_code import UserCodeError, canonical_function, load_function

STEPS: Final = 3
_RATE: Final = 1e-4
_ROUNDING: Final = 1e-6


@dataclass
class _Witness:
    """What a loss was given in a rehearsal, and when."""

    outputs: Tensor | None = None
    targets: Tensor | None = None
    last: Tensor | None = None
    times: list[float] = field(default_factory=list)
    stepped: int = 0

    def watch(self, run: Run) -> None:
        """Have the loss of a run tell of its calls and of its steps."""
        step = run.loss.step

        def counting() -> None:
            self.stepped += 1
            step()  # type: ignore[operator]

        run.loss.step = counting  # type: ignore[assignment]
        run.loss.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, loss: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.times.append(time.perf_counter())
        if len(given) == 2 and all(isinstance(each, Tensor) for each in given):
            self.last = given[0].detach().cpu()
            if self.outputs is None:
                self.outputs, self.targets = self.last, given[1].detach().cpu()

    @property
    def moves(self) -> bool:
        """Whether the loss was called after the first step."""
        return len(self.times) > 1

    def first_equals(self, other: _Witness) -> bool:
        """Whether the first outputs of another training are the same."""
        return _same(self.outputs, other.outputs)

    def last_equals(self, other: _Witness) -> bool:
        """Whether the last outputs of another training are the same."""
        return _same(self.last, other.last)

    @property
    def numbers(self) -> bool:
        """Whether the targets are numbers rather than classes or their probabilities."""
        if self.outputs is None or self.targets is None or not self.targets.is_floating_point():
            return False
        if self.targets.dim() < 2 or self.targets.shape != self.outputs.shape or self.targets.shape[1] == 1:
            return True
        sums = self.targets.double().sum(1)
        return bool((self.targets < 0).any() or ((sums - 1).abs() > _ROUNDING).any())

    @property
    def binary(self) -> bool:
        """Whether the targets are labels for a binary cross-entropy."""
        return self.targets is not None and bool(((self.targets == 0) | (self.targets == 1)).all())


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal of a training function shows.

    Args:
        trainer: the function as a trainer, with the task that scores it.
        outputs: that the loss was first given, with its targets.
        targets: of those outputs.
        steps_schedule: whether the function calls ``run.loss.step()``.
        class_counts: of the validation targets, where they are classes.
        examples: number of units in the validation and the test part.
        timing: of its parts.
        notes: what a user should know of it.
    """

    trainer: FunctionTrainer
    outputs: Tensor
    targets: Tensor
    steps_schedule: bool
    class_counts: Tensor
    examples: tuple[int, int]
    timing: Timing
    notes: tuple[str, ...]

    def gradient_ratio(self, loss: nn.Module) -> float:
        """The norm of a loss's gradient in the outputs over that of the reference, on the first batch."""
        norms = []
        for each in (loss, create(self.trainer.task.reference)):
            outputs = self.outputs.double().requires_grad_()
            targets = self.targets.double() if self.targets.is_floating_point() else self.targets.long()
            (gradient,) = torch.autograd.grad(each.double()(outputs, targets), outputs)
            norms.append(gradient.norm())
        return float(norms[0] / norms[1])


def rehearse(
    text: str, sources: Sources, *, folds: int, seed: int, device: str = "cpu", task: TaskName | None = None
) -> Rehearsal:
    """Call a training function a few times for three steps, to find what it is and what of its run it ignores.

    Its test part is asked for once, and only looked at for its shape.

    Args:
        text: ``path/to/file.py:function``.
        sources: where the path is noted.
        folds: the number of test folds that it is asked for; 0 for one split.
        seed: of the splits, and of the trainings.
        device: ``"cpu"`` or ``"cuda"``.
        task: what its targets are; ``None`` finds out.

    Returns:
        What was found.

    Raises:
        UserCodeError: if the function cannot be had, fails, does not use its loss, or returns something that cannot be
            scored; one sentence.
    """
    canonical = canonical_function(text, "trainer", sources)
    key = (canonical, folds, seed, device, task)
    if key not in _KEPT:
        _KEPT.clear()
        _KEPT[key] = _rehearse(canonical, sources, folds, seed, device, task)
    return _KEPT[key]


def time_function(trainer: FunctionTrainer, sources: Sources, device: str = "cpu") -> Timing:
    """What a training with a training function takes on this machine, from a few steps."""
    kept = next((each for each in _KEPT.values() if each.trainer.function == trainer.function), None)
    if kept is not None:
        return kept.timing
    _, seen, end = _called(replace(_trial(trainer), final=False), sources, device)
    return _timing(seen.times, *end)


_KEPT: Final[dict[tuple[str, int, int, str, TaskName | None], Rehearsal]] = {}
"""The last rehearsal: a plan and its estimate need the same one."""


def _rehearse(text: str, sources: Sources, folds: int, seed: int, device: str, task: TaskName | None) -> Rehearsal:
    title = text.rpartition("#")[0]
    known: Task = ScoredRegression(1.0) if task == "regression" else ScoredClassification(())
    trial = _trial(FunctionTrainer(text, known, folds, split_seed=seed))
    try:
        returned, seen, _ = _called(trial, sources, device)
    except _NumbersError:
        known = ScoredRegression(1.0)
        trial = _trial(FunctionTrainer(text, known, folds, split_seed=seed))
        returned, seen, _ = _called(trial, sources, device)
        if task is None and seen.binary:
            raise UserCodeError(
                f"the training function {title} gives the loss targets of 0.0 and 1.0: for two classes, give it two "
                "outputs for each example and class indices; for numbers, say --task regression"
            ) from None
    if seen.outputs is None or seen.targets is None:
        raise UserCodeError(f"the training function {title} never called run.loss(outputs, targets)")
    try:
        valid, test = take_apart(returned, final=True)
        found, counts = _task_of(valid, known, seen)
        sizes = tuple(len(pair_of(part)[1]) if is_pair(part) else len(scores_of(part)) for part in (valid, test))
    except ReturnedError as error:
        raise UserCodeError(f"the training function {title} {error}") from None
    trial = replace(trial, final=False)
    again, later, end = _called(trial, sources, device)
    notes = []
    if not _equal(valid, take_apart(again, final=False)[0]):
        notes.append(
            f"{title} gave other scores for the same run: what it draws at random does not follow from run.seed, and "
            "a repeated comparison will give other numbers"
        )
    notes += _ignored(trial, later, sources, device)
    return Rehearsal(
        trainer=FunctionTrainer(text, found, folds, split_seed=seed),
        outputs=seen.outputs,
        targets=seen.targets,
        steps_schedule=seen.stepped > 0,
        class_counts=counts,
        examples=(sizes[0], sizes[1]),
        timing=_timing(later.times, *end),
        notes=tuple(notes),
    )


def _ignored(trial: Trial, seen: _Witness, sources: Sources, device: str) -> Iterator[str]:
    """What of its run a training function ignores; `UserCodeError` if it is the learning rate."""
    title = trial.trainer.title
    faster = replace(trial, optimizer=replace(trial.optimizer, lr=100 * _RATE))
    if seen.moves and seen.last_equals(_called(faster, sources, device)[1]):
        raise UserCodeError(
            f"the training function {title} ignores run.lr: give it to the optimiser, for each loss has its own"
        )
    other = _called(replace(trial, seed=trial.seed + 1, steps=2 * STEPS), sources, device)[1]
    if seen.first_equals(other):
        yield (
            f"{title} seems to ignore run.seed: trainings that differ in nothing else are alike, and intervals come "
            "out too narrow"
        )
    if len(other.times) == len(seen.times):
        yield (
            f"{title} seems to ignore run.steps: its trainings are longer or shorter than said, and nothing can be "
            "said of speed"
        )


class _NumbersError(Exception):
    """The targets are numbers, and the loss is for classes."""


def _trial(trainer: FunctionTrainer) -> Trial:
    optimizer = OptimizerSpec("adam", _RATE)
    return Trial(trainer, trainer.task.reference, optimizer, STEPS, trainer.split_seed, final=True)


def _called(trial: Trial, sources: Sources, device: str) -> tuple[Any, _Witness, tuple[float, float]]:
    """What a function returns, what its loss was given, and when it began and ended."""
    trainer = trial.trainer
    assert isinstance(trainer, FunctionTrainer)
    function = load_function(trainer.function, "trainer", sources)
    run, _ = make_run(trial, device)
    seen = _Witness()
    seen.watch(run)
    began = time.perf_counter()
    wrong = not isinstance(trainer.task, Regression)
    try:
        with quiet(), guest(trial.seed, device):
            returned = call_function(function, run, trainer.function, sources)
    except UserCodeError:
        if wrong and seen.numbers:
            raise _NumbersError from None
        raise
    if wrong and seen.numbers:
        raise _NumbersError
    return returned, seen, (began, time.perf_counter())


def _task_of(valid: Any, known: Task, seen: _Witness) -> tuple[Task, Tensor]:
    """The task of what a function returns, and how often each class occurs in its validation part."""
    assert seen.outputs is not None
    none = torch.zeros(0)
    if not is_pair(valid):
        untrained = float(f"{np.nan_to_num(scores_of(valid)).mean():.6g}")
        if isinstance(known, Regression):
            return ScoredRegression(1.0, untrained=untrained), none
        classes = tuple(map(str, range(seen.outputs.shape[min(1, seen.outputs.dim() - 1)])))
        kind = ScoredPixels if seen.outputs.dim() > 2 else ScoredClassification
        return kind(classes, untrained=untrained), none
    outputs, targets = pair_of(valid)
    if isinstance(known, Regression):
        numbers = targets.astype(np.float64)
        unit = float(numbers.std())
        if not (np.isfinite(numbers).all() and unit > 0):
            raise ReturnedError("returned targets that are not finite or all the same")
        deviation = float(np.abs(numbers - np.median(numbers)).mean())
        rounded = (float(f"{value:.6g}") for value in (unit, numbers.mean(), deviation))
        return Regression(*rounded), none
    names = tuple(map(str, range(outputs.shape[1] if outputs.dim() > 1 else 1)))
    if outputs.dim() == 4:
        unknown = Segmentation(names, 0.0)
        _, masks = as_examples(outputs, targets, unknown)
        return Segmentation(names, best_constant(masks, len(names))), none
    if outputs.dim() != 2 or len(names) < 2:
        raise ReturnedError(
            f"returned outputs of the shape {tuple(outputs.shape)}: give (n, C) with C classes, (n, C, h, w), or the "
            "score of each unit instead"
        )
    _, labels = as_examples(outputs, targets, Classification(names))
    counts = torch.bincount(labels, minlength=len(names))
    share = counts.clamp(min=1).double()
    return Classification(names, tuple(float(f"{s:.6g}") for s in (share / share.sum()).tolist())), counts


def _equal(one: Any, other: Any) -> bool:
    parts = [part if is_pair(part) else (part,) for part in (one, other)]
    return len(parts[0]) == len(parts[1]) and all(
        np.array_equal(plain(a), plain(b), equal_nan=plain(a).dtype.kind == "f") for a, b in zip(*parts, strict=True)
    )


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and one.shape == other.shape and bool(torch.equal(one, other))


def _timing(calls: list[float], began: float, ended: float) -> Timing:
    """From when the loss was called in a training of a few steps."""
    if not calls:
        return Timing(0.0, (ended - began) / STEPS, 0.0, 0.0)
    step = (calls[-1] - calls[0]) / (STEPS - 1)
    return Timing(calls[0] - began, step, 0.0, max(0.0, ended - calls[-1] - step))
