"""The commands that look and write but train nothing: ``describe``, ``list``, ``export`` and ``show``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lossmith.cli.running import Force
from lossmith.endings import check_file


def describe(
    loss: Annotated[str, typer.Argument(metavar="LOSS", help="Text form of a loss, see `lossmith list`.")],
    classes: Annotated[int, typer.Option(help="Number of classes to describe it for.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all curves.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures to this file.")] = None,
) -> None:
    """Say what a loss is: strictness, convexity, best predictions, robustness, numbers, relatives."""
    if html is not None:
        check_file(html, "--html", force=True)
    from lossmith.catalog import create
    from lossmith.properties import certify, to_json
    from lossmith.report.describe_page import write_description
    from lossmith.report.describe_terminal import Description

    certificate = certify(create(loss), classes)
    if as_json:
        typer.echo(to_json(certificate))
    else:
        Console().print(Description(certificate))
    if html is not None:
        write_description(certificate, html)
        Console(stderr=True).print(f"\nwritten to {html}", markup=False, highlight=False, soft_wrap=True)


def list_losses() -> None:
    """List the losses with their text forms and defaults."""
    from lossmith.catalog import available

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", overflow="fold", ratio=2)
    table.add_column(ratio=3)
    for kind in ("classification", "segmentation", "learned", "regression", "gan"):
        table.add_row(f"[dim]{kind}[/dim]", "")
        for info in available(kind):
            formula = f"\n[dim]{info.formula}[/dim]" if info.formula else ""
            table.add_row(info.text.replace("[", r"\["), info.summary.replace("``", "") + formula)
    Console().print(table)


def export(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Text form of a loss, or a run folder: its recommended or found.")
    ],
    output: Annotated[Path, typer.Option(help="The file to write.")] = Path("my_loss.py"),
    force: Force = False,
) -> None:
    """Write a loss as one readable torch file that does not import Lossmith."""
    check_file(output, "--output", force=force)
    from lossmith.export import export as write

    text = write(name, output)
    Console().print(f"{text} is class Loss in {output}", markup=False, highlight=False, soft_wrap=True)


def show(run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]) -> None:
    """Show the results of a finished comparison or search."""
    from lossmith.report.folder import SEARCH, find_run

    _, results = find_run(run)  # a wrong folder is refused before torch is loaded
    if results.name == SEARCH:
        from lossmith.report.evolution.search_run import load_search
        from lossmith.report.evolution.terminal import SearchEnd

        Console().print(SearchEnd(load_search(run)))
        return
    from lossmith.report.run import load_run
    from lossmith.report.terminal import Leaderboard

    Console().print(Leaderboard(load_run(run)))
