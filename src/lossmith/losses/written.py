"""How a loss writes its formula: the hyperparameters in it as short decimals, and none that do nothing."""

from __future__ import annotations

from lossmith.losses.text import format_value


def number(value: float) -> str:
    """The shortest decimal that reads back as the number, in brackets if negative."""
    shown = format_value(value)
    return f"({shown})" if value < 0 else shown


def times(factor: float) -> str:
    """``"3*"`` to stand before what is multiplied, nothing for a factor of 1."""
    return "" if factor == 1 else f"{number(factor)}*"


def over(divisor: float) -> str:
    """``"/3"`` to stand after what is divided, nothing for a divisor of 1."""
    return "" if divisor == 1 else f"/{number(divisor)}"
