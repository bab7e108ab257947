"""Making a comparison small enough for the time there is, what costs least first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from lossmith.comparison.arms import default_losses
from lossmith.comparison.estimate import duration, estimate, measure
from lossmith.comparison.files import write_file
from lossmith.comparison.options import Options
from lossmith.comparison.plan import Plan, make_plan
from lossmith.losses.text import split_losses
from lossmith.trials.texts import canonical, parse
from lossmith.trials.timing import Timing
from lossmith.trials.trial import Sources

_LEAST_STEPS: Final = 100


@dataclass(frozen=True)
class _Size:
    """What may be cut of a comparison; ``None``: as it is."""

    candidates: int | None = None
    learned: bool = True
    lrs: int | None = None
    folds: int | None = None
    shorter: int = 1


_CUTS: Final[tuple[Callable[[_Size], _Size], ...]] = (
    lambda size: replace(size, learned=False),
    lambda size: replace(size, lrs=6),
    lambda size: replace(size, lrs=5),
    lambda size: replace(size, folds=3),
    lambda size: replace(size, candidates=12),
    lambda size: replace(size, candidates=8),
    lambda size: replace(size, shorter=2),
    lambda size: replace(size, lrs=4),
    lambda size: replace(size, candidates=5),
    lambda size: replace(size, folds=2),
    lambda size: replace(size, shorter=4),
    lambda size: replace(size, candidates=3),
)
"""From the mildest to the harshest, each on top of those before."""


def fit(
    options: Options, plan: Plan, timings: Mapping[str, Timing], seconds: float, workers: int
) -> tuple[Options, tuple[str, ...]]:
    """Cut a comparison until it fits into a time; what the user asked for is not cut.

    In this order: losses that learn, learning rates, folds, losses, lengths, until nothing more can go.

    Args:
        options: what was asked for.
        plan: the plan for it.
        timings: from `measure`.
        seconds: of wall time.
        workers: how many trainings go on at once.

    Returns:
        The options of the smaller comparison, and what was left out and what that costs, in sentences.
    """
    size, before = _Size(), None
    for cut in (lambda size: size, *_CUTS):
        size = _allowed(cut(size), options, plan)
        if size == before:
            continue
        before, smaller = size, _shrunk(plan, size)
        taken = estimate(smaller, timings, workers).seconds
        if taken <= seconds:
            break
    notes = _notes(plan, smaller)
    if taken > seconds:
        notes += (f"even so it takes about {duration(taken)}: name fewer --losses, or give fewer --steps",)
    return _options(options, plan, smaller), notes


@dataclass(frozen=True)
class Cut:
    """How a comparison was cut to fit into a time.

    Args:
        options: those in place of what was asked for, by name, as on the command line.
        notes: what was left out and what that costs, in sentences.
    """

    options: dict[str, str]
    notes: tuple[str, ...]


def fitted_plan(
    options: Options, sources: Sources, seconds: float, workers: int, folder: Path, *, keep: bool = True
) -> tuple[Plan, tuple[str, ...]]:
    """The plan of a comparison that fits into a time: that of the smaller comparison, whoever measured what.

    Measured times vary. The cuts are therefore kept in a file of the folder, where the same request finds them again.

    Args:
        options: what was asked for.
        sources: where data and models lie; filled in.
        seconds: of wall time.
        workers: how many trainings go on at once.
        folder: where run folders lie.
        keep: whether cuts are written down.

    Returns:
        The plan; and what was left out, what that costs, and which options make the same plan.

    Raises:
        ValueError: as `make_plan`.
    """
    plan = make_plan(options, sources)
    file = folder / f"cut-{plan.digest}-{seconds:g}s.json"
    if file.is_file():
        cut = msgspec.json.decode(file.read_bytes(), type=Cut)
    else:
        smaller, notes = fit(options, plan, measure(plan, sources), seconds, workers)
        changed = (name for name in _CUTTABLE if getattr(smaller, name) != getattr(options, name))
        cut = Cut({name: _shown(getattr(smaller, name)) for name in changed}, notes)
        if keep:
            write_file(file, msgspec.json.encode(cut).decode())
    if not cut.options:
        return plan, cut.notes
    parsed = {name: _CUTTABLE[name](text) for name, text in cut.options.items()}
    again = " ".join(f"--{name} {text}" for name, text in cut.options.items())
    said = (*cut.notes, f"the same comparison without a limit of time: {again}")
    return make_plan(replace(options, **parsed), sources), said


def _shown(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


_CUTTABLE: Final[dict[str, Callable[[str], Any]]] = {
    "losses": lambda text: tuple(split_losses(text)),
    "lrs": int,
    "folds": int,
    "steps": int,
}
"""What may be cut, and what reads it."""


def _allowed(size: _Size, options: Options, plan: Plan) -> _Size:
    """A size without the cuts of what the user asked for, or of what is no larger anyway."""
    if options.losses is not None:
        size = replace(size, candidates=None, learned=True)
    if options.lrs is not None or options.budget is not None or (size.lrs or 0) >= len(plan.lrs):
        size = replace(size, lrs=None)
    if options.folds is not None or (size.folds or 0) >= len(plan.folds):
        size = replace(size, folds=None)
    most = 1 if options.steps or options.epochs else max(1, plan.trial.steps // _LEAST_STEPS)
    return replace(size, shorter=min(size.shorter, most))


def _shrunk(plan: Plan, size: _Size) -> Plan:
    """About the plan of a size, for its estimate: data and losses are not looked at anew."""
    learned = [arm for arm in plan.arms if parse(arm.loss_with()).learns]
    arms = [arm for arm in plan.arms if size.learned or (arm not in learned and arm.name != plan.names.equal_time)]
    candidates = [arm for arm in arms if arm.role == "candidate"][: size.candidates]
    kept = tuple(arm for arm in arms if arm.role == "control" or arm in candidates)
    start = 0 if size.lrs is None else (len(plan.lrs) - size.lrs + 1) // 2
    lrs = plan.lrs if size.lrs is None else plan.lrs[start : start + size.lrs]
    trainer = plan.trial.trainer
    if size.folds is not None:
        trainer = trainer.with_folds(size.folds)
    trial = replace(plan.trial, trainer=trainer, steps=plan.trial.steps // size.shorter)
    return replace(plan, arms=kept, lrs=lrs, budget=plan.budget if size.lrs is None else len(lrs), trial=trial)


def _options(options: Options, plan: Plan, smaller: Plan) -> Options:
    """The options that make the smaller plan."""
    if len(smaller.arms) < len(plan.arms):
        kept = {arm.name for arm in smaller.arms}
        then, now = (default_losses(plan.task, of.trial.steps) for of in (plan, smaller))  # one may depend on steps
        names = [canonical(plan.task.loss_text(text)) for text in then]
        options = replace(options, losses=tuple(t for name, t in zip(names, now, strict=True) if name in kept))
    if len(smaller.lrs) < len(plan.lrs):
        options = replace(options, lrs=len(smaller.lrs))
    if len(smaller.folds) < len(plan.folds):
        options = replace(options, folds=len(smaller.folds))
    if smaller.trial.steps < plan.trial.steps:
        options = replace(options, steps=smaller.trial.steps)
    return options


def _notes(plan: Plan, smaller: Plan) -> tuple[str, ...]:
    """What was left out, and what that costs."""
    notes = []
    kept = {arm.name for arm in smaller.arms}
    dropped = [arm.name for arm in plan.arms if arm.name not in kept and arm.role == "candidate"]
    if dropped:
        notes.append(f"left out to save time: {', '.join(dropped)} (--losses names what is compared)")
    if len(smaller.lrs) < len(plan.lrs):
        notes.append(
            f"{len(smaller.lrs)} of {len(plan.lrs)} learning rates to save time: a loss whose best lies outside takes "
            f"more trainings (--lrs {len(plan.lrs)})"
        )
    if smaller.trial.steps < plan.trial.steps:
        notes.append(
            f"{smaller.trial.steps:,} of {plan.trial.steps:,} steps per training to save time: what holds early need "
            f"not hold late (--steps {plan.trial.steps})"
        )
    if len(smaller.folds) < len(plan.folds):
        factor = math.sqrt(len(plan.pipelines) / len(smaller.pipelines))
        notes.append(
            f"{len(smaller.folds)} of {len(plan.folds)} folds to save time: the smallest difference that is found "
            f"(MDE) grows to as much as {factor:.1f} times (--folds {len(plan.folds)})"
        )
    elif notes:
        notes.append("the MDE is unchanged: folds and repeats are as many as in full")
    return tuple(notes)
