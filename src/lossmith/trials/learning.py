"""The steps of a trial whose loss learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor, nn
from typing_extensions import override

from lossmith.catalog import create
from lossmith.data import Splits
from lossmith.learned import AdaptiveLoss, OnlineLossLearner, StepRecord, distil, learn_offline, strictness_curve
from lossmith.losses.text import parse_loss
from lossmith.tasks import Task
from lossmith.trials.batches import batches
from lossmith.trials.result import LearnedPath
from lossmith.trials.stacks import SingleModel
from lossmith.trials.steppers import Stepper
from lossmith.trials.trial import Trial

MOMENTS: Final = 5
"""Points of the training, from its beginning to its end, at which the loss is kept."""
_P: Final = torch.linspace(-6.0, 6.0, 49, dtype=torch.float64).sigmoid()
_NEVER: Final = 1 << 50
REPLAYS: Final = ("rate_replay", "loss_replay")
# What is added to the trial's seed to draw other things than the model's weights and batches.
_META_STREAM: Final = 1_000_003
REPLAY_STREAM: Final = 2_000_003
_OFFLINE_STREAM: Final = 3_000_017

Batch = tuple[Tensor, Tensor]
MakeModel = Callable[[int], SingleModel]


class LearningStepper(Stepper):
    """Steps of one model with an `AdaptiveLoss`, as its recipe says.

    With ``control="rate_replay"`` or ``"loss_replay"`` the trial is first trained as it would be without that control;
    the course of the effective scale, or that of the loss's parameters under another seed, is then replayed on a fresh
    model, which trains on all training examples but the clean ones that taught the loss.

    Args:
        trial: what is trained.
        loss: told of class counts and length of the run.
        notes: what it warned of.
        make_model: makes the untrained model of a seed.
        splits: what it is trained on.
        task: what scores it.
        device: ``"cpu"`` or ``"cuda"``.
    """

    def __init__(
        self,
        trial: Trial,
        loss: AdaptiveLoss,
        notes: tuple[str, ...],
        make_model: MakeModel,
        splits: Splits,
        task: Task,
        device: str,
    ) -> None:
        self.trial, self.loss, self.splits, self.task, self.device = trial, loss.to(device), splits, task, device
        self.make_model, self._notes = make_model, notes
        self.replayed = self._course() if loss.control in REPLAYS else None
        still = self.replayed is not None
        if trial.clean != "unused":
            raise ValueError(f"{trial.loss} takes the clean examples as meta data: its model cannot train on them")
        self.examples = _Examples(
            trial, loss, splits, device, hold_out=not still and loss.recipe.meta_data == "held_out"
        )
        self.gradient_ratio = torch.full((1,), torch.nan, device=device)
        self.extended = torch.zeros(1, device=device)
        self.offline_steps = 0 if still else self._learn_offline()
        self.models = make_model(trial.seed)
        self.learner = self._learner(self.models, still=still or not loss.recipe.online)
        self.steps: list[int] = []
        self.scales: list[float] = []
        self.recent: list[Tensor] = []
        self.moments: list[tuple[int, Tensor]] = []
        self._replay(0)
        self._keep(0)

    @override
    def step(self, step: int) -> tuple[Tensor, Tensor]:
        self.models.set_rate(step, self.trial.steps)
        self.models.model.train()
        self._replay(step)
        batch = next(self.examples.batches)
        record = self.learner.step(batch, next(self.examples.meta) if self.learner.wants_meta_batch else None)
        if step == 0:
            self.gradient_ratio = self._gradient_ratio(record, batch[1])
        self.recent.append(record.scale)
        self.extended += self.loss.extended(record.logits, batch[1]).sum()
        return record.logits.unsqueeze(0), batch[1].unsqueeze(0)

    @override
    def mark(self, step: int) -> None:
        self.steps.append(step)
        self.scales.append(float(torch.stack(self.recent).mean()))
        self.recent.clear()
        if step >= self.trial.steps * len(self.moments) / (MOMENTS - 1):
            self._keep(step)

    @override
    def notes(self, i: int) -> tuple[str, ...]:
        return self._notes

    @override
    def learned(self, i: int) -> LearnedPath | None:
        """The formula is looked for in final trials alone."""
        found = distil(self.loss.freeze().cpu().double(), self.task.outputs) if self.trial.final else None
        return LearnedPath(
            steps=tuple(self.steps),
            scale=tuple(self.scales),
            moments=tuple(step for step, _ in self.moments),
            p=tuple(_P.tolist()),
            strictness=tuple(tuple(curve.tolist()) for _, curve in self.moments),
            offline_steps=self.offline_steps,
            formula=None if found is None else found.formula,
            formula_error=None if found is None else found.error,
        )

    def _replay(self, step: int) -> None:
        """Set the loss to what that step was taken with in the replayed training, if there is one."""
        if self.replayed is not None:
            nn.utils.vector_to_parameters(self.replayed[step], self.loss.parameters())

    def _keep(self, step: int) -> None:
        self.moments.append((step, strictness_curve(self.loss.freeze().cpu().double(), self.task.outputs, _P)))

    def _learner(self, single: SingleModel, *, still: bool) -> OnlineLossLearner:
        recipe = self.loss.recipe
        data, replays_rates = recipe.meta_data, self.loss.control == "rate_replay"
        return OnlineLossLearner(
            single.model,
            self.loss,
            single.optimizer,
            torch.optim.Adam(self.loss.parameters(), recipe.meta_lr),
            meta_data=data if data == "same" or data == "next" else "given",
            every=_NEVER if still else recipe.every,
            meta_share=recipe.meta_share,
            clip_grad_norm=self.trial.optimizer.clip,
            scale="learned" if replays_rates else recipe.scale,
            max_scale=math.inf if replays_rates else recipe.max_scale,  # capped when they were recorded
        )

    def _gradient_ratio(self, record: StepRecord, targets: Tensor) -> Tensor:
        """Norm of the loss's gradient in the outputs over that of the reference loss."""
        z = record.logits.requires_grad_()
        losses = (self.loss.base(z, targets), self.task.reference_values(z[None], targets[None])[0])
        of_base, of_reference = (torch.autograd.grad(loss, z)[0].norm() for loss in losses)
        ratio: Tensor = record.scale * of_base / of_reference
        return ratio.reshape(1)

    def _learn_offline(self) -> int:
        recipe = self.loss.recipe
        if not recipe.offline:
            return 0
        examples = _Examples(
            replace(self.trial, seed=self.trial.seed + _OFFLINE_STREAM),
            self.loss,
            self.splits,
            self.device,
            hold_out=recipe.meta_data == "held_out",
        )
        log = learn_offline(
            self.loss,
            lambda i: self.make_model(self.trial.seed + _OFFLINE_STREAM + i).model.train(),
            examples.pairs(),
            steps=recipe.offline,
            lr=recipe.offline_lr,
            meta_lr=recipe.offline_meta_lr,
            scale=recipe.scale,
            max_scale=recipe.max_scale,
        )
        return log.kept

    def _course(self) -> list[Tensor]:
        """The loss's parameters that each step was taken with in the trial without the replay."""
        text = parse_loss(self.trial.loss)
        plain = replace(text, arguments=tuple((n, value) for n, value in text.arguments if n != "control"))
        seed = self.trial.seed + (REPLAY_STREAM if self.loss.control == "loss_replay" else 0)
        trial = replace(self.trial, loss=str(plain), seed=seed, final=False)
        loss = create(trial.loss)
        assert isinstance(loss, AdaptiveLoss)
        loss.bind(total_steps=trial.steps, **self.task.facts(self.splits))
        run = LearningStepper(trial, loss, (), self.make_model, self.splits, self.task, self.device)
        course, follows = [], loss.recipe.meta_data == "next"
        for step in range(trial.steps):
            before = nn.utils.parameters_to_vector(loss.parameters()).detach()
            run.step(step)
            # With the next batch as meta batch, the loss is updated before the model.
            phi = nn.utils.parameters_to_vector(loss.parameters()).detach() if follows else before
            course.append(run.recent.pop().log().reshape(1) if self.loss.control == "rate_replay" else phi)
        return course


class _Examples:
    """The batches of a trial whose loss learns.

    Attributes:
        batches: endless, for the model.
        meta: endless, for the loss.
    """

    def __init__(self, trial: Trial, loss: AdaptiveLoss, splits: Splits, device: str, *, hold_out: bool) -> None:
        recipe, size, batch_size = loss.recipe, len(splits.train), trial.batch_size
        held_out = (splits.clean or max(1, round(recipe.meta_part * size))) if hold_out else 0
        meta_size = max(1, round(recipe.meta_share * batch_size))
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
