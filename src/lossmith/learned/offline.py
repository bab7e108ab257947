"""Learning a loss before the model trains: one step on fresh models, again and again."""

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
"""Steps that the task loss is averaged over, to decide whether to stop."""
SCALE_WINDOW: Final = 10
"""Likewise the scale, which may grow fast."""


@dataclass(frozen=True)
class OfflineLog:
    """What offline learning did.

    Attributes:
        task_loss: of each step, after the fresh model's one step with the loss.
        scale: effective scale of the loss on each fresh model; see `StepRecord`.
        stopped: ``"done"``: all steps were taken; ``"scale"``: the scale reached its cap; ``"stalled"``: the task loss
            did not fall any more.
        kept: the steps after which the loss was as it is now.
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
    """Learn a loss so that one step of plain SGD with it, from random weights, makes the task loss small.

    What is learned is short-sighted: the best loss for one step is a steep one. With ``scale="learned"`` and no cap its
    scale grew a thousandfold over the paper's 2,500 steps, and training with it failed.

    Args:
        loss: its parameters are changed in place.
        make_model: a model with fresh random weights, by number 0, 1, ...; all of one shape.
        batches: pairs of a batch for the model's step and a meta batch for the loss's, as for `OnlineLossLearner`; as
            many as there are steps, or endless.
        steps: how many fresh models.
        lr: of the model's plain SGD step.
        meta_lr: of Adam, for the loss's parameters.
        task_loss: a function of logits and target; ``None`` is cross-entropy.
        scale: ``"fixed"``: at each step the loss is multiplied to have its base's gradient norm, so that its shape
            alone is learned; ``"learned"``: its scale too. See `OnlineLossLearner`.
        max_scale: with ``scale="learned"``, stop once the effective scale, averaged over 10 steps, is above; ``None``
            is 10.
        patience: stop once the task loss, averaged over 50 steps, has not been lower for so many; the loss goes back to
            where it was lowest.

    Returns:
        The course it took.

    Source: algorithm 1 of Raymond, Chen, Xue, Zhang, "Online Loss Function Learning", 2023, arXiv 2301.13247, with one
    inner step, which is ML3 (Bechtle et al., 2021, arXiv 1906.05374); stopping early and the cap are ours.
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
    tasks: list[float] = []
    scales: list[float] = []
    lowest, kept, best = float("inf"), 0, copy.deepcopy(loss.state_dict())
    for i, (batch, meta_batch) in enumerate(itertools.islice(batches, steps)):
        model.load_state_dict(make_model(i).state_dict())
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
