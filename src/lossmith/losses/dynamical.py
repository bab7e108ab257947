"""Dynamical losses: each class in turn counts more, then less, while the model trains."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal, Unpack

import torch
from torch import Tensor
from typing_extensions import override

from lossmith.losses.arguments import Range, check_choice, check_number, whole_number
from lossmith.losses.base import ClassificationLoss
from lossmith.losses.loss import CallOptions
from lossmith.losses.reductions import Fraction
from lossmith.losses.wrapper import Wrapper, checked_base

PeriodMode = Literal["exact", "released"]


def gamma(
    step: int | Tensor,
    num_classes: int,
    amplitude: float,
    period: int,
    *,
    order: Sequence[int] | None = None,
    static_after: int | None = None,
    period_mode: PeriodMode = "exact",
) -> Tensor:
    """Class weights Gamma of a dynamical loss at a step; a pure function, so that every rank and resume agrees.

    In each period one class has weight ``a = 1 + (A - 1)(1 - |2 t / T - 1|)``, a triangle from 1 up to A and back,
    and all others 1; then all are scaled to sum to C. A = 1 gives weights 1.

    Args:
        step: number of optimiser steps taken, from 0; an int or an integer scalar tensor.
        num_classes: C.
        amplitude: A >= 1.
        period: T, steps per class; a full round takes C T steps.
        order: the classes in the order of their turns, a permutation of 0..C-1; ``None`` is 0, 1, 2, ...
        static_after: from this step on all weights are 1; ``None``: never.
        period_mode: ``"exact"``: a period is T steps; ``"released"``: T + 1 steps, t = 0..T, as in the authors' code.

    Returns:
        Weights of shape (C,), float64, on the step's device.

    Source: Ruiz-Garcia, Zhang, Schoenholz, Liu, "Tilting the playing field: Dynamical loss functions for machine
    learning", 2021, arXiv 2102.03793; formulas from the authors' notebook.
    """
    now = torch.as_tensor(step)
    length = period + (period_mode == "released")
    turn = torch.div(now, length, rounding_mode="floor") % num_classes
    triangle = 1 - ((now % length).double() * (2 / period) - 1).abs()
    turns = range(num_classes) if order is None else sorted(range(num_classes), key=lambda i: order[i])
    is_focus = torch.tensor(list(turns), device=now.device) == turn  # of each class, whether it is its turn
    raw = 1 + (amplitude - 1) * triangle * is_focus
    weights = num_classes * raw / raw.sum()
    return weights if static_after is None else torch.where(now >= static_after, torch.ones_like(weights), weights)


def static_tail(total_steps: int, period: int, period_mode: PeriodMode = "exact") -> int:
    """The step at which the authors' notebook stops oscillating: the first boundary beyond ``total_steps - period``.

    Args:
        total_steps: length of the run in steps.
        period: T, steps per class.
        period_mode: as for `gamma`.

    Returns:
        A value for ``static_after``: about one period before the end.
    """
    length = period + (period_mode == "released")
    return length * ((total_steps - period) // length + 1)


class DynamicalLoss(Wrapper):
    """Weighs the classes of any classification loss by `gamma` of the step, so that each in turn dominates.

    The weights multiply and never enter the denominator of the mean, unlike ``CrossEntropyLoss(weight=...)``. Call
    ``loss.step()`` after ``optimizer.step()`` (not for a step that mixed precision skipped). In ``eval()`` it is its
    base. The step count is the only state, an integer buffer. Feed schedulers and early stopping the unweighted loss.

    Args:
        base: the loss to wrap; ``None`` is cross-entropy.
        amplitude: A >= 1.
        period: T >= 2, steps per class.
        order: the classes in the order of their turns; ``None`` is 0, 1, 2, ...
        static_after: from this step on the loss is its base. Ending a run inside a cycle spoils it: set this to a
            boundary well before the end, see `static_tail`.
        period_mode: ``"exact"`` (T steps) or ``"released"`` (T + 1 steps, as in the authors' notebook).

    Source: see `gamma`. The paper uses cross-entropy, full batches and plain gradient descent.
    """

    name = "dynamical"
    searched = (Range("amplitude", (2.0, 70.0), "log"),)
    kind = "classification"
    steps_taken: Tensor

    def __init__(
        self,
        base: ClassificationLoss | None = None,
        amplitude: float = 20.0,
        period: int = 250,
        *,
        order: Sequence[int] | None = None,
        static_after: int | None = None,
        period_mode: PeriodMode = "exact",
    ) -> None:
        super().__init__()
        base = checked_base(base)
        check_number("amplitude", amplitude, low=1.0, high=1e9)
        check_choice("period_mode", period_mode, ("exact", "released"))
        self.base = base
        self.amplitude = float(amplitude)
        self.period = whole_number("period", period, low=2)
        self.order = None if order is None else _permutation(order)
        self.static_after = None if static_after is None else whole_number("static_after", static_after, low=0)
        self.period_mode = period_mode
        self.register_buffer("steps_taken", torch.zeros((), dtype=torch.int64))

    @override
    def evaluate(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> Tensor:
        return super().evaluate(logits, target, **self._weighing(logits, options))

    @override
    def fractions(self, logits: Tensor, target: Tensor, **options: Unpack[CallOptions]) -> tuple[Fraction, ...]:
        return super().fractions(logits, target, **self._weighing(logits, options))

    def _weighing(self, logits: Tensor, options: CallOptions) -> CallOptions:
        """A call's options with the class weights of the present step."""
        if not self.training or not logits.dim():
            return options
        binary = self.base.task == "binary"
        num_classes = 2 if binary else logits.shape[0 if logits.dim() == 1 else 1]
        return {**options, "class_scale": self.class_weights(num_classes)}

    @override
    def step(self) -> None:
        super().step()
        self.steps_taken += 1

    def class_weights(self, num_classes: int) -> Tensor:
        """The weights Gamma at the present step, shape (C,), float64."""
        if self.order is not None and len(self.order) != num_classes:
            raise ValueError(f"order names {len(self.order)} classes, but the logits have {num_classes}")
        return gamma(
            self.steps_taken,
            num_classes,
            self.amplitude,
            self.period,
            order=self.order,
            static_after=self.static_after,
            period_mode=self.period_mode,
        )

    @override
    def bind(self, *, total_steps: int | None = None, class_counts: Sequence[float] | None = None) -> None:
        super().bind(total_steps=total_steps, class_counts=class_counts)
        if total_steps is None or (self.static_after is not None and self.static_after <= total_steps):
            return
        length = self.period + (self.period_mode == "released")
        if total_steps % length:
            warnings.warn(
                f"{self.text} ends inside a cycle after {total_steps} steps, which spoils the result: set "
                f"static_after={static_tail(total_steps, self.period, self.period_mode)} or less",
                stacklevel=2,
            )


def _permutation(order: object) -> tuple[int, ...]:
    classes = tuple(order) if isinstance(order, Sequence) else ()
    if any(type(i) not in {int, float} for i in classes) or sorted(classes) != list(range(len(classes))) or not classes:
        raise ValueError(f"order must be a list that names each class 0..C-1 once, not {order!r}")
    return tuple(map(int, classes))
