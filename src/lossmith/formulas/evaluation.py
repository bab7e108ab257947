"""Evaluation of formulas on torch tensors, as a list of differentiable primitive operations."""

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
from lossmith.formulas.expression import PROTECTION, Expression, check_terminals, to_postfix

Steps = tuple[tuple[str | float, tuple[int, ...]], ...]


def evaluate(expression: Expression, **values: float | Tensor) -> Tensor:
    """Evaluate a formula.

    Args:
        expression: the formula.
        **values: numbers or broadcastable tensors for the terminals p, c, y, n, t of the formula. If only one of p and
            c is given, the other is computed from it: ``c = -log(p)``.

    Returns:
        A tensor of the values' broadcast shape and dtype (float64 if all values are numbers). It is differentiable and
        works under ``torch.compile`` and ``torch.func``.

    Raises:
        FormulaError: if a terminal of the formula has no value, or a value is given for an unknown terminal.
    """
    check_terminals(values)
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
    """Compile a formula to the steps that `run` executes."""
    return to_postfix(expression)


def run(steps: Steps, values: Mapping[str, float | Tensor]) -> float | Tensor:
    """Execute the steps of a formula, given a value for each terminal; a number if all values are numbers."""
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
    """Add c, p and d to the values where the formula needs them, computed from the ones given."""
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
        raise FormulaError(f"the formula uses {missing[0]}, but no value is given for it")
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
    """The sign, with NaN for NaN; torch returns 0, which would hide that a formula is undefined there."""
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
