"""The steps of a trial whose loss learns."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from lossmith.data import Splits
from lossmith.learned import AdaptiveLoss, LearnedLoss, OnlineLossLearner, StepRecord, distil, learn_offline
from lossmith.tasks import Task
from lossmith.trials.batches import batches
from lossmith.trials.result import Series, TrialResult
from lossmith.trials.stacks import SingleModel
from lossmith.trials.steppers import Step, Stepper
from lossmith.trials.trial import Adaptive, Replay, Trial

_NEVER: Final = 1 << 50
# What is added to the trial's seed to draw other things than the model's weights and batches.
_META_STREAM: Final = 1_000_003
_OFFLINE_STREAM: Final = 3_000_017

Batch = tuple[Tensor, Tensor]
MakeModel = Callable[[int], SingleModel]


class LearningStepper(Stepper):
    """Steps of one model with a loss that is learned, as an `Adaptive` or a `Replay` says.

    A replay trains on all training examples but the clean ones that taught the loss.

    Args:
        trial: what is trained.
        loss: told of class counts and length of the run.
        notes: what it warned of.
        make_model: makes the untrained model of a seed.
        splits: what it is trained on.
        task: what scores it.
        device: ``"cpu"`` or ``"cuda"``.
        replayed: for a replay, the result of the training it replays.
    """

    def __init__(
        self,
        trial: Trial,
        loss: LearnedLoss,
        notes: tuple[str, ...],
        make_model: MakeModel,
        splits: Splits,
        task: Task,
        device: str,
        replayed: TrialResult | None = None,
    ) -> None:
        self.trial, self.learned, self.splits, self.task, self.device = trial, loss.to(device), splits, task, device
        self.make_model, self._notes = make_model, notes
        self.course = None if replayed is None else _course(trial, replayed, device)
        how = (trial.source or trial).stepper
        assert isinstance(how, Adaptive)
        self.how = how
        self.examples = _Examples(
            trial, how, splits, device, hold_out=replayed is None and how.meta_data == "held_out"
        )  # fmt: skip
        self.gradient_ratio = torch.full((1,), torch.nan, device=device)
        self.extended = torch.zeros(1, device=device)
        self.offline_steps = self._learn_offline() if replayed is None else 0
        self.models = make_model(trial.seed)
        self.learner = self._learner(self.models)
        self.scales: list[Tensor] = []
        self._replay(0)

    @override
    def step(self, step: int) -> Step:
        self.models.set_rate(step, self.trial.steps)
        self.models.model.train()
        self._replay(step)
        batch = next(self.examples.batches)
        record = self.learner.step(batch, next(self.examples.meta) if self.learner.wants_meta_batch else None)
        if step == 0:
            self.gradient_ratio = self._gradient_ratio(record, batch[1])
        self.scales.append(record.scale)
        if isinstance(self.learned, AdaptiveLoss):
            self.extended += self.learned.extended(record.logits, batch[1]).sum()
        return Step(record.logits.unsqueeze(0), batch[1].unsqueeze(0), record.loss.detach().reshape(1))

    @override
    def loss(self, i: int) -> nn.Module:
        return self.learned

    @override
    def notes(self, i: int) -> tuple[str, ...]:
        return self._notes

    @override
    def series(self) -> dict[str, Series]:
        return {"scale": Series(np.arange(1, len(self.scales) + 1), torch.stack(self.scales).cpu().numpy())}

    @override
    def facts(self) -> dict[str, float | str]:
        facts: dict[str, float | str] = {"offline_steps": self.offline_steps}
        if self.trial.final and isinstance(self.learned, AdaptiveLoss):
            with contextlib.suppress(ValueError):  # a loss of whole images has no formula
                found = distil(self.learned.freeze().cpu().double(), self.task.outputs)
                facts |= {"formula": found.formula, "formula_error": found.error}
        return facts

    def _replay(self, step: int) -> None:
        """Give the loss what that step was taken with in the replayed training, if there is one."""
        if self.course is not None:
            nn.utils.vector_to_parameters(self.course[step], self.learned.parameters())

    def _learner(self, single: SingleModel) -> OnlineLossLearner:
        how, replays_rates = self.how, isinstance(self.trial.stepper, Replay) and self.trial.stepper.what == "rate"
        data = how.meta_data
        return OnlineLossLearner(
            single.model,
            self.learned,
            single.optimizer,
            torch.optim.Adam(self.learned.parameters(), how.meta_lr),
            task_loss=lambda z, targets: self.task.reference_values(z[None], targets[None])[0],
            meta_data=data if data == "same" or data == "next" else "given",
            every=_NEVER if self.course is not None or not how.online else how.every,
            meta_share=how.meta_share,
            clip_grad_norm=self.trial.optimizer.clip,
            scale="learned" if replays_rates else how.scale,
            max_scale=math.inf if replays_rates else how.max_scale,  # capped when they were recorded
        )

    def _gradient_ratio(self, record: StepRecord, targets: Tensor) -> Tensor:
        """Norm of the loss's gradient in the outputs over that of the reference loss."""
        z = record.logits.requires_grad_()
        losses = (self.learned.base(z, targets), self.task.reference_values(z[None], targets[None])[0])
        of_base, of_reference = (torch.autograd.grad(loss, z)[0].norm() for loss in losses)
        ratio: Tensor = record.scale * of_base / of_reference
        return ratio.reshape(1)

    def _learn_offline(self) -> int:
        how, seed = self.how, self.trial.seed + _OFFLINE_STREAM
        if not how.offline:
            return 0
        examples = _Examples(
            replace(self.trial, seed=seed), how, self.splits, self.device, hold_out=how.meta_data == "held_out"
        )
        log = learn_offline(
            self.learned,
            lambda i: self.make_model(seed + i).model.train(),
            examples.pairs(),
            steps=how.offline,
            lr=how.offline_lr,
            meta_lr=how.meta_lr,
            task_loss=lambda z, targets: self.task.reference_values(z[None], targets[None])[0],
            scale=how.scale,
            max_scale=how.max_scale,
        )
        return log.kept


def _course(trial: Trial, replayed: TrialResult, device: str) -> list[Tensor]:
    """The parameters that the loss of a replay has at each step."""
    assert isinstance(trial.stepper, Replay)
    if trial.stepper.what == "rate":
        rates = torch.from_numpy(replayed.series["scale"].values).to(device)
        return list(rates.log().unsqueeze(1))
    how = trial.stepper.of.stepper
    # With the next batch as meta batch, the loss is updated before the model.
    first = int(isinstance(how, Adaptive) and how.meta_data == "next")
    parameters = torch.from_numpy(replayed.series["parameters"].values).to(device)
    return list(parameters[first:])


class _Examples:
    """The batches of a trial whose loss learns.

    Attributes:
        batches: endless, for the model.
        meta: endless, for the loss.
    """

    def __init__(self, trial: Trial, how: Adaptive, splits: Splits, device: str, *, hold_out: bool) -> None:
        size, batch_size = len(splits.train), trial.ours.batch_size
        held_out = (splits.clean or max(1, round(how.meta_part * size))) if hold_out else 0
        meta_size = max(1, round(how.meta_share * batch_size))
        self.splits, self.device = splits, device
        first = splits.clean or held_out  # a replay holds nothing out, yet its model never trains on clean examples
        self.batches = self._draw(first, size - first, batch_size, trial.seed)
        self.meta = self._draw(0, held_out or size, meta_size, trial.seed + _META_STREAM)

    def pairs(self) -> Iterator[tuple[Batch, Batch]]:
        """Batches with their meta batches."""
        return zip(self.batches, self.meta, strict=False)

    def _draw(self, start: int, size: int, batch_size: int, seed: int) -> Iterator[Batch]:
        for rows in batches(size, batch_size, seed):
            chosen = (start + rows).to(self.device)
            yield self.splits.train.batch(chosen)
