"""The trainings of a search: as cheap as they can be, many losses at once, judged by cross-entropy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch

from lossmith.data import Splits
from lossmith.formulas import parse
from lossmith.losses.text import parse_loss
from lossmith.tasks import Judged, Task
from lossmith.tasks.calibration import class_weights, cross_entropies
from lossmith.trials.batches import StackBatches
from lossmith.trials.result import Curve, TrialResult
from lossmith.trials.stacks import Models
from lossmith.trials.state import make_models
from lossmith.trials.steppers import PlainStepper
from lossmith.trials.tables import SlopeTables
from lossmith.trials.trial import SearchTrainer, Sources, Trial

_MOMENTS: Final = 20
"""How often formulas with t are tabulated in a training."""
_MOST_NATS: Final = float(np.finfo(np.float16).max)


def train_candidates(
    trials: Sequence[Trial],
    splits: Splits,
    task: Task,
    sources: Sources,
    device: str = "cpu",
    time_limit: float | None = None,
) -> list[TrialResult]:
    """Train one trial, or alike stacked ones, whose trainer is a `SearchTrainer`.

    Args:
        trials: what to train; the losses of those by table are formulas.
        splits: what they are trained on.
        task: a classification.
        sources: where to find a model's file.
        device: ``"cpu"`` or ``"cuda"``.
        time_limit: seconds that each may take on average; ``None`` for no limit.

    Returns:
        The results; ``nll`` is the one score, and the units of the validation part are kept.

    Raises:
        TimeoutError: if it takes too long.
    """
    began = time.perf_counter()
    trainer, steps = trials[0].trainer, trials[0].steps
    assert isinstance(trainer, SearchTrainer)
    models = make_models(trials, splits, task, sources, device)
    kind = _TableStepper if trainer.tabulated else PlainStepper
    stepper = kind(trials, models, splits, task, device)
    for step in range(steps):
        if time_limit is not None and time.perf_counter() - began > time_limit * len(trials):
            raise TimeoutError(f"it took longer than {time_limit:g} seconds")
        stepper.step(step)
    logits = torch.cat(list(models.predict(splits.valid.inputs)), 1).float().cpu().numpy()
    label, index = (values.cpu().numpy() for values in (splits.valid.targets, splits.valid.index))
    weights = class_weights(label) if trainer.balanced else np.ones(len(label))
    seconds = (time.perf_counter() - began) / len(trials)
    results = []
    for of in logits:
        nll, temperature = cross_entropies(of, label, weights, scaled=trainer.scaled)
        mean = float(nll.mean())
        results.append(
            TrialResult(
                curve=Curve((steps,), {}, {"nll": (mean,)}),
                scores={"nll": mean},
                columns={},
                fitted={"temperature": temperature},
                gradient_ratio=np.nan,
                extended_share=0.0,
                diverged=not np.isfinite(of).all(),
                notes=(),
                seconds=seconds,
                # Three digits do for standard errors and keep the ledger small; the score itself is exact.
                valid=Judged(index, -np.minimum(nll, _MOST_NATS).astype(np.float16).astype(np.float64)),
            )
        )
    return results


class _TableStepper:
    """Steps of models with formulas as losses, by a table of their slopes; arguments as `PlainStepper`."""

    def __init__(self, trials: Sequence[Trial], models: Models, splits: Splits, task: Task, device: str) -> None:
        self.models, self.splits, self.steps = models, splits, trials[0].steps
        self.batches = StackBatches(trials, splits, models.row_multiple, device)
        formulas = [parse(parse_loss(trial.loss).inner or "") for trial in trials]
        self.tables = SlopeTables(formulas, task.outputs, device)

    def step(self, step: int) -> None:
        """Take step number ``step``."""
        if step % max(1, self.steps // _MOMENTS) == 0:
            self.tables.set_progress(step / self.steps)
        rows, size = self.batches.draw()
        inputs, targets = self.splits.train.batch(rows)
        outputs = self.models.logits(inputs)
        gradient = self.tables.gradient(outputs.detach(), targets) / size
        gradient[:, size:] = 0
        self.models.backward((outputs * gradient).sum())
        self.models.update(step, self.steps)
