"""Formulas on torch tensors: a short list of steps, each a differentiable primitive."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.formulas.arithmetic import scalar
from lossmith.formulas.errors import FormulaError
from lossmith.formulas.expression import HIDDEN_TERMINALS, PROTECTION, TERMINALS, Expression, to_postfix

Steps = tuple[tuple[str | float, tuple[int, ...]], ...]


def evaluate(expression: Expression, **values: float | Tensor) -> Tensor:
    """Evaluate a formula.

    Args:
        expression: the formula.
        **values: numbers or tensors that broadcast, for the terminals p, c, y, n, t that it has; c may be left out
            where p is given, it is then -log(p), and p where c is given, it is then exp(-c).

    Returns:
        A tensor of the shape the values broadcast to, of their dtype; float64 where all are numbers. Differentiable
        and fit for ``torch.compile`` and ``torch.func``.

    Raises:
        FormulaError: if a terminal has no value or there is no such terminal.
    """
    for name in values:
        if name not in TERMINALS and name not in HIDDEN_TERMINALS:
            raise FormulaError(f"a formula has no terminal {name!r}: there are {', '.join(TERMINALS)}")
    result = run(steps_of(expression), _complete(expression, values))
    tensors = [value for value in values.values() if isinstance(value, Tensor)]
    if not isinstance(result, Tensor):
        dtype = tensors[0].dtype if tensors else torch.float64
        result = torch.tensor(result, dtype=dtype, device=tensors[0].device if tensors else None)
    if not tensors:
        return result
    return result.expand(torch.broadcast_shapes(result.shape, *(value.shape for value in tensors)))


@lru_cache(maxsize=1024)
def steps_of(expression: Expression) -> Steps:
    """The formula as steps for `run`."""
    return to_postfix(expression)


def run(steps: Steps, values: Mapping[str, float | Tensor]) -> float | Tensor:
    """Carry out the steps of a formula.

    Args:
        steps: from `steps_of`.
        values: a number or tensor for each terminal that occurs.

    Returns:
        The value; a number if no tensor takes part.
    """
    results: list[float | Tensor] = []
    for what, operands in steps:
        if not isinstance(what, str):
            results.append(what)
        elif not operands:
            results.append(values[what])
        else:
            results.append(apply_operation(what, [results[i] for i in operands]))
    return results[-1]


def _complete(expression: Expression, values: Mapping[str, float | Tensor]) -> dict[str, float | Tensor]:
    """The values with c from p, p from c and d from p where they are needed and missing."""
    complete = dict(values)
    needed = expression.terminals
    if "p" in needed and "p" not in complete and "c" in complete:
        complete["p"] = apply_operation("exp", [apply_operation("neg", [complete["c"]])])
    if "c" in needed and "c" not in complete and "p" in complete:
        complete["c"] = apply_operation("neg", [apply_operation("log", [complete["p"]])])
    if "d" in needed and "d" not in complete and "p" in complete:
        complete["d"] = apply_operation("neg", [apply_operation("log1p", [apply_operation("neg", [complete["p"]])])])
    missing = sorted(needed - complete.keys())
    if missing:
        raise FormulaError(f"the formula has {missing[0]}, and no value is given for it")
    return complete


def apply_operation(op: str, operands: list[float | Tensor]) -> float | Tensor:
    """An operator's result: a number for numbers, else a tensor."""
    if not any(isinstance(operand, Tensor) for operand in operands):
        return scalar(op, cast("list[float]", operands))
    return OPERATIONS[op](*operands)


def _minimum(a: float | Tensor, b: float | Tensor) -> Tensor:
    return torch.minimum(*_tensors(a, b))


def _maximum(a: float | Tensor, b: float | Tensor) -> Tensor:
    return torch.maximum(*_tensors(a, b))


def _tensors(a: float | Tensor, b: float | Tensor) -> tuple[Tensor, Tensor]:
    if not isinstance(a, Tensor):
        return torch.full_like(cast("Tensor", b), a), cast("Tensor", b)
    return a, b if isinstance(b, Tensor) else torch.full_like(a, b)


def _power(a: float | Tensor, b: float | Tensor) -> Tensor:
    return torch.pow(a, b)  # type: ignore[arg-type, no-any-return, unused-ignore]


def _sign(a: Tensor) -> Tensor:
    """NaN for NaN, for which torch has 0: that would hide that a formula has no value there."""
    return torch.where(a.isnan(), a, torch.sign(a))


OPERATIONS: Final[dict[str, Callable[..., Tensor]]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "pow": _power,
    "aq": lambda a, b: a * (torch.rsqrt(1 + b * b) if isinstance(b, Tensor) else (1 + b * b) ** -0.5),
    "min": _minimum,
    "max": _maximum,
    "neg": operator.neg,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "expm1": torch.expm1,
    "log1p": torch.log1p,
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "abs": torch.abs,
    "sign": _sign,
    "sigmoid": torch.sigmoid,
    "softplus": lambda a: -F.logsigmoid(-a),
    "plog": lambda a: torch.log(a.abs() + PROTECTION),
    "psqrt": lambda a: torch.sqrt(a.abs() + PROTECTION),
}
"""The operators on tensors; one of two operands may be a number."""
