"""Losses as formulas: expressions that are read, printed, differentiated, bounded and run, with no `eval`.

A formula such as ``exp(2.4092 - p*(1+y)) - cos(cos(sin(p)))`` says what one class adds to the loss of a sample: ``p``
is its softmax probability, ``y`` 1 for the target and 0 otherwise, ``c`` is ``-log p``, ``n`` the number of classes,
``t`` the progress of training from 0 to 1. See `parse` for the grammar and `lossmith.losses.FormulaLoss` for the loss.
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
    if name == "bounds":  # needs numpy, which `import lossmith` does without
        from lossmith.formulas.intervals import bounds

        return bounds
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
