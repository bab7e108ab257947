"""Values and slopes of formulas on NumPy arrays, by forward-mode differentiation in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lossmith.formulas.errors import FormulaError
from lossmith.formulas.expression import PROTECTION, Expression, fold_known

Array: TypeAlias = NDArray[np.float64]
Dual: TypeAlias = tuple[Array, Array | None]
"""A value and its slope; ``None`` where the value depends on neither p, c nor d."""
Memo: TypeAlias = dict[Expression, Dual]
"""The values and slopes of subexpressions on one set of arrays."""


def values_and_slopes(
    expression: Expression,
    u: ArrayLike,
    y: ArrayLike,
    n: ArrayLike,
    t: ArrayLike = 1.0,
    memo: Memo | None = None,
) -> tuple[Array, Array]:
    """Evaluate a formula and its slope ``h = p dl/dp``.

    The slope is the total derivative with respect to log p. The gradient of a sample's loss with respect to its logits
    follows from the slopes of its classes: ``dL/dz_k = h_k - p_k sum_j h_j``. Kinks of min, max and abs are treated as
    in `lossmith.formulas.derivative`, and a part with slope 0 contributes 0 even where its outer function is vertical.

    Args:
        expression: the formula in p, c, d, y, n and t, where ``d = -log(1 - p)``.
        u: ``log p - log(1 - p)``, from which p, c and d are computed without cancellation.
        y: 1 for the target class and 0 otherwise.
        n: the number of classes.
        t: the progress of training from 0 to 1.
        memo: a dictionary that keeps the results of subexpressions, to be passed with every formula that is evaluated
            on the same arrays. A subexpression without y, for example, is kept at the shape of the other arrays.

    Returns:
        The value and the slope as read-only arrays of the inputs' broadcast shape; infinite or NaN, without a warning,
        where the formula is.

    Raises:
        FormulaError: if the formula has another terminal.
    """
    shape = np.broadcast_shapes(*(np.shape(each) for each in (u, y, n, t)))
    value, slope = dual(expression, u, y, n, t, {} if memo is None else memo)
    return np.broadcast_to(value, shape), np.broadcast_to(0.0 if slope is None else slope, shape)


def dual(expression: Expression, u: ArrayLike, y: ArrayLike, n: ArrayLike, t: ArrayLike, memo: Memo) -> Dual:
    """The value and slope of `values_and_slopes` at the smallest shapes that hold them."""

    def combine(node: Expression, operands: list[Dual]) -> Dual:
        if operands:
            return cast("Dual", _RULES[node.op](*operands))
        return _leaf(node, u, {"y": y, "n": n, "t": t})

    with np.errstate(all="ignore"):
        return fold_known(expression, combine, memo)


def _leaf(leaf: Expression, u: ArrayLike, given: Mapping[str, ArrayLike]) -> Dual:
    name = leaf.name
    if leaf.is_constant or name in given:
        return np.asarray(leaf.value if leaf.is_constant else given[name], dtype=np.float64), None
    logit = np.asarray(u, dtype=np.float64)
    if name == "p":
        p = _sigmoid_of(logit)
        return p, p
    if name == "c":
        return np.logaddexp(0.0, -logit), np.full_like(logit, -1.0)
    if name == "d":
        return np.logaddexp(0.0, logit), np.exp(logit)
    raise FormulaError(f"a formula with the terminal {name} cannot be evaluated from p, y, n and t")


def _sigmoid_of(a: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-a))


def _sum(a: Array | None, b: Array | None) -> Array | None:
    if a is None or b is None:
        return a if b is None else b
    return a + b


def _times(outer: Array, slope: Array | None) -> Array | None:
    return None if slope is None else outer * slope


def _times_or_zero(outer: Array, slope: Array | None) -> Array | None:
    """The product, 0 where the slope is 0: for functions that are vertical somewhere."""
    return None if slope is None else np.where(slope == 0.0, 0.0, outer * slope)


def _neg(a: Dual) -> Dual:
    return -a[0], None if a[1] is None else -a[1]


def _mul(a: Dual, b: Dual) -> Dual:
    return a[0] * b[0], _sum(_times(b[0], a[1]), _times(a[0], b[1]))


def _div(a: Dual, b: Dual) -> Dual:
    value = a[0] / b[0]
    slope = _sum(a[1], _times_or_zero(-value, b[1]))
    return value, None if slope is None else np.where(slope == 0.0, 0.0, slope / b[0])


def _pow(a: Dual, b: Dual) -> Dual:
    value = np.power(a[0], b[0])
    slope = None if a[1] is None else _times_or_zero(b[0] * np.power(a[0], b[0] - 1.0), a[1])
    if b[1] is not None:
        slope = _sum(slope, np.where(value == 0.0, 0.0, value * np.log(a[0])) * b[1])
    return value, slope


def _aq(a: Dual, b: Dual) -> Dual:
    root = np.hypot(1.0, b[0])
    value = a[0] / root
    slope = None if a[1] is None else a[1] / root
    return value, slope if b[1] is None else _sum(slope, -value * b[0] / (root * root) * b[1])


def _extremum(choose: Callable[[Array, Array], Array], sign: float) -> Callable[[Dual, Dual], Dual]:
    """The larger operand (``sign`` 1) or the smaller one (``sign`` -1)."""

    def rule(a: Dual, b: Dual) -> Dual:
        value = choose(a[0], b[0])
        if a[1] is None and b[1] is None:
            return value, None
        share = 0.5 + 0.5 * sign * np.sign(a[0] - b[0])
        left, right = (0.0 if each is None else each for each in (a[1], b[1]))
        return value, np.where(share == 1.0, left, np.where(share == 0.0, right, share * (left + right)))

    return rule


def _chain(function: Callable[[Array], Array], outer: Callable[[Array, Array], Array]) -> Callable[[Dual], Dual]:
    """A function of one operand, whose own slope ``outer`` computes from the operand and the value."""

    def rule(a: Dual) -> Dual:
        value = function(a[0])
        return value, None if a[1] is None else outer(a[0], value) * a[1]

    return rule


def _vertical(function: Callable[[Array], Array], outer: Callable[[Array, Array], Array]) -> Callable[[Dual], Dual]:
    """As `_chain`, for a function that is vertical somewhere."""

    def rule(a: Dual) -> Dual:
        value = function(a[0])
        return value, None if a[1] is None else _times_or_zero(outer(a[0], value), a[1])

    return rule


def _protected(a: Array) -> Array:
    return np.abs(a) + PROTECTION


_RULES: Final[dict[str, Callable[..., Any]]] = {
    "add": lambda a, b: (a[0] + b[0], _sum(a[1], b[1])),
    "sub": lambda a, b: (a[0] - b[0], _sum(a[1], None if b[1] is None else -b[1])),
    "mul": _mul,
    "div": _div,
    "pow": _pow,
    "aq": _aq,
    "min": _extremum(np.minimum, -1.0),
    "max": _extremum(np.maximum, 1.0),
    "neg": _neg,
    "exp": _chain(np.exp, lambda a, value: value),
    "log": _vertical(np.log, lambda a, value: 1.0 / a),
    "sqrt": _vertical(np.sqrt, lambda a, value: 0.5 / value),
    "square": _chain(np.square, lambda a, value: 2.0 * a),
    "expm1": _chain(np.expm1, lambda a, value: np.exp(a)),
    "log1p": _vertical(np.log1p, lambda a, value: 1.0 / (1.0 + a)),
    "sin": _chain(np.sin, lambda a, value: np.cos(a)),
    "cos": _chain(np.cos, lambda a, value: -np.sin(a)),
    "tanh": _chain(np.tanh, lambda a, value: 1.0 - value * value),
    "abs": _chain(np.abs, lambda a, value: np.sign(a)),
    "sign": lambda a: (np.sign(a[0]), None),
    "sigmoid": _chain(_sigmoid_of, lambda a, value: value * _sigmoid_of(-a)),
    "softplus": _chain(lambda a: np.logaddexp(0.0, a), lambda a, value: _sigmoid_of(a)),
    "plog": _chain(lambda a: np.log(_protected(a)), lambda a, value: np.sign(a) / _protected(a)),
    "psqrt": _chain(lambda a: np.sqrt(_protected(a)), lambda a, value: 0.5 * np.sign(a) / value),
}
