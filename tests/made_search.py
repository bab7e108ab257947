"""A search that never ran: findings made up for tests of what is shown of a search."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from lossmith.comparison.files import write_file
from lossmith.evolution.findings import Candidate, Choice, CoursePoint, Found, RungFindings, SearchFindings

FORMULAS = (
    "-y*log(p)*(1 + 0.2*p) - 0.07*log(p)/n",
    "-y*log(p) - 0.1*log(p)/n",
    "-y*log(p + 0.01) + 0.3*(1 - y)*p*p",
    "-(y + 0.02)*log(p)",
    "-y*log(p)",
    "-sin(y + exp(p))*log(1.5*y + p)",
    "y*(1 - p)*c",
    "y*sqrt(c) + 0.11*c",
    "-y*log(0.9*p)",
    "(y - p)*(y - p)",
    "y*(1 - p)",
    "-y*p",
)
COMPLEXITIES = (17, 11, 14, 7, 4, 10, 7, 8, 6, 7, 5, 4)
SCORES = (0.0871, 0.0874, 0.0879, 0.0883, 0.0921, 0.0935, 0.0941, 0.0958, 0.0962, 0.104, 0.131, 0.262)
OPERATORS = (
    "one-point crossover",
    "subtree mutation",
    "constants",
    "point mutation",
    "seed",
    "seed",
    "hoist mutation",
    "random",
    "constant mutation",
)
FILTERS = {
    "duplicate": 4211,
    "no p or y": 812,
    "not finite": 2933,
    "orientation": 1204,
    "same gradient": 377,
    "no descent": 951,
}
RANDOM_FILTERS = {name: count // 2 for name, count in FILTERS.items()}
PLAN = {
    "name": "digits",
    "options": {"population": 96, "fitness": "nll_scaled", "time": False, "label_noise": 0.4, "seed": 0},
    "seeds": {"cross_entropy": "-y*log(p)", "brier": "(y - p)*(y - p)"},
    "versions": {"lossmith": "0.1.0", "torch": "2.13.0"},
}
WINNER = f"formula({FORMULAS[0]})"
CONTROL_WINNER = f"formula({FORMULAS[7]})"


def candidate(place: int, number: int, parents: tuple[int, ...] = (), worse: float = 1.0, **changes: Any) -> Candidate:
    score = SCORES[place] * worse
    usual = Candidate(
        number=number,
        formula=FORMULAS[place],
        complexity=COMPLEXITIES[place],
        operator=OPERATORS[place % len(OPERATORS)],
        parents=parents,
        rung=2 if place < 9 else 1,
        fitness=score,
        scores=(score,),
        error=0.0021 + 0.0001 * place,
        lr_factor=2.0 ** (place % 3 - 1),
        on_front=place in {0, 1, 3, 4, 11},
    )
    return replace(usual, **changes)


def course(best: float, most: int, slower: int = 1) -> tuple[CoursePoint, ...]:
    points = []
    for generation in range(14):
        rung = min(2, generation // 2)
        score = best + 0.05 * (2 - rung) + 0.03 * math.exp(-generation / (3 * slower))
        judged, trained = 700 * (generation + 1), most * (generation + 1) // 14
        points.append(CoursePoint(generation, 20.0 * generation + 15, judged, trained, score, rung))
    return tuple(points)


def lineage() -> tuple[Candidate, ...]:
    """The winner from a crossover of two lines that meet in one seed, one of which only had its constants changed."""
    return (
        candidate(0, 8120, (7011, 6400)),
        candidate(1, 7011, (5100,), formula="-y*log(p) - 0.1*log(p)/n", operator="constants"),
        candidate(2, 6400, (5000,)),
        candidate(1, 5100, (3000,), formula="-y*log(p) - 0.3*log(p)/n", operator="constant mutation"),
        candidate(3, 5000, (0,)),
        candidate(1, 3000, (0,), formula="-y*log(p) - 0.5*log(p)/n", operator="subtree mutation"),
        candidate(4, 0),
    )


def strategy() -> SearchFindings:
    return SearchFindings(
        strategy="tournament",
        filters=dict(FILTERS),
        rescued=640,
        trained=(4200, 610, 74),
        trainings=9310,
        failed=33,
        course=course(SCORES[0], 4200),
        hall_of_fame=tuple(candidate(place, 8120 - 7 * place) for place in range(12)),
        lineage=lineage(),
    )


def control() -> SearchFindings:
    members = (7, 5, 9, 10, 11)
    return SearchFindings(
        strategy="random",
        filters=dict(RANDOM_FILTERS),
        rescued=311,
        trained=(4102, 575, 70),
        trainings=9120,
        failed=71,
        course=course(SCORES[7] * 1.01, 4102, slower=2),
        hall_of_fame=tuple(candidate(place, 3000 - place, worse=1.01, operator="random") for place in members),
        lineage=(candidate(7, 2993, worse=1.01, operator="random"),),
    )


def found(**changes: Any) -> Found:
    usual = Found(
        name="digits",
        problems=("digits: mlp",),
        examples=(1077, 360, 360),
        classes=10,
        steps=1200,
        reference_score=(0.412, 0.172, 0.0918),
        searches=(strategy(), control()),
        rungs=(
            RungFindings(60, 1, False, 8302, 1185, 0.47, 30, 1),
            RungFindings(300, 1, False, 1185, 144, 0.58, 30, 2),
            RungFindings(1200, 3, True, 144, 20, None, 0, 0),
        ),
        table_error=(2.3e-5, 8.1e-4),
        choices=(
            Choice("tournament", 8120, FORMULAS[0], 0.0902, 0.0, True),
            Choice("tournament", 8113, FORMULAS[1], 0.0911, 0.0013, False),
            Choice("tournament", 8106, FORMULAS[2], math.inf, math.nan, False),
            Choice("random", 2993, FORMULAS[7], 0.0967, 0.0, True),
            Choice("random", 2995, FORMULAS[5], 0.0991, 0.0019, False),
        ),
        winner=WINNER,
        known=None,
        control_winner=CONTROL_WINNER,
        finished=True,
        comparisons=("comparisons/digits", "comparisons/wine"),
        verdict="On digits the evolved loss is better than tuned cross-entropy by 0.62 points [0.22, 1.02].",
    )
    return replace(usual, **changes)


def stopped(**changes: Any) -> Found:
    """A search that was stopped: no finalists, no winner, no comparison."""
    nothing: dict[str, Any] = {"choices": (), "winner": "", "control_winner": None, "comparisons": ()}
    return found(finished=False, verdict="The search was stopped before a loss was chosen.", **nothing | changes)


def write_found(folder: Path, of: Found) -> None:
    """The files of a search's own, without its comparisons."""
    write_file(folder / "plan.toml", tomli_w.dumps(PLAN))
    write_file(folder / "evolution.json", msgspec.json.format(msgspec.json.encode(of), indent=1).decode() + "\n")
