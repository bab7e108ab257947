"""What losses are compared on: our trainer with data and a model, or a user's own training function."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from lossmith.catalog import create
from lossmith.comparison.arms import default_losses
from lossmith.comparison.metric import asked_metric, with_metric
from lossmith.comparison.options import Options
from lossmith.data import Splits
from lossmith.data.errors import quoted
from lossmith.tasks import Task
from lossmith.tasks.metrics import MetricError
from lossmith.trials.function import make_run
from lossmith.trials.options import RequestError, options_of
from lossmith.trials.rehearsal import Rehearsal, rehearse
from lossmith.trials.request import choose_device, draft
from lossmith.trials.runner import reason_of
from lossmith.trials.steppers import WrongTaskError, noted_loss
from lossmith.trials.texts import parse
from lossmith.trials.training import gradient_ratio
from lossmith.trials.trial import OptimizerSpec, Sources, Trial
from lossmith.trials.user_code import UserCodeError

_OF_FUNCTIONS: Final = (
    "trainer", "losses", "lrs", "budget", "metric", "folds", "repeats", "delta", "seed", "task", "steps", "optimizer",
    "device",
)  # fmt: skip
"""The options that a comparison with a training function takes."""


@dataclass(frozen=True)
class Subject(ABC):
    """What losses are compared on.

    Args:
        name: what it is called.
        trial: one training of the reference on fold 0, with a learning rate of 1.
        task: what scores it, in the metric of the comparison.
        metric_reason: why it has this metric.
        examples: number of examples in training, validation and test of fold 0.
        counts: how often each class occurs in training, if the classes are imbalanced; else ``None``.
        device: ``"cpu"`` or ``"cuda"``.
        notes: what a user should know of it.
        sources: where data and code lie.
    """

    name: str
    trial: Trial
    task: Task
    metric_reason: str
    examples: tuple[int, int, int]
    counts: list[int] | None
    device: str
    notes: tuple[str, ...]
    sources: Sources

    def default_losses(self) -> tuple[list[str], tuple[str, ...]]:
        """The losses that are compared if none are named, and what is said of those left out."""
        return default_losses(self.task, self.trial.steps), ()

    def try_loss(self, name: str, trial: Trial) -> tuple[float, tuple[str, ...]]:
        """Try a loss on the first batch, so that what cannot run fails at once.

        Args:
            name: what the loss is called.
            trial: a training with it.

        Returns:
            The norm of its gradient over the reference's, and what it warns of.

        Raises:
            ValueError: if it fails, or has no gradient.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a user's model may warn of anything
                ratio, notes = self._tried(trial)
        except UserCodeError:
            raise
        except (Exception, SystemExit) as error:
            said = reason_of(error) + (self._label if isinstance(error, WrongTaskError) else "")
            raise RequestError(f"{name} with {self._called} failed on the first batch: {said}") from None
        if not 0 < ratio < math.inf:
            raise RequestError(
                f"{name} has no usable gradient at the start of training, it is zero or not finite: leave it out"
            )
        return float(f"{ratio:.4g}"), notes

    @property
    @abstractmethod
    def _called(self) -> str:
        """What it is called in sentences."""

    @property
    def _label(self) -> str:
        """Which column decides the task, if the user did not name it; ends a sentence."""
        return ""

    @abstractmethod
    def _tried(self, trial: Trial) -> tuple[float, tuple[str, ...]]:
        """The ratio and the warnings of `try_loss`."""


@dataclass(frozen=True)
class _OurTrainer(Subject):
    """Our trainer with data and a model."""

    splits: Splits
    label_taken: str

    @property
    @override
    def _label(self) -> str:
        return self.label_taken

    @property
    @override
    def _called(self) -> str:
        return f"model {self.trial.ours.model.partition('#')[0]}"

    @override
    def _tried(self, trial: Trial) -> tuple[float, tuple[str, ...]]:
        loss, notes = noted_loss(trial.loss, self.splits, self.task, trial.steps)
        return gradient_ratio(self.trial, loss, self.sources, self.device), notes


@dataclass(frozen=True)
class _TrainingFunction(Subject):
    """A user's training function."""

    rehearsal: Rehearsal

    @override
    def default_losses(self) -> tuple[list[str], tuple[str, ...]]:
        """Those of the catalog; without what the function shows, which it lacks, some cannot be trained."""
        losses, _ = super().default_losses()
        if self.rehearsal.steps_schedule:
            return losses, ()
        kept = [text for text in losses if not create(text).state_dict()]
        said = f"losses with a schedule are left out: {self._called} does not call run.loss.step()"
        return kept, (said,) if len(kept) < len(losses) else ()

    @property
    @override
    def _called(self) -> str:
        return self.trial.trainer.title

    @override
    def _tried(self, trial: Trial) -> tuple[float, tuple[str, ...]]:
        if parse(trial.loss).learns:
            raise RequestError("a training function takes no losses that learn")
        run, notes = make_run(trial, self.device)
        if run.loss.state_dict() and not self.rehearsal.steps_schedule:
            raise RequestError("it has a schedule: call run.loss.step() after each optimiser step")
        return self.rehearsal.gradient_ratio(run.loss), notes


def subject_of(options: Options, sources: Sources) -> Subject:
    """What a comparison was asked for on, looked at or tried once.

    Args:
        options: what was asked for.
        sources: where data and code lie; filled in.

    Returns:
        The subject.

    Raises:
        ValueError: if data, model, training function or an option does not do; the message is one sentence.
    """
    return _our_trainer(options, sources) if options.trainer is None else _training_function(options, sources)


def _our_trainer(options: Options, sources: Sources) -> Subject:
    label = _label_taken(options)
    try:
        drafted, reason = with_metric(draft(options, sources), options.metric, sources)
    except MetricError as error:
        raise MetricError(f"{error}{label}") from None
    splits = drafted.splits
    return _OurTrainer(
        name=splits.name,
        trial=drafted.trial,
        task=drafted.task,
        metric_reason=reason,
        examples=(len(splits.train), len(splits.valid), len(splits.test)),
        counts=splits.class_counts.tolist() if drafted.task.is_imbalanced(splits) else None,
        device=drafted.device,
        notes=drafted.notes,
        sources=sources,
        splits=splits,
        label_taken=label,
    )


def _label_taken(options: Options) -> str:
    """Which column of the data was taken as the label, if none was named; ends a sentence."""
    dataset = options.dataset()
    if dataset.label is not None or dataset.target is None:
        return ""
    return f"; the label is the column {quoted(dataset.target)}, as none was named (--label names another)"


def _training_function(options: Options, sources: Sources) -> Subject:
    assert options.trainer is not None
    _check_options(options)
    device = choose_device(options.device)
    found = rehearse(
        options.trainer, sources, folds=options.folds or 0, seed=options.seed, device=device, task=options.task
    )
    trainer, counts = found.trainer, found.class_counts
    if options.metric is not None and (".py" in options.metric or ".pkl:" in options.metric):
        raise RequestError(
            f"--metric {options.metric}: a training function returns the scores of its own metric; leave it out"
        )
    task, reason = asked_metric(trainer.task, options.metric, found)
    assert options.steps is not None
    return _TrainingFunction(
        name=Path(trainer.title.partition(":")[0]).stem,
        trial=Trial(
            trainer,
            task.reference,
            OptimizerSpec(options.update_rule, 1.0, schedule="none"),
            options.steps,
            options.seed,
        ),
        task=task,
        metric_reason=reason,
        examples=(0, *found.examples),
        counts=counts.clamp(min=1).tolist() if len(counts) and task.is_imbalanced(found) else None,
        device=device,
        notes=found.notes,
        sources=sources,
        rehearsal=found,
    )


def _check_options(options: Options) -> None:
    """Refuse what a training function decides itself."""
    for name in options_of(type(options)):
        given: Any = getattr(options, name)
        if name not in _OF_FUNCTIONS and given != getattr(type(options), name):
            flag = "DATA" if name == "data" else f"--{name.replace('_', '-')}"
            raise RequestError(f"{flag} {given}: the training function decides that itself; leave it out")
    if options.steps is None:
        raise RequestError("--trainer needs --steps: the number of optimiser steps of each training")
