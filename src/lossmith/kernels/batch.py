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
    """The part ``f(p) - f(0)`` of a function on probabilities 0 <= p <= 1/2.

    That of a smooth f is p times a polynomial in ``u = 4 p - 1``. Where f is singular at p = 0 it is
    ``p**power sum_m c**m V_m(p)`` with c = -log p and polynomials in p itself, so that a small p keeps its digits; with
    ``power`` 0, for an f that is infinite at p = 0, f(0) is what f tends to without its multiple of c.

    Attributes:
        value: coefficients, from the constant up, of ``(f(p) - f(0)) / p``; if singular of V_0, then of V_1, ...
        slope: coefficients of ``f'(p)``, if singular likewise of ``p**(1 - power) f'(p) = sum_m c**m S_m(p)``; `value`
            is its antiderivative, so that value and gradient agree.
        error: certified: neither polynomial of a smooth f, evaluated in float32, is off by more, on all of [0, 1/2].
            Since probabilities sum to 1, a sum over any number of classes is off by no more either. If singular, the
            slope is off by no more than ``error * (1 + c)**k`` where e**-88 <= p <= 1/2, below which float32 has no p;
            k is ``logs``, or with ``power`` 0 one less.
        power: of p, 0 or more.
        logs: the highest m.
    """

    value: tuple[float, ...]
    slope: tuple[float, ...]
    error: float
    power: float = 1.0
    logs: int = 0

    @property
    def degree(self) -> int:
        """Of each polynomial; -1 if there is none."""
        return len(self.slope) // (self.logs + 1) - 1

    @property
    def is_singular(self) -> bool:
        """Whether the polynomials are in p and c."""
        return self.logs > 0 or self.power != 1.0

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
        return self._replace(value=value, slope=slope, error=abs(factor) * self.error)

    def at(self, p: float) -> float:
        """The value of ``f(p) - f(0)``, for p > 0."""
        x, c, total = p if self.is_singular else 4 * p - 1, -math.log(p), 0.0
        for m in range(self.logs + 1):
            own = self.value[m * (self.degree + 1) :][: self.degree + 1]
            total += c**m * sum(coefficient * x**k for k, coefficient in enumerate(own))
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
