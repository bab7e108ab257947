"""The study ``dynamical-cnn``: do dynamical losses train a convolutional network better than cross-entropy does?

Source: Ruiz-Garcia, Zhang, Schoenholz, Liu, "Tilting the playing field: Dynamical loss functions for machine learning",
2021, arXiv 2102.03793, which tries the network Myrtle5 on CIFAR-10 too; the controls are ours.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from lossmith.comparison.plan import Options, Plan, make_plan, write_plan
from lossmith.comparison.results import FinalRun, by_arm, test_estimator, test_scores
from lossmith.comparison.session import running
from lossmith.comparison.shown import mean_curve
from lossmith.comparison.stages.tune import Chosen, tune
from lossmith.comparison.statistics import PairedDifference, simultaneous_level
from lossmith.studies.bench import Bench
from lossmith.studies.findings import Claim, Findings, Line, Plot, Section, Table, Verdict
from lossmith.trials.models import build_model
from lossmith.trials.result import TrialResult
from lossmith.trials.runner import Runner
from lossmith.trials.training import splits_of
from lossmith.trials.trial import Sources

MATTERS: Final = 0.01
"""A gain in accuracy that can be excluded where it is smaller, a fraction."""


@dataclass(frozen=True)
class Scale:
    """How long and on what everything is trained.

    Args:
        data: the images.
        train_size: number of training images.
        width: channels of the network.
        batch_size: images per step.
        steps: optimiser steps of a training.
        static_after: step from which on the loss is cross-entropy.
        amplitudes: A of the dynamical losses.
        periods: T of the dynamical losses.
        seeds: number of final trainings.
    """

    data: str
    train_size: int
    width: int = 16
    batch_size: int = 32
    steps: int = 1000
    static_after: int = 800
    amplitudes: tuple[int, ...] = (4, 20)
    periods: tuple[int, ...] = (5, 40)
    seeds: int = 5


@dataclass(frozen=True)
class Optimiser:
    """Stochastic gradient descent of a kind.

    Args:
        name: what it is called.
        momentum: Nesterov's; 0 for none.
        cosine: whether the learning rate falls by a cosine, or is constant.
        lrs: learning rates that are tried first.
    """

    name: str
    momentum: float
    cosine: bool
    lrs: tuple[float, ...]


OPTIMISERS: Final = (
    Optimiser("constant rate", 0.0, False, (0.05, 0.1, 0.2)),
    Optimiser("cosine", 0.0, True, (0.1, 0.2, 0.4)),
    Optimiser("momentum", 0.9, False, (0.02, 0.04, 0.08)),
    Optimiser("momentum, cosine", 0.9, True, (0.02, 0.04, 0.08)),
)
"""That of the paper first; grids are around the best rates of cross-entropy in trials with other seeds."""


@dataclass(frozen=True)
class Outcome:
    """What came out under one optimiser.

    Args:
        optimiser: the optimiser.
        plan: what was planned.
        labels: what the losses are called, by name of their arm; the static one first.
        lrs: the learning rate of each loss.
        runs: the final trainings of each loss.
        gains: accuracy of each dynamical loss minus that of the static one.
        seconds: of each training, those of tuning among them.
    """

    optimiser: Optimiser
    plan: Plan
    labels: dict[str, str]
    lrs: dict[str, float]
    runs: dict[str, list[FinalRun]]
    gains: dict[str, PairedDifference]
    seconds: list[float]

    def accuracies(self, arm: str) -> list[float]:
        """The test accuracy of each final training, a fraction."""
        return [float(run.judged("test").score.mean()) for run in self.runs[arm]]

    def interval(self, arm: str) -> tuple[float, float] | None:
        """That of a gain; with the others of its table it holds with 95 %."""
        return self.gains[arm].interval(simultaneous_level(len(self.gains)))

    @property
    def best(self) -> str:
        """The dynamical loss of the largest gain."""
        return max(self.gains, key=lambda arm: self.gains[arm].mean)

    @property
    def gaining(self) -> list[str]:
        """The dynamical losses that are better than the static one."""
        return [arm for arm in self.gains if (found := self.interval(arm)) is not None and found[0] > 0]

    @property
    def excluded(self) -> bool:
        """Whether no dynamical loss has a gain that matters."""
        found = [self.interval(arm) for arm in self.gains]
        return all(each is not None and each[1] < MATTERS for each in found)


def study(bench: Bench) -> Findings:
    """Compare cross-entropy with dynamical losses under four optimisers.

    Args:
        bench: where to work; ``bench.data`` holds ``cifar10.npz``.

    Returns:
        The findings.

    Raises:
        ValueError: if there are no data.
    """
    scale = _scale(bench)
    outcomes = [_carry_out(bench, scale, optimiser) for optimiser in OPTIMISERS]
    bench.seconds += sum(sum(outcome.seconds) for outcome in outcomes)
    plain, controls = outcomes[0], outcomes[1:]
    claims = (
        Claim(
            "A dynamical loss helps a convolutional network on images too, with plain gradient descent.",
            verdict([bool(plain.gaining)], plain.excluded),
            _sentence(plain),
        ),
        Claim(
            "It helps under a cosine schedule and momentum.",
            verdict([bool(each.gaining) for each in controls], all(each.excluded for each in controls)),
            " ".join(map(_sentence, controls)),
        ),
    )
    return Findings(
        "Dynamical losses and a convolutional network",
        "On two-dimensional spirals a dynamical loss trains a small network that cross-entropy does not fit, if plain "
        "gradient descent has a constant rate. Does that help a convolutional network on photographs, and does "
        f"it still with a schedule and momentum? {_answer(outcomes)}",
        'Ruiz-Garcia, Zhang, Schoenholz, Liu, "Tilting the playing field: Dynamical loss functions for machine '
        'learning", ICML 2021, arXiv 2102.03793.',
        claims,
        (_results(outcomes), _curves(outcomes), _protocol(scale, outcomes)),
    )


def verdict(gains: Sequence[bool], excluded: bool) -> Verdict:
    """The verdict on a gain.

    Args:
        gains: under each optimiser, whether a dynamical loss is better, with 95 % for all losses together.
        excluded: whether a gain of a point or more can be excluded under all of them.

    Returns:
        ``"holds"`` if there is a gain under all, ``"holds in part"`` if under some; without any,
        ``"does not hold"`` if it is excluded, else ``"undecided"``.
    """
    if any(gains):
        return "holds" if all(gains) else "holds in part"
    return "does not hold" if excluded else "undecided"


def _scale(bench: Bench) -> Scale:
    if bench.quick:
        return Scale("digits", 200, 4, 16, 24, 18, (20,), (3,), 3)
    file = None if bench.data is None else bench.data / "cifar10.npz"
    if file is None or not file.is_file():
        raise ValueError(
            "the study dynamical-cnn needs CIFAR-10: get it from https://www.cs.toronto.edu/~kriz/cifar.html, and give "
            "--data a folder with cifar10.npz (arrays x_train, y_train, x_test and y_test, as Keras has them)"
        )
    return Scale(str(file), 10_000)


def _carry_out(bench: Bench, scale: Scale, optimiser: Optimiser) -> Outcome:
    """Tune each loss on the first seed, and train it on all."""
    sources = Sources()
    plan, labels = _plan(scale, optimiser, sources)
    folder = bench.folder / optimiser.name.replace(", ", "-").replace(" ", "-")
    write_plan(plan, folder)
    with running(
        plan, sources, folder, workers=bench.workers, progress=bench.progress, make_executor=bench.make_executor
    ) as runner:
        chosen = {name: of[0] for name, of in tune(replace(plan, repeats=1), plan.arms, runner).items()}
        planned = [
            (arm.name, repeat, plan.training(arm, 0, repeat, chosen[arm.name].setting, "final"))
            for repeat in range(plan.repeats)  # outermost, so that a worker reads each draw of the data once
            for arm in plan.arms
        ]
        runner.run_all([trial for *_, trial in planned], f"{optimiser.name}: final trainings")
        runs = [
            FinalRun(name, 0, repeat, chosen[name].setting, chosen[name].on_edge, trial, runner.ledger.open_test(trial))
            for name, repeat, trial in planned
        ]
        seconds = [run.result.seconds for run in runs] + _tuning_seconds(plan, chosen, runner)
    estimator = test_estimator(plan, test_scores(plan, runs), ())
    static = plan.names.reference
    gains = {arm.name: estimator.difference(arm.name, static) for arm in plan.arms if arm.name != static}
    lrs = {name: of.setting.lr for name, of in chosen.items()}
    return Outcome(optimiser, plan, labels, lrs, by_arm(runs), gains, seconds)


def _plan(scale: Scale, optimiser: Optimiser, sources: Sources) -> tuple[Plan, dict[str, str]]:
    """The plan of a comparison without the controls that the study does not ask for, and the names of its losses."""
    grid = [(a, t) for a in scale.amplitudes for t in scale.periods]
    options = Options(
        data=scale.data,
        model=f"myrtle:width={scale.width}",
        train_size=scale.train_size,
        batch_size=scale.batch_size,
        steps=scale.steps,
        optimizer="sgd",
        momentum=optimiser.momentum,
        schedule="cosine" if optimiser.cosine else "none",
        losses=tuple(f"dynamical:amplitude={a},period={t},static_after={scale.static_after}" for a, t in grid),
        lrs=optimiser.lrs,
        metric="accuracy",
        folds=0,
        repeats=scale.seeds,
        device="cpu",
    )
    plan = make_plan(options, sources)
    static = plan.names.reference
    arms = tuple(arm for arm in plan.arms if arm.name == static or arm.role == "candidate")
    labels = {static: "static"} | dict(zip([a.name for a in arms[1:]], [f"A={a}, T={t}" for a, t in grid], strict=True))
    return replace(plan, arms=arms), labels


def _tuning_seconds(plan: Plan, chosen: dict[str, Chosen], runner: Runner) -> list[float]:
    trials = [
        plan.training(plan.arm(name), 0, 0, point.setting, "tuning")
        for name, of in chosen.items()
        for point in of.points
    ]
    results: list[TrialResult | None] = [runner.ledger.get(trial) for trial in trials]
    return [result.seconds for result in results if result is not None]


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _gain(outcome: Outcome, arm: str) -> str:
    interval = outcome.interval(arm)
    return _points(outcome.gains[arm].mean) + (
        "" if interval is None else f" ({_points(interval[0])} to {_points(interval[1])})"
    )


def _percent(values: Sequence[float]) -> str:
    return f"{100 * statistics.mean(values):.1f} %"


def _sentence(outcome: Outcome) -> str:
    static, best, count = outcome.plan.names.reference, outcome.best, len(outcome.gains)
    intervals = [outcome.interval(arm) for arm in outcome.gains]
    worse = sum(each is not None and each[1] < 0 for each in intervals)
    return (
        f"With {_words(outcome.optimiser)}, cross-entropy gets {_percent(outcome.accuracies(static))} of the test "
        f"images right. Of {count} dynamical losses {len(outcome.gaining) or 'none'} can be told to be better and "
        f"{worse or 'none'} to be worse; the best of them, {outcome.labels[best]}, differs from it by "
        f"{_gain(outcome, best)} points."
    )


def _words(optimiser: Optimiser) -> str:
    schedule = "a cosine schedule" if optimiser.cosine else "a constant rate"
    return f"{schedule} and {f'momentum {optimiser.momentum:g}' if optimiser.momentum else 'no momentum'}"


def _answer(outcomes: Sequence[Outcome]) -> str:
    found = [outcome.optimiser.name for outcome in outcomes if outcome.gaining]
    plain, static = outcomes[0], outcomes[0].plan.names.reference
    best = max(outcomes, key=lambda each: statistics.mean(each.accuracies(static)))
    return (
        (f"A dynamical loss is better with: {'; '.join(found)}." if found else "No dynamical loss is shown better.")
        + f" With {_words(plain.optimiser)}, the best dynamical loss gets {_percent(plain.accuracies(plain.best))} of "
        f"the test images right; cross-entropy with {_words(best.optimiser)} gets {_percent(best.accuracies(static))}."
    )


def _results(outcomes: Sequence[Outcome]) -> Section:
    rows = []
    for outcome in outcomes:
        for arm, label in outcome.labels.items():
            scores = outcome.accuracies(arm)
            rows.append((
                f"{outcome.optimiser.name}: {label}",
                f"{outcome.lrs[arm]:g}",
                _percent(scores),
                f"{100 * min(scores):.1f} to {100 * max(scores):.1f}",
                _gain(outcome, arm) if arm in outcome.gains else "",
            ))
    head = ("optimiser and loss", "learning rate", "test accuracy", "lowest and highest", "gain over static (points)")
    text = (
        "Static is cross-entropy; A is the amplitude and T the period of a dynamical loss. Brackets hold 95 % "
        f"intervals that are valid for the {len(outcomes[0].gains)} losses of an optimiser together. A verdict on a "
        "gain is “holds” if such an interval lies above zero, and “does not hold” if all of them end below "
        f"{100 * MATTERS:g} point.",
    )
    return Section("Test accuracy", text, (Table(head, tuple(rows)),))


def _curves(outcomes: Sequence[Outcome]) -> Section:
    plots = []
    for outcome in outcomes:
        lines = []
        for arm, label in outcome.labels.items():
            curve = mean_curve(outcome.plan, [run.result for run in outcome.runs[arm]])
            score = [100 * value for value in next(iter(curve.valid.values()))]
            lines.append(Line(curve.steps, score, label))
        plots.append(Plot(f"SGD, {outcome.optimiser.name}", "step", "validation accuracy (%)", tuple(lines)))
    text = "Mean over the final trainings, on part of the validation images."
    return Section("Learning curves", (text,), plots=tuple(plots))


def _protocol(scale: Scale, outcomes: Sequence[Outcome]) -> Section:
    plan = outcomes[0].plan
    train, valid, test = plan.examples
    seconds = [value for outcome in outcomes for value in outcome.seconds]
    sources = Sources({plan.trial.ours.data.source: scale.data})
    splits = splits_of(plan.trial, sources)
    model = build_model(plan.trial.ours.model, splits, plan.task.outputs, sources, 0)
    size = sum(value.numel() for value in model.parameters())
    tail = scale.steps - scale.static_after
    text = (
        f"Data: {plan.name}, {train:,} training, {valid:,} validation and {test:,} test images. Network: Myrtle5 with "
        f"{scale.width} channels and {size:,} parameters. Each training takes {scale.steps:,} steps of "
        f"{scale.batch_size} images, which is {scale.steps * scale.batch_size / train:.1f} epochs; that is short, and "
        f"says nothing of what longer trainings do. The last {tail} steps are static, so that no run ends inside a "
        "cycle. The hyperparameters of the paper's experiment are not known to us; this is not a reproduction.",
        "Each loss has its own learning rate under each optimiser. It is chosen from a grid by factors of 2, which is "
        "extended if the best rate lies on its edge, by the accuracy on the validation images of the first of "
        f"{scale.seeds} seeds. A seed draws the "
        "training and validation images, the initial weights and the order of the images. The intervals count the "
        "chance of seeds and of test images, but not that of the one tuning: a rate that suits its seed and fails on "
        "others counts against its loss.",
        f"That was {len(seconds)} trainings. The median one took {statistics.median(seconds):.0f} s on one thread.",
    )
    return Section("How it was done", text)
