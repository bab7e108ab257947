"""What `lossmith evolve` says before it begins."""

from __future__ import annotations

from pathlib import Path

from lossmith.comparison.estimate import duration
from lossmith.evolution.plan import SearchPlan


def search_announcement(plan: SearchPlan, folder: Path | None, seconds_after: float) -> tuple[str, ...]:
    """What will be done, in a few lines.

    Args:
        plan: the plan.
        folder: the run folder, ``None`` for a dry run.
        seconds_after: how long the choice and the comparisons take.

    Returns:
        The lines, the notes on the data last.
    """
    options, (searched, choice, final) = plan.options, plan.examples
    if options.evaluations is None:
        length = f"{plan.minutes:g} min of search"
        control = "" if options.strategy == "random" else ", shared with random search, its control"
    else:
        length = f"{options.evaluations:,} losses to train, then constants to polish"
        control = "" if options.strategy == "random" else ", and as many by random search, its control"
    others = "".join(f", then on {text}" for text in dict.fromkeys(options.transfer or ()))
    return (
        f"searching for a loss on {', '.join(problem.name for problem in plan.problems)}; "
        f"{len(plan.seeds)} known losses to begin with",
        f"{searched:,} examples for the search, {choice:,} for the choice of a winner, {final:,} for the comparison",
        f"{length}{control}",
        f"afterwards, the winner is chosen and compared on {plan.name}{others}: about {duration(seconds_after)}",
        *([] if folder is None else [f"results go to {folder}"]),
        *(f"note: {note}" for note in (*plan.notes, *_few(plan))),
    )


def _few(plan: SearchPlan) -> tuple[str, ...]:
    most, known = plan.options.evaluations, len(plan.seeds)
    if most is None or most > known:
        return ()
    return (f"{most} losses are no more than the {known} known ones: nothing new is tried (--evaluations)",)
