"""The study, condition by condition: tune by cross-fitting on the clean set, train with all of it, open the test part.

A replicate of a condition draws everything anew that chance decides but the test part: which examples are clean, which
labels are wrong, initial weights, the order of the examples, and the settings tried. All arms of a replicate share
these draws. In it each tuned arm tries the same number of settings. Each setting is trained twice, with one half of the
clean set at its disposal, and judged on the other half, so that no example is judged by a model that had to do with its
label. The best setting is trained once more with the whole clean set, and that model is scored on the test part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from lossmith.comparison.arms import Dimension
from lossmith.comparison.plan import derive_seed
from lossmith.comparison.tuning import Scored, Setting, best
from lossmith.data import CleanSet, DataSpec, load_dataset
from lossmith.data.dataset import TEST
from lossmith.data.spec import NoiseKind
from lossmith.studies.noisy_labels.arms import StudyArm, make_arms
from lossmith.tasks import task_for
from lossmith.trials.models import can_be_stacked, canonical_model
from lossmith.trials.result import TrialResult
from lossmith.trials.runner import Runner
from lossmith.trials.steppers import TrainingLoss, training_loss
from lossmith.trials.texts import parse, with_loss
from lossmith.trials.training import gradient_ratio, splits_of
from lossmith.trials.trial import ModelTrainer, OptimizerSpec, Plain, Sources, Trial

TEST_FOLDS: Final = 3  # without an official test part, a third is the test part
_DRAW, _TUNE, _FINAL, _SETTINGS = range(4)


@dataclass(frozen=True)
class Study:
    """What is asked.

    Args:
        noises: kinds of label noise with their shares.
        sizes: numbers of clean examples.
        seeds: replicates of each condition.
        settings: settings that each arm tries in each replicate.
        steps: optimiser steps of a training.
        batch_size: examples per step.
        train_size: number of noisy examples; ``None`` for all.
        model: text form of the model.
        lrs: lowest and highest learning rate tried, for a loss whose first gradient is as large as cross-entropy's.
        seed: of everything that is drawn.

    Raises:
        ValueError: if there are fewer than 2 settings, or fewer than 1 of anything else.
    """

    noises: tuple[tuple[NoiseKind, float], ...] = (("symmetric", 0.2), ("symmetric", 0.4), ("asymmetric", 0.2))
    sizes: tuple[int, ...] = (50, 200, 500)
    seeds: int = 5
    settings: int = 6
    steps: int = 500
    batch_size: int = 64
    train_size: int | None = None
    model: str = "mlp"
    lrs: tuple[float, float] = (0.0025, 0.08)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("seeds", 1), ("settings", 2), ("steps", 1), ("batch_size", 1)):
            if getattr(self, name) < low:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}: at least {low} is needed")


@dataclass(frozen=True)
class Condition:
    """One kind, share of noise and number of clean examples."""

    noise: NoiseKind
    share: float
    size: int

    @property
    def name(self) -> str:
        """In words."""
        return f"{100 * self.share:g} % {self.noise}, {self.size} clean"


@dataclass(frozen=True)
class Run:
    """What one arm came to in one replicate.

    Attributes:
        arm: the arm.
        setting: what it was trained with at last; the learning rate is before division by ``ratio``.
        ratio: norm of the loss's first gradient over that of cross-entropy.
        tuning_accuracy: of that setting on the clean set, by cross-fitting.
        trainings: how many were spent on tuning it.
        result: of the last training, test outcomes included.
    """

    arm: StudyArm
    setting: Setting
    ratio: float
    tuning_accuracy: float
    trainings: int
    result: TrialResult

    @property
    def correct(self) -> NDArray[np.float64]:
        """1 for each test example that is classified rightly, else 0; a diverged model is wrong everywhere."""
        assert self.result.test is not None
        return self.result.test.score * (not self.result.diverged)


@dataclass(frozen=True)
class Findings:
    """What was found in one condition: for each replicate a run of every arm, by name."""

    condition: Condition
    replicates: tuple[dict[str, Run], ...]

    def scores(self, arm: str) -> NDArray[np.float64]:
        """Per-example test scores of an arm, shape (replicates, examples)."""
        return np.stack([runs[arm].correct for runs in self.replicates])


def run_study(study: Study, data: str, runner: Runner, arms: Sequence[StudyArm] | None = None) -> Iterator[Findings]:
    """Carry out a study, or what is left of it.

    Args:
        study: what is asked.
        data: name or path of the data set.
        runner: trains what its ledger does not hold yet; its sources are filled in.
        arms: what is compared; ``None``: `make_arms`.

    Yields:
        The findings of one condition after the other.

    Raises:
        ValueError: if data or model do not do, or a clean set does not fit; the message is one sentence.
    """
    plan = Plan(study, data, runner.sources)
    arms = make_arms() if arms is None else list(arms)
    for size in study.sizes:
        for noise, share in study.noises:
            condition = Condition(noise, share, size)
            yield Findings(condition, tuple(_replicate(plan, condition, r, runner, arms) for r in range(study.seeds)))


class Plan:
    """Makes the trials of a study and fills in where its data lie."""

    def __init__(self, study: Study, data: str, sources: Sources) -> None:
        dataset = load_dataset(data, task="classification")
        sources.data[dataset.digest] = data
        official = dataset.part is not None and bool((dataset.part == TEST).any())
        self.study, self.sources = study, sources
        self.data = DataSpec(dataset.digest, train_size=study.train_size, folds=0 if official else TEST_FOLDS)
        self.model = canonical_model(study.model, sources)
        self.classes = len(dataset.class_names)
        self.chance = 1 / self.classes
        self._aside = max(study.sizes)

    def spec(self, condition: Condition, replicate: int, half: int | None) -> DataSpec:
        """The data of a trial that may judge on one half of the clean set; ``None``: of one that uses all of it."""
        clean = CleanSet(condition.size, self._aside, derive_seed(self.study.seed, _DRAW, replicate), half)
        return replace(self.data, label_noise=condition.share, noise=condition.noise, clean=clean)

    def trial(
        self, arm: StudyArm, setting: Setting, ratio: float, condition: Condition, replicate: int, half: int | None
    ) -> Trial:
        """One training; with ``half=None`` the last one of its arm."""
        study, loss = self.study, arm.loss_with(setting.values)
        seed = (study.seed, _FINAL, replicate) if half is None else (study.seed, _TUNE, replicate, half)
        trainer = ModelTrainer(
            self.spec(condition, replicate, half),
            self.model,
            study.batch_size,
            evaluations=4,
            engine="stacked" if can_be_stacked(self.model, self.classes) else "single",
        )
        optimizer = OptimizerSpec("sgd", float(f"{setting.lr / ratio:.6g}"), momentum=0.9, nesterov=True)
        plain = Plain(arm.clean, arm.share(setting))
        trial = Trial(trainer, "cross_entropy", optimizer, study.steps, derive_seed(*seed), plain, final=half is None)
        return with_loss(trial, loss)

    def settings(self, arm: StudyArm, replicate: int) -> list[Setting]:
        """The settings that an arm tries: quasi-random over the learning rate and what else is tuned of it."""
        count = self.study.settings
        rng = np.random.default_rng(derive_seed(self.study.seed, _SETTINGS, replicate))
        draws = qmc.Sobol(1 + len(arm.tuned), rng=rng).random_base2(math.ceil(math.log2(count)))[:count]
        lr = Dimension("lr", self.study.lrs, "log")
        return [
            Setting(lr.value(float(u[0])), tuple(d.value(float(v)) for d, v in zip(arm.tuned, u[1:], strict=True)))
            for u in draws
        ]

    def ratio(self, arm: StudyArm, setting: Setting, condition: Condition, replicate: int) -> float:
        """The norm of a loss's first gradient over that of cross-entropy, so that learning rates mean the same."""
        text = arm.loss_with(setting.values)
        if parse(text).learns or text == "cross_entropy":
            return 1.0
        trial = self.trial(arm, setting, 1.0, condition, replicate, 0)
        splits = splits_of(trial, self.sources)
        loss: TrainingLoss = training_loss(text, splits, task_for(splits), trial.steps)
        return float(f"{gradient_ratio(trial, loss, self.sources):.4g}")


def _replicate(
    plan: Plan, condition: Condition, replicate: int, runner: Runner, arms: Sequence[StudyArm]
) -> dict[str, Run]:
    """Tune every arm, then train it with its best setting."""
    tried = {
        arm: {s: plan.ratio(arm, s, condition, replicate) for s in plan.settings(arm, replicate)}
        for arm in arms
        if arm.follows is None
    }
    trials = {
        (arm.name, setting): [plan.trial(arm, setting, ratio, condition, replicate, half) for half in (0, 1)]
        for arm, ratios in tried.items()
        for setting, ratio in ratios.items()
    }
    label = f"{condition.name}, seed {replicate + 1}"
    found = runner.run_all([trial for halves in trials.values() for trial in halves], f"{label}: tuning")
    chosen: dict[str, tuple[Scored, float, int]] = {}
    for arm, ratios in tried.items():
        points = [scored(s, [found[t] for t in trials[arm.name, s]], plan.chance) for s in ratios]
        point = best(points, arm, plan.chance)
        chosen[arm.name] = point, ratios[point.setting], 2 * len(points)
    last = {}
    for arm in arms:
        point, ratio, _ = chosen[arm.follows or arm.name]
        last[arm.name] = plan.trial(arm, point.setting, ratio, condition, replicate, None)
    runner.run_all(list(last.values()), f"{label}: final")
    runs = {}
    for arm in arms:
        point, ratio, trainings = chosen[arm.follows or arm.name]
        result = runner.ledger.open_test(last[arm.name])
        runs[arm.name] = Run(arm, point.setting, ratio, point.score, trainings, result)
    return runs


def scored(setting: Setting, halves: Sequence[TrialResult], chance: float) -> Scored:
    """What the two trainings of a setting say of it: each judges the half of the clean set that it did not have.

    That is the mean accuracy, a diverged training counting as chance, and the mean cross-entropy after temperature
    scaling, which breaks ties.
    """
    accuracy = [chance if result.diverged else result.scores["accuracy"] for result in halves]
    nll = [math.inf if result.diverged else result.columns["nll_scaled"] for result in halves]
    return Scored(setting, float(np.mean(accuracy)), float(np.mean(nll)))
