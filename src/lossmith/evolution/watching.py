"""The protocol by which a search reports its progress."""

from __future__ import annotations

from typing import Protocol

from lossmith.evolution.findings import SearchFindings
from lossmith.trials.runner import Progress


class Watcher(Progress, Protocol):
    """Told how far a search has come; as a runner's `Progress`, told of the trainings of each stage too.

    Stages and generations may come in any order: each is shown until the next one of its kind.
    """

    def begin(self, seconds: float | None, evaluations: int | None) -> None:
        """The search begins; it may take so many seconds and train so many candidates, ``None`` for no limit."""

    def generation(self, searches: tuple[SearchFindings, ...], seconds: float) -> None:
        """What the searches have found by now, the strategy's first, after so many seconds of search."""
