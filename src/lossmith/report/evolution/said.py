"""What is said of a search in words and small tables: the same in the terminal and on the page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lossmith.comparison.estimate import duration
from lossmith.evolution.findings import Candidate, Choice, Found, RungFindings, SearchFindings
from lossmith.report.evolution.search_run import SearchRun, judged, score_of, trained
from lossmith.report.numbers import MISSING, is_known, significant

STRATEGIES: Final = {
    "tournament": "tournament selection",
    "ageing": "regularised evolution",
    "pareto": "multi-objective search",
    "random": "random search",
}
_TINY: Final = 0.001
_TUNING: Final = {"constants", "constant mutation"}  # what changes nothing but constants
_OPERATORS: Final = {"seed": "named loss", "random": "random tree", "constants": "tuned constants"}


@dataclass(frozen=True)
class Fate:
    """What became of some of the candidates of each search.

    Args:
        name: of a filter, or of what the survivors did.
        counts: one for each search.
        shares: of all candidates that the search made.
        trained: whether they were trained; else a filter rejected them.
    """

    name: str
    counts: tuple[int, ...]
    shares: tuple[float, ...]
    trained: bool


@dataclass(frozen=True)
class Ancestor:
    """A step of the winner's descent.

    Args:
        candidate: it.
        made: how, in words.
        repeats: how many further ancestors, one before the other, differ from it in their constants only.
    """

    candidate: Candidate
    made: str
    repeats: int


def strategy(search: SearchFindings) -> str:
    """The name of a search, in words."""
    return STRATEGIES.get(search.strategy, search.strategy)


def operator(candidate: Candidate, named: Mapping[str, str]) -> str:
    """How a candidate was made, in words; `named` are the losses of the first generation, by formula."""
    words = _OPERATORS.get(candidate.operator, candidate.operator.replace("_", " "))
    known = named.get(candidate.formula) if candidate.operator == "seed" else None
    return words if known is None else f"{words} {known}"


def nats(value: float) -> str:
    """A score, with as many decimals as its standard error usually has digits."""
    if not is_known(value):
        return "no score"
    return f"{value:.4f}" if abs(value) >= _TINY else significant(value)


def error(value: float) -> str:
    """A standard error of a score."""
    return nats(value) if is_known(value) else MISSING


def result(candidate: Candidate) -> str:
    """What a candidate achieved, and on which rung."""
    if candidate.rung < 0:
        return "not trained"
    return f"{nats(score_of(candidate))}{' nats' * is_known(score_of(candidate))} on rung {candidate.rung + 1}"


def facts(run: SearchRun) -> list[str]:
    """What was searched, in a line under the title."""
    found = run.found
    search, choice, final = found.examples
    return [
        ", ".join(found.problems),
        f"{found.classes:,} classes",
        " against ".join(strategy(each) for each in found.searches),
        f"{sum(map(judged, found.searches)):,} candidates judged, "
        f"{sum(map(trained, found.searches)):,} of them trained",
        *([duration(seconds) + " of search"] if (seconds := _seconds(found)) else []),
        f"{search:,} examples to search, {choice:,} to choose, {final:,} for the final comparison",
    ]


def _seconds(found: Found) -> float:
    return max((point.seconds for search in found.searches for point in search.course[-1:]), default=0.0)


def fates(searches: Sequence[SearchFindings]) -> list[Fate]:
    """What each filter rejected, in their order, and how many candidates were trained on each rung."""
    names = list(dict.fromkeys(name for search in searches for name in search.filters))
    rows = [_fate(name, [search.filters.get(name, 0) for search in searches], searches, False) for name in names]
    for rung in range(max((len(search.trained) for search in searches), default=0)):
        counts = [search.trained[rung] if rung < len(search.trained) else 0 for search in searches]
        rows.append(_fate(f"trained on rung {rung + 1}", counts, searches, True))
    return rows


def _fate(name: str, counts: Sequence[int], searches: Sequence[SearchFindings], trained: bool) -> Fate:
    shares = (count / max(1, _made_in_all(search)) for count, search in zip(counts, searches, strict=True))
    return Fate(name.replace("_", " "), tuple(counts), tuple(shares), trained)


def _made_in_all(search: SearchFindings) -> int:
    return sum(search.filters.values()) + trained(search)


def beside_the_filters(searches: Sequence[SearchFindings]) -> list[str]:
    """What the table of filters leaves out."""
    return [
        f"{strategy(search).capitalize()}: {search.rescued:,} candidates pushed the wrong way and had their sign "
        f"flipped; {search.failed:,} of the trained ones had no finite score; "
        f"{search.trainings:,} trainings in all."
        for search in searches
    ]


def rung_rows(found: Found) -> list[tuple[str, ...]]:
    """The rungs of successive halving; see `RUNG_HEAD`."""
    return [_rung(place, rung, len(found.rungs)) for place, rung in enumerate(found.rungs)]


def _rung(place: int, rung: RungFindings, count: int) -> tuple[str, ...]:
    last = place == count - 1
    return (
        str(place + 1),
        f"{rung.steps:,}",
        str(rung.seeds),
        "the loss itself" if rung.exact else "its table of slopes",
        f"{rung.trained:,}",
        MISSING if last else f"{rung.promoted:,}",
        MISSING
        if rung.correlation is None or not is_known(rung.correlation)
        else f"{round(rung.correlation, 2) + 0.0:.2f}",
    )


RUNG_HEAD: Final = ("rung", "steps", "seeds", "trained by", "trained", "went on", "tau with the next")


def rung_sentences(found: Found) -> list[str]:
    """What successive halving may have lost, and what the tables cost."""
    said = []
    for place, rung in enumerate(found.rungs):
        if rung.audited:
            said.append(
                f"Of the candidates that rung {place + 1} dropped, {rung.audited:,} chosen at random were trained "
                f"further all the same: {rung.would_have_passed:,} of them "
                f"({percent(rung.would_have_passed / rung.audited)}) would have been kept."
            )
    if any(not rung.exact for rung in found.rungs) and is_known(found.table_error[0]):
        middle, largest = (significant(100 * error) for error in found.table_error)
        said.append(
            f"Over the hall of fame, gradients by table differ from the exact ones by {middle} % in the median and by "
            f"{largest} % at most."
        )
    return said


def percent(share: float) -> str:
    """A share, in percent."""
    return "0 %" if share == 0 else "<0.1 %" if share < 0.001 else f"{100 * share:.1f} %"


def choices_of(found: Found, search: SearchFindings) -> list[Choice]:
    """The finalists of a search, the best first."""
    of = [choice for choice in found.choices if choice.strategy == search.strategy]
    return sorted(of, key=lambda choice: choice.score if is_known(choice.score) else math.inf)


def descent(search: SearchFindings, named: Mapping[str, str]) -> Iterator[Ancestor]:
    """The ancestors of the first of the hall of fame, the youngest first.

    A row of ancestors each of which is the next with other constants is one step.
    """
    by_number = {each.number: each for each in search.lineage}
    children = Counter(parent for each in by_number.values() for parent in each.parents)
    folded: set[int] = set()
    for child in by_number.values():
        if child.number in folded:
            continue
        last, repeats = child, 0
        while (before := _same_but_for_constants(last, by_number)) is not None and children[before.number] == 1:
            folded.add(before.number)
            last, repeats = before, repeats + 1
        yield Ancestor(child, _made(child, last, named), repeats)


def _same_but_for_constants(child: Candidate, known: Mapping[int, Candidate]) -> Candidate | None:
    """The parent of a candidate that differs from it in constants, where that is so of the parent and its own."""
    before = known.get(child.parents[0]) if len(child.parents) == 1 else None
    if before is None or before.number >= child.number or not {child.operator, before.operator} <= _TUNING:
        return None
    return before


def _made(child: Candidate, last: Candidate, named: Mapping[str, str]) -> str:
    made = operator(child, named)
    return f"{made} of {' and '.join(f'#{parent}' for parent in last.parents)}" if last.parents else made


def hall_of(search: SearchFindings, most: int | None = None) -> list[tuple[int, Candidate]]:
    """The best candidates of a search with their ranks."""
    return list(enumerate(search.hall_of_fame[:most], start=1))


def member_cells(rank: int, member: Candidate, rungs: int, named: Mapping[str, str]) -> tuple[str, ...]:
    """A member of the hall of fame as a row; see `MEMBER_HEAD`."""
    return (
        str(rank),
        nats(score_of(member)),
        error(member.error),
        member.formula,
        f"{member.complexity}",
        f"{member.rung + 1} of {rungs}",
        f"{significant(member.lr_factor, 3)}",
        operator(member, named),
    )


MEMBER_HEAD: Final = ("#", "score", "± error", "formula", "nodes", "rung", "learning rate", "made by")
