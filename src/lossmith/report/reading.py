"""From plain JSON or TOML values to typed dataclasses, checking everything on the way: files come from other people."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Final, TypeVar, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")

# Beyond it no table or picture can show a number, and logarithmic axes overflow.
_LARGEST: Final = 1e30


class ReadError(ValueError):
    """A value that is missing or of another type than it should be; the message names the place."""


def read(kind: type[T], value: object, place: str) -> T:
    """Build a dataclass, or whatever its fields are made of, from plain values.

    Keys that the dataclass does not know are passed over, a missing optional one is None, ``null`` in the place of a
    number is NaN (that is how non-finite numbers are written) and so is one beyond 1e30, and text loses its control
    characters.

    Args:
        kind: A dataclass, float, int, bool, str, ``dict[str, X]``, ``tuple[X, ...]``, ``tuple[X, Y]`` or ``X | None``.
        value: What ``json`` or ``tomllib`` gave.
        place: What to call it in an error.

    Returns:
        The value, typed.

    Raises:
        ReadError: If something is missing or of the wrong type.
    """
    return cast("T", _read(kind, value, place))


def clean(text: str) -> str:
    """Text without control, formatting and other invisible characters, which could act on a terminal or break XML."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _read(kind: Any, value: object, place: str) -> Any:
    origin = get_origin(kind)
    if origin is UnionType:
        (inner,) = (arg for arg in get_args(kind) if arg is not NoneType)
        return None if value is None else _read(inner, value, place)
    if is_dataclass(kind):
        return _read_dataclass(cast("type[Any]", kind), value, place)
    if origin is tuple:
        return _read_tuple(get_args(kind), value, place)
    if origin is dict:
        of = get_args(kind)[1]
        return {clean(str(key)): _read(of, item, f"{place}.{key}") for key, item in _mapping(value, place).items()}
    return _read_scalar(kind, value, place)


def _read_dataclass(kind: type[Any], value: object, place: str) -> Any:
    given, hints = _mapping(value, place), get_type_hints(kind)
    read_fields = {}
    for name in (field.name for field in fields(kind)):
        if name not in given and NoneType not in get_args(hints[name]):
            raise ReadError(f"{place} lacks {name}")
        read_fields[name] = _read(hints[name], given.get(name), f"{place}.{name}")
    return kind(**read_fields)


def _read_tuple(of: tuple[Any, ...], value: object, place: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ReadError(f"{place} should be a list")
    kinds = (of[0],) * len(value) if of[-1] is Ellipsis else of
    if len(kinds) != len(value):
        raise ReadError(f"{place} should have {len(kinds)} entries, not {len(value)}")
    return tuple(_read(kind, item, f"{place}[{i}]") for i, (kind, item) in enumerate(zip(kinds, value, strict=True)))


def _read_scalar(kind: type[Any], value: object, place: str) -> Any:
    if kind is float and value is None:
        return math.nan
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if abs(value) <= _LARGEST else math.nan
    if kind is int and type(value) is int and abs(value) > _LARGEST:
        raise ReadError(f"{place} is too large")
    if kind is str and isinstance(value, str):
        return clean(value)
    if type(value) is kind:  # exactly: a bool is not a number
        return value
    raise ReadError(f"{place} should be a {kind.__name__}")


def _mapping(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ReadError(f"{place} should be a table of values")
    return value
