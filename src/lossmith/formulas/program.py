"""Formulas as short programs of torch operations: what runs in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Final

import torch
from torch import Tensor

from lossmith.formulas.arithmetic import number
from lossmith.formulas.evaluation import OPERATIONS, apply_operation
from lossmith.formulas.expression import Expression, apply, terminal

_TENSORS: Final = ("p", "c", "d", "e")
"""The terminals that are always tensors."""
_SATURATED: Final = 750.0
"""Beyond it even float64 has exp(-x) = 0."""


Operation = tuple[Callable[..., Any], tuple[Expression, ...]]
"""A function, and the expressions whose values it takes."""


class Program:
    """A formula as steps, each of which calls a function with the results of earlier steps.

    Args:
        expression: the formula.
        saturated: whether expm1(-k c) is a constant where it is -1 to rounding, so that its slope there, 0, is not
            multiplied by what may be infinite.
    """

    def __init__(self, expression: Expression, *, saturated: bool = False) -> None:
        self.expression, self.saturated = expression, saturated
        compiled = _Compiler(expression, saturated)
        self._names, self._steps, self._last = tuple(compiled.names), tuple(compiled.steps), compiled.last

    def __reduce__(self) -> tuple[Callable[..., Program], tuple[Any, ...]]:
        return program_of, (self.expression, self.saturated)

    def run(self, values: Mapping[str, Any]) -> Any:
        """The formula's value, given one for each terminal; a number if no tensor takes part."""
        results = [values[name] for name in self._names]
        for function, operands in self._steps:
            if len(operands) == 1:
                results.append(function(results[operands[0]]))
            else:
                results.append(function(*[results[i] for i in operands]))
        return results[self._last]


@lru_cache(maxsize=1024)
def program_of(expression: Expression, saturated: bool = False) -> Program:
    """Compile a formula to a program that computes each common part once.

    ``a*expm1(k*c)`` of c or d, which are never negative, is one operation; so is ``x + a*y``. At small sizes the number
    of operations is what a loss costs.
    """
    return Program(expression, saturated=saturated)


class _Compiler:
    """Gives each part of a formula a place among the results.

    Attributes:
        names: the terminals, whose values come first.
        steps: functions, with the places of their operands.
        last: the place of the formula's own value.
    """

    def __init__(self, expression: Expression, saturated: bool) -> None:
        self.saturated = saturated
        self.names = sorted(expression.terminals)
        self.steps: list[tuple[Callable[..., Any], tuple[int, ...]]] = []
        self.places = {terminal(name): i for i, name in enumerate(self.names)}
        self.last = self._place(expression)

    def _place(self, expression: Expression) -> int:
        stack, operations = [expression], dict[Expression, Operation]()
        while stack:
            node = stack[-1]
            if node not in operations and node not in self.places:
                operations[node] = _operation(node, self.saturated)
            waiting = [each for each in operations[node][1] if each not in self.places] if node in operations else []
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            if node not in self.places:
                function, operands = operations[node]
                self.places[node] = len(self.names) + len(self.steps)
                self.steps.append((function, tuple(self.places[each] for each in operands)))
        return self.places[expression]


def _operation(node: Expression, saturated: bool) -> Operation:
    """A function of the values of some expressions that computes a node."""
    if not node.terminals:
        return partial(_constant, number(node)), ()
    if not node.depends_on(*_TENSORS):  # of numbers, as the number of classes, or of tensors
        return partial(_of_numbers, node.op), node.args
    if node.op == "sub" and _multiple(node.args[1])[1].op == "expm1" and _scaled_expm1(node.args[1]):
        node = apply("add", node.args[0], -node.args[1])  # -expm1(-c) = 1 - p is what most formulas have already
    return _scaled_expm1(node, saturated) or _sum_with_multiple(node) or _with_constants(node)


def _scaled_expm1(node: Expression, saturated: bool = False) -> Operation | None:
    """``scale * expm1(rate * c)`` for c >= 0, as one operation on -c, unless it is expm1(c)."""
    scale, inner = _multiple(node)
    if inner.op != "expm1":
        return None
    rate, variable = _multiple(inner.args[0])
    if variable.name not in {"c", "d"} or scale == rate == 1:
        return None
    function = _saturated_elu if saturated and rate < 0 else _elu
    return partial(function, scale, -rate), (-variable,)


def _sum_with_multiple(node: Expression) -> Operation | None:
    if node.op not in {"add", "sub"}:
        return None
    a, b = node.args
    sign = 1.0 if node.op == "add" else -1.0
    for one, other, factor in ((a, b, sign), (b, a, 1.0)):
        scale, inner = _multiple(other)
        is_plain = scale != 1 and one.depends_on(*_TENSORS) and inner.depends_on(*_TENSORS)
        if is_plain and _scaled_expm1(other) is None and (one is a or sign == 1):
            return partial(_add_multiple, factor=factor * scale), (one, inner)
    return None


def _multiple(node: Expression) -> tuple[float, Expression]:
    """A factor and the expression it multiplies."""
    factor = 1.0
    while True:
        if node.op == "neg":
            factor, node = -factor, node.args[0]
        elif node.op == "mul" and not node.args[0].terminals:
            factor, node = factor * number(node.args[0]), node.args[1]
        elif node.op == "mul" and not node.args[1].terminals:
            factor, node = factor * number(node.args[1]), node.args[0]
        elif node.op == "div" and not node.args[1].terminals:
            factor, node = factor / number(node.args[1]), node.args[0]
        else:
            return factor, node


def _with_constants(node: Expression) -> Operation:
    """The node's operator, with those of its operands that are constants in place."""
    function = OPERATIONS[node.op]
    if len(node.args) == 1:
        return function, node.args
    a, b = node.args
    if not a.terminals:
        return partial(function, number(a)), (b,)
    if not b.terminals:
        return partial(_with_right, function, number(b)), (a,)
    return function, node.args


def _elu(scale: float, rate: float, x: Tensor) -> Tensor:
    return torch._C._nn.elu(x, scale, 1.0, rate)  # for x <= 0 it is scale expm1(rate x)


def _saturated_elu(scale: float, rate: float, x: Tensor) -> Tensor:
    return _elu(scale, rate, x.clamp(min=-_SATURATED / rate))


def _add_multiple(a: Tensor, b: Tensor, factor: float) -> Tensor:
    return torch.add(a, b, alpha=factor)


def _with_right(function: Callable[..., Any], right: float, left: Tensor) -> Any:
    return function(left, right)


def _constant(value: float) -> float:
    return value


def _of_numbers(op: str, *operands: float | Tensor) -> float | Tensor:
    return apply_operation(op, list(operands))
