"""Learning a loss before training, on single steps of freshly initialised models."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor, nn

from lossmith.learned.online import OnlineLossLearner, TaskLoss
from lossmith.learned.scale import Scale, cap_on_scale

Batch = tuple[Any, Tensor]

WINDOW: Final = 50
"""Number of steps over which the task loss is averaged for early stopping."""
SCALE_WINDOW: Final = 10
"""Number of steps over which the scale is averaged; it may grow fast."""


@dataclass(frozen=True)
class OfflineLog:
    """The history of `learn_offline`.

    Attributes:
        task_loss: the task loss of each step, after the fresh model's one step with the loss.
        scale: effective scale of the loss on each fresh model; see `StepRecord`.
        stopped: the reason for stopping. ``"done"``: all steps were taken. ``"scale"``: the scale reached its cap.
            ``"stalled"``: the task loss stopped falling.
        kept: number of the step whose loss was kept.
    """

    task_loss: tuple[float, ...]
    scale: tuple[float, ...]
    stopped: Literal["done", "scale", "stalled"]
    kept: int


def learn_offline(
    loss: nn.Module,
    make_model: Callable[[int], nn.Module],
    batches: Iterable[tuple[Batch, Batch]],
    *,
    steps: int = 2500,
    lr: float = 0.1,
    meta_lr: float = 1e-3,
    task_loss: TaskLoss | None = None,
    scale: Scale = "fixed",
    max_scale: float | None = None,
    patience: int = 500,
) -> OfflineLog:
    """Learn a loss such that one step of plain SGD with it, from random weights, gives a low task loss.

    This objective is short-sighted, because the best loss for a single step is a steep one. With ``scale="learned"``
    and no cap, the scale grew a thousandfold over the paper's 2,500 steps, and training with the loss failed.

    Args:
        loss: the loss, whose parameters are changed in place.
        make_model: returns a model with fresh random weights for each number 0, 1, ...; all models have one shape.
        batches: pairs of a batch for the model's step and a meta batch for the loss, as for `OnlineLossLearner`; one
            pair per step, or an endless iterable.
        steps: number of fresh models.
        lr: learning rate of the model's plain SGD step.
        meta_lr: learning rate of Adam for the loss's parameters.
        task_loss: a function of logits and target; ``None`` is cross-entropy.
        scale: with ``"fixed"``, each step scales the loss to its base's gradient norm, so that only its shape is
            learned; with ``"learned"`` the scale is learned too. See `OnlineLossLearner`.
        max_scale: with ``scale="learned"``, stop when the effective scale, averaged over 10 steps, exceeds this;
            ``None`` is 10.
        patience: stop when the task loss, averaged over 50 steps, has not improved for this many steps, and restore the
            loss that had the lowest average.

    Returns:
        The history.

    Source: algorithm 1 of Raymond, Chen, Xue, Zhang, "Online Loss Function Learning", 2023, arXiv 2301.13247, with one
    inner step, which is ML3 (Bechtle et al., 2021, arXiv 1906.05374). Early stopping and the cap are ours.
    """
    model = make_model(0)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr)
    phi = [p for p in loss.parameters() if p.requires_grad]
    cap = cap_on_scale(scale, max_scale)
    learner = OnlineLossLearner(
        model,
        loss,
        optimizer,
        torch.optim.Adam(phi, meta_lr),
        task_loss=task_loss,
        scale=scale,
        max_scale=None if cap is None else math.inf,
    )
    return _learn(loss, learner, make_model, itertools.islice(batches, steps), cap, patience)


def _learn(
    loss: nn.Module,
    learner: OnlineLossLearner,
    make_model: Callable[[int], nn.Module],
    pairs: Iterable[tuple[Batch, Batch]],
    cap: float | None,
    patience: int,
) -> OfflineLog:
    """Take the steps, and stop at the cap or when the task loss has stopped falling."""
    tasks: list[float] = []
    scales: list[float] = []
    lowest, kept, best = float("inf"), 0, copy.deepcopy(loss.state_dict())
    for i, (batch, meta_batch) in enumerate(pairs):
        learner.model.module.load_state_dict(make_model(i).state_dict())
        record = learner.step(batch, meta_batch)
        assert record.task_loss is not None
        tasks.append(float(record.task_loss))
        scales.append(float(record.scale))
        if cap is not None and sum(scales[-SCALE_WINDOW:]) > SCALE_WINDOW * cap:
            return OfflineLog(tuple(tasks), tuple(scales), "scale", len(tasks))
        if len(tasks) < WINDOW:
            continue
        mean = sum(tasks[-WINDOW:]) / WINDOW
        if mean < lowest:
            lowest, kept, best = mean, len(tasks), copy.deepcopy(loss.state_dict())
        if len(tasks) - kept >= patience:
            loss.load_state_dict(best)
            return OfflineLog(tuple(tasks), tuple(scales), "stalled", kept)
    return OfflineLog(tuple(tasks), tuple(scales), "done", len(tasks))
