"""What the passes are given: rows of logits with their targets, and a polynomial in place of a function."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from torch import Tensor

STATE: Final = 6  # floats a row that the backward pass needs; see `Row` in rows.cpp
NOWHERE: Final = 88.0
"""The c = -log p from which on float32 has p = 0."""


class Polynomial(NamedTuple):
    """A function ``p**power sum_m c**m V_m(p)`` of probabilities 0 <= p <= 1/2, with c = -log p and polynomials V.

    It stands for ``f(p) - f(0) - p f'(0)`` where f is smooth (``power`` 2 and no logs), and for ``f(p) - f(0)`` where f
    is singular at p = 0; with ``power`` 0, for an f that is infinite there, f(0) is what f tends to without its
    multiple of c. The polynomials are in p itself, so that a small p keeps its digits.

    Attributes:
        value: coefficients, from the constant up, of V_0, then of V_1, ...
        slope: likewise of S in ``p**power sum_m c**m S_m(p)``, p times the derivative; `value` is its antiderivative,
            so that value and gradient agree.
        error: certified: the derivative, evaluated in float32, is off by no more than ``error`` times the largest that
            ``p**(1 - power)`` times it has been between p / 8 and p.
        power: of p, 0 or more.
        logs: the highest m.
    """

    value: tuple[float, ...]
    slope: tuple[float, ...]
    error: float
    power: float = 2.0
    logs: int = 0

    @property
    def degree(self) -> int:
        """Of each polynomial; -1 if there is none."""
        return len(self.slope) // (self.logs + 1) - 1

    @property
    def is_singular(self) -> bool:
        """Whether the function is not smooth at p = 0."""
        return self.logs > 0 or self.power != 2.0

    def packed(self) -> list[float]:
        """As numbers alone, which is what an operation that `torch.compile` can trace may be given."""
        return [self.error, self.power, float(self.logs), *self.value, *self.slope]

    @classmethod
    def unpacked(cls, numbers: Sequence[float]) -> Polynomial:
        """The polynomial that `packed` made them of."""
        error, power, logs, *coefficients = numbers
        half = len(coefficients) // 2
        return cls(tuple(coefficients[:half]), tuple(coefficients[half:]), error, power, int(logs))

    def scaled(self, factor: float) -> Polynomial:
        """That of a multiple of the function."""
        value, slope = (tuple(factor * coefficient for coefficient in of) for of in (self.value, self.slope))
        return self._replace(value=value, slope=slope)

    def at(self, p: float) -> float:
        """The function's value, for p > 0."""
        c, total = -math.log(p), 0.0
        for m in range(self.logs + 1):
            own = self.value[m * (self.degree + 1) :][: self.degree + 1]
            total += c**m * sum(coefficient * p**k for k, coefficient in enumerate(own))
        return math.exp(-self.power * c) * total


NOTHING: Final = Polynomial((), (), 0.0)


class Batch(NamedTuple):
    """What both passes are given.

    Attributes:
        logits: shape (N, C), C >= 2.
        target: class indices, shape (N,), int64.
        ignore_index: the label of rows without target.
        polynomial: of the function to sum over the classes that are neither target nor top class.
    """

    logits: Tensor
    target: Tensor
    ignore_index: int
    polynomial: Polynomial = NOTHING
