"""The loss around a model's weights, and between the weights of two models."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn

from lossmith.autodiff.model_function import ModelFunction, flat
from lossmith.autodiff.objective import Batch, LossFunction, Objective

POSITIONS: Final = tuple(k / 10 for k in range(-10, 11))
"""From -1 to 1 in steps of 0.1."""


@dataclass(frozen=True, eq=False)
class Slice:
    """The loss on a line or a plane through a model's weights.

    Attributes:
        positions: along each direction, shape (n,); the model is at 0.
        losses: shape (n,) for a line; (n, n) for a plane, with the first direction along the rows.
        directions: what a step of 1 adds to the parameters that require a gradient, shape (1 or 2, size).
    """

    positions: Tensor
    losses: Tensor
    directions: Tensor


@dataclass(frozen=True, eq=False)
class Interpolation:
    """The loss on the straight line between two models.

    Attributes:
        positions: from 0, the first model, to 1, the second, shape (n,).
        losses: at each, shape (n,).
        barrier: how far the loss rises above the line between its ends at most; 0 if it does nowhere.
    """

    positions: Tensor
    losses: Tensor
    barrier: float


@dataclass(frozen=True)
class Flatness:
    """How much the loss rises if the weights are perturbed; the smaller, the flatter.

    Attributes:
        rise: mean of the perturbed loss minus the loss.
        error: its standard error, by the random perturbations.
        radius: norm of the perturbation of each filter, relative to that of the filter.
    """

    rise: float
    error: float
    radius: float


def loss_slice(
    model: nn.Module,
    loss: LossFunction,
    data: Batch | Iterable[Batch],
    *,
    dimensions: Literal[1, 2] = 1,
    positions: Sequence[float] = POSITIONS,
    seed: int = 0,
) -> Slice:
    """Compute the loss on a line or a plane of filter-normalised random directions through the weights.

    A direction is drawn from a normal distribution. Each of its filters, that is each slice of a parameter along its
    first dimension (the weights into one unit or channel), is then scaled to the norm of the model's filter. Parameters
    of one dimension, which are biases and the scales of normalisation layers, stay as they are. Where batch norm makes
    the length of filters irrelevant, networks that differ in it thus have the same slices.

    Source: Li, Xu, Taylor, Studer and Goldstein, "Visualizing the Loss Landscape of Neural Nets", 2018,
    arXiv 1712.09913.

    Args:
        model: the model; it is called in the mode it is in, and stays as it is.
        loss: returns the mean loss of a batch.
        data: a batch ``(inputs, targets)``, or an iterable of batches that gives the same ones each time.
        dimensions: 1 for a line, 2 for a plane.
        positions: along each direction, in lengths of the filters.
        seed: of the directions; the line is the plane's first direction.

    Returns:
        The losses.

    Raises:
        ValueError: as `Objective`; if there are no positions, or ``dimensions`` is neither 1 nor 2.
    """
    if dimensions not in {1, 2}:
        raise ValueError(f"dimensions is {dimensions}: give 1 for a line or 2 for a plane")
    if not len(positions):
        raise ValueError("there are no positions: give numbers such as -1, 0 and 1")
    objective = Objective(model, loss, data)
    generator = torch.Generator(objective.function.device).manual_seed(seed)
    directions = [_direction(objective.function, generator) for _ in range(dimensions)]
    places = itertools.product(positions, repeat=dimensions)
    losses = [objective.value(_moved(objective.function, directions, steps)) for steps in places]
    return Slice(
        torch.tensor(list(positions), dtype=torch.float64),
        torch.tensor(losses, dtype=torch.float64).reshape([len(positions)] * dimensions),
        torch.stack([flat(direction.values()) for direction in directions]),
    )


def interpolate(
    first: nn.Module, second: nn.Module, loss: LossFunction, data: Batch | Iterable[Batch], *, points: int = 21
) -> Interpolation:
    """Compute the loss on the straight line between the weights of two models of one architecture.

    Buffers of floating-point numbers, such as the statistics of batch norm, are interpolated with the weights; others
    are those of the nearer model. The barrier is ``max_t L(t) - (1 - t) L(0) - t L(1)``.

    Source: Entezari, Sedghi, Saukh and Neyshabur, "The Role of Permutation Invariance in Linear Mode Connectivity of
    Neural Networks", 2021, arXiv 2110.06296.

    Args:
        first: the model at 0; it is called in the mode it is in, and stays as it is.
        second: the model at 1; it is not called.
        loss: returns the mean loss of a batch.
        data: a batch ``(inputs, targets)``, or an iterable of batches that gives the same ones each time.
        points: number of equally spaced points, both ends among them.

    Returns:
        The losses and the barrier.

    Raises:
        ValueError: as `Objective`; if the models differ in their parameters or buffers, or ``points`` is below 2.
    """
    if points < 2:
        raise ValueError(f"points is {points}: give at least 2, for the two ends")
    start, end = (dict(model.named_parameters()) | dict(model.named_buffers()) for model in (first, second))
    _require_one_architecture(start, end)
    objective = Objective(first, loss, data)
    positions = torch.linspace(0, 1, points, dtype=torch.float64)
    losses = torch.tensor([objective.value(_between(start, end, t)) for t in positions.tolist()], dtype=torch.float64)
    above = losses - torch.lerp(losses[0], losses[-1], positions)
    return Interpolation(positions, losses, float(above[1:-1].max().clamp_min(0)) if points > 2 else 0.0)


def flatness(
    model: nn.Module,
    loss: LossFunction,
    data: Batch | Iterable[Batch],
    *,
    radius: float = 0.05,
    pairs: int = 10,
    seed: int = 0,
) -> Flatness:
    """Estimate how much the loss rises under random perturbations of the weights.

    This is the expected sharpness ``E_u L(w + u) - L(w)`` of Neyshabur et al., with the directions of `loss_slice`
    times the radius as perturbations u, so that it does not change with the length of filters whose length does not
    matter. Each perturbation is taken with both signs, which takes out the slope.

    Source: Neyshabur, Bhojanapalli, McAllester and Srebro, "Exploring Generalization in Deep Learning", 2017,
    arXiv 1706.08947; the directions: Li et al., 2018, arXiv 1712.09913.

    Args:
        model: the model; it is called in the mode it is in, and stays as it is.
        loss: returns the mean loss of a batch.
        data: a batch ``(inputs, targets)``, or an iterable of batches that gives the same ones each time.
        radius: norm of the perturbation of a filter, relative to that of the filter; above 0.
        pairs: number of perturbations, each taken with both signs; at least 2.
        seed: of the perturbations.

    Returns:
        The mean rise, with its standard error.

    Raises:
        ValueError: as `Objective`; if ``radius`` or ``pairs`` is out of its range.
    """
    if not 0 < radius < math.inf:
        raise ValueError(f"radius is {radius}: it is a number above 0")
    if pairs < 2:
        raise ValueError(f"pairs is {pairs}: give at least 2, for a standard error")
    objective = Objective(model, loss, data)
    generator = torch.Generator(objective.function.device).manual_seed(seed)
    start, rises = objective.value(), []
    for _ in range(pairs):
        directions = [_direction(objective.function, generator)]
        ends = [objective.value(_moved(objective.function, directions, [step])) for step in (radius, -radius)]
        rises.append(sum(ends) / 2 - start)
    found = torch.tensor(rises, dtype=torch.float64)
    return Flatness(float(found.mean()), float(found.std()) / math.sqrt(pairs), radius)


def _direction(function: ModelFunction, generator: torch.Generator) -> dict[str, Tensor]:
    """A random direction whose filters are as long as those of the model."""
    directions = {}
    for name, value in function.parameters.items():
        weights = value.detach()
        drawn = torch.randn(weights.shape, generator=generator, dtype=weights.dtype, device=weights.device)
        if weights.dim() < 2:
            directions[name] = torch.zeros_like(weights)
            continue
        dims = tuple(range(1, weights.dim()))
        lengths, drawn_lengths = (torch.linalg.vector_norm(of, dim=dims, keepdim=True) for of in (weights, drawn))
        directions[name] = drawn * (lengths / drawn_lengths.clamp_min(torch.finfo(drawn.dtype).tiny))
    return directions


def _moved(
    function: ModelFunction, directions: Sequence[Mapping[str, Tensor]], steps: Sequence[float]
) -> dict[str, Tensor]:
    """The parameters, moved along each direction."""
    return {
        name: value.detach() + sum(step * direction[name] for step, direction in zip(steps, directions, strict=True))
        for name, value in function.parameters.items()
    }


def _between(first: Mapping[str, Tensor], second: Mapping[str, Tensor], t: float) -> dict[str, Tensor]:
    """Parameters and buffers at a point of the line, as tensors of their own."""
    found = {}
    for name, start in first.items():
        a, b = start.detach(), second[name].detach().to(start)
        found[name] = torch.lerp(a, b, t) if a.is_floating_point() else (a if t < 0.5 else b).clone()
    return found


def _require_one_architecture(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    shapes = [{name: tuple(value.shape) for name, value in of.items()} for of in (first, second)]
    if shapes[0] == shapes[1]:
        return
    name = next(name for name in shapes[0] | shapes[1] if shapes[0].get(name) != shapes[1].get(name))
    first_shape, second_shape = (str(of.get(name, "missing")) for of in shapes)
    raise ValueError(
        f"the models are not of one architecture: {name} is {first_shape} in the first and {second_shape} in the second"
    )
