"""Formulas that hypothesis makes, and formulas of which something is known."""

from __future__ import annotations

from hypothesis import strategies as st

from lossmith.formulas import Expression, apply, constant, terminal
from lossmith.formulas.expression import ARITY

NUMBERS = st.sampled_from([0.0, 1.0, -1.0, 2.0, -2.0, 0.5, 3.0, 0.1, -0.7, 2.4092, 1e-3]) | st.floats(-4, 4)
ANY_NUMBER = st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.sampled_from(["p", "p", "y", "c", "n", "t"]).map(terminal)


def trees(numbers: st.SearchStrategy[float] = NUMBERS, max_leaves: int = 12) -> st.SearchStrategy[Expression]:
    def deeper(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        return st.one_of([st.builds(apply, st.just(op), *[inner] * arity) for op, arity in ARITY.items()])

    return st.recursive(LEAVES | numbers.map(constant), deeper, max_leaves=max_leaves)


# Finite with their slopes for p in (0, 1) and y in {0, 1}; together they hold every operator.
FORMULAS = [
    "exp(2.4092 - p*(1+y)) - cos(cos(sin(p)))",
    "-y*log(p)",
    "3*y*expm1(c/3)",
    "y*(1-p)**2*c",
    "square(y - p)",
    "y/p - log1p(-p)*(1 - y)",
    "tanh(c)*sigmoid(p - y) + softplus(n*p)/n",
    "aq(p*c, y + p) - plog(p - 0.3) + psqrt(p*y)",
    "max(p, 0.3)*min(c, p) + abs(p - 0.45)",
    "sign(p - 0.2)*p + sqrt(p + c)",
    "p**c + 2**p - (-p)**3 + p**-0.5",
    "t*c*y + (1 - t)*(1 - p)*y",
    "neg(p) + add(p, c) - sub(c, p)*mul(p, y) + div(p, pow(n, 2))",
    "sin(3*p)*cos(c) - pi*p",
]
