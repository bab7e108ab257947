"""The text form of losses: ``rooted:k=3``, ``dynamical(focal:gamma=1):amplitude=20``, lists of them.

Grammar (whitespace around tokens is ignored)::

    losses = sum {"," sum}            commas at bracket depth 0; a piece that begins "ident=" continues
                                      the loss before it
    sum    = term {"+" term}
    term   = [number "*"] loss
    loss   = name ["(" inner ")"] [":" arg {"," arg}]  |  "@" path
    inner  = a sum, or text up to the matching bracket
    arg    = ident "=" value
    value  = number | inf | true | false | none | word | "[" value {"," value} "]" | "?"

This module knows the grammar only; which names and arguments exist is the catalog's business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, Union

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LOSS_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")  # hyphens too, so that cross-entropy is an unknown name
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_ARGUMENT: Final = re.compile(r"\s*[A-Za-z_][A-Za-z0-9_]*\s*=")
_BRACKETS: Final = {")": "(", "]": "["}
_CONSTANTS: Final[dict[str, float | bool | None]] = {
    "inf": math.inf,
    "true": True,
    "false": False,
    "none": None,
}
_FACTOR: Final = re.compile(r"\s*((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*\*\s*")
_EXPONENT: Final = re.compile(r"(?<![A-Za-z0-9_])(?:\d+\.?\d*|\.\d+)[eE]$")  # its sign and digits follow
_TERM: Final = re.compile(rf"(?:{_FACTOR.pattern})?\s*(?:[A-Za-z_@+]|$)")  # also an empty one, to be refused
SUM: Final = "+"
"""The name, in a `LossText`, of a weighted sum of losses; the text in its brackets is the sum."""
MAX_LENGTH: Final = 10_000
MAX_DEPTH: Final = 40


class LossTextError(ValueError):
    """A text that names no loss; the message is one sentence that says what is wrong and where."""


@dataclass(frozen=True)
class Tune:
    """The value ``?``: to be tuned by a comparison within its budget."""

    def __str__(self) -> str:
        return "?"


TUNE: Final = Tune()

Value: TypeAlias = Union[float, bool, str, Tune, tuple["Value", ...], None]  # noqa: UP007 (recursive)


@dataclass(frozen=True)
class LossText:
    """One loss as a value: what the text form says, nothing resolved yet.

    Attributes:
        name: the loss's name, or ``"@path"`` for a saved loss.
        inner: the text between the brackets, ``None`` without brackets; for a sum its whole text.
        arguments: pairs of argument name and value, sorted by name.
    """

    name: str
    inner: str | None = None
    arguments: tuple[tuple[str, Value], ...] = ()

    def __str__(self) -> str:
        head = self.inner or "" if self.name == SUM else self.name + ("" if self.inner is None else f"({self.inner})")
        arguments = ",".join(f"{name}={format_value(value)}" for name, value in self.arguments)
        return head + (f":{arguments}" if arguments else "")


@dataclass(frozen=True)
class Term:
    """A term of a sum.

    Attributes:
        factor: what its loss is multiplied by.
        text: the text of its loss.
    """

    factor: float
    text: str

    def __str__(self) -> str:
        return self.text if self.factor == 1 else f"{format_value(self.factor)}*{self.text}"


def terms_of(text: str) -> list[Term]:
    """Split a sum of losses, or a single loss, into terms.

    Args:
        text: for example ``"cross_entropy+0.5*soft_dice"``.

    Returns:
        The terms: ``[Term(1, "cross_entropy"), Term(0.5, "soft_dice")]``.

    Raises:
        LossTextError: if a term is empty or the brackets do not match.
    """
    if text.lstrip().startswith("@"):
        return [Term(1.0, text.strip())]
    terms = []
    for piece in _split_terms(text):
        matched = _FACTOR.match(piece)
        terms.append(Term(float(matched.group(1)) if matched else 1.0, _without_factor(piece)))
    if len(terms) > 1 and not all(term.text for term in terms):
        raise LossTextError(f"a term without a loss in {text!r}: write terms such as 0.5*soft_dice")
    return terms


def sum_text(terms: Sequence[Term]) -> LossText:
    """The sum of some terms; a single one with the factor 1 is its loss."""
    if len(terms) == 1 and terms[0].factor == 1:
        return parse_loss(terms[0].text)
    return LossText(SUM, "+".join(map(str, terms)))


def split_losses(text: str) -> list[str]:
    """Split a comma-separated list of losses into the text of each.

    Args:
        text: for example ``"cross_entropy,symmetric:alpha=0.1,beta=1,ngl"``.

    Returns:
        The losses' texts in order: ``["cross_entropy", "symmetric:alpha=0.1,beta=1", "ngl"]``.

    Raises:
        LossTextError: if a piece is empty or the brackets do not match.
    """
    pieces: list[str] = []
    for piece in _split(text, ","):
        if pieces and _ARGUMENT.match(piece):
            pieces[-1] += "," + piece
        else:
            pieces.append(piece)
    if any(not piece.strip() for piece in pieces):
        raise LossTextError(f"an empty loss in the list {text!r}: write names separated by single commas")
    return [piece.strip() for piece in pieces]


def parse_loss(text: str) -> LossText:
    """Parse the text of one loss.

    Args:
        text: for example ``"dynamical(rooted:k=3):amplitude=20"``.

    Returns:
        The parsed value; ``str()`` of it is the same loss with its arguments sorted.

    Raises:
        LossTextError: if the text does not follow the grammar.
    """
    text = text.strip()
    if text.startswith("@"):
        return LossText("@" + text[1:].strip())
    terms = terms_of(text)
    if len(terms) > 1 or terms[0].text != text:
        return LossText(SUM, "+".join(map(str, terms)))
    matched = _LOSS_NAME.match(text)
    if matched is None:
        raise LossTextError(f"a loss begins with its name, but this text is {text!r}")
    name, rest = matched.group(), text[matched.end() :].lstrip()
    inner: str | None = None
    if rest.startswith("("):
        end = _matching_bracket(rest, text)
        inner, rest = rest[1:end].strip(), rest[end + 1 :].lstrip()
        if not inner:
            raise LossTextError(f"nothing between the brackets of {text!r}")
    if not rest:
        return LossText(name, inner)
    if not rest.startswith(":"):
        raise LossTextError(f"after {text[: len(text) - len(rest)]!r} a colon and arguments may follow, not {rest!r}")
    return LossText(name, inner, _parse_arguments(rest[1:], text))


def format_value(value: Value) -> str:
    """Write an argument's value so that it reads back as the same value."""
    if isinstance(value, tuple):
        return "[" + ",".join(map(format_value, value)) + "]"
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return (
            str(int(value))
            if math.isfinite(value) and value == int(value) and abs(value) < 1e15
            else repr(float(value))
        )
    return str(value)


def _parse_arguments(text: str, whole: str) -> tuple[tuple[str, Value], ...]:
    arguments: dict[str, Value] = {}
    for piece in _split(text, ","):
        name, equals, value = (part.strip() for part in piece.partition("="))
        if not equals or not _NAME.fullmatch(name):
            raise LossTextError(f"{piece.strip()!r} in {whole!r} is not of the form argument=value")
        if name in arguments:
            raise LossTextError(f"argument {name!r} is given twice in {whole!r}")
        arguments[name] = _parse_value(value, whole)
    return tuple(sorted(arguments.items()))


def _parse_value(text: str, whole: str) -> Value:
    text = text.strip()
    if text == "?":
        return TUNE
    if text.startswith("[") and text.endswith("]"):
        return tuple(_parse_value(piece, whole) for piece in _split(text[1:-1], ","))
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    if text.lower() == "-inf":
        return -math.inf
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isfinite(number) and "_" not in text:
        return number
    if _WORD.fullmatch(text):
        return text
    raise LossTextError(f"{text!r} in {whole!r} is no value: numbers, words, true, false, none, inf, [lists] and ? are")


def _split(text: str, separator: str, separates: Callable[[int], bool] = lambda _: True) -> list[str]:
    """Split at ``separator`` outside all brackets, at the positions where it ``separates``."""
    if len(text) > MAX_LENGTH:
        raise LossTextError(f"the text is {len(text)} characters long, more than {MAX_LENGTH}")
    pieces, start, open_brackets = [], 0, list[str]()
    for position, character in enumerate(text):
        _track(character, open_brackets, text)
        if character == separator and not open_brackets and separates(position):
            pieces.append(text[start:position])
            start = position + 1
    if open_brackets:
        raise LossTextError(f"a bracket {open_brackets[-1]!r} is never closed in {text!r}")
    return [*pieces, text[start:]]


def _split_terms(text: str) -> list[str]:
    """Split at each ``+`` outside all brackets that a term follows; a path after ``@`` runs to the end."""

    def separates(position: int) -> bool:
        return (
            not _EXPONENT.search(text, max(0, position - 40), position) and _TERM.match(text, position + 1) is not None
        )

    pieces: list[str] = []
    for piece in _split(text, "+", separates):
        if pieces and _without_factor(pieces[-1]).startswith("@"):
            pieces[-1] += "+" + piece
        else:
            pieces.append(piece)
    return pieces


def _without_factor(piece: str) -> str:
    matched = _FACTOR.match(piece)
    return piece[matched.end() if matched else 0 :].strip()


def _matching_bracket(text: str, whole: str) -> int:
    """The position of the bracket that closes the one ``text`` begins with."""
    open_brackets: list[str] = []
    for position, character in enumerate(text):
        _track(character, open_brackets, whole)
        if not open_brackets:
            return position
    raise LossTextError(f"a bracket {open_brackets[-1]!r} is never closed in {whole!r}")


def _track(character: str, open_brackets: list[str], text: str) -> None:
    if character in "([":
        open_brackets.append(character)
        if len(open_brackets) > MAX_DEPTH:
            raise LossTextError(f"brackets more than {MAX_DEPTH} deep")
    elif character in _BRACKETS and (not open_brackets or open_brackets.pop() != _BRACKETS[character]):
        raise LossTextError(f"a bracket {character!r} in {text!r} closes nothing")
