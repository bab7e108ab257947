"""The state of trainings that go on side by side, one model or a stack of them: steps, learning curves, results."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from lossmith.data import Examples, Splits
from lossmith.learned import LearnedLoss
from lossmith.tasks import Judged, Task
from lossmith.trials.batches import gathered
from lossmith.trials.learning import LearningStepper
from lossmith.trials.models import build_model
from lossmith.trials.probes import Looking
from lossmith.trials.result import Curve, TrialResult
from lossmith.trials.stacks import Models, SingleModel, StackedModels
from lossmith.trials.steppers import PlainStepper, Stepper, noted_loss
from lossmith.trials.trial import Plain, Sources, Trial

_CURVE_OUTPUTS: Final = 2**24  # held at a time


class TrainingState:
    """The state of a training besides its weights.

    Args:
        models: what is trained.
        stepper: takes the steps.
        splits: what it is trained on.
        task: what scores it.
        trials: one per model.
    """

    def __init__(
        self, models: Models, stepper: Stepper, splits: Splits, task: Task, trials: Sequence[Trial]
    ) -> None:  # fmt: skip
        self.models, self.stepper, self.splits, self.task = models, stepper, splits, task
        self.trial, self.size = trials[0], len(trials)
        device, size = splits.train.targets.device, self.size
        self.probes = [Looking(trial, splits, task, device.type) for trial in trials]
        self.kept = [i for i, probes in enumerate(self.probes) if probes.losses is not None]  # few, or none
        self.best = torch.full((size,), -torch.inf, dtype=torch.float64, device=device)
        self.observed: list[Tensor] = []
        self.diverged = torch.zeros(size, dtype=torch.bool, device=device)
        self.points: list[tuple[int, Tensor]] = []  # steps; the curve's columns on training, then validation, examples
        self.seen = 0  # training targets that count, by each model
        rows = min(self.trial.ours.evaluation_rows, len(splits.valid))
        spread = torch.arange(rows, device=device) * len(splits.valid) // rows  # the data may be sorted by class
        self.shown = splits.valid.batch(spread)

    def step(self, step: int, *, observe: bool) -> None:
        """One optimiser step of every model on its own batch."""
        outputs, targets, losses = self.stepper.step(step)
        for i in self.kept:
            self.probes[i].keep(losses[i])
        self.seen += int((targets[0] != self.splits.ignore).sum()) if self.splits.ignore else targets[0].numel()
        if observe:
            self.observed.append(self.task.curve_point(outputs, targets))

    def look(self, step: int) -> None:
        """Let the probes look, after so many steps."""
        for i, probes in enumerate(self.probes):
            if step not in probes.steps:
                continue
            probes.look(
                step,
                functools.partial(self.models.module, i),
                functools.partial(self.stepper.loss, i),
                functools.partial(self.models.optimizer_of, i),
            )

    def evaluate(self, step: int) -> None:
        """Take one point of the learning curves."""
        inputs, targets = self.shown
        points, start = [], 0
        for outputs in gathered(self.models.predict(inputs), _CURVE_OUTPUTS):
            self.diverged |= ~outputs.isfinite().flatten(1).all(1)
            of = targets[start : start + outputs.shape[1]]
            points.append(len(of) / len(targets) * self.task.curve_point(outputs, of.expand(self.size, *of.shape)))
            start += len(of)
        valid = torch.stack(points).sum(0)
        train = torch.stack(self.observed).mean(0)
        self.observed.clear()
        self.points.append((step, torch.cat([train, valid]).cpu()))
        if self.trial.ours.select == "best-val":
            better = valid[0] > self.best
            self.best = torch.where(better, valid[0], self.best)
            self.models.keep(better)

    def curve(self, i: int) -> Curve:
        """The learning curve of model i so far."""
        steps = tuple(step for step, _ in self.points)
        values = torch.stack([values[:, i] for _, values in self.points]).T.tolist()
        names = self.task.curve
        train, valid = (
            dict(zip(names, map(tuple, part), strict=True)) for part in (values[: len(names)], values[len(names) :])
        )
        return Curve(steps, train, valid)

    def results(self, seconds: float) -> list[TrialResult]:
        """The results, from the weights as they are now."""
        valid = self._judge(self.splits.valid)
        test = self._judge(self.splits.test) if self.trial.final else [None] * self.size
        results = []
        for i in range(self.size):
            of_valid, of_test, fitted = self.task.conclude(valid[i], test[i])
            results.append(
                TrialResult(
                    curve=self.curve(i),
                    scores=self.task.metrics(of_valid),
                    columns=self.task.columns(of_valid),
                    fitted=fitted,
                    gradient_ratio=float(self.stepper.gradient_ratio[i]),
                    extended_share=float(self.stepper.extended[i]) / self.seen,
                    diverged=bool(self.diverged[i]),
                    notes=self.stepper.notes(i),
                    seconds=seconds,
                    valid=of_valid if self.trial.final else None,
                    test=of_test,
                    series=self.stepper.series() | self.probes[i].series(),
                    probe_seconds=self.probes[i].seconds,
                    facts=self.stepper.facts(),
                )
            )
        return results

    def _judge(self, part: Examples) -> list[Judged]:
        """What each model makes of a part, judged as it is predicted."""
        judged: list[list[Judged]] = [[] for _ in range(self.size)]
        start = 0
        for outputs in self.models.predict(part.inputs):
            examples = part.rows(start, start + outputs.shape[1])
            for i, of_model in enumerate(outputs):
                judged[i].append(self.task.judge(of_model, examples))
            start += outputs.shape[1]
        return [Judged.join(parts) for parts in judged]


def make_models(trials: Sequence[Trial], splits: Splits, task: Task, sources: Sources, device: str) -> Models:
    """The models of trials that do not learn their losses.

    Args:
        trials: one, or alike stacked ones.
        splits: what they are trained on.
        task: what scores them.
        sources: where to find a model's file.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        The models, with initial weights.
    """
    modules = {
        seed: build_model(trials[0].ours.model, splits, task.outputs, sources, seed).to(device)
        for seed in {trial.seed for trial in trials}
    }
    if not trials[0].is_stacked:
        return SingleModel(modules[trials[0].seed], trials[0].optimizer)
    return StackedModels([modules[trial.seed] for trial in trials], [trial.optimizer for trial in trials])


def make_stepper(
    trials: Sequence[Trial],
    splits: Splits,
    task: Task,
    sources: Sources,
    device: str,
    replayed: TrialResult | None,
) -> tuple[Stepper, Models]:
    """What takes the steps of trials, and their models.

    Args:
        trials: one, or alike stacked ones.
        splits: what they are trained on.
        task: what scores them.
        sources: where to find a model's file.
        device: ``"cpu"`` or ``"cuda"``.
        replayed: for a replay, the result of the training it replays.

    Returns:
        The stepper and the models.
    """
    first = trials[0]
    if isinstance(first.stepper, Plain):
        models = make_models(trials, splits, task, sources, device)
        return PlainStepper(trials, models, splits, task, device), models

    def single(seed: int) -> SingleModel:
        model = build_model(first.ours.model, splits, task.outputs, sources, seed).to(device)
        return SingleModel(model, first.optimizer)

    loss, notes = noted_loss(first.loss, splits, task, first.steps)
    assert isinstance(loss, LearnedLoss)
    learning = LearningStepper(first, loss, notes, single, splits, task, device, replayed)
    return learning, learning.models
