"""What a formula means, in 50 digits, and formulas that leave the range of floats on the way to their values."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import mpmath
from mpmath import mpf

from lossmith.formulas import Expression, apply, constant, parse, terminal
from lossmith.formulas.expression import ARITY, PROTECTION, fold

DIGITS = 50
FAR = {**dict.fromkeys(("exp", "expm1", "sigmoid", "softplus", "tanh"), 1e11), "sin": 1e40, "cos": 1e40}
"""Beyond it a value is too large to compute, or takes too many digits."""


class NoValueError(ArithmeticError):
    """A formula without a value at a point, or one that is too large to compute."""


def _real(value: Any) -> Any:
    if not isinstance(value, mpf) or not mpmath.isfinite(value):
        raise NoValueError
    return value


def _pow(a: Any, b: Any) -> Any:
    if a == 0 and b >= 0:
        return mpf(b == 0)
    return mpmath.power(a, b)


# Each operator by its textbook definition, and the size of its slope in each operand.
FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., tuple[Any, ...]]]] = {
    "add": (lambda a, b: a + b, lambda v, a, b: (1, 1)),
    "sub": (lambda a, b: a - b, lambda v, a, b: (1, 1)),
    "mul": (lambda a, b: a * b, lambda v, a, b: (b, a)),
    "div": (lambda a, b: a / b, lambda v, a, b: (1 / b, v / b)),
    "pow": (_pow, lambda v, a, b: (v * b / a if a else 0, v * mpmath.log(abs(a)) if a else 0)),
    "aq": (lambda a, b: a / mpmath.sqrt(1 + b * b), lambda v, a, b: (1, v)),
    "min": (min, lambda v, a, b: (1, 1)),
    "max": (max, lambda v, a, b: (1, 1)),
    "neg": (lambda a: -a, lambda v, a: (1,)),
    "exp": (mpmath.exp, lambda v, a: (v,)),
    "log": (mpmath.log, lambda v, a: (1 / a,)),
    "sqrt": (mpmath.sqrt, lambda v, a: (1 / v if v else mpf("inf"),)),
    "square": (lambda a: a * a, lambda v, a: (2 * a,)),
    "expm1": (mpmath.expm1, lambda v, a: (mpmath.exp(a),)),
    "log1p": (mpmath.log1p, lambda v, a: (1 / (1 + a),)),
    "sin": (mpmath.sin, lambda v, a: (1,)),
    "cos": (mpmath.cos, lambda v, a: (1,)),
    "tanh": (mpmath.tanh, lambda v, a: (1 - v * v,)),
    "abs": (abs, lambda v, a: (1,)),
    "sign": (mpmath.sign, lambda v, a: (0,)),
    "sigmoid": (lambda a: 1 / (1 + mpmath.exp(-a)), lambda v, a: (v * (1 - v),)),
    "softplus": (lambda a: mpmath.log1p(mpmath.exp(a)), lambda v, a: (1 / (1 + mpmath.exp(-a)),)),
    "plog": (lambda a: mpmath.log(abs(a) + mpf(PROTECTION)), lambda v, a: (1 / (abs(a) + mpf(PROTECTION)),)),
    "psqrt": (lambda a: mpmath.sqrt(abs(a) + mpf(PROTECTION)), lambda v, a: (1 / v,)),
}


def exact(tree: Expression, **at: Any) -> Any:
    """The value in 50 digits; c and d follow from p.

    Raises:
        NoValueError: if there is none.
    """
    return conditioned(tree, **at)[0]


def conditioned(tree: Expression, reserve: float = 1.0, **at: Any) -> tuple[Any, Any]:
    """The value, and by how many times eps it moves where every step and number is off by its share eps.

    A reserve above 1 lets operands be so many times larger, or signs so many times less sure, before that is refused.
    """
    digits = max(DIGITS, mpmath.mp.dps) + 10 + max(0, -int(mpmath.log10(abs(at["p"]) or 1)))  # also of 1 - p
    with mpmath.workdps(digits):
        values = {name: mpf(value) for name, value in at.items()}

        def step(node: Expression, operands: list[tuple[Any, Any]]) -> tuple[Any, Any]:
            if node.is_constant:
                value = mpf(node.value)
                return value, abs(value)
            if node.name in {"c", "d"} and node.name not in values:
                value = _real(-mpmath.log(values["p"] if node.name == "c" else 1 - values["p"]))
                return value, abs(value)
            if node.name:
                return values[node.name], abs(values[node.name])
            function, slopes = FUNCTIONS[node.op]
            numbers = [number for number, _ in operands]
            _refuse(node, operands, reserve)
            try:
                value = _real(function(*numbers))
                moved = mpf(0) + sum(abs(s) * m for s, (_, m) in zip(slopes(value, *numbers), operands, strict=True))
            except (ZeroDivisionError, ValueError, OverflowError):
                raise NoValueError from None
            return value, abs(value) + moved

        return fold(tree, step)


def _refuse(node: Expression, operands: list[tuple[Any, Any]], reserve: float) -> None:
    """Raise for what is too large, and where rounding decides."""
    (a, moves), (b, _) = operands[0], operands[-1]
    if node.op in FAR and abs(a) > FAR[node.op] * reserve:
        raise NoValueError
    if node.op == "pow" and (
        (a < 0 and not node.args[1].is_constant) or (a and abs(b * mpmath.log(abs(a))) > 1e11 * reserve)
    ):
        raise NoValueError
    if node.op == "pow" and a == 0 < moves and not node.args[1].is_constant:
        raise NoValueError
    if node.op == "sign" and abs(a) * reserve < 1e-9 * moves:
        raise NoValueError


# --- formulas that bump, overflow and underflow ----------------------------------------------------------------------


def wild(rng: random.Random) -> tuple[Expression, list[float]]:
    """A formula with narrow, steep or far parts, and the places of p where something happens."""
    places: list[float] = [rng.random(), rng.random(), 1e-12, 1 - 1e-9, 1e-100]
    tree = _mixed(rng, rng.randint(1, 3), places)
    return tree, places


def _mixed(rng: random.Random, depth: int, places: list[float]) -> Expression:
    if depth == 0:
        return _part(rng, places)
    kind = rng.randrange(10)
    if kind < 4:
        op = rng.choice(["add", "sub", "mul", "mul", "div", "pow", "min", "max", "aq"])
        return apply(op, _mixed(rng, depth - 1, places), _mixed(rng, depth - 1, places))
    if kind < 8:
        op = rng.choice([op for op in ARITY if ARITY[op] == 1])
        return apply(op, _mixed(rng, depth - 1, places))
    if kind == 8:
        return _mixed(rng, depth - 1, places) * _extreme(rng)
    return _part(rng, places)


def _extreme(rng: random.Random) -> float:
    return rng.choice([-1, 1]) * float(f"{10 ** rng.uniform(-300, 300):.3g}")


def _part(rng: random.Random, places: list[float]) -> Expression:
    """A leaf, a bump, a step, a power or an exponential of a wide range."""
    kind = rng.randrange(12)
    p, c = terminal("p"), terminal("c")
    steep = float(f"{10 ** rng.uniform(0, 12):.3g}")
    center = round(rng.random(), rng.choice([1, 2, 9]))
    if kind < 3:
        return terminal(rng.choice("ppycnt"))
    if kind == 3:
        return constant(rng.choice([0.0, 1.0, -1.0, 2.0, 0.5, 0.1, 0.3, 1e-12, 1e-20, round(rng.uniform(-4, 4), 2)]))
    places += [center, center + 0.7 / steep, center - 1.3 / steep, center + 0.9 / steep**0.5]
    distance = p - center
    if kind < 6:
        return apply("exp", -steep * apply("square", distance))
    if kind == 6:
        return apply(rng.choice(["sigmoid", "tanh", "softplus", "exp", "expm1", "sin", "cos"]), steep * distance)
    if kind == 7:
        return apply("exp", rng.uniform(-900, 900) * (c if rng.random() < 0.5 else p) + rng.uniform(-900, 900))
    if kind == 8:
        return (p * terminal("n")) ** float(rng.choice([-200, -3, 0.5, 4, 200]))
    if kind == 9:
        return apply("expm1", rng.choice([-1000.0, 1000.0, -2.0]) * (1 - p))
    if kind == 10:
        return apply("log", rng.choice([1 - p + 1e-12, 1 - p + 1e-20, apply("exp", p + 800), apply("exp", c * -900)]))
    return parse(rng.choice(["expm1(-p)/p", "log1p(-p)/p", "(1 - p)**2", "sigmoid(-50*p)", "1 - p", "log(p)/(1 - p)"]))
