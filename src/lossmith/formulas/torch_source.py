"""Conversion of formulas to readable Python source on torch tensors."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from lossmith.formulas.arithmetic import number
from lossmith.formulas.errors import FormulaError
from lossmith.formulas.expression import PROTECTION, Expression, constant, fold
from lossmith.formulas.printer import ATOM, INFIX, SIGN, bracketed

_CALLS: Final = {
    "abs": "torch.abs({})",
    "plog": f"torch.log(torch.abs({{}}) + {PROTECTION!r})",
    "psqrt": f"torch.sqrt(torch.abs({{}}) + {PROTECTION!r})",
    "aq": "analytic_quotient({}, {})",
    "softplus": "-F.logsigmoid(-({}))",
}
ANALYTIC_QUOTIENT: Final = '''

def analytic_quotient(a: Tensor, b: Tensor) -> Tensor:
    """A quotient without a pole."""
    return a * torch.rsqrt(1 + b * b)
'''


class _Written(NamedTuple):
    text: str
    binds: int
    is_number: bool = False


def torch_source(expression: Expression) -> str:
    """Convert a formula to a Python expression of tensors that are named as its terminals.

    It uses ``torch``, ``F`` (torch.nn.functional) and, for aq, `ANALYTIC_QUOTIENT`.

    Raises:
        FormulaError: if a subexpression without terminals has no finite value.
    """
    return fold(expression, _write).text


def _write(node: Expression, operands: list[_Written]) -> _Written:
    if node.is_constant:
        return _Written(repr(node.value), ATOM if node.value >= 0 else SIGN, True)
    if node.name:
        return _Written(node.name, ATOM)
    if not node.terminals:
        value = number(node)
        if not math.isfinite(value):
            raise FormulaError(f"the part {str(node)[:60]!r} of the formula has no finite value and cannot be exported")
        return _write(constant(value), [])
    if node.op in INFIX:
        sign, binds, least_left, least_right = INFIX[node.op]
        left, right = bracketed(*operands[0][:2], least_left), bracketed(*operands[1][:2], least_right)
        return _Written(f"{left} {sign.strip()} {right}", binds)
    if node.op == "neg":
        return _Written("-" + bracketed(*operands[0][:2], SIGN), SIGN)
    if node.op in {"min", "max"}:
        return _Written(f"torch.{node.op}imum({', '.join(_as_tensors(operands))})", ATOM)
    call = _CALLS.get(node.op, f"torch.{node.op}({{}})")
    texts = _as_tensors(operands) if node.op == "aq" else [operand.text for operand in operands]
    return _Written(call.format(*texts), SIGN if call.startswith("-") else ATOM)


def _as_tensors(operands: list[_Written]) -> list[str]:
    """The source of two operands for a function that accepts only tensors."""
    a, b = operands
    return [
        f"torch.full_like({b.text}, {a.text})" if a.is_number else a.text,
        f"torch.full_like({a.text}, {b.text})" if b.is_number else b.text,
    ]
