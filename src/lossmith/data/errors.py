"""The one exception for bad data, and the words its sentences share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class DataError(ValueError):
    """Bad data, or a bad request for data: one sentence that names the problem and the fix."""


def did_you_mean(name: str, names: Iterable[str] | Mapping[str, str]) -> str:
    """End a sentence: with the nearest of `names`, shown as a mapping's value, where one is near; else a full stop."""
    shown = names if isinstance(names, Mapping) else {each: each for each in names}
    by_folded = {each.casefold(): each for each in shown}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.5)
    return f"; did you mean {quoted(shown[by_folded[near[0]]], 200)}?" if near else "."


def listed(names: Iterable[object], limit: int = 8) -> str:
    """Join names by commas for a sentence, the first `limit` of them."""
    items = [quoted(name) for name in names]
    return ", ".join(items[:limit]) + (f" and {len(items) - limit} more" if len(items) > limit else "")


def quoted(value: object, limit: int = 60) -> str:
    """Quote a value found in the data on one line, shortened to `limit` characters."""
    text = str(value)
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")
