"""The condition number of an operator on its range."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lossmith.dynamics.operators import Operator, dense


@dataclass(frozen=True, eq=False)
class Condition:
    """How unequal the curvatures of an operator are.

    Attributes:
        number: ``largest / smallest``; infinity if the smallest is 0 or less.
        largest: eigenvalue.
        smallest: of the ``rank`` largest eigenvalues, negative ones among them.
        rank: number of eigenvalues that count.
        next: the largest eigenvalue that does not count; NaN if all do. A value close to ``smallest`` says that the
            range is not well determined.
    """

    number: float
    largest: float
    smallest: float
    rank: int
    next: float


def condition_number(operator: Operator, *, rank: int | None = None) -> Condition:
    """Compute the condition number of a positive semidefinite operator restricted to its range.

    For the Hessian of a linear model it bounds the speed of gradient descent: redundant directions, such as adding one
    vector to the weights of all classes, have no curvature and take no steps. The whole matrix is diagonalised, so the
    operator should have at most a few thousand rows.

    Args:
        operator: the operator.
        rank: the number of largest eigenvalues that count. Give it where it is known, above all along a training that
            makes curvatures shrink: a linear model of rank r on C classes has ``r (C - 1)``, and r if it has one logit.
            ``None``: those above ``size * eps`` times the largest one.

    Returns:
        The condition number, and the eigenvalues that it rests on.

    Raises:
        ValueError: if the rank is not between 1 and the operator's size.
    """
    if rank is not None and not 1 <= rank <= operator.size:
        raise ValueError(f"rank is {rank}: an operator with {operator.size} rows has between 1 and {operator.size}")
    matrix = dense(operator).double()
    values = torch.linalg.eigvalsh((matrix + matrix.T) / 2).flip(0)
    if rank is None:
        floor = operator.size * torch.finfo(operator.dtype).eps * float(values[0])
        rank = max(1, int((values > floor).sum()))
    largest, smallest = float(values[0]), float(values[rank - 1])
    following = float(values[rank]) if rank < operator.size else float("nan")
    return Condition(largest / smallest if smallest > 0 else float("inf"), largest, smallest, rank, following)
