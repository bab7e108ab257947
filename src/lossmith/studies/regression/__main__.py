"""``python -m lossmith.studies.regression``: parse, run, print."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lossmith.comparison.files import write_file
from lossmith.progress import ConsoleProgress
from lossmith.studies.regression.leaderboard import WIDTH, as_json, print_findings
from lossmith.studies.regression.protocol import Study, run_study
from lossmith.studies.regression.table import read_regression


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study of a table.

    Args:
        argv: arguments; ``None``: those of the command line.

    Returns:
        The exit code: 2 for a bad request, told in one sentence.
    """
    given = vars(_parser().parse_args(argv))
    data_path, label, out = given.pop("data"), given.pop("label"), given.pop("out")
    console = Console(width=min(WIDTH, Console().width))
    try:
        study = Study(**given)
        data = read_regression(data_path, label)
        with ConsoleProgress(Console(stderr=True)) as progress:
            findings = run_study(data, study, progress)
        print_findings(findings, console)
        if out is not None:
            write_file(Path(out), as_json(findings) + "\n")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lossmith.studies.regression",
        description="AdaLFL's regression experiment under one tuning budget for all losses, with controls.",
    )
    default = Study()
    parser.add_argument("data", help="a .csv or .csv.gz file with a header row")
    parser.add_argument("--label", required=True, help="name of the column to predict")
    parser.add_argument("--out", help="a file for the results as JSON")
    for option, text in (
        ("folds", "outer folds"),
        ("seeds", "final seeds per fold"),
        ("steps", "optimiser steps of a training"),
        ("lrs", "learning rates in the grid, and settings searched besides"),
        ("batch_size", "examples per step"),
        ("offline_steps", "fresh models of an offline phase"),
        ("seed", "seed of everything that is drawn"),
    ):
        name = f"--{option.replace('_', '-')}"
        parser.add_argument(name, type=int, default=getattr(default, option), help=f"{text} (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
