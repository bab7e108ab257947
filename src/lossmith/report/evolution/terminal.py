"""The end of a search in the terminal."""

from __future__ import annotations

from typing import Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from lossmith.evolution.findings import SearchFindings
from lossmith.report.evolution import said
from lossmith.report.evolution.finals import FinalTable, final_tables
from lossmith.report.evolution.portrait import resemblance
from lossmith.report.evolution.search_run import SearchRun, score_of
from lossmith.report.reading import clean
from lossmith.report.terminal import plain_text

_MEMBERS = 5
_MOST = 110


class SearchEnd:
    """What a search found as rich prints it: the verdict, the winner, the hall of fame, the final comparisons."""

    def __init__(self, run: SearchRun) -> None:
        self.run = run

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        run, found = self.run, self.run.found
        options = options.update(max_width=min(_MOST, options.max_width))
        yield plain_text(found.verdict, options, "bold")
        if not found.finished:
            yield plain_text("Run the same command again to resume. By then it had found:", options)
        yield plain_text("; ".join(said.facts(run)), options, "dim")
        if found.winner:
            yield ""
            yield plain_text(f"Winner: {found.winner}", options, "bold")
            for sentence in resemblance(found.winner, found.classes, found.known):
                yield plain_text(sentence, options)
        yield ""
        yield plain_text(f"Hall of fame of {said.strategy(found.searches[0])}, nats per example:", options)
        yield members(found.searches[0], options)
        for table in final_tables(run):
            yield ""
            yield plain_text(f"{table.title}; differences in points with 95 % intervals:", options)
            yield _comparison(table, options)
            for sentence in table.notes:
                yield plain_text(sentence, options, "dim")
        yield ""
        for search in found.searches:
            yield plain_text(_survival(search), options, "dim")
        yield plain_text(_where(run), options)


def members(search: SearchFindings, options: ConsoleOptions, *, cut: bool = False) -> Table:
    """The best of a hall of fame: rung, score, error, nodes, formula, which may be cut to one line."""
    numbers = ("#", "rung", "score", "error", "nodes")
    table = _table(*((name, "right") for name in numbers), ("formula", "left"))
    if cut:
        table.columns[-1].no_wrap, table.columns[-1].overflow = True, "crop" if options.ascii_only else "ellipsis"
    for rank, member in said.hall_of(search, _MEMBERS):
        rung = str(member.rung + 1)
        cells = (str(rank), rung, said.nats(score_of(member)), said.error(member.error), str(member.complexity))
        table.add_row(*(plain_text(cell, options) for cell in (*cells, member.formula)))
    return table


def rejections(search: SearchFindings) -> str:
    """How many candidates each filter rejected, in a line."""
    return ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in search.filters.items())


def _comparison(of: FinalTable, options: ConsoleOptions) -> Table:
    """The rows of a final comparison: the score and its differences from reference and rival; more on the page."""
    _, loss, score, reference, _, rival, _ = of.head
    heads = [each.replace("minus ", "minus\n") for each in (reference, rival)]
    table = _table((loss, "left"), (score.replace(", ", "\n"), "right"), *((head, "right") for head in heads))
    for row in of.rows:
        percent, minus_reference, _, minus_rival, _ = row.cells
        cells = (row.name, percent, minus_reference, minus_rival)
        table.add_row(*(plain_text(cell, options) for cell in cells), style="bold" if row.found else "")
    return table


def _survival(search: SearchFindings) -> str:
    rungs = ", ".join(f"{count:,}" for count in search.trained)
    return f"{said.strategy(search).capitalize()} rejected: {rejections(search)}; trained on its rungs: {rungs}."


def _table(*columns: tuple[str, Literal["left", "right"]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for head, justify in columns:
        table.add_column(head, justify=justify, overflow="fold")
    return table


def _where(run: SearchRun) -> str:
    page = f"Report: {clean(str(run.report))}" if run.report.is_file() else "No report.html has been written yet."
    best = run.folder / "best.loss"
    return f"{page}\nUse it: lossmith.create({clean(repr(f'@{best}'))})" if best.is_file() else page
