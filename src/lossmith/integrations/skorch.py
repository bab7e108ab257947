"""Lossmith's losses in skorch; needs ``pip install lossmith[skorch]``.

A loss is skorch's ``criterion`` as it is. For classes, skorch must be told that the model gives logits:
``predict_nonlinearity=torch.nn.Softmax(dim=1)``.
"""

from __future__ import annotations

from typing import Any

from lossmith.integrations.reporting import Reported, Reporter

try:
    from skorch import NeuralNet
    from skorch.callbacks import Callback
except ImportError as error:
    raise ImportError("skorch is not installed: pip install 'lossmith[skorch]'") from error


class LossCallback(Callback):
    """Moves the schedule of a net's criterion on after each optimiser step, and reports to the run of a comparison.

    With a run, training ends after ``run.steps`` steps, whatever ``max_epochs`` is.

    Args:
        run: what a training function was given; ``None`` outside comparisons.
        metric: what to log after each epoch: a column of the net's history.
    """

    def __init__(self, run: Reported | None = None, metric: str = "valid_acc") -> None:
        self.run = run
        self.metric = metric

    def initialize(self) -> LossCallback:
        """Begin anew."""
        self.steps_ = 0
        self.reporter_ = Reporter(self.run, self.metric)
        return self

    def on_batch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Step after a batch of the training."""
        if not kwargs["training"]:
            return
        net.criterion_.step()
        self.steps_ += 1
        if self.run is not None and (self.steps_ >= self.run.steps or self.reporter_.should_stop):
            raise KeyboardInterrupt  # how skorch's callbacks end a training

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Log the metric of the validation part."""
        self.reporter_.log(self.steps_, net.history[-1])
