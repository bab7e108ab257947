"""A parser for formulas that uses two stacks, without recursion or `eval`."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from lossmith.formulas.errors import FormulaError
from lossmith.formulas.expression import ARITY, TERMINALS, Expression, apply, constant, terminal

MAX_LENGTH: Final = 10_000
MAX_NODES: Final = 2_000
MAX_DEPTH: Final = 200

_TOKEN: Final = re.compile(
    r"(?P<space>[ \t\r\n]+)|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<sign>\*\*|[-+*/(),])"
)
_BINARY: Final = {"+": ("add", 1), "-": ("sub", 1), "*": ("mul", 2), "/": ("div", 2), "**": ("pow", 4)}
_NEGATION: Final = 3
_NAMED_CONSTANTS: Final = {"pi": math.pi}


class _Token(NamedTuple):
    kind: str
    text: str
    position: int  # from 1


class _Frame(NamedTuple):
    """An operator waiting for its right operand, or an open bracket."""

    op: str  # "" for a bracket that is not a function call
    binds: int  # 0 for all brackets
    position: int
    arguments_below: int = 0  # for a call: the size of the operand stack before its arguments


def parse(text: str, names: Mapping[str, Expression] | None = None) -> Expression:
    """Parse a formula.

    Operators in order of increasing precedence: ``a + b`` and ``a - b``; ``a*b`` and ``a/b``; ``-a``; ``a**b``, which
    is right-associative. Operands are numbers, ``pi``, the terminals p, y, c, n and t, expressions in brackets, and
    function calls. The functions are exp, log, sqrt, square, expm1, log1p, sin, cos, tanh, abs, sign, sigmoid,
    softplus, min(a, b), max(a, b), the protected functions aq(a, b) = a/sqrt(1 + b*b), plog(a) = log(|a| + 1e-7) and
    psqrt(a) = sqrt(|a| + 1e-7), and the operators by name: neg, add, sub, mul, div, pow.
    As in Python, ``-p**2`` is ``-(p**2)``. A minus before a number is part of the number unless ``**`` follows.

    Args:
        text: the formula, limited to 10,000 characters, 2,000 nodes and a depth of 200.
        names: further names that the text may use, with the expressions they stand for.

    Returns:
        The tree as written, without constant folding. Its `str` parses to the same tree.

    Raises:
        FormulaError: if the text is not a formula. The message says in one sentence what is wrong and where.
    """
    if not isinstance(text, str):
        raise FormulaError(f"a formula must be a string, not {type(text).__name__}")
    if len(text) > MAX_LENGTH:
        raise FormulaError(f"the formula is {len(text)} characters long, more than {MAX_LENGTH}")
    return _Parser(_tokens(text), names or {}).parse()


class _Parser:
    """Operator-precedence parsing: `operands` holds finished subtrees, `frames` the operators waiting for them."""

    def __init__(self, tokens: list[_Token], names: Mapping[str, Expression]) -> None:
        self.tokens, self.names = tokens, names
        self.at = 0
        self.operands: list[Expression] = []
        self.frames: list[_Frame] = []
        self.nodes = 0

    def parse(self) -> Expression:
        """Parse all tokens."""
        operand_expected = True
        while (token := self.tokens[self.at]).kind != "end":
            self.at += 1
            operand_expected = self._operand(token) if operand_expected else self._operator(token)
        if operand_expected:
            raise _error("an operand is missing at the end of the formula", token.position)
        self._reduce(1)
        if self.frames:
            raise FormulaError(f"the bracket at position {self.frames[-1].position} is never closed")
        return self.operands[0]

    def _operand(self, token: _Token) -> bool:
        """Consume a token where an operand may begin, and return whether an operand is still expected."""
        following = self.tokens[self.at]
        if token.kind == "number":
            self._push(constant(_number(token)), token.position)
            return False
        if token.kind == "name":
            return self._name(token, following)
        if token.text == "(":
            self.frames.append(_Frame("", 0, token.position))
        elif token.text == "-":
            if following.kind == "number" and self.tokens[self.at + 1].text != "**":
                self.at += 1
                self._push(constant(-_number(following)), token.position)
                return False
            self.frames.append(_Frame("neg", _NEGATION, token.position))
        elif token.text != "+":
            raise _error(f"an operand is missing before {token.text!r}", token.position)
        return True

    def _name(self, token: _Token, following: _Token) -> bool:
        name = token.text
        if following.text == "(":
            if name not in ARITY:
                raise _error(f"unknown function {_short(name)!r}", token.position, _nearest(name, list(ARITY)))
            self.at += 1
            self.frames.append(_Frame(name, 0, token.position, len(self.operands)))
            return True
        if name in self.names:
            self._push(self.names[name], token.position)
        elif name in TERMINALS:
            self._push(terminal(name), token.position)
        elif name in _NAMED_CONSTANTS:
            self._push(constant(_NAMED_CONSTANTS[name]), token.position)
        elif name in ARITY:
            raise _error(f"the function {name} needs its operands in brackets", token.position)
        else:
            hint = _nearest(name, [*TERMINALS, *_NAMED_CONSTANTS, *ARITY])
            raise _error(f"unknown name {_short(name)!r}", token.position, hint)
        return False

    def _operator(self, token: _Token) -> bool:
        """Consume a token after an operand, and return whether an operand is expected next."""
        if token.text in _BINARY:
            op, binds = _BINARY[token.text]
            self._reduce(binds + (op == "pow"))
            self.frames.append(_Frame(op, binds, token.position))
            return True
        if token.text == ")":
            self._reduce(1)
            if not self.frames:
                raise _error("there is no opening bracket for ')'", token.position)
            frame = self.frames.pop()
            if frame.op:
                self._call(frame)
            return False
        if token.text == ",":
            self._reduce(1)
            if not self.frames or not self.frames[-1].op:
                raise _error("a comma is only allowed between the operands of a function", token.position)
            return True
        raise _error(f"an operator is missing before {token.text!r}", token.position)

    def _call(self, frame: _Frame) -> None:
        given, takes = len(self.operands) - frame.arguments_below, ARITY[frame.op]
        if given != takes:
            what = "one operand" if takes == 1 else f"{takes} operands"
            raise FormulaError(f"{frame.op} takes {what}, not {given}, at position {frame.position}")
        self._apply(frame)

    def _reduce(self, binds: int) -> None:
        """Apply the waiting operators that bind at least this tightly."""
        while self.frames and self.frames[-1].binds >= binds:
            self._apply(self.frames.pop())

    def _apply(self, frame: _Frame) -> None:
        arity = ARITY[frame.op]
        args = self.operands[-arity:]
        del self.operands[-arity:]
        self._push(apply(frame.op, *args), frame.position)

    def _push(self, expression: Expression, position: int) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _error(f"the formula has more than {MAX_NODES} nodes, exceeded", position)
        if expression.depth > MAX_DEPTH:
            raise _error(f"the formula is nested more than {MAX_DEPTH} levels deep", position)
        self.operands.append(expression)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        matched = _TOKEN.match(text, at)
        if matched is None:
            hint = "write ** for powers" if text[at] == "^" else None
            raise _error(f"unexpected character {text[at]!r}", at + 1, hint)
        if matched.lastgroup != "space":
            tokens.append(_Token(str(matched.lastgroup), matched.group(), at + 1))
        at = matched.end()
    return [*tokens, _Token("end", "", len(text) + 1)]


def _number(token: _Token) -> float:
    value = float(token.text)
    if math.isinf(value):
        raise _error(f"the number {_short(token.text)} is too large", token.position)
    return value


def _error(problem: str, position: int, hint: str | None = None) -> FormulaError:
    return FormulaError(f"{problem} at position {position}" + (f": {hint}" if hint else ""))


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name.lower(), known, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(known)}"


def _short(text: str) -> str:
    return text if len(text) <= 30 else f"{text[:27]}..."
