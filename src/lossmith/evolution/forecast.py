"""How long a search takes beyond its minutes, measured before its first training."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lossmith.comparison.estimate import estimate_run
from lossmith.comparison.plan import make_plan
from lossmith.evolution.choice import AUDITED, FINALISTS
from lossmith.evolution.final import comparison_options
from lossmith.evolution.plan import SearchPlan
from lossmith.evolution.problem import CHOICE, LADDER
from lossmith.trials.trial import Sources

_STAND_INS: Final = ("formula(y*c*(1 + p))", "formula(y*c*(2 + p))")
"""In place of the winners, which nobody knows yet."""


def seconds_after(plan: SearchPlan, sources: Sources, folder: Path, workers: int) -> float:
    """Estimate how long the choice, the audit and the final comparisons take.

    Args:
        plan: the plan.
        sources: where data and models lie.
        folder: the run folder, which need not exist.
        workers: how many trainings go on at once.

    Returns:
        Seconds.
    """
    comparisons = [
        estimate_run(make_plan(each, sources), sources, folder, workers)
        for each in comparison_options(plan.options, _STAND_INS)
    ]
    own = comparisons[0]
    chosen = 2 * FINALISTS * CHOICE.seeds * len(CHOICE.factors) + AUDITED * LADDER[-1].seeds
    each = own.seconds / own.trainings if own.trainings else 0.0
    return sum(of.seconds for of in comparisons) + chosen * len(plan.problems) * each
