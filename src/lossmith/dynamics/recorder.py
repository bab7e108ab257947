"""A callback that takes measurements in any training loop."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lossmith.autodiff.objective import Batch, LossFunction
from lossmith.dynamics.measurements import MEASUREMENTS, Moment


class Recorder:
    """Measures sharpness, tangent kernel and margins while a model trains, in any training loop.

    >>> recorder = lossmith.dynamics.Recorder(model, loss, (inputs, targets), optimizer, every=25)
    >>> for inputs, targets in loader:
    ...     optimizer.zero_grad()
    ...     loss(model(inputs), targets).backward()
    ...     optimizer.step()
    ...     recorder.step()
    >>> recorder.series["sharpness"]  # shape (looks, 2): sharpness and threshold

    The model is measured in evaluation mode and the loss as it is. Weights, buffers, gradients, modes and random state
    stay as they are.

    Args:
        model: the model that is trained.
        loss: returns the mean loss of a batch.
        data: the batch ``(inputs, targets)`` that all is measured on.
        optimizer: what trains the model, for the threshold of its sharpness and Adam's preconditioner; ``None``:
            neither is known.
        probes: names, of ``"sharpness"``, ``"ntk"`` and ``"margin"``.
        every: it measures before the first step and after every so many.

    Attributes:
        steps: numbers of steps taken at each look.
        seconds: spent on measuring.

    Raises:
        ValueError: if a probe is not known, the data are not one batch, or the optimiser has no known threshold.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        data: Batch,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        probes: str | Sequence[str] = ("sharpness",),
        every: int = 25,
    ) -> None:
        probes = (probes,) if isinstance(probes, str) else probes
        unknown = [name for name in probes if name not in MEASUREMENTS]
        if unknown:
            raise ValueError(f"unknown probe {unknown[0]!r}: choose of {', '.join(MEASUREMENTS)}")
        if not isinstance(every, int) or every < 1:
            raise ValueError(f"every is {every}: give a whole number of at least 1")
        if not isinstance(data, tuple | list) or len(data) != 2 or not isinstance(data[1], Tensor):
            raise ValueError("data is not a batch: give (inputs, targets)")
        self.model, self.loss, self.data, self.optimizer = model, loss, data, optimizer
        self.every, self.taken = every, 0
        self.steps: list[int] = []
        self.seconds = 0.0
        self._found: dict[str, list[tuple[float, ...]]] = {name: [] for name in probes}
        self._look()

    @property
    def series(self) -> dict[str, NDArray[np.float64]]:
        """What was measured, by probe: a row for each look, with the columns in ``MEASUREMENTS[probe].columns``."""
        return {name: np.array(rows) for name, rows in self._found.items()}

    def step(self) -> None:
        """Count a step of the optimiser, and measure if it is time."""
        self.taken += 1
        if self.taken % self.every == 0:
            self._look()

    def _look(self) -> None:
        began = time.perf_counter()
        moment = Moment(self.model, self.loss, *self.data, self.optimizer)
        with _evaluated(self.model):
            for name, found in self._found.items():
                found.append(MEASUREMENTS[name].take(moment))
        self.steps.append(self.taken)
        self.seconds += time.perf_counter() - began


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode for a while, and the global random state of the device as it was."""
    modes: dict[nn.Module, bool] = {module: module.training for module in model.modules()}
    devices = {value.device for value in model.parameters() if value.is_cuda}
    with torch.random.fork_rng(devices), torch.enable_grad():
        try:
            model.eval()
            yield
        finally:
            for module, training in modes.items():
                module.training = training
