"""How a search was done, in plain words."""

from __future__ import annotations

from lossmith.report.evolution.said import strategy
from lossmith.report.evolution.search_run import Asked, SearchRun


def how_it_was_done(run: SearchRun) -> tuple[tuple[str, str], ...]:
    """The search as it was carried out, in statements for a sceptical colleague."""
    found, asked = run.found, run.design.options
    search, choice, final = found.examples
    problems = (
        ""
        if len(found.problems) == 1
        else (
            f" It was trained on {len(found.problems)} problems ({', '.join(found.problems)}); its fitness is its mean "
            "rank over them."
        )
    )
    own, *controls = map(strategy, found.searches)
    return (
        (
            "Three parts",
            f"Before anything was trained the data were split. The search saw {search:,} examples; the finalists were "
            f"compared on {choice:,} others; the final comparison alone used the last {final:,}.{_spoilt(asked)}",
        ),
        (
            "Candidates",
            "A candidate is a formula in the probability p of a class, in y, which is 1 for the target and else 0, in "
            f"c = -log p{_and_time(asked)} and in the number n of classes; the loss of an example is the sum over its "
            f"classes. Formulas that are equal up to rewriting count once.{_seeds(run)}",
        ),
        (
            "Filters",
            "What cannot be a loss was rejected before any training. Each filter rejects what the earlier ones let "
            "through; a candidate that pushes the target's probability down is judged with its sign flipped.",
        ),
        (
            "Fitness",
            f"A candidate's score is the cross-entropy of validation examples in nats{_scaled(asked)}; lower is "
            "better. Learning rates are relative to the best one of cross-entropy for that length; under SGD they "
            "are also divided by the size of the first gradient relative to cross-entropy's."
            f"{problems}",
        ),
        (
            "Successive halving",
            f"All candidates were trained for {found.rungs[0].steps:,} steps, the better ones again for more, up to "
            f"all {found.steps:,}. A rung kept every candidate within one standard error of its cut.",
        ),
        *(
            (
                (
                    "Control",
                    f"{' and '.join(controls).capitalize()} had the same filters, rungs and budget as {own}, began "
                    "with the same named losses, and chose its winner in the same way. Its other "
                    "candidates are random trees.",
                ),
            )
            if controls
            else ()
        ),
        (
            "Choice",
            "The finalists of each search were trained anew with fresh seeds and judged on the part of the data set "
            "aside for it. The best one there is the winner; no other was looked at on the final part."
            if found.choices
            else "The search was stopped before a winner was chosen.",
        ),
        (
            "Final comparison",
            "The winner was compared as `lossmith compare` compares losses: equal tuning budgets, paired runs, "
            "intervals, and a test part that nothing had seen. Each comparison has a report of its own."
            if found.comparisons
            else "There was none.",
        ),
    )


def _spoilt(asked: Asked) -> str:
    said = ""
    if asked.label_noise:
        said += f" {100 * asked.label_noise:g} % of the labels for training were changed at random."
    if asked.imbalance != 1:
        said += f" Training examples were left out so that classes differ in size by 1 to {asked.imbalance:g}."
    return said


def _and_time(asked: Asked) -> str:
    return ", in t, which goes from 0 to 1 over a training," if asked.time else ""


def _scaled(asked: Asked) -> str:
    if asked.fitness != "nll_scaled":
        return ""
    return ", after its probabilities were scaled by the one temperature that suits them best"


def _seeds(run: SearchRun) -> str:
    seeds = run.design.seeds
    return f" The first generation held the formulas of {', '.join(seeds)}, and random ones." if seeds else ""
