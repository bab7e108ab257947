"""From the values of a JSON or TOML file to typed dataclasses; such files come from other people."""

from __future__ import annotations

import math
from typing import Any, Final, TypeVar

import msgspec

from lossmith.comparison.files import Number

T = TypeVar("T")

# Beyond it no table or picture can show a number, and logarithmic axes overflow.
_LARGEST: Final = 1e30


class ReadError(ValueError):
    """A value that is missing or of the wrong type; the message names the place."""


def read(kind: type[T], value: object) -> T:
    """Build a dataclass, or whatever its fields are made of, from plain values, checking every type.

    Keys that the dataclass does not know are passed over. Text loses its control characters. ``null`` in the place of a
    `Number` or in a list of numbers is NaN: that is how numbers that are not finite are written. A number beyond 1e30
    counts as ``null``.
    """
    try:
        return msgspec.convert(_plain(value), kind, dec_hook=_number)
    except msgspec.ValidationError as error:
        raise ReadError(str(error)) from None


def clean(text: str) -> str:
    """Text without control, formatting and other invisible characters, which could act on a terminal or break XML."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)


def clean_lines(text: str) -> str:
    """The same line by line."""
    return "\n".join(map(clean, text.splitlines()))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {clean(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [math.nan if item is None else item for item in map(_plain, value)]
    if isinstance(value, str):
        return clean(value)
    return None if isinstance(value, (int, float)) and abs(value) > _LARGEST else value


def _number(kind: type, value: object) -> object:
    if value is None:
        return Number(math.nan)
    if kind is not Number or isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"Expected a number, got `{type(value).__name__}`")
    return Number(value)
