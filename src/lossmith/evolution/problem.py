"""What candidates are trained on: a data set with a model, and the rungs of successive halving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lossmith.comparison.plan import ADAM_LRS, SGD_LRS, derive_seed
from lossmith.data.spec import Stage
from lossmith.formulas import Expression
from lossmith.formulas.forward import values_and_slopes
from lossmith.trials.result import TrialResult
from lossmith.trials.runner import Runner
from lossmith.trials.trial import SearchTrainer, Trial

Units = NDArray[np.float32]
"""Nats of each validation example."""

_CHOICE_ROWS: Final = 4000
"""Examples of the choice part that finalists are judged on, at most."""
_REFERENCE: Final = "-y*log(p)"
_EXTENSIONS: Final = 4
"""How often the grid of learning rates is extended where the best lies on its edge."""


@dataclass(frozen=True)
class Rung:
    """A length of training that candidates must do well at before they are trained longer.

    Args:
        share: of the steps of a full training.
        seeds: trainings whose scores are averaged.
        factors: the learning rates tried, over the reference's best one on this rung; none: the best of the rung below.
        exact: whether the loss itself is trained, not its tabulated slopes.
    """

    share: float
    seeds: int
    factors: tuple[float, ...]
    exact: bool


LADDER: Final = (
    Rung(0.2, 1, (1.0,), False),
    Rung(0.5, 1, (0.5, 2.0), False),
    Rung(1.0, 2, (), False),
    Rung(1.0, 2, (), True),
)
CHOICE: Final = Rung(1.0, 3, (0.5, 1.0, 2.0), True)
"""How finalists are trained for the choice of the winner."""


@dataclass(frozen=True)
class Problem:
    """A data set with a model.

    Args:
        name: ``"digits:mlp"``.
        trial: one full training of the reference on all examples, by a `ModelTrainer`.
        classes: the number of classes.
        scaled: whether candidates are judged after temperature scaling.
        balanced: whether all classes have the same weight.
        valid_rows: validation examples that a candidate is judged on, at most.
        seed: of the search.
    """

    name: str
    trial: Trial
    classes: int
    scaled: bool
    balanced: bool
    valid_rows: int
    seed: int

    def steps(self, rung: Rung) -> int:
        """Optimiser steps of a training on a rung."""
        return max(1, round(rung.share * self.trial.steps))

    def training(self, formula: str, lr: float, rung: Rung, repeat: int, stage: Stage = "search") -> Trial:
        """One training of a candidate.

        Args:
            formula: text of its formula.
            lr: its learning rate.
            rung: how long, and whether by table.
            repeat: which of the seeds.
            stage: of the data: ``"search"`` or ``"choice"``.

        Returns:
            The trial.
        """
        rows = self.valid_rows if stage == "search" else _CHOICE_ROWS
        data = replace(self.trial.ours.data, stage=stage, valid_size=rows)
        own = vars(self.trial.ours) | {"data": data, "evaluations": 1, "evaluation_rows": 1, "select": "last"}
        trainer = SearchTrainer(**own, tabulated=not rung.exact, scaled=self.scaled, balanced=self.balanced)
        return replace(
            self.trial,
            trainer=trainer,
            loss=f"formula({formula})",
            optimizer=replace(self.trial.optimizer, lr=float(f"{lr:.6g}")),
            steps=self.steps(rung),
            seed=derive_seed(self.seed, stage, rung.share, str(rung.exact), repeat),
        )

    def scale(self, formula: Expression) -> float:
        """What the learning rate is divided by so that the first step is as long as the reference's.

        At the uniform prediction the gradient of any formula by the logits is a multiple of cross-entropy's. Adam's
        steps do not depend on it. It is 1 where there is no such factor: a candidate passes the filters for the classes
        of the first problem, not for those of the others, and with other constants it passes none.
        """
        if self.trial.optimizer.name != "sgd":
            return 1.0
        scale = abs(strictness(formula, self.classes))
        return scale if 0 < scale < np.inf else 1.0


def strictness(formula: Expression, classes: int) -> float:
    """The pull on the target's logit at the uniform prediction, as a multiple of cross-entropy's; t is 0."""
    u, y = -np.log(classes - 1.0), np.array([0.0, 1.0])
    _, (other, target) = values_and_slopes(formula, u, y, float(classes), 0.0)
    return float(other) - float(target)


def tuned_rates(
    problems: Sequence[Problem], ladder: Sequence[Rung], runner: Runner
) -> tuple[list[list[float]], list[list[float]]]:
    """The reference's best learning rate for each problem on each rung, and its score with it.

    Args:
        problems: what it is trained on.
        ladder: the rungs.
        runner: what runs the trainings.

    Returns:
        The rates and the scores in nats, each by problem and rung.

    Raises:
        TrainingFailedError: if a training fails.
    """
    found = [[_tuned(problem, rung, runner) for rung in ladder] for problem in problems]
    return [[lr for lr, _ in of] for of in found], [[score for _, score in of] for of in found]


def _tuned(problem: Problem, rung: Rung, runner: Runner) -> tuple[float, float]:
    """The best learning rate on a rung, with its score; the grid is extended while it lies on the edge."""
    lrs = list(SGD_LRS if problem.trial.optimizer.name == "sgd" else ADAM_LRS)
    scores: dict[float, float] = {}
    for _ in range(_EXTENSIONS + 1):
        plan = {lr: [problem.training(_REFERENCE, lr, rung, k) for k in range(max(2, rung.seeds))] for lr in lrs}
        results = runner.run_all([trial for trials in plan.values() for trial in trials], "tuning cross-entropy")
        scores |= {lr: float(np.mean([results[t].scores["nll"] for t in trials])) for lr, trials in plan.items()}
        best = min(scores, key=lambda lr: (scores[lr], lr))
        if min(scores) < best < max(scores):
            break
        lrs = [best / 2 if best == min(scores) else 2 * best]
    return best, scores[best]


def mean_units(trials: Sequence[Trial], results: Mapping[Trial, TrialResult]) -> Units | None:
    """Nats of each validation example, averaged over trainings; ``None`` where one failed or diverged."""
    units = []
    for trial in trials:
        result = results.get(trial)
        if result is None or result.valid is None or not np.isfinite(result.scores["nll"]):
            return None
        units.append(-result.valid.score)
    mean: Units = np.mean(units, axis=0).astype(np.float32)
    return mean
