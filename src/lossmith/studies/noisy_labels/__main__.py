"""``python -m lossmith.studies.noisy_labels``: parse, run, print."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from rich.console import Console

from lossmith.data.spec import NoiseKind
from lossmith.progress import ConsoleProgress
from lossmith.studies.noisy_labels.findings import write_findings
from lossmith.studies.noisy_labels.protocol import Findings, Study, run_study
from lossmith.trials.ledger import Ledger, LedgerError
from lossmith.trials.runner import Runner, TrainingFailedError
from lossmith.trials.trial import Sources


def main(argv: Sequence[str] | None = None) -> int:
    """Run the study on a data set; the same command goes on where it was stopped. A bad request exits with 2."""
    given = vars(_parser().parse_args(argv))
    data, folder, workers = given.pop("data"), Path(given.pop("out")), given.pop("workers")
    for name in ("noises", "sizes", "lrs"):
        given[name] = tuple(given[name])
    done: list[Findings] = []
    try:
        study = Study(**given)
        with ConsoleProgress(Console(stderr=True)) as progress, Ledger(folder / "ledger.sqlite") as ledger:
            runner = Runner(ledger, Sources(), workers=workers, progress=progress)
            try:
                for findings in run_study(study, data, runner):
                    done.append(findings)
                    told = write_findings(done, folder)
            finally:
                runner.close()
        print(told, end="")
    except (ValueError, OSError, LedgerError, TrainingFailedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _noise(text: str) -> tuple[NoiseKind, float]:
    kind, _, share = text.partition(":")
    kinds: dict[str, NoiseKind] = {known: known for known in get_args(NoiseKind)}
    try:
        return kinds[kind], float(share)
    except (KeyError, ValueError):
        known = " or ".join(kinds)
        raise argparse.ArgumentTypeError(f"{text!r} is no noise: give {known} and a share, as symmetric:0.2") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lossmith.studies.noisy_labels",
        description="A loss that learns from a few clean examples against everything else they are good for.",
    )
    default = Study()
    parser.add_argument("data", help="name of a data set that comes with Lossmith, or a path")
    parser.add_argument("--out", required=True, help="folder for ledger, results and verdict")
    parser.add_argument("--workers", type=int, default=1, help="worker processes, 0 for none (%(default)s)")
    parser.add_argument("--model", default=default.model, help="model (%(default)s)")
    parser.add_argument(
        "--noise",
        dest="noises",
        nargs="+",
        type=_noise,
        default=default.noises,
        metavar="KIND:SHARE",
        help="symmetric:SHARE or asymmetric:SHARE (20 and 40 %% symmetric, 20 %% asymmetric)",
    )
    parser.add_argument("--clean", dest="sizes", nargs="+", type=int, default=default.sizes, help="clean examples")
    parser.add_argument("--lrs", nargs=2, type=float, default=default.lrs, help="lowest and highest learning rate")
    for option, text in (
        ("seeds", "replicates of each condition"),
        ("settings", "settings that each method tries in each replicate"),
        ("steps", "optimiser steps of a training"),
        ("batch_size", "examples per step"),
        ("train_size", "noisy examples; all by default"),
        ("seed", "seed of everything that is drawn"),
    ):
        name = f"--{option.replace('_', '-')}"
        parser.add_argument(name, type=int, default=getattr(default, option), help=f"{text} (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
