"""Conversion of formulas to LaTeX."""

from __future__ import annotations

from typing import Final

from lossmith.formulas.expression import PROTECTION, Expression, fold
from lossmith.formulas.printer import ATOM, POWER, PRODUCT, SIGN, SUM

Written = tuple[str, int]
"""Source text and its binding strength."""

_NAMED: Final = {"exp": r"\exp", "log": r"\log", "sin": r"\sin", "cos": r"\cos", "tanh": r"\tanh", "sigmoid": r"\sigma"}
_WORDS: Final = {
    "sign": r"\operatorname{sign}",
    "softplus": r"\operatorname{softplus}",
    "min": r"\min",
    "max": r"\max",
}


def latex(expression: Expression) -> str:
    """Convert a formula to LaTeX math mode.

    Args:
        expression: the formula.

    Returns:
        The source without dollar signs. Quotients become fractions, c stays c, and sigmoid becomes sigma.
    """
    return fold(expression, _write)[0]


def _write(node: Expression, operands: list[Written]) -> Written:
    if node.is_constant:
        return _number(node.value)
    if node.name:
        return node.name, ATOM
    plain = [text for text, _ in operands]
    match node.op:
        case "add":
            return f"{plain[0]} + {_bracketed(operands[1], PRODUCT)}", SUM
        case "sub":
            return f"{plain[0]} - {_bracketed(operands[1], PRODUCT)}", SUM
        case "mul":
            left, right = _bracketed(operands[0], PRODUCT), _bracketed(operands[1], POWER)
            sign = r" \cdot " if right[0].isdigit() else " "
            return left + sign + right, PRODUCT
        case "div":
            return rf"\frac{{{plain[0]}}}{{{plain[1]}}}", POWER
        case "neg":
            return "-" + _bracketed(operands[0], PRODUCT), SIGN
        case "pow":
            return f"{_bracketed(operands[0], ATOM)}^{{{plain[1]}}}", POWER
        case "square":
            return f"{_bracketed(operands[0], ATOM)}^{{2}}", POWER
        case "abs":
            return rf"\left|{plain[0]}\right|", ATOM
        case _:
            return _function(node.op, operands)


def _function(op: str, operands: list[Written]) -> Written:
    text = operands[0][0]
    match op:
        case "sqrt":
            return rf"\sqrt{{{text}}}", ATOM
        case "expm1":
            return rf"\exp{_round(text)} - 1", SUM
        case "log1p":
            return rf"\log{_round('1 + ' + _bracketed(operands[0], PRODUCT))}", POWER
        case "aq":
            return rf"\frac{{{text}}}{{\sqrt{{1 + {_bracketed(operands[1], ATOM)}^{{2}}}}}}", POWER
        case "plog":
            return rf"\log{_round(_protected(text))}", POWER
        case "psqrt":
            return rf"\sqrt{{{_protected(text)}}}", ATOM
        case _:
            name = _NAMED.get(op) or _WORDS[op]
            return name + _round(", ".join(operand for operand, _ in operands)), POWER


def _number(value: float) -> Written:
    mantissa, e, exponent = f"{value:.12g}".partition("e")
    if e:
        power = rf"10^{{{int(exponent)}}}"
        return (power if mantissa == "1" else rf"{mantissa} \cdot {power}"), PRODUCT
    return mantissa, ATOM if value >= 0 else SIGN


def _protected(text: str) -> str:
    return rf"\left|{text}\right| + {_number(PROTECTION)[0]}"


def _round(text: str) -> str:
    return rf"\left({text}\right)"


def _bracketed(operand: Written, least: int) -> str:
    text, binds = operand
    return text if binds >= least else _round(text)
