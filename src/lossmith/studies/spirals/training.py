"""Gradient descent on many small networks side by side, and what is measured on the way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lossmith.dynamics import eigenvalues
from lossmith.studies.bench import Result
from lossmith.studies.spirals.problem import (
    CLASSES,
    PER_CLASS,
    SAMPLES,
    Run,
    class_weights,
    first_weights,
    held_out,
    rates,
    spirals,
)

Arrays = dict[str, NDArray[np.float64]]

POINTS: Final = 100
"""Points of the learning curve of a run that is not watched."""
INNER: Final = 50
"""The first samples, of which the authors' notebook takes the tangent kernel."""
_TOLERANCE: Final = 3e-3
"""Of the sharpness, relative."""
_LABELS: Final = torch.arange(CLASSES).repeat_interleave(PER_CLASS)
_ONE_HOT: Final = nn.functional.one_hot(_LABELS).T.double()


@dataclass(frozen=True)
class Job:
    """Runs of one width, number of updates, loss and bias, trained side by side.

    Args:
        runs: the runs.
        every: the sharpness is measured each so many updates, and the loss of every update is kept; 0: neither.
        kernel: the tangent kernel of all samples is measured each so many updates.
    """

    runs: tuple[Run, ...]
    every: int = 0
    kernel: int = 0


@dataclass(frozen=True)
class Branch:
    """Runs that go on from one state.

    Args:
        start: the run that leads to the state.
        updates: how many of its updates.
        runs: runs that begin with its weights, of its width and loss.
    """

    start: Run
    updates: int
    runs: tuple[Run, ...]


class Stack:
    """The networks of some runs.

    The runs agree in width, updates, loss and bias. The gradients are written out, with no graph: a stack does so many
    small updates that the bookkeeping would take most of the time.

    Args:
        runs: the runs.
        weights: before the first update, as `first_weights` and each with the runs in front; ``None``: each run's own.
    """

    def __init__(self, runs: Sequence[Run], weights: tuple[Tensor, Tensor, Tensor] | None = None) -> None:
        self.runs, run = tuple(runs), runs[0]
        assert all((r.width, r.updates, r.loss, r.bias) == (run.width, run.updates, run.loss, run.bias) for r in runs)
        self.weights = weights or tuple(torch.stack(parts) for parts in zip(*map(first_weights, runs), strict=True))
        self.velocity = tuple(torch.zeros_like(part) for part in self.weights)
        self.points = torch.stack([spirals(r.draw) for r in runs])
        if not run.bias:
            self.points[:, 2] = 0
        gamma = torch.stack([class_weights(r) for r in runs], 1)  # (updates, runs, classes)
        at_units = run.loss == "units_squared"
        self.scale = (gamma[:, :, :, None, None] if at_units else gamma[:, :, None, :, None]) / SAMPLES
        self.rates = torch.stack([rates(r) for r in runs], 1)[:, :, None, None]
        self.momentum = torch.tensor([r.momentum for r in runs], dtype=torch.float64)[:, None, None]
        self._hidden = self.points.new_empty(len(runs), run.width, SAMPLES)
        self._back = torch.empty_like(self._hidden)

    def outputs(self, points: Tensor) -> Tensor:
        """The outputs for points of each run, shape (runs, classes, samples)."""
        first, second, bias = self.weights
        torch.bmm(first, points, out=self._hidden).clamp_min_(0)
        return torch.baddbmm(bias, second, self._hidden)

    def update(self, number: int) -> None:
        """Do an update."""
        slope = self._slope(self.outputs(self.points), number)
        torch.bmm(self.weights[1].mT, slope, out=self._back)
        torch.ops.aten.threshold_backward.grad_input(self._back, self._hidden, 0, grad_input=self._back)
        gradients = (
            torch.bmm(self._back, self.points.mT),
            torch.bmm(slope, self._hidden.mT),
            slope.sum(2, keepdim=True) * self.points[:, 2:, :1],
        )
        for part, velocity, gradient in zip(self.weights, self.velocity, gradients, strict=True):
            velocity.mul_(self.momentum).add_(gradient)
            part.addcmul_(velocity, self.rates[number], value=-1)

    def _slope(self, outputs: Tensor, number: int) -> Tensor:
        """The derivatives of each run's mean loss by the outputs."""
        if self.runs[0].loss == "cross_entropy":
            slope = torch.softmax(outputs, 1).sub_(_ONE_HOT)
        else:
            slope = (outputs - _ONE_HOT).mul_(2)
        self._by_class(slope).mul_(self.scale[number])
        return slope

    def losses(self, number: int) -> Tensor:
        """The mean weighted loss of each run before an update, shape (runs,)."""
        return self._losses(self.scale[number])

    def plain_losses(self) -> Tensor:
        """The mean unweighted loss of each run, shape (runs,)."""
        return self._losses(torch.tensor(1 / SAMPLES, dtype=torch.float64))

    def _losses(self, scale: Tensor) -> Tensor:
        outputs = self.outputs(self.points)
        if self.runs[0].loss == "cross_entropy":
            each = torch.log_softmax(outputs, 1).mul_(-_ONE_HOT)
        else:
            each = (outputs - _ONE_HOT).square_()
        return self._by_class(each).mul_(scale).sum((1, 2, 3))

    @staticmethod
    def _by_class(values: Tensor) -> Tensor:
        """Values for each output and sample, with the samples of each class apart."""
        return values.view(-1, CLASSES, CLASSES, PER_CLASS)

    def accuracy(self, points: Tensor) -> Tensor:
        """The share of points whose own output is the largest, shape (runs,)."""
        return (self.outputs(points).argmax(1) == _LABELS).double().mean(1)

    def sharpness(self, run: int, number: int) -> float:
        """The largest eigenvalue of the Hessian of a run's weighted loss at an update."""
        return float(eigenvalues(Curvature(self, run, number), tol=_TOLERANCE).values[0])

    def kernel(self, number: int, samples: int) -> float:
        """The largest eigenvalue of the tangent kernel of the first samples, a mean over the outputs.

        With masks m of the hidden units h it is
        ``h . h' + 1 + (x . x' + 1) sum_j m_j m'_j sum_c W_cj^2 / C``.
        """
        first, second, _ = (part[number] for part in self.weights)
        points = self.points[number, :, :samples]
        before = first @ points
        hidden, mask = before.clamp_min(0), (before > 0).double()
        between = (mask.T * second.square().mean(0)) @ mask
        return float(torch.linalg.eigvalsh(hidden.T @ hidden + 1 + (points.T @ points) * between)[-1])


class Curvature:
    """The Hessian of a run's weighted cross-entropy, as an operator on the weights in the order of `Stack.weights`.

    Its products are the forward derivatives of the written-out gradients. They are as exact as those of
    `lossmith.dynamics.Hessian`, and take a fraction of its time on so small a network.

    Args:
        stack: the networks.
        run: which.
        number: of the update, whose weights Gamma count.
    """

    dtype, device = torch.float64, torch.device("cpu")

    def __init__(self, stack: Stack, run: int, number: int) -> None:
        assert stack.runs[0].loss == "cross_entropy"
        first, self.second, bias = (part[run] for part in stack.weights)
        self.points = stack.points[run]
        self.hidden = (first @ self.points).clamp_min_(0)
        self.chances = torch.softmax(self.second @ self.hidden + bias, 0)
        self.scale = stack.scale[number, run].expand(1, CLASSES, PER_CLASS).reshape(1, SAMPLES)
        self.slope = (self.chances - _ONE_HOT) * self.scale
        self.parts = [part[run].shape for part in stack.weights]
        self.size = sum(shape.numel() for shape in self.parts)

    def matvec(self, vector: Tensor) -> Tensor:
        """The product with a vector, both of shape (`size`,)."""
        pieces = vector.split([shape.numel() for shape in self.parts])
        first, second, bias = (piece.view(shape) for piece, shape in zip(pieces, self.parts, strict=True))
        hidden = self._masked(first @ self.points)
        change = self.chances * torch.addmm(second @ self.hidden + bias, self.second, hidden)
        slope = (change - self.chances * change.sum(0)) * self.scale
        back = self._masked(torch.cat([self.second, second]).T @ torch.cat([slope, self.slope]))
        gradients = back @ self.points.T, slope @ self.hidden.T + self.slope @ hidden.T, slope.sum(1)
        return torch.cat([gradient.reshape(-1) for gradient in gradients])

    def _masked(self, values: Tensor) -> Tensor:
        masked: Tensor = torch.ops.aten.threshold_backward(values, self.hidden, 0)
        return masked


def work(job: Job) -> Result:
    """Train the runs of a job.

    Returns:
        Per run ``accuracy``, ``valid`` (the accuracy on held-out points), ``loss`` (the mean unweighted loss), and
        ``kernel`` (of the first samples) at the end; ``curve``, the accuracy at the updates ``at``; and if the job is
        watched ``losses`` (of every update), ``sharpness`` and ``inner`` (the kernel of the first samples) at the
        updates ``at``, and ``all``, the kernel of all samples at the updates ``all_at``.
    """
    stack, updates = Stack(job.runs), job.runs[0].updates
    number = range(len(job.runs))
    stride = job.every or max(updates // POINTS, 1)
    at, all_at = range(0, updates, stride), range(0, updates, job.kernel or updates)
    losses = np.zeros((len(job.runs), updates if job.every else 0), np.float32)
    curve, sharp, inner, kernel = [], [], [], []
    for update in range(updates):
        if update % stride == 0:
            curve.append(stack.accuracy(stack.points).numpy())
            if job.every:
                sharp.append([stack.sharpness(i, update) for i in number])
                inner.append([stack.kernel(i, INNER) for i in number])
        if job.kernel and update % job.kernel == 0:
            kernel.append([stack.kernel(i, SAMPLES) for i in number])
        if job.every:
            losses[:, update] = stack.losses(update).numpy()
        stack.update(update)
    result = _at_the_end(stack) | {"at": np.array(at), "curve": np.array(curve).T}
    if job.every:
        watched = {"losses": losses, "sharpness": np.array(sharp).T, "inner": np.array(inner).T}
        result |= watched | {"all": np.array(kernel).T, "all_at": np.array(all_at)}
    return result


def time_work(job: Job) -> Result:
    """Measure the processor time of `work`, in ``seconds``."""
    begun = time.process_time()
    work(job)
    return {"seconds": np.array(time.process_time() - begun)}


def branch(job: Branch) -> Result:
    """Train from one state in several ways.

    Returns:
        ``losses``, the weighted loss before every update of each run.
    """
    stack = Stack([job.start])
    for update in range(job.updates):
        stack.update(update)
    first, second, bias = (part.expand(len(job.runs), -1, -1).clone() for part in stack.weights)
    stack = Stack(job.runs, (first, second, bias))
    losses = []
    for update in range(job.runs[0].updates):
        losses.append(stack.losses(update).numpy())
        stack.update(update)
    return {"losses": np.array(losses).T}


def _at_the_end(stack: Stack) -> Arrays:
    valid = torch.stack([held_out(run.draw) for run in stack.runs])
    if not stack.runs[0].bias:
        valid[:, 2] = 0
    return {
        "accuracy": stack.accuracy(stack.points).numpy(),
        "valid": stack.accuracy(valid).numpy(),
        "loss": stack.plain_losses().numpy(),
        "kernel": np.array([stack.kernel(i, INNER) for i in range(len(stack.runs))]),
    }
