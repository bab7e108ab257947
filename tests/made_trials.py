"""Trials in one line, for tests."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from lossmith.data import DataSpec
from lossmith.trials.texts import with_loss
from lossmith.trials.trial import ModelTrainer, OptimizerSpec, Plain, Trial

_OF_TRAINER = {field.name for field in fields(ModelTrainer)}


def made(
    data: DataSpec, model: str, loss: str, optimizer: OptimizerSpec, steps: int, batch_size: int, seed: int,
    evaluations: int = 60, **rest: Any,
) -> Trial:  # fmt: skip
    """A trial of our trainer; what is not named keeps its default."""
    trainer = ModelTrainer(data, model, batch_size, evaluations)
    return changed(Trial(trainer, loss, optimizer, steps, seed), loss=loss, **rest)


def changed(trial: Trial, *, loss: str | None = None, **changes: Any) -> Trial:
    """A trial with other settings, those of its trainer and stepper by their own names."""
    of_stepper = {name: changes.pop(name) for name in ("clean", "clean_share") if name in changes}
    of_trainer = {name: changes.pop(name) for name in list(changes) if name in _OF_TRAINER}
    trial = replace(trial, trainer=replace(trial.ours, **of_trainer), **changes)
    if of_stepper:
        assert isinstance(trial.stepper, Plain)
        trial = replace(trial, stepper=replace(trial.stepper, **of_stepper))
    if loss is None:
        return trial
    stepper = trial.stepper if isinstance(trial.stepper, Plain) else Plain()
    return with_loss(replace(trial, stepper=stepper, probes=()), loss)
