"""The final comparisons: the winner against its rivals, on the data searched and on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from lossmith.comparison.options import Options
from lossmith.comparison.plan import Plan, make_plan, write_plan
from lossmith.comparison.protocol import Findings
from lossmith.comparison.results import reference_learned, test_estimator, test_scores
from lossmith.comparison.rows import Gap, Summary
from lossmith.comparison.session import conclude
from lossmith.comparison.statistics import PairedDifference
from lossmith.comparison.verdict import without_numbers
from lossmith.evolution.options import SearchOptions, data_and_model
from lossmith.trials.options import Request
from lossmith.trials.runner import Runner
from lossmith.trials.trial import Sources

RIVALS = ("ngl", "focal")
RIVALS_UNDER_NOISE = ("gce", "symmetric")
FOLDER = "comparisons"


@dataclass(frozen=True)
class Compared:
    """A final comparison.

    Args:
        folder: relative to the run folder.
        summary: of the comparison.
        against_control: the winner minus random search's; ``None`` where there is no such row.
        learned: whether cross-entropy did better than guessing.
    """

    folder: str
    summary: Summary
    against_control: PairedDifference | None
    learned: bool


def comparison_options(options: SearchOptions, losses: Sequence[str]) -> list[Options]:
    """What is compared: the losses on the data searched, where the search never saw the test part, then elsewhere.

    Data that were searched are split as they were for the search, whatever the model: the folds of other comparisons
    would test on examples that the search has seen.

    Args:
        options: of the search.
        losses: the winner first.

    Returns:
        The options of each comparison.
    """
    rivals = RIVALS + (RIVALS_UNDER_NOISE if options.label_noise else ())
    asked = tuple(dict.fromkeys([*losses, *rivals]))
    own = {field.name: getattr(options, field.name) for field in fields(Request)}
    plain = {name: own[name] for name in ("seed", "optimizer", "momentum", "schedule", "select", "device")}
    also = [data_and_model(text, "--also")[0] for text in options.also or ()]
    found = [Options(**own | {"folds": 0}, losses=asked)]
    if not options.transfer:
        return found
    digest = options.dataset().digest
    searched = {digest, *(Options(**plain, data=data).dataset().digest for data in also)}
    for text in dict.fromkeys(options.transfer):
        data, model = data_and_model(text, "--transfer")
        other = Options(**plain, data=data, model=model, losses=asked)
        if (of := _digest(other, options)) == digest:
            other = Options(**own | {"model": model, "folds": 0}, losses=asked)
        found.append(replace(other, folds=0) if of in searched else other)
    return found


def compare_all(
    options: Sequence[Options], winner: str, control: str | None, sources: Sources, runner: Runner, folder: Path
) -> list[Compared]:
    """Carry out the final comparisons.

    Args:
        options: of each.
        winner: text form of the winner.
        control: that of random search's winner.
        sources: where data and models lie; filled in.
        runner: what runs the trainings.
        folder: the run folder.

    Returns:
        What they found.
    """
    found: list[Compared] = []
    for each in options:
        plan = make_plan(each, sources)
        model = plan.trial.trainer.title.replace(":", "-").replace("/", "-")
        place = f"{FOLDER}/{len(found) + 1}-{plan.name}-{model}"
        write_plan(plan, folder / place)
        findings, summary = conclude(plan, runner, folder / place)
        learned = reference_learned(plan, findings.runs)
        found.append(Compared(place, summary, _against(plan, findings, winner, control), learned))
    return found


def sentence(compared: Compared, winner: str, known: str | None, name: str, examples: int) -> str:
    """What the comparison on the data searched says of the winner.

    Args:
        compared: that comparison.
        winner: the text form of the winner.
        known: the name of the winner, if the search began with it.
        name: what the data set is called.
        examples: number of test examples.

    Returns:
        A few sentences.
    """
    summary = compared.summary
    found = "the loss found" if known is None else known
    first = "" if known is None else f"The search found nothing better than {known}, which it began with. "
    row = next((row for row in summary.rows if row.loss == winner), None)
    if row is None or row.untrained is not None:
        reason = "" if row is None else f": {row.untrained}"
        return f"{first}In the comparison on {name}, {found} could not be trained{reason}."
    if not compared.learned:
        return f"{first}{summary.headline}"
    against = {
        "cross-entropy": row.against_reference,
        "tuned label smoothing": row.against_rival,
        "the best of random search": compared.against_control,
    }
    told = ", ".join(f"{_points(gap)} against {other}" for other, gap in against.items() if gap is not None)
    return (
        f"{first}On the {examples:,} examples of {name} that the search never saw, {found} scores "
        f"{100 * row.score:.1f} % {summary.metric}{told and f': {told}'}. "
        f"It{without_numbers(row.verdict.removeprefix(row.name))}"
    )


def _digest(compared: Options, searched: SearchOptions) -> str:
    """What data a comparison is on; the data searched may need the label that the search was given."""
    same = compared.data == searched.data
    return (searched if same else compared).dataset().digest


def _against(plan: Plan, findings: Findings, winner: str, control: str | None) -> PairedDifference | None:
    """The winner minus random search's, where both could be trained."""
    names = {arm.loss: arm.name for arm in plan.arms}
    both = [names.get(text) for text in (winner, control)] if control is not None and control != winner else [None]
    if any(name is None or name in findings.untrained for name in both):
        return None
    estimator = test_estimator(plan, test_scores(plan, findings.runs), findings.untrained)
    return estimator.difference(str(both[0]), str(both[1]))


def _points(difference: Gap | PairedDifference) -> str:
    """A difference in points, with its interval where there is one."""
    interval = difference.interval() if isinstance(difference, PairedDifference) else difference.interval
    shown = "" if interval is None else f" [{100 * interval[0]:+.2f}, {100 * interval[1]:+.2f}]"
    return f"{100 * difference.mean:+.2f} points{shown}"
