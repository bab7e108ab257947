"""Probes look at a training at given steps and change nothing of it.

A probe sees copies of model and loss, with random numbers of its own. Its text form is ``name`` or ``name:every=N``: it
looks before the first step, after every N steps and after the last; without ``every`` at the quarters of the training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from lossmith.catalog import nearest
from lossmith.data import Splits
from lossmith.losses.text import LossText, parse_loss
from lossmith.tasks import Task
from lossmith.trials.result import Series
from lossmith.trials.seeding import seeded

_STREAM: Final = 5_000_011
"""Added to a trial's seed for the random numbers of its probes."""


class View:
    """What a probe sees of one training.

    Args:
        step: number of steps taken.
        model: copied before a probe sees it.
        loss: likewise.
        splits: what is trained on; not to be changed.
        task: what scores the training.
    """

    def __init__(self, step: int, model: nn.Module, loss: nn.Module, splits: Splits, task: Task) -> None:
        self.step, self.splits, self.task = step, splits, task
        self._model, self._loss = model, loss

    @cached_property
    def model(self) -> nn.Module:
        """A copy of the model."""
        return copy.deepcopy(self._model)

    @cached_property
    def loss(self) -> nn.Module:
        """A copy of the loss."""
        return copy.deepcopy(self._loss)


@dataclass(frozen=True)
class Probe:
    """A kind of probe.

    Attributes:
        look: what is written down of a view, any shape but always the same.
        every: at how many steps; ``None``: at the quarters of the training.
        axis: what the last axis of it stands for, if that is not a mere count.
    """

    look: Callable[[View], NDArray[Any]]
    every: int | None = None
    axis: Callable[[Task], NDArray[np.float64]] | None = None


def _pull(view: View) -> NDArray[np.float64]:
    return view.task.pull(view.loss)


def _parameters(view: View) -> NDArray[np.float32]:
    vector = nn.utils.parameters_to_vector(view.loss.parameters())
    return vector.detach().cpu().numpy()


PROBES: Final[dict[str, Probe]] = {
    "pull": Probe(_pull, axis=lambda task: task.pull_axis),
    "parameters": Probe(_parameters, every=1),
}
"""``pull``: how strongly the loss pulls on predictions, see `Task.pull`. ``parameters``: those of a learned loss."""


class Looking:
    """The probes of one training at work.

    Args:
        texts: of the probes.
        seed: of the trial.
        steps: of the trial.
        splits: what it trains on.
        task: what scores it.
        device: ``"cpu"`` or ``"cuda"``.
    """

    def __init__(self, texts: Sequence[str], seed: int, steps: int, splits: Splits, task: Task, device: str) -> None:
        self.seed, self.splits, self.task, self.device = seed, splits, task, device
        self.due = {text: _due(text, steps) for text in texts}
        self.steps = frozenset().union(*self.due.values())
        self.found: dict[str, list[NDArray[Any]]] = {text: [] for text in texts}

    def look(self, step: int, model: Callable[[], nn.Module], loss: Callable[[], nn.Module]) -> None:
        """Let those probes look whose turn it is.

        Args:
            step: number of steps taken.
            model: returns the model.
            loss: returns the loss.
        """
        for text in (text for text, due in self.due.items() if step in due):
            with seeded(self.seed + _STREAM + step, self.device):
                view = View(step, model(), loss(), self.splits, self.task)
                self.found[text].append(PROBES[parse_loss(text).name].look(view))

    def series(self) -> dict[str, Series]:
        """What was written down, by the text of the probe."""
        made = {}
        for text, found in self.found.items():
            axis = PROBES[parse_loss(text).name].axis
            steps = np.array(sorted(self.due[text]), dtype=np.int64)
            made[text] = Series(steps, np.stack(found), None if axis is None else axis(self.task))
        return made


def canonical_probe(text: str) -> str:
    """The text a trial carries: a known name, ``every`` only if it is not the default.

    Raises:
        ValueError: if there is no such probe or argument; the message is one sentence.
    """
    parsed = parse_loss(text)
    if parsed.name not in PROBES:
        raise ValueError(f"unknown probe {parsed.name!r}: {nearest(parsed.name, PROBES)}")
    every = dict(parsed.arguments).get("every")
    if [name for name, _ in parsed.arguments] not in ([], ["every"]) or parsed.inner is not None:
        raise ValueError(f"probe {parsed.name} has one argument, every: write {parsed.name}:every=25")
    if every is not None and (not isinstance(every, float) or every != int(every) or every < 1):
        raise ValueError(f"every of probe {parsed.name} must be a whole number of at least 1")
    return parsed.name if every in {None, PROBES[parsed.name].every} else str(parsed)


def _due(text: str, steps: int) -> frozenset[int]:
    parsed: LossText = parse_loss(text)
    every = dict(parsed.arguments).get("every", PROBES[parsed.name].every)
    if every is None:
        return frozenset(round(steps * quarter / 4) for quarter in range(5))
    assert isinstance(every, int | float)
    return frozenset({*range(0, steps, int(every)), steps})
