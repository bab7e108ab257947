"""Losses as formulas: parse, print, differentiate, bound and evaluate expressions without `eval`.

A formula such as ``exp(2.4092 - p*(1+y)) - cos(cos(sin(p)))`` gives the contribution of one class to a sample's loss.
``p`` is the softmax probability of the class, ``y`` is 1 for the target class and 0 otherwise, ``c`` is ``-log(p)``,
``n`` is the number of classes, and ``t`` is the progress of training from 0 to 1. `parse` documents the grammar, and
`lossmith.losses.FormulaLoss` turns a formula into a loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossmith.formulas.calculus import derivative, substitute
from lossmith.formulas.errors import FormulaError
from lossmith.formulas.evaluation import evaluate
from lossmith.formulas.expression import Expression, apply, constant, terminal
from lossmith.formulas.identity import canonical, digest
from lossmith.formulas.latex_printer import latex
from lossmith.formulas.parser import parse
from lossmith.formulas.simplification import simplify
from lossmith.formulas.sympy_bridge import to_sympy

if TYPE_CHECKING:
    from lossmith.formulas.intervals import bounds

__all__ = [
    "Expression",
    "FormulaError",
    "apply",
    "bounds",
    "canonical",
    "constant",
    "derivative",
    "digest",
    "evaluate",
    "latex",
    "parse",
    "simplify",
    "substitute",
    "terminal",
    "to_sympy",
]


def __getattr__(name: str) -> Any:
    if name == "bounds":  # needs numpy, which `import lossmith` must not load
        from lossmith.formulas.intervals import bounds

        return bounds
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
