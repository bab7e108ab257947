"""What a search found, as plain values: for the terminal, the report, the files of a run folder and other programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lossmith.comparison.files import Number

FILE: Final = "evolution.json"
"""The file of a run folder that holds a `Found`."""


@dataclass(frozen=True)
class Candidate:
    """A loss that was trained.

    Args:
        number: counts the candidates of a search, from 0 in the order in which they were made.
        formula: the loss of one class as an expression; a sample's loss is its sum over the classes.
        complexity: number of nodes of the formula.
        operator: how it was made: ``"seed"``, ``"random"``, ``"constants"``, or the name of a variation.
        parents: the numbers of the candidates it was made from.
        rung: the last rung it was trained on, from 0; -1: on none.
        fitness: what selection saw there, lower is better: nats per example, or a mean rank over several problems.
        scores: nats per validation example on each problem, at its last rung; infinite where it could not be trained.
        error: standard error of the mean of the scores over validation examples.
        lr_factor: its best learning rate over the reference's, at equal gradients at the start.
        on_front: whether it reached the highest rung of its search, and no smaller candidate there is as good.
    """

    number: int
    formula: str
    complexity: int
    operator: str
    parents: tuple[int, ...]
    rung: int
    fitness: Number
    scores: tuple[Number, ...]
    error: Number
    lr_factor: Number
    on_front: bool


@dataclass(frozen=True)
class CoursePoint:
    """How far a search had come after a generation.

    Args:
        generation: from 0.
        seconds: of search so far, both searches together.
        judged: distinct candidates that a filter rejected or that were trained.
        trained: of these, those that were trained.
        best: the lowest score in nats that a candidate had on the highest rung reached so far.
        rung: that rung.
    """

    generation: int
    seconds: float
    judged: int
    trained: int
    best: Number
    rung: int


@dataclass(frozen=True)
class SearchFindings:
    """What one search found: the strategy's, or that of random search, its control.

    Args:
        strategy: ``"tournament"``, ``"ageing"``, ``"pareto"`` or ``"random"``.
        filters: how many candidates each filter rejected, by its name, in the order of the filters.
        rescued: how many of those that passed had their sign flipped.
        trained: how many were trained on each rung.
        trainings: how many trainings that took.
        failed: how many of the trained candidates had no finite score on the first rung.
        course: a point for each generation.
        hall_of_fame: the best candidates, the best first, and the front of score and complexity.
        lineage: the winner, before the choice the first of the hall of fame, and its ancestors, the youngest first.
    """

    strategy: str
    filters: dict[str, int]
    rescued: int
    trained: tuple[int, ...]
    trainings: int
    failed: int
    course: tuple[CoursePoint, ...]
    hall_of_fame: tuple[Candidate, ...]
    lineage: tuple[Candidate, ...]


@dataclass(frozen=True)
class RungFindings:
    """One rung of successive halving.

    Args:
        steps: optimiser steps of a training.
        seeds: trainings with different seeds whose scores are averaged.
        exact: whether the loss itself was trained; ``False``: its tabulated slopes.
        trained: number of candidates.
        promoted: how many of them went on to the next rung.
        correlation: Kendall's tau between the scores on this rung and on the next, over those that went on.
        audited: how many of those that were dropped here, chosen at random, were trained on the last rung all the same.
        would_have_passed: how many of these were at most one standard error worse there than the last of the finalists.
    """

    steps: int
    seeds: int
    exact: bool
    trained: int
    promoted: int
    correlation: Number | None
    audited: int
    would_have_passed: int


@dataclass(frozen=True)
class Choice:
    """A finalist, trained anew with fresh seeds on the search part and judged on the choice part.

    Args:
        strategy: the search that found it.
        number: the candidate's.
        formula: its formula.
        score: nats per example of the choice part, mean over seeds.
        error: standard error of the difference from the best of its search.
        chosen: whether it is the winner of its search.
    """

    strategy: str
    number: int
    formula: str
    score: Number
    error: Number
    chosen: bool


@dataclass(frozen=True)
class Found:
    """The result of `lossmith evolve`.

    Args:
        name: what the data set is called.
        problems: data set and model of each problem that was searched on, the user's own first.
        examples: number of examples for training and validating in the search, for the choice, and for the final.
        classes: number of classes of the first problem.
        steps: optimiser steps of a full training.
        reference_score: nats per validation example of tuned cross-entropy on each rung, on the first problem.
        searches: the strategy's first, then random search's.
        rungs: the rungs of successive halving.
        table_error: the median and largest relative error of the gradients by table over the ten best of each search.
        choices: the finalists of both searches.
        winner: the text form of the loss that was chosen.
        known: its name, if the search began with it.
        control_winner: that of random search; ``None`` where the strategy itself is random search, or none was chosen.
        finished: whether the search came to its end; ``False``: it was stopped.
        comparisons: folders of the final comparisons relative to the run folder: the data searched first, then those of
            ``--transfer``; none where the search was stopped.
        verdict: what the comparison on the final part says of the winner, a sentence.
    """

    name: str
    problems: tuple[str, ...]
    examples: tuple[int, int, int]
    classes: int
    steps: int
    reference_score: tuple[Number, ...]
    searches: tuple[SearchFindings, ...]
    rungs: tuple[RungFindings, ...]
    table_error: tuple[Number, Number]
    choices: tuple[Choice, ...]
    winner: str
    known: str | None
    control_winner: str | None
    finished: bool
    comparisons: tuple[str, ...]
    verdict: str
