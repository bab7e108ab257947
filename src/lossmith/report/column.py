"""A column of the page's leaderboard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lossmith.comparison.rows import Row


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        group: the heading above it and its neighbours.
        head: its own heading.
        meaning: one sentence for the reader.
        text: what a cell says.
        key: what to sort by; None last.
        told: whether it bears the colour of the verdict.
    """

    group: str
    head: str
    meaning: str
    text: Callable[[Row], str]
    key: Callable[[Row], float | None]
    told: bool = False

    @classmethod
    def of(
        cls,
        group: str,
        head: str,
        meaning: str,
        value: Callable[[Row], float | None],
        shown: Callable[[float | None], str],
    ) -> Column:
        """A column of one number, by which it is sorted."""
        return cls(group, head, meaning, lambda row: shown(value(row)), value)
