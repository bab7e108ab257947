"""What a user may ask of a comparison."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from typing_extensions import override

from lossmith.trials.options import EveryOption, Option, ProbesOption, Request, RequestError


def parse_learning_rates(text: str) -> tuple[float, ...] | int:
    """Learning rates from a comma-separated text, or their number from a whole one."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise RequestError(f"--lrs {text}: give learning rates such as 0.001,0.002,0.004, or how many") from None
    if not all(map(math.isfinite, values)):
        raise RequestError(f"--lrs {text}: learning rates must be finite")
    return int(values[0]) if len(values) == 1 and values[0].is_integer() else tuple(values)


def parse_losses(text: str) -> tuple[str, ...]:
    """Text forms of losses from a comma-separated text."""
    from lossmith.losses.text import split_losses  # beside the losses, which need torch

    return tuple(split_losses(text))


@dataclass(frozen=True, kw_only=True)
class Options(Request):
    """What a user may ask of a comparison besides what `Request` holds; ``None`` leaves the choice to us.

    Raises:
        RequestError: as `Request`.
    """

    trainer: Annotated[
        str | None,
        Option("path/to/file.py:function, your own training function in place of data and model.", "Comparison"),
    ] = None
    losses: Annotated[
        tuple[str, ...] | None,
        Option(
            "Losses, comma-separated; default: the whole catalog.",
            "Comparison",
            parse=parse_losses,
            names=("--loss",),
        ),
    ] = None
    lrs: Annotated[
        tuple[float, ...] | int | None,
        Option(
            "Learning rates, comma-separated, or how many; default: 8.",
            "Comparison",
            parse=parse_learning_rates,
        ),
    ] = None
    budget: Annotated[
        int | None,
        Option("Tuning runs per loss and repeat; default: 1 per learning rate.", "Comparison", least=1),
    ] = None
    metric: Annotated[
        str | None,
        Option(
            "accuracy, balanced_accuracy, macro_f1, auc, average_precision, nll, brier; r2, mae; or path/to/file.py:"
            "function; default: by the data.",
            "Comparison",
        ),
    ] = None
    folds: Annotated[
        int | None,
        Option("Test folds, or 0 for one split; default: 5 below 5,000 examples.", "Comparison", least=0),
    ] = None
    repeats: Annotated[
        int | None,
        Option("Repeats of tuning and final run per fold; default: 2 with folds, else 3.", "Comparison", least=1),
    ] = None
    delta: Annotated[
        float, Option("Smallest difference in score that matters, a fraction.", "Comparison", least=1e-6)
    ] = 0.005
    probe: ProbesOption = None
    every: EveryOption = None

    @override
    def check_data(self) -> None:
        if self.trainer is None:
            super().check_data()
