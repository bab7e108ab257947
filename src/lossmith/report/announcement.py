"""What is said of a comparison before it begins."""

from __future__ import annotations

from pathlib import Path

from lossmith.comparison.metric import ASKED_FOR
from lossmith.comparison.plan import Plan
from lossmith.tasks import metric_said


def announcement(plan: Plan, folder: Path | None) -> list[str]:
    """What will be compared, on what, by which metric, and what was chosen that the user should know of.

    Args:
        plan: the plan.
        folder: where it will be written; ``None``: nowhere.
    """
    written = "" if folder is None else f"; the plan is {folder}/plan.toml"
    trial, said = plan.trial, metric_said(plan.metric, plan.metric_reason, plan.task.meaning)
    others = plan.metric_reason != ASKED_FOR and len(plan.task.metric_names) > 1
    return [
        f"{len(plan.arms)} losses and controls on {plan.name} ({plan.task.summary}) with {trial.trainer.title}, "
        f"{trial.steps} steps per run, {plan.budget} tuning runs and a final one each in {_times(plan)}{written}",
        f"metric: {said}" + ("; --metric takes another" if others else ""),
        *(f"note: {note}" for note in plan.notes),
    ]


def _times(plan: Plan) -> str:
    repeats = f"{plan.repeats} repeat" + "s" * (plan.repeats > 1)
    return f"{repeats} of each of {len(plan.folds)} folds" if len(plan.folds) > 1 else repeats
