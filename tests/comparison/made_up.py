"""Comparisons without trainings: what each would have given is made up, so that the findings are known beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

import numpy as np

from lossmith.comparison.arms import Arm, Baselines, Dimension
from lossmith.comparison.plan import Plan
from lossmith.comparison.protocol import Findings, run_protocol
from lossmith.comparison.tuning import Setting
from lossmith.data import DataSpec
from lossmith.tasks import Classification, Judged
from lossmith.trials.result import Curve, TrialResult
from lossmith.trials.runner import Runner
from lossmith.trials.training import evaluation_steps
from lossmith.trials.trial import ModelTrainer, OptimizerSpec, Trial

TASK = Classification(("a", "b", "c", "d"))
NAMES = Baselines.of(TASK)
CROSS_ENTROPY, AGAIN, LABEL_SMOOTHING = NAMES.reference, NAMES.again, NAMES.rival
VALID, TEST = 50, 100
EVALUATIONS = 10

ARMS = (
    Arm(CROSS_ENTROPY, "cross_entropy", "control"),
    Arm(AGAIN, "cross_entropy", "control", stream=1),
    Arm(LABEL_SMOOTHING, "label_smoothing:epsilon=?", "control", (Dimension("epsilon", (0.05, 0.1, 0.2)),)),
    Arm("brier", "brier"),
    Arm("mae", "mae"),
    Arm("ngl", "ngl"),
)

PLAN = Plan(
    name="made up",
    trial=Trial(
        ModelTrainer(DataSpec("iris", folds=2), "mlp", 16, EVALUATIONS),
        TASK.reference,
        OptimizerSpec("adam", 1.0),
        steps=300,
        seed=0,
    ),
    task=TASK,
    examples=(200, VALID, TEST),
    arms=ARMS,
    lrs=(1.0, 2.0, 4.0),
    budget=6,
    repeats=2,
    metric_reason="as asked for",
    delta=0.005,
    device="cpu",
    versions={},
    notes=(),
)


@dataclass(frozen=True)
class Run:
    """Which training a trial is.

    Attributes:
        arm: name of the arm.
        fold: number of the fold.
        repeat: number of the repeat.
        use: "tuning" or "final".
        lr: learning rate.
        steps: length of the training.
        final: whether it scores the test part.
    """

    arm: str
    fold: int
    repeat: int
    use: str
    lr: float
    steps: int
    final: bool


@dataclass(frozen=True)
class Outcome:
    """What a made-up training gives.

    Attributes:
        accuracy: on validation, at the end of the curve too.
        reached: number of the evaluation, from 0, at which the curve gets to it; at guessing before.
        right: how many of the test examples are right.
        first: the first of them.
        nll: validation cross-entropy.
        diverged: whether it diverged.
        failed: why it gave no result; empty if it did.
    """

    accuracy: float = 0.75
    reached: int = 4
    right: int = 70
    first: int = 0
    nll: float = 1.0
    diverged: bool = False
    failed: str = ""


World = Callable[[Run], Outcome]
_USES: tuple[Literal["tuning", "final"], ...] = ("tuning", "final")


def _name(loss: str) -> str:
    return loss.partition(":")[0]


def outcomes(examples: int, right: int, first: int = 0, start: int = 0) -> Judged:
    """Examples, numbered from the start, of which so many, from the first on, are right; the classes take turns."""
    classes = PLAN.task.outputs
    label = np.arange(examples) % classes
    wrong = (np.arange(examples) < first) | (np.arange(examples) >= first + right)
    half = np.full(examples, 0.5, dtype=np.float32)
    names = ("nll", "confidence", "nll_scaled", "confidence_scaled", "brier", "auc", "average_precision")
    columns = {"label": label, "predicted": (label + wrong) % classes, **dict.fromkeys(names, half)}
    return Judged(start + np.arange(examples), (~wrong).astype(float), columns)


@dataclass
class MadeUp:
    """A runner and its ledger in one, for a world that says what each training gives.

    Attributes:
        plan: what is carried out.
        world: what each training gives.
        official: whether all repeats share one validation part; else they have no example of it in common.
        labels: what the runner was told of each batch of trials.
        trained: what was trained, each once.
        opened: whose test part was opened.
        on_open: called before a test part is opened.
        failures: as `Runner.failures`.
    """

    plan: Plan
    world: World
    official: bool = False
    labels: list[str] = field(default_factory=list)
    trained: list[Run] = field(default_factory=list)
    opened: list[Run] = field(default_factory=list)
    on_open: Callable[[], None] = lambda: None
    failures: dict[Trial, str] = field(default_factory=dict)

    @property
    def ledger(self) -> MadeUp:
        """The ledger."""
        return self

    def run(self, trials: Sequence[Trial], label: str) -> dict[Trial, TrialResult]:
        """Train what has not been trained yet, as `Runner.run`."""
        self.labels.append(label)
        for trial in trials:
            if self.which(trial) not in self.trained:
                self.trained.append(self.which(trial))
            if reason := self.world(self.which(trial)).failed:
                self.failures[trial] = reason
        return {trial: replace(self.result(trial), test=None) for trial in trials if trial not in self.failures}

    def get(self, trial: Trial) -> TrialResult | None:
        """The result of what was trained, as `Ledger.get`."""
        known = self.which(trial) in self.trained and trial not in self.failures
        return replace(self.result(trial), test=None) if known else None

    def open_test(self, trial: Trial) -> TrialResult:
        """The result with the test part, as `Ledger.open_test`."""
        self.on_open()
        self.opened.append(self.which(trial))
        return self.result(trial)

    def times_scored(self, trainer: ModelTrainer) -> int:
        """How many of the models opened belong to a fold."""
        return sum(run.fold == trainer.data.fold for run in self.opened)

    def which(self, trial: Trial) -> Run:
        """Which training of the plan a trial is."""
        fold, lr = trial.ours.data.fold, trial.optimizer.lr
        stream, repeat, use = self._seeds[fold, trial.seed]
        assert trial.ours.data.repeat == repeat, "a repeat has a validation part of its own"
        (arm,) = [arm for arm in self.plan.arms if arm.stream == stream and _name(arm.loss) == _name(trial.loss)]
        return Run(arm.name, fold, repeat, use, lr, trial.steps, trial.final)

    @cached_property
    def _seeds(self) -> dict[tuple[int, int], tuple[int, int, str]]:
        return {
            (fold, self.plan.training(arm, fold, repeat, Setting(1.0), use).seed): (arm.stream, repeat, use)
            for arm in self.plan.arms
            for fold, repeat in self.plan.pipelines
            for use in _USES
        }

    def result(self, trial: Trial) -> TrialResult:
        """What the world gives."""
        run = self.which(trial)
        given = self.world(run)
        low = PLAN.task.guess
        course = tuple(given.accuracy if i >= given.reached else low for i in range(EVALUATIONS))
        steps = tuple(evaluation_steps(trial))
        flat = (1.0,) * EVALUATIONS
        return TrialResult(
            curve=Curve(steps, {"accuracy": flat, "nll": flat}, {"accuracy": course, "nll": flat}),
            scores={"accuracy": given.accuracy, "balanced accuracy": given.accuracy / 2},
            columns={"nll": given.nll, "nll_scaled": given.nll},
            fitted={"temperature": 1.0},
            gradient_ratio=1.0,
            extended_share=0.0,
            diverged=given.diverged,
            notes=(),
            seconds=1.0,
            valid=self._validation(run, given) if trial.final else None,
            test=outcomes(TEST, given.right, given.first) if trial.final else None,
        )

    def _validation(self, run: Run, given: Outcome) -> Judged:
        start = 10 * run.fold + (0 if self.official else run.repeat)
        return outcomes(VALID, round(given.accuracy * VALID), start=VALID * start)


def peaked(lr: float, at: float, top: float = 0.75) -> float:
    """A score that falls by .02 for every octave from the best learning rate."""
    return top - 0.02 * abs(math.log2(lr / at))


def carry_out(world: World, folder: Path, plan: Plan = PLAN, official: bool = False) -> tuple[Findings, MadeUp]:
    """Run the protocol on a world."""
    made_up = MadeUp(plan, world, official)
    return run_protocol(plan, cast(Runner, made_up), folder), made_up
