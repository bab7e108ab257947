"""Expression trees: immutable, hashable, and traversed without recursion."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from lossmith.formulas.errors import FormulaError

TERMINALS: Final = {
    "p": "the softmax probability of the class",
    "y": "1 for the target class and 0 for the others",
    "c": "-log(p)",
    "n": "the number of classes",
    "t": "the progress of training from 0 to 1",
}
HIDDEN_TERMINALS: Final = frozenset({"d", "e", "h"})
"""Terminals that users cannot write: ``d = -log(1 - p)``, introduced by rewriting for precision; ``e``, the error of a
regression; ``h``, a hyperparameter with one value per class."""

ARITY: Final = {
    **dict.fromkeys(("add", "sub", "mul", "div", "pow", "aq", "min", "max"), 2),
    **dict.fromkeys(("neg", "exp", "log", "sqrt", "square", "expm1", "log1p", "sin", "cos", "tanh"), 1),
    **dict.fromkeys(("abs", "sign", "sigmoid", "softplus", "plog", "psqrt"), 1),
}
"""The number of operands of each operator; `plog` and `psqrt` are applied to ``|x| + PROTECTION``."""

PROTECTION: Final = 1e-7

T = TypeVar("T")


def _infix(
    op: str,
) -> tuple[Callable[[Expression, Expression | float], Expression], Callable[[Expression, float], Expression]]:
    """The methods of a Python operator for an expression on its left and on its right."""

    def left(self: Expression, other: Expression | float) -> Expression:
        return apply(op, self, other if isinstance(other, Expression) else constant(other))

    def right(self: Expression, other: float) -> Expression:
        return apply(op, constant(other), self)

    return left, right


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Expression:
    """A node of a formula with the subtree below it.

    Create expressions with `parse`, `constant`, `terminal`, `apply`, or Python's arithmetic operators. Two expressions
    are equal if their trees are the same; compare their `canonical` forms to see whether they have the same meaning.

    Attributes:
        op: ``"constant"``, ``"terminal"``, or the name of an operator in `ARITY`.
        args: the operands.
        value: the value of a constant, otherwise 0.
        name: the name of a terminal, otherwise empty.
        size: number of nodes of the tree.
        depth: number of nodes on the longest path from the root to a leaf.
        terminals: the names of the terminals in it.
    """

    op: str
    args: tuple[Expression, ...] = ()
    value: float = 0.0
    name: str = ""
    size: int = field(init=False)
    depth: int = field(init=False)
    terminals: frozenset[str] = field(init=False)
    _hash: int = field(init=False)

    def __post_init__(self) -> None:
        size, depth = 1, 0
        terminals: frozenset[str] = frozenset({self.name}) if self.name else frozenset()
        for arg in self.args:
            size += arg.size
            depth = max(depth, arg.depth)
            terminals |= arg.terminals
        set_once = object.__setattr__
        set_once(self, "size", size)
        set_once(self, "depth", 1 + depth)
        set_once(self, "terminals", terminals)
        set_once(self, "_hash", hash((self.op, self.value, self.name, self.args)))

    @property
    def is_constant(self) -> bool:
        """Whether this is a constant."""
        return self.op == "constant"

    def is_number(self, value: float) -> bool:
        """Whether this is the constant ``value``."""
        return self.op == "constant" and self.value == value

    def depends_on(self, *names: str) -> bool:
        """Whether the expression contains one of these terminals."""
        return not self.terminals.isdisjoint(names)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Expression):
            return NotImplemented
        seen: set[tuple[int, int]] = set()
        stack: list[tuple[Expression, Expression]] = [(self, other)]
        while stack:
            a, b = stack.pop()
            if a is b or (id(a), id(b)) in seen:
                continue
            if (a._hash, a.op, a.value, a.name, len(a.args)) != (b._hash, b.op, b.value, b.name, len(b.args)):
                return False
            seen.add((id(a), id(b)))
            stack.extend(zip(a.args, b.args, strict=True))
        return True

    def __str__(self) -> str:
        from lossmith.formulas.printer import to_text

        return to_text(self)

    def __repr__(self) -> str:
        return f"parse({str(self)!r})"

    def __deepcopy__(self, memo: object) -> Expression:
        return self

    def __reduce__(self) -> tuple[Callable[..., Expression], tuple[object, ...]]:
        return _rebuild, (to_postfix(self),)

    __add__, __radd__ = _infix("add")
    __sub__, __rsub__ = _infix("sub")
    __mul__, __rmul__ = _infix("mul")
    __truediv__, __rtruediv__ = _infix("div")
    __pow__, __rpow__ = _infix("pow")

    def __neg__(self) -> Expression:
        return apply("neg", self)


def constant(value: float) -> Expression:
    """Create a constant.

    Args:
        value: a finite number; -0.0 becomes 0.

    Returns:
        The expression.

    Raises:
        FormulaError: if the value is infinite or NaN.
    """
    if not math.isfinite(value):
        raise FormulaError(f"a constant of a formula must be finite, not {value}")
    return Expression("constant", value=float(value) + 0.0)


def terminal(name: str) -> Expression:
    """Create a terminal.

    Args:
        name: one of p, y, c, n, t.

    Returns:
        The expression.

    Raises:
        FormulaError: if the terminal does not exist.
    """
    check_terminals([name])
    return Expression("terminal", name=name)


def check_terminals(names: Iterable[str]) -> None:
    """Refuse names that are no terminals."""
    for name in names:
        if name not in TERMINALS and name not in HIDDEN_TERMINALS:
            raise FormulaError(f"a formula has no terminal {name!r}: choose one of {', '.join(TERMINALS)}")


def apply(op: str, *args: Expression) -> Expression:
    """Apply an operator to expressions, without folding constants.

    Args:
        op: a name in `ARITY`.
        *args: its operands.

    Returns:
        The expression.

    Raises:
        FormulaError: if the operator is unknown or the number of operands is wrong.
    """
    if op not in ARITY:
        raise FormulaError(f"a formula has no operator {op!r}: choose one of {', '.join(ARITY)}")
    if len(args) != ARITY[op]:
        raise FormulaError(f"{op} takes {ARITY[op]} operand{'s'[: ARITY[op] - 1]}, not {len(args)}")
    return Expression(op, args)


def fold(expression: Expression, combine: Callable[[Expression, list[T]], T]) -> T:
    """Compute a value for a tree from the leaves up, without recursion; a shared subtree is visited once.

    ``combine`` maps a node and the results of its operands to the node's result.
    """
    done: dict[int, T] = {}
    stack = [expression]
    while stack:
        node = stack[-1]
        waiting = [arg for arg in node.args if id(arg) not in done]
        if waiting:
            stack.extend(waiting)
            continue
        stack.pop()
        if id(node) not in done:
            done[id(node)] = combine(node, [done[id(arg)] for arg in node.args])
    return done[id(expression)]


def fold_known(expression: Expression, combine: Callable[[Expression, list[T]], T], known: dict[Expression, T]) -> T:
    """As `fold`, for many trees: the results of subtrees that are ``known`` are used, and new ones are added."""
    stack = [expression]
    while stack:
        node = stack[-1]
        waiting = [arg for arg in node.args if arg not in known]
        if waiting:
            stack.extend(waiting)
            continue
        stack.pop()
        if node not in known:
            known[node] = combine(node, [known[arg] for arg in node.args])
    return known[expression]


def to_postfix(expression: Expression) -> tuple[tuple[str | float, tuple[int, ...]], ...]:
    """Flatten a tree to steps ``(operation, operands)``, with equal subtrees listed once; the last is the root.

    The operation is a number, or the name of a terminal or operator; the operands are positions of earlier steps.
    """
    steps: list[tuple[str | float, tuple[int, ...]]] = []
    known: dict[Expression, int] = {}

    def number(node: Expression, operands: list[int]) -> int:
        if node not in known:
            known[node] = len(steps)
            steps.append((node.value if node.is_constant else node.name or node.op, tuple(operands)))
        return known[node]

    fold(expression, number)
    return tuple(steps)


def _rebuild(steps: tuple[tuple[str | float, tuple[int, ...]], ...]) -> Expression:
    nodes: list[Expression] = []
    for what, operands in steps:
        if isinstance(what, str):
            nodes.append(apply(what, *(nodes[i] for i in operands)) if operands else terminal(what))
        else:
            nodes.append(constant(what))
    return nodes[-1]
