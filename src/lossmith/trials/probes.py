"""Probes look at a training at given steps and change nothing of it.

A probe sees copies of model, loss and optimiser, with random numbers of its own. Its text form is ``name`` or
``name:every=N``: it looks before the first step, after every N steps and after the last; without ``every`` at the
quarters of the training. ``sharpness``, ``ntk`` and ``margin`` also take ``rows=N``, the number of training examples
that they look at. ``instability`` keeps the loss of every step.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lossmith.catalog import nearest
from lossmith.data import Splits
from lossmith.dynamics.measurements import MEASUREMENTS, Measurement, Moment
from lossmith.losses.text import LossText, Value, parse_loss
from lossmith.tasks import Task
from lossmith.trials.optimizers import schedule_factor
from lossmith.trials.result import Series
from lossmith.trials.seeding import seeded
from lossmith.trials.trial import Trial

_STREAM: Final = 5_000_011
"""Added to a trial's seed for the random numbers of its probes."""

INSTABILITY: Final = "instability"
"""The probe that keeps the loss of every step."""


class View:
    """What a probe sees of one training.

    Args:
        step: number of steps taken.
        model: returns the model, which is copied before a probe sees it.
        loss: returns the loss; likewise.
        optimizer: returns a copy of the optimiser, for a copy of the model.
        lr: the learning rate of the next step; after the last step, of that.
        splits: what is trained on; not to be changed.
        task: what scores the training.
    """

    def __init__(
        self,
        step: int,
        model: Callable[[], nn.Module],
        loss: Callable[[], nn.Module],
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        lr: float,
        splits: Splits,
        task: Task,
    ) -> None:
        self.step, self.splits, self.task = step, splits, task
        self._model, self._loss, self._optimizer, self._lr = model, loss, optimizer, lr

    @cached_property
    def model(self) -> nn.Module:
        """A copy of the model."""
        return copy.deepcopy(self._model())

    @cached_property
    def loss(self) -> nn.Module:
        """A copy of the loss."""
        return copy.deepcopy(self._loss())

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """A copy of the optimiser, which trains the copy of the model."""
        optimizer = self._optimizer(self.model)
        for group in optimizer.param_groups:
            group["lr"] = self._lr
        return optimizer

    def batch(self, rows: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of so many training examples, at most all; they are spread evenly."""
        train = self.splits.train
        count = min(rows, len(train))
        return train.batch(torch.arange(count, device=train.targets.device) * len(train) // count)


@dataclass(frozen=True)
class Probe:
    """A kind of probe.

    Attributes:
        look: what is written down of a view, any shape but always the same; ``None``: it does not look.
        every: at how many steps; ``None``: at the quarters of the training.
        axis: what the last axis of it stands for, if that is not a mere count.
        rows: the number of examples that ``look`` is given as its second argument; ``None``: it takes none.
    """

    look: Callable[..., NDArray[Any]] | None
    every: int | None = None
    axis: Callable[[Task], NDArray[np.float64]] | None = None
    rows: int | None = None

    @property
    def arguments(self) -> dict[str, int | None]:
        """The arguments of its text form with their defaults."""
        if self.look is None:
            return {}
        return {"every": self.every} | ({} if self.rows is None else {"rows": self.rows})


def _pull(view: View) -> NDArray[np.float64]:
    return view.task.pull(view.loss)


def _parameters(view: View) -> NDArray[np.float32]:
    vector = nn.utils.parameters_to_vector(view.loss.parameters())
    return vector.detach().cpu().numpy()


def _measured(measurement: Measurement, view: View, rows: int) -> NDArray[np.float64]:
    """A measurement of `lossmith.dynamics` on the model in evaluation mode."""
    return np.array(measurement.take(Moment(view.model.eval(), view.loss, *view.batch(rows), view.optimizer)))


PROBES: Final[dict[str, Probe]] = {
    "pull": Probe(_pull, axis=lambda task: task.pull_axis),
    "parameters": Probe(_parameters, every=1),
    INSTABILITY: Probe(None),
} | {name: Probe(functools.partial(_measured, of), rows=of.rows) for name, of in MEASUREMENTS.items()}
"""``pull``: how strongly the loss pulls on predictions, see `Task.pull`. ``parameters``: those of a learned loss.
``instability``: the loss of every step, on its batch. The others: see `lossmith.dynamics.measurements`."""


class Looking:
    """The probes of one training at work.

    Args:
        trial: the training.
        splits: what it trains on.
        task: what scores it.
        device: ``"cpu"`` or ``"cuda"``.

    Attributes:
        steps: after how many steps a probe looks.
        seconds: spent on looking.
    """

    def __init__(self, trial: Trial, splits: Splits, task: Task, device: str) -> None:
        self.trial, self.splits, self.task, self.device = trial, splits, task, device
        due = {text: due_steps(text, trial.steps) for text in trial.probes}
        self.due = {text: steps for text, steps in due.items() if steps}
        self.steps = frozenset().union(*self.due.values())
        self.found: dict[str, list[NDArray[Any]]] = {text: [] for text in self.due}
        self.losses: list[Tensor] | None = [] if INSTABILITY in trial.probes else None
        self.seconds = 0.0

    def keep(self, loss: Tensor) -> None:
        """Keep the loss of a step, a scalar."""
        assert self.losses is not None, "only the probe of losses keeps them"
        self.losses.append(loss)

    def look(
        self,
        step: int,
        model: Callable[[], nn.Module],
        loss: Callable[[], nn.Module],
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    ) -> None:
        """Let those probes look whose turn it is; arguments as `View`."""
        began, spec, steps = time.perf_counter(), self.trial.optimizer, self.trial.steps
        lr = spec.lr * schedule_factor(spec, min(step, steps - 1), steps)
        for text in (text for text, due in self.due.items() if step in due):
            view = View(step, model, loss, optimizer, lr, self.splits, self.task)
            with seeded(self.trial.seed + _STREAM + step, self.device):
                self.found[text].append(_looked(text, view))
        self.seconds += time.perf_counter() - began

    def series(self) -> dict[str, Series]:
        """What was written down, by the text of the probe."""
        made = {}
        for text, found in self.found.items():
            axis = _probe(text).axis
            steps = np.array(sorted(self.due[text]), dtype=np.int64)
            made[text] = Series(steps, np.stack(found), None if axis is None else axis(self.task))
        if self.losses is not None:
            losses = torch.stack(self.losses).cpu().numpy()
            made[INSTABILITY] = Series(np.arange(len(losses)), losses)
        return made


def canonical_probe(text: str, every: int | None = None) -> str:
    """The text a trial carries: a known name, and arguments only where they differ from the defaults.

    Args:
        text: of the probe.
        every: for a probe that looks and does not say how often.

    Raises:
        ValueError: if there is no such probe or argument; the message is one sentence.
    """
    parsed = parse_loss(text)
    if parsed.name not in PROBES:
        raise ValueError(f"unknown probe {parsed.name!r}: {nearest(parsed.name, PROBES)}")
    known = PROBES[parsed.name].arguments
    given: dict[str, Value] = dict(parsed.arguments)
    if set(given) - set(known) or parsed.inner is not None:
        raise ValueError(f"probe {parsed.name} takes {' and '.join(known) or 'no argument'}, and nothing else")
    if "every" in known and every is not None:
        given.setdefault("every", float(every))
    for name, value in given.items():
        if not isinstance(value, float) or value != int(value) or value < 1:
            raise ValueError(f"{name} of probe {parsed.name} must be a whole number of at least 1")
    kept = tuple(sorted((name, value) for name, value in given.items() if value != known[name]))
    return str(LossText(parsed.name, None, kept))


def check_probes(texts: Sequence[str], task: Task) -> None:
    """Refuse probes that a task has no use for, or of one kind twice.

    Raises:
        ValueError: if there is one; the message is one sentence.
    """
    names = [parse_loss(text).name for text in texts]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"the probe {twice} is named twice: name it once")
    for name, fits in (("margin", task.name == "classification"), ("ntk", task.name != "segmentation")):
        if name in names and not fits:
            raise ValueError(f"the probe {name} is not for {task.name}: leave it out")


def _looked(text: str, view: View) -> NDArray[Any]:
    """What a probe writes down of a view."""
    look, rows = _probe(text).look, _arguments(text).get("rows")
    assert look is not None
    try:
        return look(view) if rows is None else look(view, rows)
    except NotImplementedError as error:
        raise ValueError(
            f"the probe {text} needs second derivatives, which the model lacks ({error}): leave it out"
        ) from None


def _probe(text: str) -> Probe:
    return PROBES[parse_loss(text).name]


def _arguments(text: str) -> dict[str, int | None]:
    """The arguments of a canonical text."""
    given = {name: int(value) for name, value in parse_loss(text).arguments if isinstance(value, float)}
    return _probe(text).arguments | given


def due_steps(text: str, steps: int) -> frozenset[int]:
    """After how many steps a probe looks, in a training of so many; none for `INSTABILITY`."""
    if _probe(text).look is None:
        return frozenset()
    every = _arguments(text)["every"]
    if every is None:
        return frozenset(round(steps * quarter / 4) for quarter in range(5))
    return frozenset({*range(0, steps, every), steps})
