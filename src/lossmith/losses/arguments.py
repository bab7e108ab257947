"""Constructor arguments: checks that refuse in one sentence that names the argument, defaults, and values as text."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

from lossmith.losses.text import Value


@dataclass(frozen=True)
class Range:
    """The values of an argument that a comparison searches.

    Args:
        argument: its name.
        values: the values to choose from, ascending; or the lowest and highest of a continuous range.
        scale: ``"choices"``, ``"linear"`` or ``"log"``.
    """

    argument: str
    values: tuple[float, ...]
    scale: Literal["choices", "linear", "log"] = "choices"


def check_choice(argument: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuse a value that is not among the choices, in a sentence that names the argument."""
    if value not in choices:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, choices))}, not {value!r}")


def check_number(argument: str, value: object, *, low: float, high: float = math.inf, open_low: bool = False) -> None:
    """Refuse what is no number within the bounds, in a sentence that names the argument."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    number = cast("float", value) if is_number else math.nan
    if not (low < number if open_low else low <= number) or not number <= high:
        bounds = f"{'>' if open_low else '>='} {low:g}" + ("" if high == math.inf else f" and <= {high:g}")
        raise ValueError(f"{argument} must be a number {bounds}, not {value!r}")


def whole_number(argument: str, value: object, *, low: float) -> int:
    """Take a whole number, also one written as a float, or refuse it in a sentence that names the argument."""
    check_number(argument, value, low=low, high=2**53)
    number = cast("float", value)
    if number != int(number):
        raise ValueError(f"{argument} must be a whole number, not {value!r}")
    return int(number)


def class_values(argument: str, values: Tensor | Sequence[float]) -> Tensor:
    """Turn one value per class into a vector of torch's default dtype, or keep a floating tensor's dtype.

    Raises:
        ValueError: if ``values`` is not a vector of finite numbers.
    """
    if isinstance(values, Tensor):
        vector = values.detach().clone()
    elif isinstance(values, Sequence) and all(type(value) in {int, float} for value in values):
        vector = torch.tensor(values, dtype=torch.get_default_dtype())
    else:
        raise ValueError(f"{argument} must hold one number per class, not {values!r}")
    if not vector.is_floating_point():
        vector = vector.float()
    if vector.dim() != 1 or not vector.numel() or not bool(vector.isfinite().all()):
        raise ValueError(f"{argument} must be a vector of finite numbers, one per class")
    return vector


def defaults_of(cls: type) -> dict[str, Any]:
    """A constructor's named arguments with their defaults; `inspect.Parameter.empty` where there is none."""
    named = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    return {p.name: p.default for p in inspect.signature(cls).parameters.values() if p.kind in named}


def as_value(value: object) -> Value:
    """An argument as the text form writes it; of `class_values`, the shortest decimals that read back as them."""
    if isinstance(value, Tensor):
        return tuple(_shortest(number) for number in value)
    return cast("Value", value)


def _shortest(number: Tensor) -> float:
    for digits in range(6, 17):
        decimal = float(f"{number.item():.{digits}g}")
        if torch.tensor(decimal, dtype=number.dtype) == number:
            return decimal
    return number.item()
