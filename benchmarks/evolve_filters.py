"""What the filters of a search reject, and what they cost: ``python benchmarks/evolve_filters.py``.

20,000 random trees of depth 2 to 4 and 2 to 6, without and with t, and 20,000 children: of a population of 500 that
begins with the named losses and random survivors and in which each child that passes replaces a random member. Times
are of the processor.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Final

import numpy as np

import lossmith
from lossmith.evolution.filters import FILTERS, STAGES, Screen
from lossmith.evolution.grammar import Grammar, ramped
from lossmith.evolution.variation import offspring
from lossmith.formulas import Expression, parse

COUNT: Final = 20_000
BATCH: Final = 200
POPULATION: Final = 500
CLASSES: Final = 10
PLAIN: Final = Grammar()
TIMED: Final = Grammar(terminals=(*PLAIN.terminals, "t"))


def main() -> None:
    """Print one table in Markdown."""
    columns: dict[str, tuple[Screen, float]] = {}
    for deepest in (4, 6):
        for grammar in (PLAIN, TIMED):
            trees = ramped(np.random.default_rng(0), grammar, COUNT, deepest=deepest)
            batches = [trees[start : start + BATCH] for start in range(0, COUNT, BATCH)]
            columns[f"depth 2-{deepest}{', t' if grammar.has_time else ''}"] = screened(grammar, batches)
    for grammar in (PLAIN, TIMED):
        columns[f"children{', t' if grammar.has_time else ''}"] = bred(grammar)
    print("| of 20,000 |", " | ".join(columns), "|")
    print("|---" * (len(columns) + 1) + "|")
    for name in FILTERS:
        row(name, [f"{100 * screen.counts[name] / COUNT:.1f} %" for screen, _ in columns.values()])
    row("**passed**", [f"**{100 * screen.counts['passed'] / COUNT:.1f} %**" for screen, _ in columns.values()])
    row("of these with the sign flipped", [_share(screen, "rescued", "passed") for screen, _ in columns.values()])
    for stage in STAGES:
        row(f"ms per candidate: {stage}", [f"{1e3 * each.seconds[stage] / COUNT:.3f}" for each, _ in columns.values()])
    row("ms per candidate: **all**", [f"**{1e3 * seconds / COUNT:.3f}**" for _, seconds in columns.values()])


def screened(grammar: Grammar, batches: Sequence[Sequence[Expression]]) -> tuple[Screen, float]:
    """Filter batches; the processor time that took."""
    screen = Screen(CLASSES, grammar)
    began = time.thread_time()
    for batch in batches:
        screen.sift(batch)
    return screen, time.thread_time() - began


def bred(grammar: Grammar) -> tuple[Screen, float]:
    """Filter the children of an evolving population; the processor time that took without the breeding."""
    rng = np.random.default_rng(0)
    formulas = {loss.formula for name in _names() if (loss := lossmith.create(name)).formula is not None}
    screen = Screen(CLASSES, grammar)
    population = _survivors(screen, map(parse, sorted(formulas)), len(formulas))
    fresh = (tree for _ in count() for tree in ramped(rng, grammar, BATCH, deepest=6))
    while len(population) < POPULATION:
        population += _survivors(screen, fresh, BATCH)
    screen.counts, screen.seconds = dict.fromkeys(screen.counts, 0), dict.fromkeys(STAGES, 0.0)
    taken = 0.0
    for _ in range(COUNT // BATCH):
        parents = rng.integers(len(population), size=(BATCH, 2))
        children = [offspring(rng, grammar, [population[i] for i in pair])[0] for pair in parents]
        began = time.thread_time()
        results = screen.sift(children)
        taken += time.thread_time() - began
        for each in results:
            if each.rejected is None:
                population[rng.integers(len(population))] = each.expression
    return screen, taken


def row(name: str, cells: Sequence[str]) -> None:
    """Print one row."""
    print("|", name, "|", " | ".join(cells), "|")


def _survivors(screen: Screen, trees: Iterator[Expression], number: int) -> list[Expression]:
    return [each.expression for each in screen.sift(list(islice(trees, number))) if each.rejected is None]


def _names() -> list[str]:
    return [info.name for info in lossmith.available("classification") if info.name != "formula"]


def _share(screen: Screen, part: str, whole: str) -> str:
    return f"{100 * screen.counts[part] / screen.counts[whole]:.0f} %"


if __name__ == "__main__":
    main()
