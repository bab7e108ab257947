"""Lossmith's losses in Lightning; needs ``pip install lossmith[lightning]``.

A `LightningModule` calls the loss in its ``training_step`` as any other; `LossCallback` does the rest.
"""

from __future__ import annotations

from typing import Any

from lossmith.integrations.reporting import Reported, Reporter
from lossmith.losses.loss import Loss

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise ImportError("lightning is not installed: pip install 'lossmith[lightning]'") from error


class LossCallback(Callback):
    """Moves a loss's schedule on after each optimiser step, and reports to the run of a comparison.

    With ``accumulate_grad_batches`` a step has several batches. The schedule is kept in Lightning's checkpoints.

    Args:
        loss: the loss that is trained with.
        run: what a training function was given; ``None`` outside comparisons.
        metric: what to log after each validation: a name that the module logs with ``self.log``.
    """

    def __init__(self, loss: Loss, run: Reported | None = None, metric: str = "val_acc") -> None:
        self._loss = loss
        self._reporter = Reporter(run, metric)
        self._steps = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count where the training begins, which may be a checkpoint."""
        self._steps = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Step if the optimiser did."""
        if trainer.global_step > self._steps:
            self._loss.step()
            self._steps = trainer.global_step
        trainer.should_stop |= self._reporter.should_stop

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the metric of a validation that is part of the training."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._reporter.log(trainer.global_step, trainer.callback_metrics)
            trainer.should_stop |= self._reporter.should_stop

    def state_dict(self) -> dict[str, Any]:
        """The schedule, for a checkpoint."""
        return {"loss": self._loss.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the schedule of a checkpoint."""
        self._loss.load_state_dict(state_dict["loss"])
