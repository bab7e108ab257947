"""How long trainings take on this machine, measured on their first steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from lossmith.trials.probes import due_steps
from lossmith.trials.state import TrainingState, make_stepper
from lossmith.trials.training import guest, scoring_task, splits_of, train
from lossmith.trials.trial import Plain, Sources, Trial

_SECONDS: Final = 0.3  # of steps, if they are short
_STEPS: Final = (3, 50)


@dataclass(frozen=True)
class Timing:
    """Seconds that the parts of one training take; of a slice of a stack, its share.

    Args:
        begin: making model and loss.
        step: one step.
        point: one point of the learning curve.
        end: judging the validation part.
    """

    begin: float
    step: float
    point: float
    end: float

    def evaluation(self, points: int) -> float:
        """Seconds of evaluation of a training whose curve has so many points."""
        return points * self.point + self.end

    def whole(self, steps: int, points: int) -> float:
        """Seconds of a whole training."""
        return self.begin + steps * self.step + self.evaluation(points)


def time_trials(trials: Sequence[Trial], sources: Sources, device: str = "cpu") -> Timing:
    """Take the first steps of trials that are trained together, evaluate once, and throw everything away.

    Args:
        trials: one, or alike stacked ones; none replays another. Their probes do not look.
        sources: where data and models lie.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        What each of them takes.
    """
    trials = [replace(trial, probes=()) for trial in trials]
    first = trials[0]
    splits = splits_of(first, sources, device)
    task = scoring_task(first, splits, sources)
    now, share = time.perf_counter, 1 / len(trials)
    with guest(first.seed, device):
        if isinstance(first.stepper, Plain):  # another may learn its loss for long before the first step
            make_stepper(trials, splits, task, sources, device, None)  # what is imported once is there now
        began = now()
        stepper, models = make_stepper(trials, splits, task, sources, device, None)
        state = TrainingState(models, stepper, splits, task, trials)
        made = now()
        state.step(0, observe=True)
        state.evaluate(1)
        state.results(0.0)  # whatever is made or imported once is there now
        started, least, most = now(), min(_STEPS[0], first.steps - 1), min(_STEPS[1], first.steps - 1)
        steps = 0
        while steps < least or (steps < most and now() - started < _SECONDS):
            steps += 1
            state.step(steps, observe=steps == least)
        stepped = now()
        state.evaluate(steps + 1)
        evaluated = now()
        state.results(0.0)
        judged = now()
    return Timing(
        share * (made - began),
        share * (stepped - started) / steps,
        share * (evaluated - stepped),
        share * (judged - evaluated),
    )


def time_looks(trial: Trial, sources: Sources, device: str = "cpu") -> float:
    """Measure the seconds that all looks of the probes of a training take, from two looks of each."""
    seconds = 0.0
    for text in trial.probes:
        short = replace(trial, probes=(text,), steps=1, final=False, optimizer=replace(trial.optimizer, lr=1e-3))
        found = train(short, sources, device).probe_seconds  # of a look before the step, and one after it
        seconds += len(due_steps(text, trial.steps)) * found / 2
    return seconds
