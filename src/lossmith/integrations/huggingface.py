"""Lossmith's losses in `transformers.Trainer`; needs ``pip install lossmith[huggingface]``.

Trainer(..., compute_loss_func=compute_loss_func(loss), callbacks=[LossCallback(loss)])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lossmith.integrations.reporting import Reported, Reporter
from lossmith.losses import RegressionLoss, SoftDiceLoss
from lossmith.losses.loss import LogitLoss, Loss

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise ImportError("transformers is not installed: pip install 'lossmith[huggingface]'") from error

IGNORED = -100
"""The label that the Trainer does not count."""


def compute_loss_func(loss: Loss, *, causal: bool = False) -> Callable[..., Tensor]:
    """The argument ``compute_loss_func`` of `transformers.Trainer` that trains with a loss.

    The Trainer passes the number of labels in the whole step, over all accumulated batches and all processes. The
    sum of the losses is divided by it, so that a step in parts equals a step on one large batch. This needs
    ``average_tokens_across_devices=True``, the Trainer's default. With class weights too the divisor is the number
    of labels, not the sum of their weights, which the Trainer does not know.

    Args:
        loss: a loss of logits or a regression loss.
        causal: whether the model predicts the next token, so that the logits of a position belong to the label of the
            next one. Recent versions of transformers count labels so for their ``...ForCausalLM`` models. For other
            models and versions let the collator set the first label of each row to -100, or it is counted too.

    Returns:
        A function of ``(outputs, labels, num_items_in_batch)``. Labels are class indices (B,), (B, T) or (B, H, W) for
        logits (B, C), (B, T, C) or (B, C, H, W), with -100 for what is ignored; class probabilities of the logits'
        shape; or for regression numbers (B,) or (B, K). It moves the loss to the logits' device, and in evaluation it
        calls the loss in ``eval()``, so that a loss with a schedule is its base.

    Raises:
        ValueError: if the loss cannot be trained with exactly in this way.
    """
    _check(loss)

    def compute(outputs: Any, labels: Tensor | None, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        logits = outputs["logits"] if isinstance(outputs, Mapping) else outputs[0]
        if labels is None:
            raise ValueError("the batch has no 'labels', which a loss needs: name the column of the targets so")
        if causal:
            logits, labels = logits[:, :-1], labels[:, 1:]
        loss.to(logits.device).train(torch.is_grad_enabled())
        # Under DataParallel the count comes once for each device, and the Trainer averages over devices.
        count = None if num_items_in_batch is None else torch.as_tensor(num_items_in_batch).sum()
        if isinstance(loss, RegressionLoss):
            mean: Tensor = loss(logits.view_as(labels), labels.to(logits.dtype))
            return mean if count is None else mean * (labels.numel() / count)
        if not _is_binary(loss):
            logits = _classes_second(logits)
            if labels.is_floating_point():
                labels = _classes_second(labels)
                count = None if count is None else count / logits.size(1)  # the Trainer counts each probability
        value: Tensor = loss(logits, labels, normalizer=count)
        return value

    return compute


class LossCallback(TrainerCallback):
    """Moves a loss's schedule on, and reports to the run of a comparison.

    Args:
        loss: the loss that is trained with.
        run: what a training function was given; ``None`` outside comparisons.
        metric: what to log of each evaluation: the name of a metric that ``compute_metrics`` returns.
    """

    def __init__(self, loss: Loss, run: Reported | None = None, metric: str = "accuracy") -> None:
        self._loss = loss
        self._reporter = Reporter(run, f"eval_{metric.removeprefix('eval_')}")
        self._steps = 0
        self._trains = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Catch up with a training that was resumed from a checkpoint."""
        self._trains = True
        while self._steps < state.global_step:
            self._step()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Count the step, unless mixed precision skipped it."""
        if not getattr(kwargs.get("optimizer"), "step_was_skipped", False):
            self._step()
        if self._reporter.should_stop:
            control.should_training_stop = True

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Log the metric; evaluations after the training are nobody's learning curve."""
        if self._trains:
            self._reporter.log(state.global_step, kwargs["metrics"])
            control.should_training_stop |= self._reporter.should_stop

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note that what is evaluated from now on is not the training's."""
        self._trains = False

    def _step(self) -> None:
        self._loss.step()
        self._steps += 1


def _check(loss: Loss) -> None:
    if not isinstance(loss, LogitLoss | RegressionLoss):
        raise ValueError(f"loss must be one of Lossmith's losses of logits or of numbers, not {type(loss).__name__}")
    for part in loss.modules():
        if isinstance(part, SoftDiceLoss):
            raise ValueError(f"{loss.text} averages over images, and the Trainer counts labels: use another loss")
        if getattr(part, "reduction", "mean") != "mean":
            raise ValueError(f"{loss.text} must have reduction='mean'")
        if getattr(part, "ignore_index", IGNORED) != IGNORED:
            raise ValueError(f"{loss.text} must have ignore_index={IGNORED}, the label that the Trainer does not count")


def _is_binary(loss: Loss) -> bool:
    return any(getattr(part, "task", None) == "binary" for part in loss.modules())


def _classes_second(values: Tensor) -> Tensor:
    """The classes of tokens, last in transformers, in dimension 1."""
    return values.movedim(-1, 1) if values.dim() == 3 else values
