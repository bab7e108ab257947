"""What a user may ask of a search for losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from lossmith.comparison.options import parse_losses
from lossmith.trials.options import Option, Request, RequestError, parse_names

StrategyName = Literal["tournament", "ageing", "pareto", "random"]
Fitness = Literal["nll_scaled", "nll"]


def _parse_losses(text: str) -> tuple[str, ...]:
    return () if text == "none" else parse_losses(text)


@dataclass(frozen=True, kw_only=True)
class SearchOptions(Request):
    """What a user may ask of a search besides what `Request` holds; ``None`` leaves the choice to us.

    Raises:
        RequestError: as `Request`; if both a time and a number of evaluations are given.
    """

    minutes: Annotated[
        float | None,
        Option(
            "Minutes of search; the last promotions, the choice and the comparisons come on top. Default: 5.",
            "Search",
            least=0.05,
        ),
    ] = None
    evaluations: Annotated[
        int | None,
        Option("Losses that each search trains before it polishes constants, instead of minutes.", "Search", least=20),
    ] = None
    strategy: Annotated[
        StrategyName,
        Option(
            "tournament, ageing (the oldest die), pareto (score against complexity), or random.",
            "Search",
        ),
    ] = "tournament"
    population: Annotated[int, Option("Losses in a generation.", "Search", least=10, below=10_000)] = 96
    seed_losses: Annotated[
        tuple[str, ...] | None,
        Option(
            "Losses of the first generation, comma-separated, or none; default: all that have a formula.",
            "Search",
            parse=_parse_losses,
        ),
    ] = None
    time: Annotated[bool, Option("Search for losses that change during training, too.", "Search")] = False
    also: Annotated[
        tuple[str, ...] | None,
        Option("Search on these too, DATA:MODEL,...; the fitness is the mean rank.", "Search", parse=parse_names),
    ] = None
    fitness: Annotated[
        Fitness, Option("Validation cross-entropy with temperature scaling (nll_scaled) or without (nll).", "Search")
    ] = "nll_scaled"
    max_size: Annotated[int, Option("Most nodes of a formula.", "Search", least=3, below=1000)] = 32
    max_depth: Annotated[
        int, Option("Most nodes on a path from the root of a formula to a leaf.", "Search", least=2)
    ] = 8
    transfer: Annotated[
        tuple[str, ...] | None,
        Option("Compare the winner on these too, DATA or DATA:MODEL,...", "Comparison", parse=parse_names),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.minutes is not None and self.evaluations is not None:
            raise RequestError("--minutes and --evaluations exclude each other: give one of them")


def data_and_model(text: str, option: str) -> tuple[str, str | None]:
    """Data and model of ``DATA:MODEL``; the model may be left out.

    Args:
        text: what was given.
        option: by which option, for the error.

    Returns:
        The data, and the model or ``None``.

    Raises:
        RequestError: if there is no such model.
    """
    from lossmith.catalog import nearest  # needs torch, as models do
    from lossmith.trials.models import MODELS

    data, colon, model = text.partition(":")
    if data in {"openml", "hf"}:
        rest, colon, model = model.partition(":")
        data = f"{data}:{rest}"
    if colon and not model:
        raise RequestError(f"{option} {text}: name a model after the colon, or leave it out")
    known = model.partition(":")[0]
    if model and known not in MODELS and ".py" not in model:
        raise RequestError(f"{option} {text}: unknown model {known!r}: {nearest(known, MODELS)}")
    return data, model or None
