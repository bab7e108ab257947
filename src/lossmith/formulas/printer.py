"""Conversion of expressions to text that parses back to the same tree."""

from __future__ import annotations

from typing import Final

from lossmith.formulas.expression import Expression

SUM, PRODUCT, SIGN, POWER, ATOM = range(1, 6)
"""Binding strengths of a text, from a sum to an atom (a name, number, call or bracket)."""

INFIX: Final = {
    # operator: (sign, binding strength, least strength of the left and of the right operand without brackets)
    "add": (" + ", SUM, SUM, PRODUCT),
    "sub": (" - ", SUM, SUM, PRODUCT),
    "mul": ("*", PRODUCT, PRODUCT, SIGN),
    "div": ("/", PRODUCT, PRODUCT, SIGN),
    "pow": ("**", POWER, ATOM, SIGN),
}


def to_text(expression: Expression, known: dict[Expression, str] | None = None) -> str:
    """Print an expression with few brackets in the grammar of `parse`, which turns it into the same tree.

    The texts of subexpressions that are ``known`` are used, and new ones are added.
    """
    texts: dict[Expression, str] = {} if known is None else known
    stack = [expression]
    while stack:
        node = stack[-1]
        waiting = [arg for arg in node.args if arg not in texts]
        if waiting and node not in texts:
            stack.extend(waiting)
            continue
        stack.pop()
        if node not in texts:
            texts[node] = _print(node, [(texts[arg], _binds(arg)) for arg in node.args])
    return texts[expression]


def number_text(value: float) -> str:
    """The shortest text that parses to the same number."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _binds(node: Expression) -> int:
    """The binding strength of a node's text."""
    if node.op == "neg" or node.value < 0:
        return SIGN
    return INFIX[node.op][1] if node.op in INFIX else ATOM


def _print(node: Expression, operands: list[tuple[str, int]]) -> str:
    if node.is_constant:
        return number_text(node.value)
    if node.name:
        return node.name
    if node.op in INFIX:
        sign, _, least_left, least_right = INFIX[node.op]
        return bracketed(*operands[0], least_left) + sign + bracketed(*operands[1], least_right)
    if node.op == "neg":
        # "-2" parses as a number, so the negation of the constant 2 needs brackets.
        least = ATOM + 1 if node.args[0].is_constant and node.args[0].value >= 0 else SIGN
        return "-" + bracketed(*operands[0], least)
    return f"{node.op}({', '.join(text for text, _ in operands)})"


def bracketed(text: str, binds: int, least: int) -> str:
    """A text in brackets if it binds less than is needed."""
    return text if binds >= least else f"({text})"
