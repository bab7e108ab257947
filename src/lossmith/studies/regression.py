"""The regression experiment of AdaLFL, made fair: ``python -m lossmith.studies.regression TABLE --label COLUMN``.

A comparison of losses for regression with every way of learning one, their replays included. The references, the
tuned Huber loss and squared error with three times the steps come with every comparison.

Source: Raymond, Chen, Xue, Zhang, "Online Loss Function Learning", 2023, arXiv 2301.13247, which trains small networks
on three tables of numbers; the controls are ours.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from lossmith.comparison.plan import Options, make_plan, write_plan
from lossmith.comparison.session import carry_out
from lossmith.progress import ConsoleProgress
from lossmith.trials.trial import Sources

_ONLINE: Final = "meta_data=next,meta_lr=?,scale=learned"
_FRESH: Final = "offline=250,offline_lr=0.01,meta_lr=?,scale=learned"
LOSSES: Final = (
    "mae",
    "smooth_absolute_error",
    "log_cosh",
    "adaptive:control=scale,meta_data=next,meta_lr=?",
    f"adaptive:activation=relu,hidden=50,online=false,output=softplus,start=random,{_FRESH}",
    f"adaptive:meta_data=fresh,online=false,{_FRESH}",
    f"adaptive:{_ONLINE}",
    "adaptive:meta_lr=?,meta_part=0.2,scale=learned",
    f"adaptive:meta_data=next,{_FRESH}",
    f"adaptive:control=rate_replay,{_ONLINE}",
    f"adaptive:control=loss_replay,{_ONLINE}",
)
"""Robust losses; one learned factor; ML3 for regression; learned offline, online, online from held-out rows, and both;
the two replays of the one learned online."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study on a table; the same command goes on where it was stopped.

    Args:
        argv: arguments; ``None``: those of the command line.

    Returns:
        The exit code: 2 for a bad request, told in one sentence.
    """
    given = vars(_parser().parse_args(argv))
    folder, workers = given.pop("out"), given.pop("workers")
    options = Options(task="regression", model="mlp:width=64", optimizer="sgd", losses=LOSSES, **given)
    try:
        sources = Sources()
        plan = make_plan(options, sources)
        folder = Path(folder or f"runs/adaptive-{plan.name}-{plan.digest}")
        write_plan(plan, folder)
        with ConsoleProgress(Console(stderr=True)) as progress:
            summary = carry_out(plan, sources, folder, workers=workers, progress=progress)
    except KeyboardInterrupt:
        print("\nStopped; what is done is kept, and the same command goes on from here.", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    lines = [summary.headline, *summary.adaptation, f"lossmith show {folder} has the table."]
    Console().print("\n".join(lines), markup=False, highlight=False)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lossmith.studies.regression", description=__doc__)
    parser.add_argument("data", help="a table, or diabetes")
    parser.add_argument("--label", help="name of the column to predict")
    parser.add_argument("--out", help="run folder")
    for option, default, text in (
        ("folds", 5, "outer folds"),
        ("repeats", 2, "repeats of tuning and final training per fold"),
        ("steps", 500, "optimiser steps of a training"),
        ("lrs", 3, "learning rates in the grid"),
        ("batch-size", 64, "examples per step"),
        ("seed", 0, "seed of everything that is drawn"),
        ("workers", os.cpu_count() or 1, "processes"),
    ):
        parser.add_argument(f"--{option}", type=int, default=default, help=f"{text} (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
