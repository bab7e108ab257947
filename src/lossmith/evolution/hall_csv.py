"""``hall_of_fame.csv``: the best candidates of all searches, for other programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lossmith.comparison.files import csv_text, write_file
from lossmith.evolution.findings import Candidate, SearchFindings

_COLUMNS: Final = (
    "rank",
    "strategy",
    "formula",
    "complexity",
    "score",
    "error",
    "rung",
    "lr_factor",
    "operator",
    "number",
    "on_front",
)


def write_hall_of_fame(searches: Sequence[SearchFindings], folder: Path) -> None:
    """Write ``hall_of_fame.csv`` into the run folder, whole or not at all."""
    write_file(folder / "hall_of_fame.csv", hall_of_fame_csv(searches))


def hall_of_fame_csv(searches: Sequence[SearchFindings]) -> str:
    """A row for each member, the best of a search first, one search after the other."""
    rows = [
        _row(rank, search.strategy, member)
        for search in searches
        for rank, member in enumerate(search.hall_of_fame, start=1)
    ]
    return csv_text(rows) if rows else ",".join(_COLUMNS) + "\n"


def _row(rank: int, strategy: str, member: Candidate) -> dict[str, str]:
    values = (
        str(rank),
        strategy,
        member.formula,
        str(member.complexity),
        _number(member.scores[0] if member.scores else math.nan),
        _number(member.error),
        str(member.rung + 1),
        _number(member.lr_factor),
        member.operator,
        str(member.number),
        str(member.on_front).lower(),
    )
    return dict(zip(_COLUMNS, values, strict=True))


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""
