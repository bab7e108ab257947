"""The plan of a search: everything that is decided before the first training."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

from lossmith.catalog import available, create
from lossmith.comparison.files import toml_text
from lossmith.comparison.plan import make_plan
from lossmith.data import Splits
from lossmith.data.spec import Stage
from lossmith.evolution.final import comparison_options
from lossmith.evolution.options import SearchOptions, data_and_model
from lossmith.evolution.problem import LADDER, Problem
from lossmith.formulas import Expression, parse, substitute
from lossmith.trials.options import Request, RequestError
from lossmith.trials.request import Draft, draft
from lossmith.trials.training import load_splits
from lossmith.trials.trial import Sources

DEFAULT_MINUTES: Final = 5.0
VALID_ROWS: Final = 1000
"""Validation examples that a candidate is judged on, at most."""


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """A search as a value; two equal plans that are limited by evaluations have equal results.

    Args:
        name: what the data set is called.
        options: what was asked for.
        problems: what candidates are trained on, the user's own data first.
        seeds: the formulas of the first generation by the text of the loss.
        examples: number of examples for the search, the choice and the final comparison.
        device: ``"cpu"`` or ``"cuda"``.
        versions: of Lossmith and torch.
        notes: what a user should know of how the data were read and what was chosen.
    """

    name: str
    options: SearchOptions
    problems: tuple[Problem, ...]
    seeds: dict[str, str]
    examples: tuple[int, int, int]
    device: str
    versions: dict[str, str]
    notes: tuple[str, ...]

    @property
    def minutes(self) -> float | None:
        """How long the search takes; ``None`` where it is limited by evaluations."""
        if self.options.evaluations is not None:
            return None
        return self.options.minutes or DEFAULT_MINUTES

    @property
    def formulas(self) -> list[Expression]:
        """The formulas of the first generation."""
        return list(map(parse, self.seeds.values()))

    @property
    def text(self) -> str:
        """The plan as TOML."""
        own = asdict(self) | {"ladder": [asdict(rung) for rung in LADDER]}
        return toml_text(own)

    @property
    def digest(self) -> str:
        """The first 8 hexadecimal digits of the text's SHA-256."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:8]

    @property
    def folder(self) -> str:
        """The name of the run folder, if the user gives none."""
        return f"evolve-{self.name}-{self.problems[0].trial.ours.title.split(':')[0]}-{self.digest}"


def make_search_plan(options: SearchOptions, sources: Sources) -> SearchPlan:
    """Plan a search; every model, also of the final comparisons, is tried once, so that mistakes show at once.

    Args:
        options: what was asked for.
        sources: where data and models lie; filled in.

    Returns:
        The plan.

    Raises:
        ValueError: if data, model, a loss or an option is invalid; the message is one sentence.
    """
    seeds = _seeds(options)
    _check_task(options)
    own = draft(replace(options, folds=0), sources)
    problems = [_problem(own, options)]
    for text in options.also or ():
        data, model = data_and_model(text, "--also")
        asked = replace(options, data=data, model=model)
        if Path(data).resolve() != Path(options.data).resolve():  # of the same table, the label is the same
            asked = replace(asked, label=None, drop=None, train_size=None, image_size=None)
        _check_task(asked)
        problem = _problem(draft(replace(asked, folds=0), sources), options)
        if problem.trial.trainer in [other.trial.trainer for other in problems]:
            raise RequestError(f"--also {text} is searched on already: name other data or another model")
        problems.append(problem)
    parts = [(_part(problem, "search", sources), _part(problem, "choice", sources)) for problem in problems]
    for each in comparison_options(options, []):  # what would fail after the search fails now
        _check_task(each)
        make_plan(each, sources)
    searched, chosen = parts[0]
    return SearchPlan(
        name=own.splits.name,
        options=options,
        problems=tuple(problems),
        seeds=seeds,
        examples=(len(searched.train) + len(searched.valid), len(chosen.valid), len(own.splits.test)),
        device=own.device,
        versions={"lossmith": version("lossmith"), "torch": version("torch")},
        notes=own.notes,
    )


def formula_of(text: str) -> Expression | None:
    """The formula of a loss, or ``None`` where it has none.

    Raises:
        ValueError: if there is no such loss.
    """
    loss = create(text)
    if loss.kind != "classification" or loss.formula is None:
        return None
    return substitute(parse(loss.formula))


def _seeds(options: SearchOptions) -> dict[str, str]:
    if options.seed_losses is None:
        named = (info.name for info in available("classification"))
        found = {name: formula_of(name) for name in named if name != "formula"}
    else:
        found = {text: formula_of(text) for text in options.seed_losses}
        for text, formula in found.items():
            if formula is None:
                raise RequestError(f"--seed-losses: {text} has no formula to begin with, leave it out")
            if formula.depends_on("t") and not options.time:
                raise RequestError(f"--seed-losses: {text} changes during training, give --time too or leave it out")
    usable = {text: formula for text, formula in found.items() if formula is not None}
    return {text: str(of) for text, of in usable.items() if options.time or not of.depends_on("t")}


def _check_task(asked: Request) -> None:
    if (task := asked.dataset().task) != "classification":
        raise RequestError(
            f"{asked.data} is a {task} task, and `lossmith evolve` searches for losses of classification"
        )


def _problem(drafted: Draft, options: SearchOptions) -> Problem:
    return Problem(
        name=f"{drafted.splits.name}:{drafted.trial.trainer.title}",
        trial=drafted.trial,
        classes=drafted.task.outputs,
        scaled=options.fitness == "nll_scaled",
        balanced=options.fitness == "nll_scaled" and drafted.task.is_imbalanced(drafted.splits),
        valid_rows=options.valid_size or VALID_ROWS,
        seed=options.seed,
    )


def _part(problem: Problem, stage: Stage, sources: Sources) -> Splits:
    data = problem.trial.ours.data
    return load_splits(replace(data, stage=stage, valid_size=None), sources.data[data.source])
