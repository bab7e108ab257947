"""What all training loops report to a run: the score of the validation part, once for each step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Reported(Protocol):
    """The part of `lossmith.trials.function.Run` that callbacks use."""

    steps: int

    @property
    def should_stop(self) -> bool:
        """Whether to go on training is pointless."""

    def log(self, step: int, score: float) -> None:
        """Log a point of the learning curve."""


class Reporter:
    """Logs the metric of a validation to a run, and knows when to stop.

    Args:
        run: what the training function was given; ``None``: nothing is reported.
        metric: the name of a metric of the validation part. A name that ends in ``loss`` is logged with its sign
            changed, because a run's score is higher where it is better.
    """

    def __init__(self, run: Reported | None, metric: str) -> None:
        self.run = run
        self.metric = metric
        self.logged = 0

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Log the metric, unless it has been logged at this step.

        Raises:
            ValueError: if it is not among the metrics.
        """
        if self.run is None or step <= self.logged:
            return
        if self.metric not in metrics:
            known = ", ".join(map(str, metrics)) or "none"
            raise ValueError(f"there is no metric {self.metric!r} to log: name one of those measured ({known})")
        value = float(metrics[self.metric])
        self.run.log(step, -value if self.metric.endswith("loss") else value)
        self.logged = step

    @property
    def should_stop(self) -> bool:
        """Whether the run asks for an end."""
        return self.run is not None and self.run.should_stop
