"""The ``lossmith`` command: parse, call, print."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from lossmith import __version__
from lossmith.cli.compare import compare, selftest
from lossmith.cli.dynamics import dynamics
from lossmith.cli.evolve import evolve
from lossmith.cli.flattened import refuse_empty
from lossmith.cli.look import describe, export, list_losses, show
from lossmith.cli.study import study
from lossmith.cli.track import track
from lossmith.cli.train import predict, train
from lossmith.endings import saying, sentence_of, stoppable

app = typer.Typer(
    name="lossmith",
    help="Find the loss function that trains your model best, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (compare, selftest, evolve, train, dynamics, study, predict, describe):
    app.command()(command)
app.command(name="list")(list_losses)
for command in (export, show, track):
    app.command()(command)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"lossmith {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take what is said before the name of a command."""


def main() -> NoReturn:
    """Run the command line; a user error prints one sentence and exits with code 2."""
    console = Console(stderr=True)

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    try:
        with stoppable(), saying(say, lambda: "Run the same command again."):
            refuse_empty(sys.argv[1:])
            app()
    except (ValueError, RuntimeError, OSError) as error:
        if os.environ.get("LOSSMITH_TRACEBACK"):
            raise
        say(f"lossmith: {sentence_of(error)}")
        sys.exit(2)
    sys.exit(0)
