"""Editing of formulas by position: the subtrees of a tree, and the tree with one of them replaced."""

from __future__ import annotations

from collections.abc import Callable

from lossmith.formulas.expression import Expression


def subtrees(expression: Expression) -> list[Expression]:
    """List every subtree of a formula.

    Args:
        expression: the formula.

    Returns:
        Its ``size`` subtrees in preorder: the formula itself, then those of its operands from left to right. A subtree
        that occurs twice is listed twice.
    """
    found: list[Expression] = []
    stack = [expression]
    while stack:
        node = stack.pop()
        found.append(node)
        stack.extend(reversed(node.args))
    return found


def replace_at(expression: Expression, position: int, new: Expression) -> Expression:
    """Replace one subtree of a formula.

    Args:
        expression: the formula.
        position: the position of the subtree in `subtrees`.
        new: what takes its place.

    Returns:
        The new formula. It shares all other subtrees with the old one, and nothing is folded.

    Raises:
        IndexError: if the formula has no subtree at this position.
    """
    if not 0 <= position < expression.size:
        raise IndexError(f"a formula of {expression.size} nodes has no subtree at position {position}")
    path: list[tuple[Expression, int]] = []
    node = expression
    while position:
        position -= 1
        child = 0
        while position >= node.args[child].size:
            position -= node.args[child].size
            child += 1
        path.append((node, child))
        node = node.args[child]
    for node, child in reversed(path):
        new = Expression(node.op, (*node.args[:child], new, *node.args[child + 1 :]))
    return new


def replace_leaves(expression: Expression, leaf: Callable[[Expression], Expression]) -> Expression:
    """Replace the leaves of a formula.

    Args:
        expression: the formula.
        leaf: maps a constant or terminal to what takes its place; called once per occurrence, from left to right.

    Returns:
        The new formula; nothing is folded.
    """
    done: list[Expression] = []
    for node in reversed(_right_to_left(expression)):
        if node.args:
            args = tuple(done[-len(node.args) :])
            del done[-len(node.args) :]
            done.append(
                node if all(a is b for a, b in zip(args, node.args, strict=True)) else Expression(node.op, args)
            )
        else:
            done.append(leaf(node))
    return done[0]


def _right_to_left(expression: Expression) -> list[Expression]:
    """All subtrees, each before its operands and the operands from right to left."""
    found: list[Expression] = []
    stack = [expression]
    while stack:
        node = stack.pop()
        found.append(node)
        stack.extend(node.args)
    return found
